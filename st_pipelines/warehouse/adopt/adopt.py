"""Adopts drift: fields that loads kept in `_extra` become columns, without new API requests.

The additions file is written first; the tables follow, each in a transaction of its own. If that
is interrupted, the next adoption finds values in `_extra` that known columns take, and moves them.
Decides for every path of `_extra`; `inference` reads the values, and `move` writes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from st_pipelines.catalog import additions
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    StructOf,
    find_column_conflict,
)
from st_pipelines.catalog.registry import select as select_endpoints
from st_pipelines.warehouse.adopt.inference import PathValues, is_filled_by_export, read_path_values
from st_pipelines.warehouse.adopt.move import move_values
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.staging import json_path
from st_pipelines.warehouse.staging.json_path import Step
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables import history
from st_pipelines.warehouse.tables.schema import qualified


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One path in the `_extra` of a table, and what an adoption does with its values.

    Attributes:
        table: such as `jpm.jobs`.
        path: without indices, such as `items[].color`.
        rows: rows that have a value there.
        example: one value as JSON.
        type: of the column that takes the values; None if they stay in `_extra`.
        known: the catalog has that column already; the values only have to be moved.
        reason: why the values stay.
    """

    table: str
    path: str
    rows: int
    example: str
    type: DataType | None = None
    known: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The adoption of one table.

    Attributes:
        endpoint: with the added fields.
        added: the fields that the catalog gains.
        findings: every path of `_extra`.
    """

    endpoint: Endpoint
    added: StructOf
    findings: tuple[Finding, ...]

    @property
    def columns(self) -> frozenset[str]:
        """The served names of the columns that take values."""
        adopted = (finding for finding in self.findings if finding.type is not None)
        return frozenset(_outermost_name(finding.path) for finding in adopted)


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """The result of an adoption, or of its dry run.

    Attributes:
        findings: every path that `_extra` held, by table.
        rows: rows written, history included.
        superfluous: entries of the additions file that the packaged catalog has now.
    """

    findings: tuple[Finding, ...]
    rows: int
    superfluous: tuple[str, ...]


def adopt(
    store: Store,
    packaged: Catalog,
    file: Path,
    *,
    select: Sequence[str] = (),
    widen: bool = False,
    dry_run: bool = False,
) -> Adoption:
    """Adopts the fields in the `_extra` columns of a warehouse.

    Args:
        packaged: the catalog without additions.
        file: the additions file, read and written.
        select: tables as `jpm.jobs`, `jpm.*` or `jpm`; all if empty.
        widen: also change the type of known columns whose values did not fit, where lossless.
        dry_run: only find out what would change.

    Raises:
        WarehouseError: the warehouse does not exist, or cannot be read or written.
        ValueError: the additions are malformed, or `select` names no table.
    """
    if not store.exists:
        raise WarehouseUnusable(
            f"warehouse {store.name} does not exist: load into it first, or set "
            "ST_WAREHOUSE_DIR to the folder where it is"
        )
    before = additions.read(file)
    catalog = additions.extend_catalog(packaged, before, file)
    plans = _build_plans(store, select_endpoints(catalog, select), widen)
    rows = 0
    if not dry_run:
        after = _merge_additions(before, plans)
        if after != before:
            additions.write(file, after)
        rows = _move_all(store, plans, additions.extend_catalog(packaged, after, file))
    return Adoption(
        findings=tuple(finding for plan in plans for finding in plan.findings),
        rows=rows,
        superfluous=tuple(additions.find_redundant(packaged, before)),
    )


def _build_plans(store: Store, endpoints: list[Endpoint], widen: bool) -> list[Plan]:
    """Returns a plan for each table whose `_extra` holds anything."""
    plans = []
    with duckdb.connect() as connection, store.attach(connection):
        existing = _read_table_names(connection)
        for endpoint in endpoints:
            tables = [qualified(e) for e in _with_history(endpoint) if e.table in existing]
            if values := read_path_values(connection, tables, endpoint):
                plans.append(build_plan(endpoint, values, widen=widen))
    return plans


def _read_table_names(connection: duckdb.DuckDBPyConnection) -> set[str]:
    rows = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = ?",
        [ALIAS],
    ).fetchall()
    return {name for (name,) in rows}


def _with_history(endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
    """Returns the endpoint, and a copy whose table is the endpoint's history table."""
    return endpoint, dataclasses.replace(endpoint, api=history.SCHEMA, name=endpoint.flat_name)


def _merge_additions(before: additions.Additions, plans: list[Plan]) -> dict[str, StructOf]:
    after = dict(before)
    for plan in plans:
        if plan.added.fields:
            united = additions.merge_types(after.get(plan.endpoint.table, StructOf(())), plan.added)
            assert isinstance(united, StructOf)
            after[plan.endpoint.table] = united
    return after


