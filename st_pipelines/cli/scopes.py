"""`st-pipelines scopes`: the scopes a selection needs, compared with those a token has."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from st_pipelines.catalog.file_kinds import FileKind
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.cli.console import Select, counted, print_table, require_format
from st_pipelines.config.environments import EnvironmentName, environment_name

READING_SCOPES = frozenset({"tn.dis.capacity:w"})
"""Scopes that are named like those that allow changes, but protect nothing but reads.

ServiceTitan's documents name `tn.dis.capacity:w` for one operation only: the POST that reads the
dispatch capacity.
"""


def scopes(
    environment: Annotated[
        str | None, typer.Option(help="Compare with the token of this environment.")
    ] = None,
    select: Select = None,
    format: Annotated[
        str, typer.Option(help="table, json or text (one scope per line).")
    ] = "table",
) -> None:
    """List the scopes to tick in the developer portal; --environment compares a token's."""
    from st_pipelines.catalog import registry
    from st_pipelines.cli.doctor.subject import select_endpoints
    from st_pipelines.config import project

    require_format(format, "table", "json", "text")
    comparison = None
    if environment is None:
        endpoints = registry.select(project.load_catalog(), select or [])
        kinds = project.load_file_kinds(endpoints)
    else:
        name = environment_name(environment)
        endpoints = select_endpoints(name, select or [])
        kinds = project.load_file_kinds(endpoints)
        comparison = _compare_with_token(name, endpoints, kinds)
    if format == "text":
        typer.echo(as_text(endpoints, kinds))
    elif format == "json":
        typer.echo(as_json(endpoints, comparison, kinds))
    else:
        console = Console()
        for line in difference_lines(comparison):
            console.print(escape(line), highlight=False, soft_wrap=True)
        if comparison is None:
            print_table(console, as_table(endpoints, kinds))
        elif comparison.missing:
            print_table(console, as_table(endpoints, kinds, only=comparison.missing))
        for line in opt_in_lines(project.load_catalog(), endpoints):
            console.print(escape(line), highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class ScopeComparison:
    """The scopes of a token compared with those a selection needs.

    Attributes:
        missing: needed, but not granted.
        surplus: granted, but not needed; scopes that allow writing come first.
    """

    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def required_scopes(endpoints: Iterable[Endpoint], kinds: Iterable[FileKind] = ()) -> list[str]:
    """Returns the scopes that reading needs, for lists, exports and files, each once."""
    scopes = dict.fromkeys(endpoint.scope for endpoint in endpoints)
    return list(scopes | dict.fromkeys(kind.scope for kind in kinds))


def allows_writing(scope: str) -> bool:
    """Whether a scope allows changes. A scope of unknown form is assumed to."""
    return not scope.endswith(":r") and scope not in READING_SCOPES


def surplus_scopes(granted: Collection[str], required: Collection[str]) -> list[str]:
    """Returns the scopes that are granted but not required, those that allow writing first."""
    surplus = set(granted) - set(required)
    return sorted(surplus, key=lambda scope: (not allows_writing(scope), scope))


def compare_scopes(
    granted: Collection[str], endpoints: Iterable[Endpoint], kinds: Iterable[FileKind] = ()
) -> ScopeComparison:
    """Compares the scopes of a token with a selection and the kinds of files that are stored."""
    required = required_scopes(endpoints, kinds)
    missing = tuple(scope for scope in required if scope not in granted)
    return ScopeComparison(missing=missing, surplus=tuple(surplus_scopes(granted, required)))


def group_by_api(
    endpoints: Iterable[Endpoint], kinds: Iterable[FileKind] = ()
) -> dict[str, dict[str, list[str]]]:
    """Returns tables by scope by API, grouped as the developer portal groups scopes."""
    groups: dict[str, dict[str, list[str]]] = {}
    for read in (*endpoints, *kinds):
        groups.setdefault(read.api, {}).setdefault(read.scope, []).append(read.table)
    return groups


def difference_lines(comparison: ScopeComparison | None) -> list[str]:
    """Returns a line for missing scopes, and lines for surplus ones, in the order to act on."""
    if comparison is None:
        return []
    lines = []
    if comparison.missing:
        lines.append(f"missing, tick: {', '.join(comparison.missing)}")
    write = [scope for scope in comparison.surplus if allows_writing(scope)]
    if write:
        lines.append(f"not needed and can change data, untick first: {', '.join(write)}")
    if read := [scope for scope in comparison.surplus if not allows_writing(scope)]:
        lines.append(f"not needed, untick: {', '.join(read)}")
    return lines or ["the token has these scopes and no others"]


def opt_in_lines(catalog: Catalog, endpoints: Collection[Endpoint]) -> list[str]:
    """Returns a line for each table that only its own name selects, and that is not selected."""
    selected = {endpoint.table for endpoint in endpoints}
    return [
        f"not included: {e.scope} for {e.table}, which is read by a POST that changes nothing. Its "
        f"scope is named as one for writing, so it is only read where {e.table} is selected by name"
        for e in catalog
        if e.opt_in and e.table not in selected
    ]


def as_text(endpoints: Iterable[Endpoint], kinds: Iterable[FileKind] = ()) -> str:
    """One scope per line."""
    return "\n".join(required_scopes(endpoints, kinds))


def as_json(
    endpoints: Collection[Endpoint],
    comparison: ScopeComparison | None,
    kinds: Collection[FileKind] = (),
) -> str:
    """Tables by scope by API; with a token also the missing and surplus scopes."""
    content: dict[str, object] = {"scopes": group_by_api(endpoints, kinds)}
    if comparison is not None:
        content |= {"missing": comparison.missing, "surplus": comparison.surplus}
    return json.dumps(content, indent=1)


def as_table(
    endpoints: Collection[Endpoint],
    kinds: Collection[FileKind] = (),
    only: Collection[str] | None = None,
) -> Table:
    """A row per scope, in the order of the APIs.

    Args:
        kinds: of files that are read too.
        only: the scopes to list; None lists all.
    """
    listed = required_scopes(endpoints, kinds) if only is None else only
    title = counted(len(listed), "scope")
    table = Table(title=f"{title} to tick", title_justify="left")
    for heading in ("scope", "API", "tables"):
        table.add_column(heading, no_wrap=heading != "tables")
    for api, scopes_of_api in group_by_api(endpoints, kinds).items():
        for scope, tables in scopes_of_api.items():
            if scope in listed:
                table.add_row(scope, api, ", ".join(tables))
        table.add_section()
    return table


def _compare_with_token(
    environment: EnvironmentName, endpoints: Sequence[Endpoint], kinds: Sequence[FileKind]
) -> ScopeComparison | None:
    """Fetches a token. Returns None, and says so, if the token does not list its scopes."""
    from st_pipelines.cli.doctor.subject import Subject

    subject = Subject(environment=environment, endpoints=endpoints)
    try:
        granted = subject.claims.scopes if subject.claims else None
    finally:
        subject.close()
    if granted is None:
        typer.echo("the token does not list its scopes", err=True)
        return None
    return compare_scopes(granted, endpoints, kinds)
