"""Selects and sorts the records of a list request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from st_pipelines.catalog.model import Endpoint
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.table import Table

MAX_IDS = 50
_NEVER = -(1 << 62)

SHOW_INACTIVE_BY_DEFAULT = frozenset({"jpm.job_cancel_reasons", "jpm.job_hold_reasons"})
"""Lists that take `active` but serve all records without it."""

ACTIVE_VALUES: Mapping[str, Mapping[str, bool | None]] = {
    "active": {"true": True, "false": False, "any": None},
    "activeState": {"activeonly": True, "inactiveonly": False, "all": None},
    "activeOnly": {"true": True, "false": None},
    "includeInactive": {"true": None, "false": True},
}
"""Values of the four parameters that filter by `active`. None selects both kinds of records."""

STAMP_FILTERS = (
    ("createdOnOrAfter", "createdBefore", "createdOn"),
    ("modifiedOnOrAfter", "modifiedBefore", "modifiedOn"),
)


class BadRequest(Exception):
    """A parameter that ServiceTitan rejects with 400.

    Args:
        parameter: the name.
        reason: what is wrong with it.
    """

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Selects records with `field` in `[lower, upper)`; `closed` includes `upper`. In ticks."""

    field: str
    lower: int | None
    upper: int | None
    closed: bool = False


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The filters and order of a list request, without the page."""

    active: bool | None = None
    bounds: tuple[Bound, ...] = ()
    ids: frozenset[Any] | None = None
    equals: tuple[tuple[str, str], ...] = ()
    order: str = "id"
    descending: bool = True


def read_selection(endpoint: Endpoint, query: Mapping[str, str]) -> Selection:
    """Read the selection from a query. Unknown parameters are ignored, as in ServiceTitan.

    Raises:
        BadRequest: a value cannot be read, or a required parameter is missing.
    """
    order, descending = _read_order(endpoint, query)
    return Selection(
        active=_read_active(endpoint, query),
        bounds=_read_bounds(endpoint, query),
        ids=_read_ids(endpoint, query),
        equals=tuple(
            (name, query.get(name, endpoint.variants[0][name]))
            for name in (endpoint.variants[0] if endpoint.variants else ())
        ),
        order=order,
        descending=descending,
    )


def _read_active(endpoint: Endpoint, query: Mapping[str, str]) -> bool | None:
    for name, values in ACTIVE_VALUES.items():
        if name not in endpoint.params:
            continue
        if name in query:
            return _read_choice(values, name, query[name])
        return None if endpoint.table in SHOW_INACTIVE_BY_DEFAULT else True
    return None


def _read_choice(values: Mapping[str, bool | None], name: str, text: str) -> bool | None:
    if text.lower() not in values:
        raise BadRequest(name, f"The value '{text}' is not valid.")
    return values[text.lower()]


def _read_bounds(endpoint: Endpoint, query: Mapping[str, str]) -> tuple[Bound, ...]:
    date_filter = endpoint.date_filter
    if date_filter is None:
        return ()
    if date_filter.required and date_filter.lower not in query:
        raise BadRequest(date_filter.lower, f"The {date_filter.lower} field is required.")
    filters = [(date_filter.lower, date_filter.upper, endpoint.cursor or "modifiedOn")]
    names = {column.name for column in endpoint.columns}
    filters += [f for f in STAMP_FILTERS if f[0] != date_filter.lower and f[2] in names]
    return tuple(
        Bound(
            field=field,
            lower=_read_moment(query, lower),
            upper=_read_moment(query, upper),
            closed=upper.endswith("OnOrBefore"),
        )
        for lower, upper, field in filters
        if lower in query or upper in query
    )


def _read_moment(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    try:
        return ticks.parse(query[name])
    except ValueError:
        raise BadRequest(name, f"The value '{query[name]}' is not valid.") from None


def _read_ids(endpoint: Endpoint, query: Mapping[str, str]) -> frozenset[Any] | None:
    if not endpoint.ids or not query.get("ids"):
        return None
    texts = [text.strip() for text in query["ids"].split(",")]
    if len(texts) > MAX_IDS:
        raise BadRequest("ids", f"At most {MAX_IDS} ids are allowed.")
    try:
        return frozenset(map(int, texts))
    except ValueError:
        raise BadRequest("ids", f"The value '{query['ids']}' is not valid.") from None


def _read_order(endpoint: Endpoint, query: Mapping[str, str]) -> tuple[str, bool]:
    """Read `sort`. Without it, the newest records come first."""
    text = query.get("sort", "").strip()
    if not text or endpoint.sort is None:
        return "id", True
    # "+Id" without percent-encoding arrives as " Id"; `strip` removed the blank.
    field = text.lstrip("+-").lower()
    names = {column.name.lower(): column.name for column in endpoint.columns}
    if field not in names:
        raise BadRequest("sort", f"The value '{text}' is not valid.")
    return names[field], text.startswith("-")


def select(table: Table, selection: Selection) -> list[int]:
    """Return the positions of the selected records, sorted."""
    return table.get_cached(selection, lambda: _select(table, selection))


def _select(table: Table, selection: Selection) -> list[int]:
    positions = list(table.find_alive())
    if selection.active is not None:
        positions = [at for at in positions if table.active[at] is selection.active]
    if selection.ids is not None:
        positions = [at for at in positions if table.keys[at] in selection.ids]
    for bound in selection.bounds:
        positions = _filter(positions, bound, _get_moments(table, bound.field))
    for name, text in selection.equals:
        column = table.read_values(name)
        positions = [at for at in positions if column[at] == text]
    # Sorting by key first keeps the order of ties, and so the pages, stable.
    positions.sort(key=table.keys.__getitem__, reverse=selection.descending)
    if selection.order != "id":
        column = _get_column(table, selection.order)
        positions.sort(key=lambda at: _build_sort_key(column[at]), reverse=selection.descending)
    return positions


def _filter(positions: list[int], bound: Bound, moments: list[int]) -> list[int]:
    lower = _NEVER + 1 if bound.lower is None else bound.lower
    upper = -_NEVER if bound.upper is None else bound.upper + bound.closed
    return [at for at in positions if lower <= moments[at] < upper]


def _get_moments(table: Table, field: str) -> list[int]:
    leaf = field.rpartition(".")[2]
    if leaf in ("modifiedOn", "createdOn"):
        return table.modified if leaf == "modifiedOn" else table.created
    return [ticks.parse(text) if text else _NEVER for text in table.read_values(field)]


def _get_column(table: Table, name: str) -> list[Any]:
    return (
        _get_moments(table, name)
        if name in ("modifiedOn", "createdOn")
        else table.read_values(name)
    )


def _build_sort_key(value: Any) -> tuple[bool, Any]:
    if isinstance(value, dict | list):
        value = str(value)
    return value is not None, value if value is not None else 0
