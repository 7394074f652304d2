"""Applies curated facts that fit the documents, and decides whether an endpoint can be loaded.

A fact is dropped if it refers to a field or parameter that the documents do not contain. If the
table cannot be loaded correctly without that fact, the endpoint is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from st_pipelines.catalog.build.endpoints import TIMES, list_sort_fields
from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.model import (
    DataType,
    DateFilter,
    Endpoint,
    Field,
    Forecast,
    ListOf,
    Scalar,
    StructOf,
    drop_conflicting,
)

ALWAYS_SENT = frozenset({"page", "pageSize", "includeTotal", "activeOnly"})
"""Query parameters that the reader sends to every operation that requires them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """An endpoint after its curated facts were checked.

    Attributes:
        endpoint: with the facts that fit.
        dropped: a sentence per fact that does not fit.
        unsound: why it cannot be loaded; None if it can.
    """

    endpoint: Endpoint
    dropped: tuple[str, ...]
    unsound: str | None


def apply_facts(endpoint: Endpoint, facts: Mapping[str, Any], operation: Operation) -> Fitted:
    """Replaces derived values by curated facts, as far as they fit.

    Args:
        endpoint: as derived.
        facts: new values, by attribute of `Endpoint`.
        operation: the operation behind the endpoint.
    """
    kept, dropped = dict(facts), []
    for name, check in _CHECKS.items():
        complaint = check(_replace_values(endpoint, kept), operation) if name in kept else None
        if complaint is None:
            continue
        if unsound := _unsound_without(name, kept, endpoint):
            return Fitted(endpoint=endpoint, dropped=(), unsound=f"{unsound}, and {complaint}")
        for fact in sorted(_BELONG_TOGETHER & kept.keys() if name in _BELONG_TOGETHER else {name}):
            dropped.append(f"{fact} {_format(kept.pop(fact))} is not applied: {complaint}")
    found = _replace_values(endpoint, kept)
    return Fitted(endpoint=found, dropped=tuple(dropped), unsound=_not_loadable(found, operation))


def _replace_values(endpoint: Endpoint, facts: Mapping[str, Any]) -> Endpoint:
    values = dict(facts)
    if values.get("kind") == "snapshot":
        values |= {"cursor": None, "date_filter": None}
    if values.get("date_filter"):
        values["date_filter"] = DateFilter(**values["date_filter"])
        values.setdefault("kind", "window")
    if "forecast" in values:
        values["forecast"] = Forecast(**values["forecast"])
    if "params" in values:
        values["params"] = {**endpoint.params, **values["params"]}
    for name in ("key", "variants"):
        if name in values:
            values[name] = tuple(values[name])
    return dataclasses.replace(endpoint, **values)


