"""Works out what a table must contain from the sandbox's JSON, without the code under test.

Also builds the context and the days of a load, and reads tables back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
from pydantic import SecretStr

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import Connection
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.sync.sync import SyncContext
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.windows import Days

TIMEZONE = "America/New_York"


def build_context(
    sandbox: Sandbox, file: Path, policy: RetryPolicy | None = None, **changes: Any
) -> SyncContext:
    """Returns the context of a load from a sandbox into a file; changes go to the connection."""
    connection = Connection(
        environment="sandbox",
        api_url=sandbox.url,
        auth_url=sandbox.url,
        client_id=sandbox.client_id,
        client_secret=SecretStr(sandbox.client_secret),
        app_key=SecretStr(sandbox.app_key),
        tenant_id=sandbox.tenant_id,
        requests_per_second=10_000,
        **changes,
    )
    return SyncContext(
        client=Client(connection, policy=policy),
        warehouse=DuckDBFile(uri=str(file), wait_seconds=5),
        timezone=TIMEZONE,
        run_id="test",
    )


def days(first: str, last: str, *, open_start: bool = False) -> Days:
    return Days(
        first=date.fromisoformat(first),
        last=date.fromisoformat(last),
        timezone=TIMEZONE,
        open_start=open_start,
    )


def list_records(sandbox: Sandbox, endpoint: Endpoint) -> list[dict[str, Any]]:
    """Returns all records as the list serves them, or the feed where there is no list.

    Numbers with a decimal point are Decimals. Arrays to explode are exploded.
    """
    raw = sandbox.world.export_raw if endpoint.kind == "feed" else sandbox.world.raw
    return parse_records(endpoint, raw(endpoint.table))


def complete_records(sandbox: Sandbox, endpoint: Endpoint) -> list[dict[str, Any]]:
    """Returns all records with the fields that only the export serves."""
    if endpoint.export:
        return parse_records(endpoint, sandbox.world.export_raw(endpoint.table))
    return list_records(sandbox, endpoint)


def find_served_rows(endpoint: Endpoint, body: Any) -> list[Any]:
    """Returns the records of a response."""
    if endpoint.envelope == "object":
        return [body]
    return body if endpoint.envelope == "array" else body[endpoint.member or "data"]


def parse_records(endpoint: Endpoint, texts: Iterable[bytes]) -> list[dict[str, Any]]:
    records = [json.loads(text, parse_float=Decimal) for text in texts]
    if endpoint.explode is None:
        return records
    return [
        {**{k: v for k, v in record.items() if k != endpoint.explode}, **member}
        for record in records
        for member in record[endpoint.explode] or ()
    ]


def expected_rows(sandbox: Sandbox, endpoint: Endpoint) -> list[tuple]:
    return build_rows(list_records(sandbox, endpoint), endpoint.row_fields)


def build_rows(records: Iterable[dict[str, Any]], fields: Sequence[Field]) -> list[tuple]:
    """Returns the rows that the columns of `fields` must contain for some records."""
    return [tuple(expected_value(record.get(f.name), f.type) for f in fields) for record in records]


def table_rows(
    file: Path, endpoint: Endpoint, where: str = "true", fields: Sequence[Field] | None = None
) -> list[tuple]:
    columns = ", ".join(f'"{f.column}"' for f in fields or endpoint.row_fields)
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        sql = f"SELECT {columns} FROM {endpoint.table} WHERE {where}"
        return connection.execute(sql).fetchall()


def query(file: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def expected_value(value: Any, type_: DataType) -> Any:
    """Returns the Python value that DuckDB must return for a served one.

    No column holds a list where its type has members, or the reverse: `_extra` does.
    """
    match type_:
        case ListOf(item):
            if not isinstance(value, list):
                return None
            return [expected_value(member, item) for member in value]
        case StructOf(fields):
            if not isinstance(value, dict):
                return None
            return {f.column: expected_value(value.get(f.name), f.type) for f in fields}
        case Scalar(name):
            return None if value is None else _SCALARS[name](value)


def comparable(rows: Iterable[tuple]) -> list[str]:
    """Sorts rows as text. Times print alike, whichever class of time zone stands for UTC."""
    return sorted(repr(_with_utc(list(row))) for row in rows)


def render_cell(value: Any) -> str:
    """Returns a value of a row as text, as `comparable` does for whole rows."""
    return repr(_with_utc(value))


def _with_utc(value: Any) -> Any:
    match value:
        case datetime():
            assert value.utcoffset() == timedelta(0)
            return value.replace(tzinfo=timezone.utc)
        case dict():
            return {k: _with_utc(v) for k, v in value.items()}
        case list():
            return [_with_utc(v) for v in value]
    return value


def parse_timestamp(text: str) -> datetime:
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z?", text)
    assert match, text
    fraction = int((match[2] or "0").ljust(6, "0")[:6])
    moment = datetime.fromisoformat(match[1]).replace(tzinfo=timezone.utc)
    return moment + timedelta(microseconds=fraction)


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list():
            return [_plain(v) for v in value]
    return value


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "BIGINT": int,
    "DECIMAL": lambda v: Decimal(v).quantize(Decimal("1e-10")),
    "DOUBLE": float,
    "BOOLEAN": bool,
    "VARCHAR": str,
    "TIMESTAMPTZ": parse_timestamp,
    "DATE": lambda v: date.fromisoformat(v[:10]),
    "JSON": lambda v: json.dumps(_plain(v), separators=(",", ":"), ensure_ascii=False),
}