def _move_all(store: Store, plans: list[Plan], catalog: Catalog) -> int:
    rows = 0
    with duckdb.connect() as connection, store.attach(connection):
        existing = _read_table_names(connection)
    for plan in plans:
        for endpoint in _with_history(plan.endpoint):
            if plan.columns and endpoint.table in existing:
                rows += move_values(store, endpoint, plan.columns, catalog)
    return rows


def build_plan(endpoint: Endpoint, values: Mapping[str, PathValues], *, widen: bool) -> Plan:
    """Decides for every path, outer paths first.

    Args:
        endpoint: as the catalog has it now.
        values: what `_extra` holds, by path without indices.
        widen: also change the type of known columns, where that is lossless.
    """
    added, findings = StructOf(()), []
    for path in sorted(values, key=lambda path: (len(path), path)):
        seen = values[path]
        type_, reason = _decide(additions.add_fields(endpoint, added), path, seen, widen)
        if type_ is not None and type_ != seen.known:
            try:
                added = _add_field(endpoint, added, path, type_)
            except ValueError as error:
                type_, reason = None, str(error)
        findings.append(
            Finding(
                table=endpoint.table,
                path=path,
                rows=seen.rows,
                example=seen.example,
                type=type_,
                known=type_ is not None and type_ == seen.known,
                reason=reason,
            )
        )
    return Plan(
        endpoint=additions.add_fields(endpoint, added), added=added, findings=tuple(findings)
    )


def _decide(
    endpoint: Endpoint, path: str, seen: PathValues, widen: bool
) -> tuple[DataType | None, str]:
    """Returns the type of the column that takes the values, or None and the reason."""
    exported = json_path.from_export(path)
    if exported is not None:
        if json_path.is_value_path(exported) and _is_listed(endpoint, exported):
            return None, "the export differs in a field that the list fills"
        path = exported
    if path in json_path.RECORD_PATHS:
        return None, "the record as served, kept beside its row"
    if not json_path.is_value_path(path):
        return None, "this version cannot read the path"
    if seen.known is not None:
        return _decide_on_known(seen, seen.known, widen)
    *outer, name = json_path.parse_steps(path)
    parent = json_path.find_type_at_steps(StructOf(endpoint.row_fields), tuple(outer))
    if not isinstance(parent, StructOf) or not isinstance(name, str):
        return None, "it is inside a column that is not an object"
    if conflict := find_column_conflict(name, parent.fields):
        return None, conflict
    type_ = seen.shape.infer_type()
    return type_, "" if type_ else "only null or empty so far"


def _decide_on_known(seen: PathValues, known: DataType, widen: bool) -> tuple[DataType | None, str]:
    wider = seen.shape.find_wider_type(known) if seen.shape.kinds else None
    if wider is not None and widen:
        return wider, ""
    if seen.fitting:
        return known, ""
    name = known.name if isinstance(known, Scalar) else "nested"
    if wider is not None:
        return None, f"not a {name}; --widen makes the column {wider.name}"
    return None, f"does not fit its {name} column, and no wider type holds both"


def _is_listed(endpoint: Endpoint, path: str) -> bool:
    """Whether the list serves the field that the path leads to or into."""
    names = {field.name for field in endpoint.row_fields}
    return _outermost_name(path) in names and not is_filled_by_export(endpoint, path)


def _outermost_name(path: str) -> str:
    """Returns the served name of the column that a path leads to or into."""
    return str(json_path.parse_steps(json_path.from_export(path) or path)[0])


def _add_field(endpoint: Endpoint, added: StructOf, path: str, type_: DataType) -> StructOf:
    """Returns `added` with the type at its path. Raises ValueError if the endpoint refuses it."""
    extended = additions.merge_types(added, _nest(_find_steps_in_record(endpoint, path), type_))
    assert isinstance(extended, StructOf)
    additions.add_fields(endpoint, extended)
    return extended


def _find_steps_in_record(endpoint: Endpoint, path: str) -> tuple[Step, ...]:
    """Returns the steps in a record as served, where a row may be a member of an array."""
    exported = json_path.from_export(path)
    if exported is not None:
        return json_path.EXPORT_ONLY, *json_path.parse_steps(exported)
    steps = json_path.parse_steps(path)
    if endpoint.explode is None:
        return steps
    members = endpoint.column(endpoint.explode).type
    is_inside = json_path.find_type_at_steps(members, (None, steps[0])) is not None
    return (endpoint.explode, None, *steps) if is_inside else steps


def _nest(steps: tuple[Step, ...], type_: DataType) -> DataType:
    """Nests a type at its path: `items[].color` is a list of objects with a color."""
    for step in reversed(steps):
        type_ = StructOf((Field(step, type_),)) if isinstance(step, str) else ListOf(type_)
    return type_
