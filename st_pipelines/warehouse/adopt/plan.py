"""What `_extra` holds: by table and path, with the type that would take it into a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from st_pipelines.catalog.additions import united, with_fields
from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.catalog.naming import column_conflict
from st_pipelines.warehouse.adopt.infer import Shape, fits
from st_pipelines.warehouse.columns import EXTRA
from st_pipelines.warehouse.staging import json_path as paths
from st_pipelines.warehouse.staging.conform import decode_exactly, encode_exactly
from st_pipelines.warehouse.staging.json_path import Step

ROWS_AT_A_TIME = 5_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One path in the `_extra` of a table.

    Attributes:
        table: such as `jpm.jobs`.
        path: without indices, `items[].color`.
        rows: that have it.
        example: one value, as JSON.
        type: of the column that takes its values; None if they stay where they are.
        known: the catalogue has that column already, so that values only have to be moved.
        reason: why they stay.
    """

    table: str
    path: str
    rows: int
    example: str
    type: DataType | None = None
    known: bool = False
    reason: str = ""


@dataclass
class Observed:
    """All values at one path: those that a known column would take, and the shape of the rest."""

    known: DataType | None
    rows: int = 0
    example: str = ""
    fitting: int = 0
    shape: Shape = field(default_factory=Shape)

    def add(self, value: Any) -> None:
        """Takes in a value."""
        if not self.example:
            self.example = encode_exactly(value).decode()[:80]
        if self.known is not None and fits(value, self.known):
            self.fitting += 1
        else:
            self.shape.add(value)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do with a table's `_extra`: the fields to add, and each path with its outcome."""

    endpoint: Endpoint
    added: StructOf
    findings: tuple[Finding, ...]

    @property
    def columns(self) -> frozenset[str]:
        """Served names of the columns that values are moved to."""
        moving = (finding for finding in self.findings if finding.type is not None)
        return frozenset(_outermost(finding.path) for finding in moving)


def observe(
    connection: duckdb.DuckDBPyConnection, tables: Iterable[str], endpoint: Endpoint
) -> dict[str, Observed]:
    """Path without indices to what was seen there, in all rows of some (quoted) tables."""
    observed: dict[str, Observed] = {}
    for table in tables:
        reading = connection.execute(f"SELECT {EXTRA} FROM {table} WHERE {EXTRA} IS NOT NULL")
        while rows := reading.fetchmany(ROWS_AT_A_TIME):
            for (text,) in rows:
                _observe_row(decode_exactly(text), observed, endpoint)
    return observed


def _observe_row(extra: dict[str, Any], observed: dict[str, Observed], endpoint: Endpoint) -> None:
    seen: set[str] = set()
    for path, value in _each(extra):
        name = _without_indices(path)
        if name not in observed:
            observed[name] = Observed(known=_known_type(endpoint, name))
        observed[name].add(value)
        if name not in seen:
            seen.add(name)
            observed[name].rows += 1


