"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Environment = Annotated[str, typer.Option(help="production or integration.")]
Select = Annotated[
    list[str] | None, typer.Option(help="Only these tables: jpm.jobs, jpm.* or jpm.")
]
Format = Annotated[str, typer.Option(help="table or json.")]
Customers = Annotated[int, typer.Option(min=1, help="Customers of the simulated company.")]
Seed = Annotated[int, typer.Option(help="The same seed creates the same company.")]


def require_format(value: str, *choices: str) -> None:
    """Raises ValueError if `--format` is not one of the choices."""
    if value not in choices:
        raise ValueError(f"--format {value!r}: give one of {', '.join(choices)}")
