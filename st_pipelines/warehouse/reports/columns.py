"""Decides on the columns of a report's table: names, types, and what has changed.

A field of a response keeps its column, which `_st.report_fields` remembers, wherever it stands and
whatever else the report gets or loses. A type only gets wider (`inference.WIDER`). Fields that are
no longer served keep their columns, which are null in new rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from st_pipelines.catalog.model import Endpoint, Field, Scalar, ScalarName, snake_case
from st_pipelines.catalog.report import ReportColumn
from st_pipelines.warehouse.reports.inference import NARROWEST_FIRST, WIDER, ColumnValues

RESERVED = frozenset({"", "rowid"})


class NamedField(Protocol):
    """A field as a response names it."""

    @property
    def name(self) -> str:
        """For programs."""
        ...

    @property
    def label(self) -> str:
        """For people."""
        ...


@dataclass(frozen=True, kw_only=True)
class KnownColumns:
    """What the warehouse holds of a report's columns.

    Attributes:
        columns: of all loads of all tenants, with the positions of the tenant's last load.
        types: of the table's columns that hold values, by name.
        empty_types: of its columns without values, which can become anything.
        other_types: its columns with values of types that no report has; nothing but text can be
            added to them.
        exact_as_double: the numeric columns whose values are all exact as doubles.
        is_new: the tenant has no load of this report.
    """

    columns: tuple[ReportColumn, ...] = ()
    types: Mapping[str, ScalarName] = field(default_factory=dict)
    empty_types: Mapping[str, ScalarName] = field(default_factory=dict)
    other_types: frozenset[str] = frozenset()
    exact_as_double: frozenset[str] = frozenset()
    is_new: bool = True


def identify_fields(fields: Sequence[NamedField]) -> list[str]:
    """Returns what identifies each field of one response, in order.

    That is its name; with the label where several fields have the name, and with its number among
    them where several have both.
    """
    names = Counter(each.name for each in fields)
    both = Counter((each.name, each.label) for each in fields)
    seen: Counter[tuple[str, str]] = Counter()
    identities = []
    for each in fields:
        seen[each.name, each.label] += 1
        identity = each.name
        if names[each.name] > 1:
            identity = f"{each.name} ({each.label})"
            if both[each.name, each.label] > 1:
                identity = f"{identity} #{seen[each.name, each.label]}"
        identities.append(identity)
    return identities


def plan_columns(
    known: KnownColumns, served: Mapping[str, str], values: Mapping[str, ColumnValues]
) -> tuple[tuple[ReportColumn, ...], tuple[Field, ...]]:
    """Returns the columns that the table has after the load, and their types.

    Args:
        known: from the warehouse.
        served: the label of each field of the response, by identity, in order; of all its pages.
        values: by identity.
    """
    positions = {identity: position for position, identity in enumerate(served)}
    columns = {column.field: column for column in known.columns}
    taken = {column.column for column in known.columns}
    for identity, label in served.items():
        if identity in columns:
            column = replace(columns[identity], label=label)
        else:
            name = _choose_name(identity, taken)
            taken.add(name)
            column = ReportColumn(field=identity, label=label, column=name, position=None)
        columns[identity] = column
    planned = tuple(
        replace(column, position=positions.get(identity)) for identity, column in columns.items()
    )
    fields = tuple(
        Field(column.column, Scalar(_choose_type(column.column, known, values.get(column.field))))
        for column in planned
    )
    return planned, fields


def resolve_endpoint(
    endpoint: Endpoint, columns: tuple[ReportColumn, ...], fields: tuple[Field, ...]
) -> Endpoint:
    """Returns a report's endpoint with its columns."""
    assert endpoint.report is not None
    return replace(endpoint, columns=fields, report=replace(endpoint.report, columns=columns))


def describe_changes(
    known: KnownColumns, columns: Iterable[ReportColumn], fields: Iterable[Field]
) -> list[str]:
    """Returns what has changed since the tenant's last load, in words; nothing before the first."""
    if known.is_new:
        return []
    before = {column.field: column for column in known.columns}
    planned = list(zip(columns, fields, strict=True))
    had = {name for name, column in before.items() if column.position is not None}
    has = [column for column, _ in planned if column.position is not None]
    added = [column for column in has if column.field not in had]
    removed = sorted(had - {column.field for column in has})
    lines = [f"new field {c.field!r} (column {c.column})" for c in added]
    lines += [f"field {name!r} is no longer served" for name in removed]
    lines += [_describe_type_change(c, f, known) for c, f in planned if _is_wider(f, known)]
    kept = [c for c in has if c.field in had]
    order = sorted(kept, key=lambda column: before[column.field].position or 0)
    if order != sorted(kept, key=lambda column: column.position or 0):
        lines.append("the fields come in another order")
    return lines


def _is_wider(field: Field, known: KnownColumns) -> bool:
    former = known.types.get(field.name)
    return former is not None and Scalar(former) != field.type


def _describe_type_change(column: ReportColumn, field: Field, known: KnownColumns) -> str:
    assert isinstance(field.type, Scalar)
    return (
        f"field {column.field!r} has values that are no {known.types[field.name]}: its column "
        f"{column.column} becomes {field.type.name}"
    )


def _choose_name(identity: str, taken: set[str]) -> str:
    base = snake_case(identity)
    base = base if base not in RESERVED else f"column_{base}".rstrip("_")
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _choose_type(column: str, known: KnownColumns, values: ColumnValues | None) -> ScalarName:
    present = known.types.get(column)
    if column in known.other_types:
        return "VARCHAR"
    if values is None or not values.count:
        return present or known.empty_types.get(column, "VARCHAR")
    candidates = set(values.candidates)
    if present is not None:
        candidates &= WIDER.get(present, frozenset())
        if present != "DOUBLE" and column not in known.exact_as_double:
            candidates.discard("DOUBLE")
    fitting: list[ScalarName] = [name for name in NARROWEST_FIRST if name in candidates]
    return fitting[0] if fitting else "VARCHAR"
