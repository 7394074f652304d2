"""Shared by the benchmarks that load: the context of a load, its days, and comparing two files."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
from pydantic import SecretStr

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import Connection
from st_pipelines.sync.sync import SyncContext
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.windows import Days, local_day

TABLES = ("crm.customers", "jpm.jobs", "accounting.invoices")
PATHS = tuple(load_catalog()[table].path for table in TABLES)
_LOAD_COLUMNS = "_loaded_at, _run_id, _partition_date, _read_sequence"


def sync_context(
    warehouse: DuckDBFile, run_id: str = "benchmark", page_size: int = 5000
) -> SyncContext:
    """A context for loads from the server that the environment variables point to."""
    connection = Connection(
        environment="sandbox",
        api_url=os.environ["SERVICETITAN_API_URL"],
        auth_url=os.environ["SERVICETITAN_AUTH_URL"],
        client_id=os.environ["SERVICETITAN_CLIENT_ID"],
        client_secret=SecretStr(os.environ["SERVICETITAN_CLIENT_SECRET"]),
        app_key=SecretStr(os.environ["SERVICETITAN_APP_KEY"]),
        tenant_id=os.environ["SERVICETITAN_TENANT_ID"],
        page_size=page_size,
    )
    return SyncContext(
        client=Client(connection),
        warehouse=warehouse,
        timezone=os.environ["SERVICETITAN_TIMEZONE"],
        run_id=run_id,
        catalog=load_catalog(),
    )


def history(*, days_ago: int = 0) -> Days:
    """All days up to today, or up to an earlier day."""
    zone = os.environ["SERVICETITAN_TIMEZONE"]
    last = local_day(datetime.now(timezone.utc), zone) - timedelta(days=days_ago)
    return Days(first=last, last=last, timezone=zone, open_start=True)


def differences(file: Path, other: Path) -> dict[str, int]:
    """For each table, the number of rows that only one of two warehouses has."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{file}' AS one (READ_ONLY)")
        connection.execute(f"ATTACH '{other}' AS two (READ_ONLY)")
        return {
            table: sum(
                _missing(connection, table, *pair) for pair in (("one", "two"), ("two", "one"))
            )
            for table in TABLES
        }


def _missing(connection: duckdb.DuckDBPyConnection, table: str, here: str, there: str) -> int:
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name || '.' || table_name = ? "
        "AND database_name IN ('one', 'two')",
        [table],
    ).fetchall()[0][0]
    if found < 2:
        return 1
    rows = f"SELECT * EXCLUDE ({_LOAD_COLUMNS}) FROM"
    return connection.execute(
        f"SELECT count(*) FROM ({rows} {here}.{table} EXCEPT ALL {rows} {there}.{table})"
    ).fetchall()[0][0]
