"""Whether curated facts fit the documents, and whether an endpoint can be loaded.

A fact that names what the documents do not have is dropped. Where the table cannot be loaded
soundly without it, the endpoint is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from st_pipelines.catalog.build.endpoints import TIMES, fields_to_sort_by
from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.model import (
    DataType,
    DateFilter,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    StructOf,
)
from st_pipelines.catalog.naming import drop_conflicting

KNOWN_REQUIRED = frozenset({"page", "pageSize", "includeTotal", "activeOnly"})
"""Query parameters that every request carries where an operation requires them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """An endpoint with those of its curated facts that fit.

    Attributes:
        endpoint: corrected.
        dropped: a sentence for each fact that does not fit.
        unsound: why it cannot be loaded; None if it can.
    """

    endpoint: Endpoint
    dropped: tuple[str, ...]
    unsound: str | None


def fitted(endpoint: Endpoint, facts: Mapping[str, Any], operation: Operation) -> Fitted:
    """The endpoint with its curated facts in place of the derived ones, as far as they fit.

    Args:
        endpoint: as derived.
        facts: by the attribute that they are of.
        operation: that answers the requests for it.
    """
    kept, dropped = dict(facts), []
    for name, complaint_of in _CHECKS.items():
        complaint = complaint_of(_corrected(endpoint, kept), operation) if name in kept else None
        if complaint is None:
            continue
        if unsound := _unsound_without(name, kept, endpoint):
            return Fitted(endpoint=endpoint, dropped=(), unsound=f"{unsound}, and {complaint}")
        for fact in sorted(_BELONG_TOGETHER & kept.keys() if name in _BELONG_TOGETHER else {name}):
            dropped.append(f"{fact} {_shown(kept.pop(fact))} is not applied: {complaint}")
    found = _corrected(endpoint, kept)
    return Fitted(endpoint=found, dropped=tuple(dropped), unsound=_not_loadable(found, operation))


def _corrected(endpoint: Endpoint, facts: Mapping[str, Any]) -> Endpoint:
    values = dict(facts)
    if "date_filter" in values:
        values["date_filter"] = DateFilter(**values["date_filter"])
        values.setdefault("kind", "window")
    if "params" in values:
        values["params"] = {**endpoint.params, **values["params"]}
    for name in ("key", "variants"):
        if name in values:
            values[name] = tuple(values[name])
    return dataclasses.replace(endpoint, **values)


def _unsound_without(name: str, facts: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    """Why a table is not to be loaded without a fact; None if it may be."""
    demands = facts.get("by_day") or facts.get("date_filter", {}).get("required")
    match name:
        case "explode":
            return f"a row is a member of {facts[name]}"
        case "key" if endpoint.kind == "feed":
            return "a feed needs its key"
        case "cursor" | "date_filter" | "by_day" if demands and endpoint.kind != "feed":
            return "it is only served for a stretch of time"
    return None


def _not_loadable(endpoint: Endpoint, operation: Operation) -> str | None:
    """Why a table with these facts cannot be loaded; None if it can."""
    filters = endpoint.date_filter
    filled = {*KNOWN_REQUIRED, *endpoint.params, *(n for v in endpoint.variants for n in v)}
    filled |= {filters.lower, filters.upper} if filters else set()
    if missing := sorted(operation.required - filled):
        return f"needs the query parameter {', '.join(missing)}"
    if len(drop_conflicting(endpoint.row_fields)) < len(endpoint.row_fields):
        return "two of its fields would have one column"
    return _key(endpoint, operation) or _time_of(endpoint)


def _explode(endpoint: Endpoint, operation: Operation) -> str | None:
    name = str(endpoint.explode)
    match next((field.type for field in endpoint.columns if field.name == name), None):
        case None:
            return f"its records have no {name}"
        case ListOf(StructOf()):
            return None
    return f"{name} is no array of objects"


def _key(endpoint: Endpoint, operation: Operation) -> str | None:
    types = {field.name: field.type for field in _listed(endpoint)}
    for name in endpoint.key:
        if name not in types:
            return f"its records have no {name}"
        if not isinstance(types[name], Scalar):
            return f"{name} is no single value"
    return None


def _cursor(endpoint: Endpoint, operation: Operation) -> str | None:
    if not endpoint.partitioned:
        return "it is read whole"
    lower = endpoint.date_filter.lower if endpoint.date_filter else ""
    bounded = lower.removesuffix("OrAfter")
    strange = lower.endswith("OnOrAfter") and str(endpoint.cursor).split(".")[-1] != bounded
    return _time_of(endpoint) or (f"its date filter is by {bounded}" if strange else None)


def _time_of(endpoint: Endpoint) -> str | None:
    if endpoint.cursor is None:
        return None
    found: DataType | None = StructOf(_listed(endpoint))
    for name in endpoint.cursor.split("."):
        members = found.fields if isinstance(found, StructOf) else ()
        found = next((field.type for field in members if field.name == name), None)
    if found is None:
        return f"its records have no {endpoint.cursor}"
    return None if found in TIMES else f"{endpoint.cursor} is no time"


def _listed(endpoint: Endpoint) -> tuple[Field, ...]:
    """Fields of a row that the list serves; what only the export has identifies no listed row."""
    added = endpoint.export.adds if endpoint.export else ()
    return tuple(field for field in endpoint.row_fields if field.name not in added)


def _date_filter(endpoint: Endpoint, operation: Operation) -> str | None:
    if endpoint.envelope == "export":
        return "it is an export"
    asked = endpoint.date_filter
    if asked and (complaint := _not_taken((asked.lower, asked.upper), operation)):
        return complaint
    return None if endpoint.cursor or endpoint.by_day else "its rows carry no time to be placed by"


def _by_day(endpoint: Endpoint, operation: Operation) -> str | None:
    return None if endpoint.date_filter else "it has no date filter"


def _look_back_days(endpoint: Endpoint, operation: Operation) -> str | None:
    return None if endpoint.partitioned else "it is read whole"


def _params(endpoint: Endpoint, operation: Operation) -> str | None:
    return _not_taken(endpoint.params, operation)


def _variants(endpoint: Endpoint, operation: Operation) -> str | None:
    return _not_taken((name for one in endpoint.variants for name in one), operation)


def _sort(endpoint: Endpoint, operation: Operation) -> str | None:
    if complaint := _not_taken(("sort",), operation):
        return complaint
    name = str(endpoint.sort).lstrip("+-").lower()
    offered = fields_to_sort_by(operation.query["sort"])
    if offered is not None and not re.search(rf"\b{re.escape(name)}\b", offered.lower()):
        return f"the operation does not sort by {name}"
    known = {field.name.lower() for field in endpoint.columns}
    return None if name in known else f"its records have no {name}"


def _page(endpoint: Endpoint, operation: Operation) -> str | None:
    return _not_taken(("page",), operation)


def _page_size(endpoint: Endpoint, operation: Operation) -> str | None:
    return _not_taken(("pageSize",), operation)


def _not_taken(names: Any, operation: Operation) -> str | None:
    missing = sorted({*names} - operation.query.keys())
    return f"the operation takes no {', '.join(missing)}" if missing else None


def _shown(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name}={inner}" for name, inner in value.items())
        case list():
            return ", ".join(_shown(inner) for inner in value)
    return str(value)


_CHECKS: dict[str, Callable[[Endpoint, Operation], str | None]] = {
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
"""By fact, in an order in which none is checked by means of one that is checked later."""

_BELONG_TOGETHER = {"cursor", "date_filter"}
"""A filter bounds the time that is the cursor: one without the other would place rows wrongly."""
