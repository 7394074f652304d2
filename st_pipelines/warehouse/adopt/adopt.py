"""What was seen becomes part of the catalogue: fields out of `_extra`, without asking the API.

First the additions file is written, then the tables follow, each in a transaction. Where that is
cut off, the next call finds values in `_extra` whose columns the catalogue knows, and moves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from st_pipelines.catalog import additions
from st_pipelines.catalog.model import Catalog, Endpoint, StructOf
from st_pipelines.catalog.registry import select as chosen
from st_pipelines.warehouse.adopt.move import move
from st_pipelines.warehouse.adopt.plan import Finding, Plan, observe, plan
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables import history
from st_pipelines.warehouse.tables.schema import qualified


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What an adoption did, or would do.

    Attributes:
        findings: every path that `_extra` held, by table.
        rows: that were written, history included.
        superfluous: entries of the additions file that the packaged catalogue has itself.
    """

    findings: tuple[Finding, ...]
    rows: int
    superfluous: tuple[str, ...]


def adopt(
    warehouse: Store,
    packaged: Catalog,
    file: Path,
    *,
    select: Sequence[str] = (),
    widen: bool = False,
    dry_run: bool = False,
) -> Adoption:
    """Adopts what the `_extra` columns of a warehouse hold.

    Args:
        warehouse: whose tables to look at.
        packaged: the catalogue without additions.
        file: the additions, read and written.
        select: tables, `jpm.jobs`, `jpm.*` or `jpm`; all if empty.
        widen: also change the type of known columns whose values did not fit, without loss.
        dry_run: change nothing.

    Raises:
        WarehouseError: there is no warehouse, or it cannot be read or written.
        ValueError: the additions are malformed, or `select` names no table.
    """
    if not warehouse.exists:
        warehouse.check()
        raise WarehouseUnusable(
            f"warehouse {warehouse.name} does not exist: load into it first, or set "
            "ST_WAREHOUSE_DIR to the folder where it is"
        )
    before = additions.read(file)
    catalog = additions.extended(packaged, before, file)
    plans = _plans(warehouse, chosen(catalog, select), widen)
    rows = 0
    if not dry_run:
        after = _merged(before, plans)
        if after != before:
            additions.write(file, after)
        rows = _move_all(warehouse, plans, additions.extended(packaged, after, file))
    return Adoption(
        findings=tuple(finding for plan in plans for finding in plan.findings),
        rows=rows,
        superfluous=tuple(additions.superfluous(packaged, before)),
    )


def _plans(warehouse: Store, endpoints: list[Endpoint], widen: bool) -> list[Plan]:
    """A plan for each table whose `_extra` holds anything."""
    plans = []
    with duckdb.connect() as connection, warehouse.attach(connection):
        present = _tables(connection)
        for endpoint in endpoints:
            tables = [qualified(one) for one in _with_history(endpoint) if one.table in present]
            if observed := observe(connection, tables, endpoint):
                plans.append(plan(endpoint, observed, widen=widen))
    return plans


def _tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    rows = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = ?",
        [ALIAS],
    ).fetchall()
    return {name for (name,) in rows}


def _with_history(endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
    """The endpoint, and the same as if its history were its table."""
    return endpoint, dataclasses.replace(endpoint, api=history.SCHEMA, name=endpoint.flat_name)


def _merged(before: additions.Additions, plans: list[Plan]) -> dict[str, StructOf]:
    after = dict(before)
    for one in plans:
        if one.added.fields:
            united = additions.united(after.get(one.endpoint.table, StructOf(())), one.added)
            assert isinstance(united, StructOf)
            after[one.endpoint.table] = united
    return after


def _move_all(warehouse: Store, plans: list[Plan], catalog: Catalog) -> int:
    rows = 0
    with duckdb.connect() as connection, warehouse.attach(connection):
        present = _tables(connection)
    for one in plans:
        for endpoint in _with_history(one.endpoint):
            if one.columns and endpoint.table in present:
                rows += move(warehouse, endpoint, one.columns, catalog)
    return rows
