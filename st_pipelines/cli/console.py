"""What commands share: options, tables for a terminal of any width, failures by reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Environment = Annotated[str, typer.Option(help="production or integration.")]
Select = Annotated[
    list[str] | None, typer.Option(help="Only these tables: jpm.jobs, jpm.* or jpm.")
]
AcceptDeletions = Annotated[
    bool,
    typer.Option(
        "--accept-deletions",
        help="Mark rows as deleted even if they are a large part of a table. Also give --select.",
    ),
]
Format = Annotated[str, typer.Option(help="table or json.")]
Customers = Annotated[
    int, typer.Option(min=1, help="Customers of the simulated company, approximately.")
]
Seed = Annotated[int, typer.Option(help="The same seed creates the same company.")]

_UNLIMITED_WIDTH = 10_000
_MAX_NAMED = 8


def day_option(name: str, help: str) -> Any:
    """Returns the option `name` for a day, `YYYY-MM-DD`."""
    return typer.Option(name, metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help=help)


def require_format(value: str, *choices: str) -> None:
    """Raises ValueError if `--format` is not one of the choices."""
    if value not in choices:
        raise ValueError(f"--format {value!r}: give one of {', '.join(choices)}")


def print_table(console: Console, table: Table) -> None:
    """Prints a table, or a paragraph per row if the table would break words.

    A paragraph has the row's first cell, then its other cells that are not empty, each after its
    heading.
    """
    options = console.options.update(max_width=_UNLIMITED_WIDTH)
    if console.measure(table, options=options).minimum <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title, style="italic")
    headings = [str(column.header) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (_text(cell) for cell in cells)
        first.stylize("bold")
        console.print(first, soft_wrap=True)
        details = [
            Text(f"{heading} ", style="dim").append_text(cell)
            for heading, cell in zip(headings[1:], others, strict=True)
            if cell.plain
        ]
        console.print(Padding(Text(", ").join(details), (0, 0, 0, 2)))


def print_failures(console: Console, failures: Mapping[str, str]) -> None:
    """Prints each reason once, in full, with the tables that failed for it.

    Args:
        failures: reason by table.
    """
    tables: dict[str, list[str]] = {}
    for table, reason in failures.items():
        tables.setdefault(reason, []).append(table)
    for reason, names in tables.items():
        more = len(names) - _MAX_NAMED
        named = ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        line = Text.assemble(("failed", "red"), f" {named}: {reason}")
        console.print(line, soft_wrap=True)


def print_warning(console: Console, text: str) -> None:
    """Prints a warning, or nothing for an empty text."""
    if text:
        console.print(f"warning: {text}", style="yellow", highlight=False, markup=False)


def counted(number: int, noun: str) -> str:
    """Returns `1 table`, `2 tables`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _text(cell: object) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text.from_markup(str(cell))
