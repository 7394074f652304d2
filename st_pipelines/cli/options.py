"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Environment = Annotated[str, typer.Option(help="production or integration.")]
Select = Annotated[
    list[str] | None, typer.Option(help="Only these tables: jpm.jobs, jpm.* or jpm.")
]


def one_of(value: str, *choices: str) -> None:
    """Raises ValueError for a `--format` that there is not."""
    if value not in choices:
        raise ValueError(f"--format {value!r}: give one of {', '.join(choices)}")
