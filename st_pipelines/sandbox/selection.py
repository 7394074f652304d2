"""Selects and sorts the records of a list request."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from st_pipelines.catalog.specification import ReadOperation
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.filter_comparisons import read_moment, walk
from st_pipelines.sandbox.filter_fields import CREATED, MODIFIED
from st_pipelines.sandbox.filter_rules import Filter
from st_pipelines.sandbox.filters import derive_filters, select_active, selects_all
from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.table import Table

FindTable = Callable[[str], Table]
"""Returns the table of a collection by its name."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """By which field records are sorted. Without a field, the newest come first."""

    field: str = ""
    descending: bool = True


def select(
    find_table: FindTable, table: Table, operation: ReadOperation, values: Mapping[str, Any]
) -> list[int]:
    """Return the positions of the records that a request selects, sorted. Results are cached.

    Args:
        find_table: returns other tables, whose fields some filters use.
        table: of the collection.
        operation: the list.
        values: the parameters, see `parameters.read_query`.

    Raises:
        BadRequest: `sort` names a field that the list does not sort by.
    """
    filters = get_filters(table.collection, operation)
    used = sorted((name, str(value)) for name, value in values.items() if name not in _PAGING)
    name = (operation.path, tuple(used))

    def compute() -> list[int]:
        return find_positions(find_table, table, operation, values)

    # A cached result would hide changes of another table that a filter uses.
    has_joins = any(filters[name].join for name in values if name in filters)
    return compute() if has_joins else table.get_cached(name, compute)


def find_positions(
    find_table: FindTable,
    table: Table,
    operation: ReadOperation,
    values: Mapping[str, Any],
    *,
    within: Container[int] | None = None,
) -> list[int]:
    """Find the records that a request selects, sorted, as `select` does without the cache.

    Args:
        find_table: see `select`.
        table: see `select`.
        operation: see `select`.
        values: see `select`.
        within: the positions to choose from; None for all records.

    Raises:
        BadRequest: `sort` names a field that the list does not sort by.
    """
    order = read_order(table.collection, operation, values)
    filters = get_filters(table.collection, operation)
    resolve = table.collection.specification.resolve
    positions = [at for at in table.find_alive() if within is None or at in within]
    active = select_active(operation, values)
    if active is not None:
        positions = [at for at in positions if table.active[at] is active]
    for parameter, value in values.items():
        if parameter in filters and not selects_all(
            resolve(operation.query[parameter].schema), value
        ):
            wanted = _complete(parameter, value, values)
            positions = _apply(find_table, table, filters[parameter], wanted, positions)
    return sort_positions(table, positions, order)


_PAGING = ("page", "pageSize", "includeTotal")
_TIMES = {"createdon": CREATED, "modifiedon": MODIFIED}


def read_order(
    collection: Collection, operation: ReadOperation, values: Mapping[str, Any]
) -> Order:
    """Read `sort`, or `orderBy` and `orderByDirection`, or `sortBy` and `descending`.

    Raises:
        BadRequest: the list does not sort by this field.
    """
    text = str(values.get("orderBy") or values.get("sortBy") or "")
    if text:
        direction = str(values.get("orderByDirection", "")).lower()
        descending = direction.startswith("desc") or values.get("descending") is True
        parameter = "orderBy" if "orderBy" in values else "sortBy"
        return Order(
            field=_find_sort_field(collection, operation, parameter, text), descending=descending
        )
    text = values.get("sort", "")
    # The list that declares `sort` as an array of objects does not say how to write one.
    if not text or not isinstance(text, str):
        return Order()
    # "+Id" without percent-encoding arrives as " Id"; reading removed the blank.
    field = _find_sort_field(collection, operation, "sort", text.lstrip("+-"))
    return Order(field=field, descending=text.startswith("-"))


def _find_sort_field(
    collection: Collection, operation: ReadOperation, parameter: str, text: str
) -> str:
    names = {name.lower(): name for name in collection.members}
    # Some lists sort by times that their records do not show, or show further down.
    leaf = (collection.cursor or "").rpartition(".")[2]
    hidden = {field.lower() for field in (*operation.query[parameter].sort_fields, leaf)}
    names = {n: at for n, at in _TIMES.items() if n in hidden} | names
    if text.lower() not in names:
        raise BadRequest(parameter, f"The value '{text}' is not valid.")
    return names[text.lower()]


def sort_positions(table: Table, positions: list[int], order: Order) -> list[int]:
    """Sort positions. Those that are equal keep the order of their keys, so pages are stable."""
    positions.sort(key=table.keys.__getitem__, reverse=order.descending)
    if order.field and order.field != "id":
        column = _find_times(table, order.field) or table.read_values(order.field)
        positions.sort(key=lambda at: _build_sort_key(column[at]), reverse=order.descending)
    return positions


_filters: dict[tuple[str, str], Mapping[str, Filter]] = {}


def get_filters(collection: Collection, operation: ReadOperation) -> Mapping[str, Filter]:
    """Return the filters of an operation that serves records of a collection."""
    name = (collection.name, operation.path)
    if name not in _filters:
        _filters[name] = derive_filters(
            collection.specification, operation, collection.record, collection.name
        )
    return _filters[name]


def _complete(parameter: str, value: Any, values: Mapping[str, Any]) -> Any:
    """Add what another parameter says about this one.

    An amount is compared as `totalFilter.Comparer` says, and `customField.Operator` says whether a
    record needs all of the values.
    """
    stem, dot, leaf = parameter.rpartition(".")
    if leaf == "Fields":
        return value, values.get(f"{stem}.Operator", "And")
    if leaf == "Operator":
        return value
    if dot and leaf != "Comparer":
        return float(value), values.get(f"{stem}.Comparer", "Equals")
    return value


def _apply(
    find_table: FindTable, table: Table, rule: Filter, wanted: Any, positions: list[int]
) -> list[int]:
    column = read_column(find_table, table, rule)
    if rule.together:
        return [at for at in positions if rule.test(column[at], wanted)]
    return [at for at in positions if any(_matches(rule, value, wanted) for value in column[at])]


def _matches(rule: Filter, value: Any, wanted: Any) -> bool:
    if value is None:
        # Switches such as `withoutCustomer` are about missing values.
        return isinstance(wanted, bool) and not rule.moments and rule.test(None, wanted)
    return rule.test(value, wanted)


def read_column(find_table: FindTable, table: Table, rule: Filter) -> list[list[Any]]:
    """Return the values that a filter looks at, by position; times in ticks."""
    return _read_joined(find_table, table, rule) if rule.join else _read(table, rule)


def _read(table: Table, rule: Filter) -> list[list[Any]]:
    """Return the values of the filter's fields by position, several from an array."""

    def read() -> list[list[Any]]:
        columns = [_read_field(table, field, rule.moments) for field in rule.fields]
        return [list(chain.from_iterable(row)) for row in zip(*columns, strict=True)]

    return table.get_cached(("filtered", rule.fields, rule.moments), read)


