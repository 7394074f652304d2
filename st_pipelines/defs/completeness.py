"""What has been loaded, as Dagster's event log tells it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta, timezone

import dagster as dg

from st_pipelines.defs.metadata import WINDOW_END
from st_pipelines.windows import midnight


def loaded_until(load: dg.AssetMaterialization | None) -> datetime | None:
    """Until when what was loaded is known; None where the load does not tell."""
    told = load.metadata.get(WINDOW_END) if load else None
    if isinstance(told, dg.TimestampMetadataValue):
        return datetime.fromtimestamp(told.value, timezone.utc)
    return None


def last_loads(
    instance: dg.DagsterInstance, assets: Collection[dg.AssetKey]
) -> dict[dg.AssetKey, datetime]:
    """When each asset was loaded last, UTC; those that never were are left out."""
    return {
        record.asset_entry.asset_key: datetime.fromtimestamp(latest.timestamp, timezone.utc)
        for record in (instance.get_asset_records(list(assets)) if assets else ())
        if (latest := record.asset_entry.last_materialization)
    }


def complete_days(
    instance: dg.DagsterInstance, asset: dg.AssetKey, days: Collection[date], zone: str
) -> set[date]:
    """The days whose latest load knew them until their end.

    Args:
        instance: has the events.
        asset: partitioned by day.
        days: those in question.
        zone: IANA name of the partitions' time zone.

    Returns:
        Those of `days` that need no further load, 23 and 25 hours of a day included.
    """
    by_key = {day.isoformat(): day for day in days}
    latest = instance.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, set(by_key)
    )
    if not latest:
        return set()
    wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=list(latest.values()))
    found = instance.fetch_materializations(wanted, limit=len(latest)).records
    return {
        by_key[record.partition_key]
        for record in found
        if record.partition_key in by_key
        and _knows(record.asset_materialization, by_key[record.partition_key], zone)
    }


def _knows(load: dg.AssetMaterialization | None, day: date, zone: str) -> bool:
    until = loaded_until(load)
    return until is not None and until >= midnight(day + timedelta(days=1), zone)