def _unsound_without(name: str, facts: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    """Returns why a table cannot be loaded without a fact; None if it can."""
    demands = facts.get("by_day") or facts.get("date_filter", {}).get("required")
    match name:
        case "explode":
            return f"a row is a member of {facts[name]}"
        case "each_of":
            return "it needs an id"
        case "forecast" | "kind" if "forecast" in facts:
            return "it needs a body"
        case "key" if endpoint.kind == "feed":
            return "a feed needs its key"
        case "cursor" | "date_filter" | "by_day" if demands and endpoint.kind != "feed":
            return "it is only served for a time range"
    return None


def _not_loadable(endpoint: Endpoint, operation: Operation) -> str | None:
    """Returns why a table with these facts cannot be loaded; None if it can."""
    filters = endpoint.date_filter
    supplied = {*ALWAYS_SENT, *endpoint.params, *(n for v in endpoint.variants for n in v)}
    supplied |= {filters.lower, filters.upper} if filters else set()
    if operation.parents and not endpoint.each_of:
        return f"needs {', '.join(operation.parents)}"
    if missing := sorted(operation.required - supplied):
        return f"needs the query parameter {', '.join(missing)}"
    if missing := _find_missing_members(endpoint, operation):
        return f"needs {', '.join(missing)} in the body"
    if len(drop_conflicting(endpoint.row_fields)) < len(endpoint.row_fields):
        return "two of its fields would share a column"
    return _key(endpoint, operation) or _time_of(endpoint)


def _kind(endpoint: Endpoint, operation: Operation) -> str | None:
    if endpoint.kind == "forecast":
        return None if endpoint.forecast else "a forecast needs its members"
    if endpoint.kind != "snapshot":
        return "only snapshot and forecast are facts; the other kinds follow from the documents"
    return "it is an export" if endpoint.envelope == "export" else None


def _each_of(endpoint: Endpoint, operation: Operation) -> str | None:
    return None if operation.parents == ("id",) else "its path has no {id} alone"


def _find_missing_members(endpoint: Endpoint, operation: Operation) -> list[str]:
    """Returns the members that the body of a request must have and would lack."""
    sent = _body_members(endpoint.forecast) if endpoint.forecast else set()
    return sorted(name for name, needed in operation.body.items() if needed and name not in sent)


def _body_members(forecast: Forecast) -> set[str]:
    return {forecast.lower, forecast.upper, *forecast.body}


def _forecast(endpoint: Endpoint, operation: Operation) -> str | None:
    forecast = endpoint.forecast
    assert forecast is not None
    if untaken := sorted(_body_members(forecast) - operation.body.keys()):
        return f"the body does not take {', '.join(untaken)}"
    known = any(f.name == forecast.start and f.type in TIMES for f in endpoint.columns)
    return None if known else f"its records have no time {forecast.start}"


def _explode(endpoint: Endpoint, operation: Operation) -> str | None:
    name = str(endpoint.explode)
    match next((field.type for field in endpoint.columns if field.name == name), None):
        case None:
            return f"its records have no {name}"
        case ListOf(StructOf()):
            return None
    return f"{name} is not an array of objects"


def _key(endpoint: Endpoint, operation: Operation) -> str | None:
    types = {field.name: field.type for field in _list_fields(endpoint)}
    for name in endpoint.key:
        if name not in types:
            return f"its records have no {name}"
        if not isinstance(types[name], Scalar):
            return f"{name} is not a single value"
    return None


def _cursor(endpoint: Endpoint, operation: Operation) -> str | None:
    if not endpoint.partitioned:
        return "it is a snapshot"
    lower = endpoint.date_filter.lower if endpoint.date_filter else ""
    filtered = lower.removesuffix("OrAfter")
    mismatched = lower.endswith("OnOrAfter") and str(endpoint.cursor).split(".")[-1] != filtered
    return _time_of(endpoint) or (f"its date filter is on {filtered}" if mismatched else None)


def _time_of(endpoint: Endpoint) -> str | None:
    if endpoint.cursor is None:
        return None
    found: DataType | None = StructOf(_list_fields(endpoint))
    for name in endpoint.cursor.split("."):
        members = found.fields if isinstance(found, StructOf) else ()
        found = next((field.type for field in members if field.name == name), None)
    if found is None:
        return f"its records have no {endpoint.cursor}"
    return None if found in TIMES else f"{endpoint.cursor} is not a time"


def _list_fields(endpoint: Endpoint) -> tuple[Field, ...]:
    """Returns the fields that the list serves: others cannot be its key or cursor."""
    added = endpoint.export.adds if endpoint.export else ()
    return tuple(field for field in endpoint.row_fields if field.name not in added)


def _date_filter(endpoint: Endpoint, operation: Operation) -> str | None:
    if endpoint.envelope == "export":
        return "it is an export"
    wanted = endpoint.date_filter
    if wanted and (complaint := _find_untaken((wanted.lower, wanted.upper), operation)):
        return complaint
    return (
        None
        if endpoint.cursor or endpoint.by_day
        else "its rows have no time that decides their day"
    )


def _by_day(endpoint: Endpoint, operation: Operation) -> str | None:
    return None if endpoint.date_filter else "it has no date filter"


def _look_back_days(endpoint: Endpoint, operation: Operation) -> str | None:
    return None if endpoint.partitioned else "it is a snapshot"


def _params(endpoint: Endpoint, operation: Operation) -> str | None:
    return _find_untaken(endpoint.params, operation)


def _variants(endpoint: Endpoint, operation: Operation) -> str | None:
    return _find_untaken((name for one in endpoint.variants for name in one), operation)


def _sort(endpoint: Endpoint, operation: Operation) -> str | None:
    if endpoint.sort is None:
        return None
    if complaint := _find_untaken(("sort",), operation):
        return complaint
    name = str(endpoint.sort).lstrip("+-").lower()
    offered = list_sort_fields(operation.query["sort"])
    if offered is not None and not re.search(rf"\b{re.escape(name)}\b", offered.lower()):
        return f"the operation does not sort by {name}"
    known = {field.name.lower() for field in endpoint.columns}
    return None if name in known else f"its records have no {name}"


def _page(endpoint: Endpoint, operation: Operation) -> str | None:
    return _find_untaken(("page",), operation)


def _page_size(endpoint: Endpoint, operation: Operation) -> str | None:
    return _find_untaken(("pageSize",), operation)


def _find_untaken(names: Any, operation: Operation) -> str | None:
    missing = sorted({*names} - operation.query.keys())
    return f"the operation does not take {', '.join(missing)}" if missing else None


def _format(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name}={inner}" for name, inner in value.items())
        case list():
            return ", ".join(_format(inner) for inner in value)
    return str(value)


_CHECKS: dict[str, Callable[[Endpoint, Operation], str | None]] = {
    "each_of": _each_of,
    "forecast": _forecast,
    "kind": _kind,
    "explode": _explode,
    "key": _key,
    "cursor": _cursor,
    "date_filter": _date_filter,
    "by_day": _by_day,
    "look_back_days": _look_back_days,
    "params": _params,
    "variants": _variants,
    "sort": _sort,
    "first_page": _page,
    "max_page_size": _page_size,
}
"""The check of each fact, in an order in which no check depends on a later one."""

_BELONG_TOGETHER = {"cursor", "date_filter"}
"""The filter limits the cursor; with only one of the two, rows would get the wrong day."""
