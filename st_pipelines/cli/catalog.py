"""`st-pipelines endpoints` and `st-pipelines catalog`: list, build and extend the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from st_pipelines.catalog.model import Catalog, Endpoint, Parent
from st_pipelines.cli.console import (
    Environment,
    Format,
    Select,
    counted,
    print_table,
    require_format,
)
from st_pipelines.cli.coverage import coverage
from st_pipelines.config.environments import environment_name

if TYPE_CHECKING:
    from st_pipelines.warehouse.adopt.adopt import Adoption, Finding

app = typer.Typer(no_args_is_help=True, help="The list of endpoints.")
app.command()(coverage)


def endpoints(
    api: Annotated[str | None, typer.Option(help="Only this API, such as jpm.")] = None,
    format: Format = "table",
) -> None:
    """List every endpoint: asset, table, path, kind, cursor, key, scope, columns."""
    from st_pipelines.config.project import load_catalog

    catalog = load_catalog()
    if api is not None and api not in catalog.apis:
        raise ValueError(f"no API {api!r}: name one of {', '.join(catalog.apis)}")
    require_format(format, "table", "json")
    selected = [endpoint for endpoint in catalog if api in (None, endpoint.api)]
    if format == "json":
        typer.echo(json.dumps([_endpoint_facts(endpoint) for endpoint in selected], indent=1))
    else:
        print_table(Console(), _endpoint_table(selected))


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Folder of OpenAPI documents, *.json.")],
    output: Annotated[
        Path | None, typer.Option(help="Output folder; by default the package's own data.")
    ] = None,
) -> None:
    """Build the catalog from OpenAPI documents and print what changed."""
    from st_pipelines.catalog.build.build import rebuild
    from st_pipelines.catalog.registry import DATA

    for line in rebuild(folder, output or DATA):
        typer.echo(line)


@app.command()
def diff(
    folder: Annotated[Path, typer.Argument(help="Folder of OpenAPI documents, *.json.")],
    against: Annotated[
        Path | None, typer.Option(help="Folder of a catalog; by default the package's own data.")
    ] = None,
) -> None:
    """Print what build would change, and what changed in operations. Write nothing."""
    from st_pipelines.catalog.build.build import compare
    from st_pipelines.catalog.registry import DATA

    for line in compare(folder, against or DATA):
        typer.echo(line)


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(help="Folder to write the documents to.")],
    portal: Annotated[
        str,
        typer.Option(
            envvar="ST_DEVELOPER_PORTAL", help="Address of ServiceTitan's developer portal."
        ),
    ] = "https://developer.servicetitan.io",
) -> None:
    """Download ServiceTitan's OpenAPI documents from its developer portal."""
    from st_pipelines.catalog.files import replace_files
    from st_pipelines.config.validators import check_url
    from st_pipelines.servicetitan.developer_portal import fetch_documents

    try:
        portal = check_url(portal)
    except ValueError as error:
        raise ValueError(f"--portal or ST_DEVELOPER_PORTAL: {error}") from None
    # Written together at the end, so that a folder never holds documents of two times.
    texts: dict[str, str] = {}
    for name, document in fetch_documents(portal):
        texts[name] = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        typer.echo(f"{name}: {len(document.get('paths') or ()):,} paths")
    replace_files(folder, texts)
    typer.echo(
        f"{len(texts)} documents in {folder}. See what changed: st-pipelines catalog diff {folder}"
    )


@app.command()
def left_out(format: Format = "table") -> None:
    """List the GET operations that have no table, with the reason."""
    from st_pipelines.config.project import load_catalog

    require_format(format, "table", "json")
    catalog = load_catalog()
    if format == "json":
        operations = [
            {"api": operation.api, "path": operation.path, "reason": operation.reason}
            for operation in catalog.left_out
        ]
        typer.echo(json.dumps(operations, indent=1))
    else:
        print_table(Console(), _left_out_table(catalog))


@app.command()
def adopt(
    environment: Environment,
    select: Select = None,
    widen: Annotated[
        bool, typer.Option("--widen", help="Also widen columns whose type did not fit all values.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Print example values: customers' data.")
    ] = False,
) -> None:
    """Turn fields that loads kept in _extra into columns, and move their values there."""
    from st_pipelines.config.project import resolve_environment
    from st_pipelines.warehouse.adopt import adopt as adopting

    config = resolve_environment(environment_name(environment))
    file = config.additions_file
    adoption = adopting.adopt(
        config.open_store(),
        config.base_catalog,
        file,
        select=select or (),
        widen=widen,
        dry_run=dry_run,
    )
    console = Console()
    for part in _describe_adoption(adoption, file, dry_run, show_values):
        console.print(part, highlight=False)