def _read_field(table: Table, field: str, moments: bool) -> list[list[Any]]:
    if times := _find_times(table, field):
        return [[moment] for moment in times]
    head, *rest = field.split(".")
    found = (
        walk({head.removesuffix("[]"): value}, (head, *rest))
        for value in table.read_values(head.removesuffix("[]"))
    )
    if not moments:
        return list(found)
    return [[read_moment(value) for value in values] for values in found]


def _read_joined(find_table: FindTable, table: Table, rule: Filter) -> list[list[Any]]:
    join = rule.join
    assert join is not None
    other = find_table(join.collection)
    fields = _read_field(other, join.field, rule.moments)
    by_key: dict[Any, list[Any]] = {}
    keys = _read_field(other, join.key, moments=False)
    for at in other.find_alive():
        for key in keys[at]:
            by_key.setdefault(key, []).extend(fields[at])
    here = _read_field(table, join.here, moments=False)
    return [[value for key in keys for value in by_key.get(key, ())] for keys in here]


def _find_times(table: Table, field: str) -> list[int] | None:
    """Return the times of creation or modification by position, if `field` holds these."""
    if field in (CREATED, "createdOn"):
        return table.created
    nested = field == table.collection.cursor and field.endswith(".modifiedOn")
    return table.modified if nested or field in (MODIFIED, "modifiedOn") else None


def _build_sort_key(value: Any) -> tuple[bool, Any]:
    if isinstance(value, dict | list):
        value = str(value)
    return value is not None, value if value is not None else 0
