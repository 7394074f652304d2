"""What the books tell of earlier loads, for a load to be compared with."""

from __future__ import annotations

from datetime import timedelta

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.store.base import ALIAS

FRESH = timedelta(hours=36)
"""A window that is read later has lost records to later days, so its count compares to nothing."""

LOOK_BACK = timedelta(days=70)
FEWEST_WINDOWS = 3

_WHOSE = "environment = $environment AND api = $api AND endpoint = $name AND tenant_id = $tenant"


def rows_before(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec
) -> int | None:
    """Live rows of the table after the load before this one; None where that is not noted."""
    row = connection.execute(
        f"SELECT table_rows FROM {ALIAS}._st.loads WHERE {_WHOSE} AND table_rows IS NOT NULL "
        "ORDER BY loaded_at DESC LIMIT 1",
        _whose(endpoint, load),
    ).fetchone()
    return row[0] if row else None


def usual_rows(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec
) -> float | None:
    """Median of what comparable windows held: as long, of the same weekday, and as fresh.

    Returns:
        None for another than a fresh window, or where fewer than three others are known.
    """
    start, end = load.window_start, load.window_end
    if start is None or end is None or load.loaded_at - end > FRESH:
        return None
    local = "dayofweek(timezone($zone, {}::TIMESTAMPTZ))"
    rows, windows = connection.execute(
        "SELECT median(rows), count(*) FROM ("
        f"SELECT max(rows_read) AS rows FROM {ALIAS}._st.loads WHERE {_WHOSE} "
        "AND window_start >= $since AND window_start < $start "
        "AND abs(epoch(window_end) - epoch(window_start) - $seconds) <= 7200 "
        f"AND {local.format('window_start')} = {local.format('$start')} "
        "AND loaded_at - window_end <= $fresh GROUP BY window_start)",
        {
            **_whose(endpoint, load),
            "zone": load.timezone,
            "since": start - LOOK_BACK,
            "start": start,
            "seconds": (end - start).total_seconds(),
            "fresh": FRESH,
        },
    ).fetchall()[0]
    return rows if windows >= FEWEST_WINDOWS else None


def _whose(endpoint: Endpoint, load: LoadSpec) -> dict[str, object]:
    return {
        "environment": load.environment,
        "api": endpoint.api,
        "name": endpoint.name,
        "tenant": load.tenant_id,
    }
