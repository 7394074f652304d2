"""The least scopes of a selection, and how a token's compare with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rich.table import Table

from st_pipelines.catalog.model import Endpoint
from st_pipelines.cli.output import counted


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A token's scopes beside those that are needed.

    Attributes:
        missing: needed and not there.
        surplus: there and not needed, those that write first.
    """

    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def needed(endpoints: Iterable[Endpoint]) -> list[str]:
    """The scopes that reading the endpoints needs, lists and exports alike, each once."""
    return list(dict.fromkeys(endpoint.scope for endpoint in endpoints))


def writing(scope: str) -> bool:
    """Whether a scope allows changes; one of unknown form is taken to."""
    return not scope.endswith(":r")


def excess(granted: Collection[str], wanted: Collection[str]) -> list[str]:
    """The scopes that are granted and not wanted, those that write first."""
    return sorted(set(granted) - set(wanted), key=lambda scope: (not writing(scope), scope))


def compared(granted: Collection[str], endpoints: Iterable[Endpoint]) -> Compared:
    """A token's scopes against a selection."""
    wanted = needed(endpoints)
    missing = tuple(scope for scope in wanted if scope not in granted)
    return Compared(missing=missing, surplus=tuple(excess(granted, wanted)))


def by_api(endpoints: Iterable[Endpoint]) -> dict[str, dict[str, list[str]]]:
    """Tables by scope by API, as the developer portal groups scopes."""
    found: dict[str, dict[str, list[str]]] = {}
    for endpoint in endpoints:
        found.setdefault(endpoint.api, {}).setdefault(endpoint.scope, []).append(endpoint.table)
    return found


def differences(against: Compared | None) -> list[str]:
    """A line for what the token lacks, and one for what it has besides."""
    if against is None:
        return []
    lines = []
    if against.missing:
        lines.append(f"missing, tick: {', '.join(against.missing)}")
    write = [scope for scope in against.surplus if writing(scope)]
    if write:
        lines.append(f"not needed, and may change data, untick first: {', '.join(write)}")
    if read := [scope for scope in against.surplus if not writing(scope)]:
        lines.append(f"not needed, untick: {', '.join(read)}")
    return lines or ["the token has these scopes and no others"]


def as_text(endpoints: Iterable[Endpoint]) -> str:
    """One scope a line."""
    return "\n".join(needed(endpoints))


def as_json(endpoints: Collection[Endpoint], against: Compared | None) -> str:
    """Scopes with their tables by API; with a token also what is missing and what is more."""
    told: dict[str, object] = {"scopes": by_api(endpoints)}
    if against is not None:
        told |= {"missing": against.missing, "surplus": against.surplus}
    return json.dumps(told, indent=1)


def as_table(endpoints: Collection[Endpoint], against: Compared | None) -> Table:
    """A line a scope, in the order of the APIs; with a token also whether it has it."""
    title = counted(len(needed(endpoints)), "scope")
    table = Table(title=f"{title} to tick", title_justify="left")
    for heading in ("scope", "API", *(("token",) if against else ()), "tables"):
        table.add_column(heading, no_wrap=heading != "tables")
    for api, scopes in by_api(endpoints).items():
        for scope, tables in scopes.items():
            token = () if against is None else ("missing" if scope in against.missing else "✅",)
            table.add_row(scope, api, *token, ", ".join(tables))
        table.add_section()
    return table