def _each(extra: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Path and value, also of what the export alone said."""
    listed, exported = by_source(extra)
    yield from listed.items()
    yield from ((paths.exported(path), value) for path, value in exported.items())


def by_source(extra: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the list said by path, and what the export said otherwise or alone."""
    listed = {path: value for path, value in extra.items() if path != paths.OF_EXPORT}
    said = extra.get(paths.OF_EXPORT, {}).items()
    return listed, {path: value for path, value in said if listed.get(path) != value}


def _known_type(endpoint: Endpoint, name: str) -> DataType | None:
    """The type of the column that takes what is found at a path."""
    root, inner = StructOf(endpoint.row_fields), paths.inside_export(name)
    if inner is None:
        return type_at(root, name)
    return type_at(root, inner) if takes_export(endpoint, inner) else None


def takes_export(endpoint: Endpoint, path: str) -> bool:
    """Whether the column at a path is filled by the export alone."""
    adds = endpoint.export.adds if endpoint.export else ()
    return _is_of_a_value(path) and paths.steps(path)[0] in adds


def _outermost(path: str) -> str:
    """The served name of the column that a path leads to or into."""
    return str(paths.steps(paths.inside_export(path) or path)[0])


def type_at(root: StructOf, path: str) -> DataType | None:
    """The catalogue's type at a path with or without indices; None where it knows no field."""
    return _walk(root, paths.steps(path)) if _is_of_a_value(path) else None


def _is_of_a_value(path: str) -> bool:
    """Whether it is the path of a value, as this version spells them."""
    try:
        paths.steps(path)
    except ValueError:
        return False
    return path not in paths.OF_THE_RECORD


def _without_indices(path: str) -> str:
    inner = paths.inside_export(path)
    if inner is not None:
        return paths.exported(_without_indices(inner))
    return paths.of_any_item(path) if _is_of_a_value(path) else path


def plan(endpoint: Endpoint, observed: Mapping[str, Observed], *, widen: bool) -> Plan:
    """Decides for every path, outer ones first.

    Args:
        endpoint: as the catalogue has it now.
        observed: what `_extra` holds.
        widen: also change the type of known columns, where that loses nothing.
    """
    added, findings = StructOf(()), []
    for path in sorted(observed, key=lambda path: (len(path), path)):
        seen = observed[path]
        type_, reason = _decision(with_fields(endpoint, added), path, seen, widen)
        if type_ is not None and type_ != seen.known:
            overlay = united(added, _overlay(_steps_in_record(endpoint, path), type_))
            assert isinstance(overlay, StructOf)
            try:
                with_fields(endpoint, overlay)
                added = overlay
            except ValueError as error:
                type_, reason = None, str(error)
        finding = Finding(
            table=endpoint.table, path=path, rows=seen.rows, example=seen.example,
            type=type_, known=type_ is not None and type_ == seen.known, reason=reason,
        )  # fmt: skip
        findings.append(finding)
    return Plan(endpoint=with_fields(endpoint, added), added=added, findings=tuple(findings))


def _decision(
    endpoint: Endpoint, path: str, seen: Observed, widen: bool
) -> tuple[DataType | None, str]:
    """The type of the column that takes the values, or None and the reason."""
    inner = paths.inside_export(path)
    if inner is not None:
        if _is_of_a_value(inner) and _is_listed(endpoint, inner):
            return None, "the export says it of a field that is the list's"
        path = inner
    if path in paths.OF_THE_RECORD:
        return None, "the record as served, kept beside its row"
    if not _is_of_a_value(path):
        return None, "no path that this version can read"
    if seen.known is not None:
        return _decision_on_known(seen, seen.known, widen)
    *outer, name = paths.steps(path)
    parent = _walk(StructOf(endpoint.row_fields), tuple(outer))
    if not isinstance(parent, StructOf) or not isinstance(name, str):
        return None, "it stands in a column that is no object"
    if conflict := column_conflict(name, parent.fields):
        return None, conflict
    type_ = seen.shape.type()
    return type_, "" if type_ else "nothing but null or empty so far"


def _is_listed(endpoint: Endpoint, path: str) -> bool:
    """Whether the list, too, serves the field that the path leads to or into."""
    names = {field.name for field in endpoint.row_fields}
    return _outermost(path) in names and not takes_export(endpoint, path)


def _decision_on_known(seen: Observed, known: DataType, widen: bool) -> tuple[DataType | None, str]:
    wider = seen.shape.wider_than(known) if seen.shape.kinds else None
    if wider is not None and widen:
        return wider, ""
    if seen.fitting:
        return known, ""
    name = known.name if isinstance(known, Scalar) else "other"
    if wider is not None:
        return None, f"no {name}; --widen makes the column {wider.name}"
    return None, f"does not fit its {name} column, and no wider type holds both"


def _walk(type_: DataType | None, steps: tuple[Step, ...]) -> DataType | None:
    for step in steps:
        match step, type_:
            case str(), StructOf(fields):
                type_ = next((field.type for field in fields if field.name == step), None)
            case None | int(), ListOf(item):
                type_ = item
            case _:
                return None
    return type_


def _steps_in_record(endpoint: Endpoint, path: str) -> tuple[Step, ...]:
    """The path in a record as served, where a row is a member of one of its arrays."""
    inner = paths.inside_export(path)
    if inner is not None:
        return paths.OF_EXPORT, *paths.steps(inner)
    steps = paths.steps(path)
    if endpoint.explode is None:
        return steps
    members = endpoint.column(endpoint.explode).type
    inside = _walk(members, (None, steps[0])) is not None
    return (endpoint.explode, None, *steps) if inside else steps


def _overlay(steps: tuple[Step, ...], type_: DataType) -> DataType:
    """The type as an addition at its place: `items[].color` is a list of objects with a color."""
    for step in reversed(steps):
        type_ = StructOf((Field(step, type_),)) if isinstance(step, str) else ListOf(type_)
    return type_
