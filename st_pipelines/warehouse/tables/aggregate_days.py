"""Refuses to replace the figures of a day by those of a shorter part of it.

An aggregate that is read before its day ends holds that part of the day. A later read of the same
day ends later, so one that ends earlier had a clock that is behind, or was overtaken.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from st_pipelines.warehouse.errors import DayUnfinished, Overtaken
from st_pipelines.warehouse.load_spec import LoadSpec, MergeMode
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.table_load import TableLoad
from st_pipelines.windows import midnight


def refuse_unfinished_day(load: TableLoad) -> None:
    """Checks that the table does not hold more of the day than the load brings.

    A load that claims to have read beyond ServiceTitan's time does not count: its clock was ahead.

    Raises:
        Overtaken: a load that committed since the read started has read more of the day.
        DayUnfinished: an earlier load has.
    """
    spec = load.spec
    if spec.mode is not MergeMode.REPLACE_DAY or spec.window_end is None or _is_whole(spec):
        return
    last = _read_last_load(load)
    if last is None:
        return
    has_until, sequence, rows = last
    if has_until <= spec.window_end:
        return
    if spec.server_time is not None and has_until > spec.server_time:
        return
    if sequence >= spec.sequence:
        raise Overtaken(load.endpoint.table, rows)
    raise DayUnfinished(
        load.endpoint.table,
        f"{spec.default_date}",
        read_until=spec.window_end,
        has_until=has_until,
        behind=_clock_is_behind(spec),
    )


def _read_last_load(load: TableLoad) -> tuple[datetime, int, int] | None:
    """End (UTC), number and records of the day's last load; None before its first."""
    spec, endpoint = load.spec, load.endpoint
    return load.connection.execute(
        "SELECT window_end, coalesce(sequence, 0), coalesce(rows_read, 0) "
        f"FROM {ALIAS}._st.loads WHERE environment = ? AND api = ? AND endpoint = ? "
        "AND tenant_id = ? AND window_start = ? AND window_end IS NOT NULL "
        "ORDER BY sequence DESC NULLS LAST, rowid DESC LIMIT 1",
        [spec.environment, endpoint.api, endpoint.name, spec.tenant_id, spec.window_start],
    ).fetchone()


def _is_whole(spec: LoadSpec) -> bool:
    end = midnight(spec.default_date + timedelta(days=1), spec.timezone)
    return spec.window_end is not None and spec.window_end >= end


def _clock_is_behind(spec: LoadSpec) -> timedelta | None:
    return None if spec.server_time is None else spec.server_time - spec.loaded_at
