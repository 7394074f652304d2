"""What is being loaded, or waits for it, so that nothing is started twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

import dagster as dg

from st_pipelines.defs.dagster_internals import BulkActionsFilter, BulkActionStatus
from st_pipelines.defs.metadata import WINDOW_END
from st_pipelines.windows import midnight

ENVIRONMENT_TAG = "st_pipelines/environment"
"""Of every run of a job: two code locations have jobs of the same names."""

_PARTITION = "dagster/partition"
_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
_SENSOR = "dagster/sensor_name"
_NOT_OVER = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_MOST_RUNS = 1000
_LOST_AFTER = timedelta(days=1)


def range_tags(first: str, last: str) -> dict[str, str]:
    """What makes a run load several partitions at once.

    Args:
        first: partition key.
        last: partition key; it is loaded, too.
    """
    return {_RANGE_START: first, _RANGE_END: last}


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """Runs and backfills of an environment that are not over.

    Attributes:
        runs: queued ones included.
        backfilled: assets of backfills that still request runs.
        jobs: the assets of each of the environment's jobs.
    """

    runs: tuple[dg.DagsterRun, ...]
    backfilled: frozenset[dg.AssetKey]
    jobs: Mapping[str, frozenset[dg.AssetKey]]

    def run_of(self, job: str, partition: str | None = None) -> dg.DagsterRun | None:
        """A run of a whole job, if one is not over.

        Args:
            job: its name.
            partition: only of this partition; None is any.
        """
        for run in self.runs:
            same = partition is None or _holds(run, partition)
            if run.job_name == job and not _part_only(run) and same:
                return run
        return None

    def requested_by(self, sensor: str) -> list[dg.DagsterRun]:
        """The runs that a sensor asked for."""
        return [run for run in self.runs if run.tags.get(_SENSOR) == sensor]

    def loads(self, asset: dg.AssetKey, partition: str) -> bool:
        """Whether a partition of an asset is in a run, or its asset in a backfill."""
        return asset in self.backfilled or any(
            asset in self._assets_of(run) and _holds(run, partition) for run in self.runs
        )

    def _assets_of(self, run: dg.DagsterRun) -> frozenset[dg.AssetKey]:
        chosen = run.asset_selection
        return frozenset(chosen) if chosen else self.jobs.get(run.job_name, frozenset())


def unfinished(
    instance: dg.DagsterInstance,
    environment: str,
    jobs: Mapping[str, frozenset[dg.AssetKey]],
    now: datetime,
) -> Unfinished:
    """Looks for what is not over.

    A run that was created more than a day ago does not count: without `max_runtime_seconds`
    Dagster never ends one whose process went with its machine, and it would be waited for for ever.

    Args:
        instance: has the runs of all environments.
        environment: whose.
        jobs: the assets of each of its jobs.
        now: aware.
    """
    wanted = dg.RunsFilter(statuses=_NOT_OVER, created_after=now - _LOST_AFTER)
    found = instance.get_runs(wanted, limit=_MOST_RUNS)
    waiting = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    return Unfinished(
        runs=tuple(run for run in found if is_of(run, environment)),
        backfilled=frozenset(
            key
            for backfill in instance.get_backfills(filters=waiting)
            for key in backfill.asset_selection or ()
        ),
        jobs=jobs,
    )


def is_of(run: dg.DagsterRun, environment: str) -> bool:
    """Whether a run is of an environment: by its assets, or by the tag of its job."""
    if run.asset_selection:
        return any(key.path[0] == environment for key in run.asset_selection)
    return run.tags.get(ENVIRONMENT_TAG) == environment


def _part_only(run: dg.DagsterRun) -> bool:
    """Whether a sensor asked for some assets of the job only."""
    return _SENSOR in run.tags


def _holds(run: dg.DagsterRun, partition: str) -> bool:
    return any(first <= partition <= last for first, last in ranges_of(run))


def ranges_of(run: dg.DagsterRun) -> Iterator[tuple[str, str]]:
    """The first and the last key of the partitions that a run loads, both included."""
    if one := run.tags.get(_PARTITION):
        yield one, one
    if first := run.tags.get(_RANGE_START):
        yield first, run.tags.get(_RANGE_END, first)


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
