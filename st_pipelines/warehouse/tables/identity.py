"""Keeps the warehouse's identity and the settings of its loads: `_st.warehouse`.

There is a row for each tenant, written in the transaction of the tenant's first load. `identity`
tells this warehouse from an empty or another one, which Dagster's green partitions know nothing of.

A time zone that was never used here is a deliberate change: the next load recomputes the day of
every row from its cursor, within that load's transaction (`table_zones`). A zone that was used
before, or that is merely the default, is refused, as two hosts with different settings would move
the rows back and forth.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.warehouse.columns import quote
from st_pipelines.warehouse.errors import TimeZoneRefused
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables.schema import has_own_table
from st_pipelines.warehouse.tables.table_zones import (
    find_tables_in_other_zones,
    move_to_zone,
    note_former_zone,
)
from st_pipelines.windows import utc_now

_COLUMNS = {
    "environment": "VARCHAR",
    "tenant_id": "VARCHAR",
    "identity": "VARCHAR",
    "timezone": "VARCHAR",
    "former_timezones": "VARCHAR[]",
    "start_date": "DATE",
    "former_start_dates": "DATE[]",
    "created_at": "TIMESTAMPTZ",
}


@dataclass(frozen=True, kw_only=True)
class WarehouseIdentity:
    """The identity of a warehouse for one tenant, and the settings that its rows were loaded with.

    Attributes:
        identity: made up by the tenant's first load; a copy of the file has the same.
        timezone: IANA name by which the rows have their days.
        former_timezones: those before it, in order.
        start_date: of the last load that had one; None if none had.
        former_start_dates: those before it, in order.
        created_at: moment of the first load by this machine's clock, for information.
    """

    identity: str
    timezone: str
    former_timezones: tuple[str, ...] = ()
    start_date: date | None = None
    former_start_dates: tuple[date, ...] = ()
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ZoneChange:
    """What a load did because the time zone differs from the one of the loads before.

    Attributes:
        former: the zone before; empty if it was not stored, as in a file of an earlier version.
        timezone: the zone now.
        rows: the number of rows that have another day now.
    """

    former: str
    timezone: str
    rows: int


def read_identity(
    connection: duckdb.DuckDBPyConnection,
    *,
    environment: str,
    tenant_id: str,
    schema: str = f"{ALIAS}._st",
) -> WarehouseIdentity | None:
    """Returns the stored identity; None before the tenant's first load.

    Args:
        connection: with the warehouse attached, or to the warehouse itself.
        environment, tenant_id: whose row.
        schema: of the load log; `_st` for a connection to the warehouse itself.
    """
    if not has_own_table(connection, "warehouse"):
        return None
    row = connection.execute(
        "SELECT identity, timezone, former_timezones, start_date, former_start_dates, created_at "
        f"FROM {schema}.warehouse WHERE environment = ? AND tenant_id = ?",
        [environment, tenant_id],
    ).fetchone()
    if row is None:
        return None
    return WarehouseIdentity(
        identity=row[0],
        timezone=row[1],
        former_timezones=tuple(row[2] or ()),
        start_date=row[3],
        former_start_dates=tuple(row[4] or ()),
        created_at=row[5],
    )


def refuse_timezone(
    stored: WarehouseIdentity | None, environment: str, timezone: str, *, is_default: bool
) -> None:
    """Checks that a load may go into the warehouse with this time zone.

    Args:
        stored: of the warehouse; None for a new one, which takes any zone.
        environment: for the message.
        timezone: IANA name, as it is set now.
        is_default: nobody has set it.

    Raises:
        TimeZoneRefused: the zone was used before another one, or is merely the default.
    """
    if stored is None or stored.timezone == timezone:
        return
    if is_default or timezone in stored.former_timezones:
        raise TimeZoneRefused(environment, stored.timezone, timezone, is_default=is_default)


def note_settings(
    connection: duckdb.DuckDBPyConnection, spec: LoadSpec, endpoint: Endpoint, catalog: Catalog
) -> tuple[WarehouseIdentity, ZoneChange | None]:
    """Stores the settings of a load in its transaction; moves all rows to days of a new zone.

    Returns:
        The warehouse's identity, and what a new time zone changed: None if it is the one of
        the loads before.

    Raises:
        TimeZoneRefused: see `refuse_timezone`.
    """
    owner = {"environment": spec.environment, "tenant_id": spec.tenant_id}
    stored = read_identity(connection, **owner)
    refuse_timezone(stored, spec.environment, spec.timezone, is_default=spec.timezone_is_default)
    new = _with_timezone(stored, spec.timezone) if stored else _new_identity(spec.timezone)
    if spec.start_date:
        new = _with_start_date(new, spec.start_date)
    if new != stored:
        _write(connection, new, **owner)
    former = stored.timezone if stored else ""
    if former == spec.timezone:
        rows = _catch_up(connection, spec, endpoint, catalog)
        return new, ZoneChange(former="", timezone=former, rows=rows) if rows else None
    if stored:
        note_former_zone(connection, **owner, timezone=former)
    known = {e.table: e for e in catalog} | {endpoint.table: endpoint}
    rows = move_to_zone(
        connection, known.values(), **owner, timezone=spec.timezone, loaded=endpoint
    )
    if stored is None and rows and spec.timezone_is_default:
        raise TimeZoneRefused(spec.environment, "", spec.timezone, is_default=True)
    if stored is None and not rows:
        return new, None
    return new, ZoneChange(former=former, timezone=spec.timezone, rows=rows)


def _catch_up(
    connection: duckdb.DuckDBPyConnection, spec: LoadSpec, endpoint: Endpoint, catalog: Catalog
) -> int:
    """Moves rows that a change of the zone has left on their days; returns how many.

    The catalog of the load that changed the zone did not know their tables.
    """
    zone = {
        "environment": spec.environment,
        "tenant_id": spec.tenant_id,
        "timezone": spec.timezone,
    }
    left = find_tables_in_other_zones(connection, catalog, endpoint, **zone)
    return move_to_zone(connection, left, **zone, loaded=endpoint) if left else 0


def accept_timezone(
    store: Store, catalog: Catalog, *, environment: str, tenant_id: str, timezone: str
) -> ZoneChange | None:
    """Changes to a time zone that a load would refuse, in one transaction.

    Returns:
        None if there is no warehouse, or its rows have the zone already.

    Raises:
        WarehouseError: it could not be written; the warehouse is as it was.
    """
    if not store.exists:
        return None
    owner = {"environment": environment, "tenant_id": tenant_id}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        with store.attach(connection, f"a change to the time zone {timezone}"):
            connection.execute("BEGIN")
            stored = read_identity(connection, **owner)
            if stored and stored.timezone == timezone:
                return None
            new = _with_timezone(stored, timezone) if stored else _new_identity(timezone)
            _write(connection, new, **owner)
            if stored:
                note_former_zone(connection, **owner, timezone=stored.timezone)
            rows = move_to_zone(
                connection,
                catalog,
                environment=environment,
                tenant_id=tenant_id,
                timezone=timezone,
            )
            store.commit(connection)
    return ZoneChange(former=stored.timezone if stored else "", timezone=timezone, rows=rows)


def _new_identity(timezone: str) -> WarehouseIdentity:
    return WarehouseIdentity(identity=uuid.uuid4().hex, timezone=timezone, created_at=utc_now())


def _with_timezone(stored: WarehouseIdentity, timezone: str) -> WarehouseIdentity:
    if stored.timezone == timezone:
        return stored
    former = [zone for zone in stored.former_timezones if zone != timezone]
    return dataclasses.replace(
        stored, timezone=timezone, former_timezones=(*former, stored.timezone)
    )


def _with_start_date(stored: WarehouseIdentity, day: date) -> WarehouseIdentity:
    if stored.start_date == day:
        return stored
    former = [other for other in stored.former_start_dates if other != day]
    if stored.start_date:
        former.append(stored.start_date)
    return dataclasses.replace(stored, start_date=day, former_start_dates=tuple(former))


def _write(
    connection: duckdb.DuckDBPyConnection,
    identity: WarehouseIdentity,
    *,
    environment: str,
    tenant_id: str,
) -> None:
    columns = ", ".join(f"{quote(name)} {type_}" for name, type_ in _COLUMNS.items())
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}._st")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ALIAS}._st.warehouse ({columns})")
    connection.execute(
        f"DELETE FROM {ALIAS}._st.warehouse WHERE environment = ? AND tenant_id = ?",
        [environment, tenant_id],
    )
    values = dataclasses.asdict(identity) | {"environment": environment, "tenant_id": tenant_id}
    connection.execute(
        f"INSERT INTO {ALIAS}._st.warehouse VALUES ({', '.join('?' * len(_COLUMNS))})",
        [list(v) if isinstance(v, tuple) else v for v in (values[name] for name in _COLUMNS)],
    )