def _endpoint_table(endpoints: Sequence[Endpoint]) -> Table:
    table = Table(title=counted(len(endpoints), "endpoint"), title_justify="left")
    for heading in ("table", "asset", "kind", "cursor", "key", "columns", "scope", "path"):
        table.add_column(heading, no_wrap=True)
    for endpoint in endpoints:
        table.add_row(
            endpoint.table,
            f"<environment>/{endpoint.api}/{endpoint.name}",
            endpoint.kind,
            endpoint.cursor or "",
            ", ".join(endpoint.key) or "(whole record)",
            str(len(endpoint.row_fields)),
            endpoint.scope,
            endpoint.path,
        )
    return table


def _endpoint_facts(endpoint: Endpoint) -> dict[str, Any]:
    from st_pipelines.catalog.files import type_to_json
    from st_pipelines.warehouse.columns import columns_of

    types = columns_of(endpoint)
    return {
        "asset_key": ["<environment>", endpoint.api, endpoint.name],
        "api": endpoint.api,
        "endpoint": endpoint.name,
        "table": endpoint.table,
        "path": endpoint.path,
        "export_path": endpoint.export.path if endpoint.export else None,
        "kind": endpoint.kind,
        "envelope": endpoint.envelope,
        "partitioned": endpoint.partitioned,
        "parent": _parent(endpoint.parent),
        "cursor": endpoint.cursor,
        "filters": _filters(endpoint),
        "key": list(endpoint.key),
        "sort": endpoint.sort,
        "first_page": endpoint.first_page,
        "max_page_size": endpoint.max_page_size,
        "scope": endpoint.scope,
        "removed": endpoint.removed,
        "columns": [
            {
                "name": field.column,
                "type": types[field.column],
                "field": field.name,
                "field_type": type_to_json(field.type),
            }
            for field in endpoint.row_fields
        ],
    }


def _parent(parent: Parent | None) -> dict[str, Any] | None:
    return None if parent is None else {"table": parent.table, "ids": dict(parent.ids)}


def _filters(endpoint: Endpoint) -> dict[str, Any]:
    bounds = endpoint.date_filter
    return {
        "params": dict(endpoint.params),
        "variants": [dict(variant) for variant in endpoint.variants],
        "date": {"lower": bounds.lower, "upper": bounds.upper} if bounds else None,
        "ids": endpoint.ids,
    }


def _left_out_table(catalog: Catalog) -> Table:
    table = Table(title=f"{len(catalog.left_out)} operations left out", title_justify="left")
    table.add_column("path", no_wrap=True)
    table.add_column("reason")
    for operation in catalog.left_out:
        table.add_row(operation.path, operation.reason)
    return table


def _describe_adoption(
    adoption: Adoption, file: Path, dry_run: bool, show_values: bool
) -> Iterator[RenderableType]:
    adopted = [finding for finding in adoption.findings if finding.type is not None]
    left = [finding for finding in adoption.findings if finding.type is None]
    if not adoption.findings:
        yield "Nothing to adopt: no table has anything in _extra."
    if adopted:
        title = "would be adopted" if dry_run else "adopted"
        yield _finding_table(title, "type", adopted, show_values)
    if left:
        yield _finding_table("stay in _extra", "reason", left, show_values)
    for entry in adoption.superfluous:
        yield escape(f"{file} has {entry}, which the package now has itself: remove it there.")
    if dry_run:
        yield "Nothing was changed."
    elif adopted:
        yield escape(
            f"{adoption.rows:,} rows were written, and {file} lists the fields. "
            "Reload the code locations of a running Dagster, so that it loads them too."
        )


def _finding_table(
    title: str, heading: str, findings: Sequence[Finding], show_values: bool
) -> Table:
    from st_pipelines.defs.privacy import describe_example, display_path
    from st_pipelines.warehouse.columns import table_type

    table = Table(title=f"{len(findings)} {title}", title_justify="left")
    for name in ("table", "path", heading, "rows", "example"):
        table.add_column(name, overflow="fold", justify="right" if name == "rows" else "left")
    for finding in findings:
        type_or_reason = table_type(finding.type) if finding.type else finding.reason
        rows = f"{finding.rows:,}"
        path = display_path(finding.path, full=show_values)
        example = describe_example(finding.example, full=show_values)
        cells = (finding.table, path, type_or_reason, rows, example)
        table.add_row(*map(escape, cells))
    return table
