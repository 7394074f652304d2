"""Adopts drift: fields that loads kept in `_extra` become columns, without new API requests.

The additions file is written first; the tables follow, each in a transaction of its own. If that
is interrupted, the next adoption finds values in `_extra` that known columns take, and moves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from st_pipelines.catalog import additions
from st_pipelines.catalog.model import Catalog, Endpoint, StructOf
from st_pipelines.catalog.registry import select as select_endpoints
from st_pipelines.warehouse.adopt.inference import read_path_values
from st_pipelines.warehouse.adopt.move import move_values
from st_pipelines.warehouse.adopt.plan import Finding, Plan, build_plan
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables import history
from st_pipelines.warehouse.tables.schema import qualified


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
        store.check()
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
