"""`st-pipelines catalog coverage`: where the data of every reading operation is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from st_pipelines.cli.console import Format, counted, print_table, require_format

if TYPE_CHECKING:
    from st_pipelines.catalog.build.coverage import Covered


def coverage(
    format: Format = "table",
    output: Annotated[
        Path | None, typer.Option(help="Write the page docs/coverage.md to this file instead.")
    ] = None,
) -> None:
    """List every reading operation of ServiceTitan's documents, with where its data is."""
    from st_pipelines.catalog.build.coverage import cover, load_facts
    from st_pipelines.catalog.build.coverage_document import render_document
    from st_pipelines.catalog.files import replace_files
    from st_pipelines.catalog.registry import packaged_catalog
    from st_pipelines.catalog.specification_files import packaged_specification

    require_format(format, "table", "json")
    facts = load_facts()
    covered = cover(packaged_catalog(), packaged_specification(), facts)
    if output is not None:
        replace_files(output.parent, {output.name: render_document(covered, facts)})
    elif format == "json":
        typer.echo(json.dumps([_covered_facts(one) for one in covered], indent=1))
    else:
        print_table(Console(), _coverage_table(covered))


def _covered_facts(covered: Covered) -> dict[str, Any]:
    return {
        "api": covered.operation.api,
        "method": covered.operation.method,
        "path": covered.operation.path,
        "place": covered.place,
        "tables": list(covered.tables),
        "adds": list(covered.adds),
        "reason": covered.reason,
    }


def _coverage_table(covered: Sequence[Covered]) -> Table:
    table = Table(title=counted(len(covered), "operation"), title_justify="left")
    for heading in ("operation", "place", "tables", "reason"):
        table.add_column(heading, no_wrap=heading != "reason")
    for one in covered:
        operation = one.operation
        reason = f"without {', '.join(one.adds)}" if one.adds else one.reason
        name = f"{operation.method} {operation.path}"
        table.add_row(name, one.place, ", ".join(one.tables), reason)
    return table
