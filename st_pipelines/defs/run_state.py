"""Reads from Dagster's instance which partitions are loaded, and which are being loaded.

Schedules and sensors ask this module before they request a run, so that nothing is started twice
and no complete day is loaded again. What a sensor itself keeps from tick to tick is JSON in its
cursor, which survives restarts; `read_state` and `write_state` are at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeVar

import dagster as dg
import msgspec

from st_pipelines.defs import run_lock
from st_pipelines.defs.dagster_internals import BulkActionsFilter, BulkActionStatus
from st_pipelines.defs.environment import RECONCILE, EnvironmentDefs
from st_pipelines.defs.metadata import WINDOW_END
from st_pipelines.windows import midnight

_State = TypeVar("_State", bound=msgspec.Struct)

ENVIRONMENT_TAG = "st_pipelines/environment"
"""On every run of a job, because the code locations of environments share job names."""

_PARTITION_TAG = "dagster/partition"
_RANGE_START_TAG = "dagster/asset_partition_range_start"
_RANGE_END_TAG = "dagster/asset_partition_range_end"
_SENSOR_TAG = "dagster/sensor_name"
_UNFINISHED_STATUSES = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_EXECUTED_STATUSES = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_LOCAL_LAUNCHERS = ("DefaultRunLauncher", "SyncInMemoryRunLauncher")
"""Start a run on the machine of its code location, where schedules and sensors are evaluated."""
_PROCESS_GONE = (
    "The process of the run is gone and has recorded no end: it was killed, or its machine went"
    " down. What it had committed is in the warehouse; the sensor gaps loads the rest."
)
_MAX_RUNS = 1000
_LOST_AFTER = timedelta(days=1)
_LOCKED_WITHIN = timedelta(minutes=1)
"""A run locks its file as soon as it is STARTED; this is for a machine that is very busy."""


def range_tags(first: str, last: str) -> dict[str, str]:
    """Returns the tags of a run that loads a range of partitions, `last` included."""
    return {_RANGE_START_TAG: first, _RANGE_END_TAG: last}


def partition_ranges(run: dg.DagsterRun) -> Iterator[tuple[str, str]]:
    """Yields the first and last partition key that a run loads, both included."""
    if key := run.tags.get(_PARTITION_TAG):
        yield key, key
    if first := run.tags.get(_RANGE_START_TAG):
        yield first, run.tags.get(_RANGE_END_TAG, first)


def is_run_of(run: dg.DagsterRun, env: EnvironmentDefs) -> bool:
    """Whether a run is one of the environment: its assets say so, or its job and the job's tag.

    The tag alone does not: one code location may define an environment twice, under two prefixes
    and with two selections.
    """
    selected = run.asset_selection or ()
    if any(key in env.loaded_tables for key in selected):
        return True
    is_tagged = run.tags.get(ENVIRONMENT_TAG) == env.environment
    is_our_job = run.job_name in env.keys_by_job_name or run.job_name == env.name(RECONCILE)
    return is_tagged and (is_our_job or not selected)


@dataclass(frozen=True, kw_only=True)
class UnfinishedWork:
    """Runs and backfills of an environment that have not ended.

    Attributes:
        runs: includes queued runs.
        backfill_assets: assets of backfills that still request runs.
        keys_by_job_name: the assets of each of the environment's jobs.
    """

    runs: tuple[dg.DagsterRun, ...]
    backfill_assets: frozenset[dg.AssetKey]
    keys_by_job_name: Mapping[str, frozenset[dg.AssetKey]]

    def find_run(self, job: str, partition: str | None = None) -> dg.DagsterRun | None:
        """Returns an unfinished run of a whole job, if there is one.

        Runs that a sensor requested do not count: they load only some assets of the job.

        Args:
            partition: the run must load this partition; None accepts any run.
        """
        for run in self.runs:
            loads = partition is None or _loads_partition(run, partition)
            if run.job_name == job and _SENSOR_TAG not in run.tags and loads:
                return run
        return None

    def find_run_of(self, asset: dg.AssetKey) -> dg.DagsterRun | None:
        """Returns an unfinished run that loads an asset, whatever requested it."""
        return next((run for run in self.runs if asset in self._assets_of(run)), None)

    def requested_by(self, sensor: str) -> list[dg.DagsterRun]:
        """Returns the runs that a sensor requested."""
        return [run for run in self.runs if run.tags.get(_SENSOR_TAG) == sensor]

    def is_loading(self, asset: dg.AssetKey, partition: str) -> bool:
        """Whether an unfinished run loads the partition, or a backfill has the asset."""
        return asset in self.backfill_assets or any(
            asset in self._assets_of(run) and _loads_partition(run, partition) for run in self.runs
        )

    def _assets_of(self, run: dg.DagsterRun) -> frozenset[dg.AssetKey]:
        selected = run.asset_selection
        if selected:
            return frozenset(selected)
        return self.keys_by_job_name.get(run.job_name, frozenset())


def read_unfinished_work(
    instance: dg.DagsterInstance, env: EnvironmentDefs, now: datetime
) -> UnfinishedWork:
    """Reads the runs and backfills of an environment that have not ended.

    A run whose process is gone does not count: Dagster never ends a run whose machine went down
    (unless `max_runtime_seconds` is set), and everything would wait for it forever. Where that
    is unknown, as on another machine, a run no longer counts a day after its creation.

    Args:
        instance: has the runs of all environments.
        now: timezone-aware.
    """
    recent = dg.RunsFilter(statuses=_UNFINISHED_STATUSES, created_after=now - _LOST_AFTER)
    active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    return UnfinishedWork(
        runs=tuple(
            record.dagster_run
            for record in instance.get_run_records(recent, limit=_MAX_RUNS)
            if is_run_of(record.dagster_run, env) and not _is_gone(instance, record, env, now)
        ),
        backfill_assets=frozenset(
            key
            for backfill in instance.get_backfills(filters=active)
            for key in backfill.asset_selection or ()
        ),
        keys_by_job_name=env.keys_by_job_name,
    )


def report_lost_runs(instance: dg.DagsterInstance, env: EnvironmentDefs) -> None:
    """Ends the runs of an environment whose process is gone, as Dagster does for those it sees die.

    Dagster leaves a run STARTED when its machine goes down, and counts it among the runs that may
    be active at once. Runs of which it is unknown, as on another machine, are left alone.
    """
    executed = dg.RunsFilter(statuses=_EXECUTED_STATUSES)
    for record in instance.get_run_records(executed, limit=_MAX_RUNS):
        run = record.dagster_run
        if not is_run_of(run, env) or run_lock.find_process(instance, run.run_id) != "gone":
            continue
        # Read again: the process may have recorded the end of the run before it was gone.
        current = instance.get_run_by_id(run.run_id)
        if current and current.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(current, message=_PROCESS_GONE)
        elif current and current.status is dg.DagsterRunStatus.STARTED:
            instance.report_run_failed(current, message=_PROCESS_GONE)


def _is_gone(
    instance: dg.DagsterInstance, record: dg.RunRecord, env: EnvironmentDefs, now: datetime
) -> bool:
    """Whether the process of a run has certainly ended without a word."""
    run = record.dagster_run
    if run.status not in _EXECUTED_STATUSES:
        return False
    state = run_lock.find_process(instance, run.run_id)
    if state == "no lock":  # a power cut may have undone the file
        started = record.start_time
        recently = started and now.timestamp() - started < _LOCKED_WITHIN.total_seconds()
        return _is_locked_here(instance, run, env) and not recently
    return state == "gone"


def _is_locked_here(instance: dg.DagsterInstance, run: dg.DagsterRun, env: EnvironmentDefs) -> bool:
    """Whether the process of a run holds a lock on this machine if there is one."""
    is_our_job = run.job_name in env.keys_by_job_name or run.job_name == env.name(RECONCILE)
    return is_our_job and type(instance.run_launcher).__name__ in _LOCAL_LAUNCHERS


def loaded_until(materialization: dg.AssetMaterialization | None) -> datetime | None:
    """Returns the end of the window that a load covered; None if it recorded none."""
    value = materialization.metadata.get(WINDOW_END) if materialization else None
    if isinstance(value, dg.TimestampMetadataValue):
        return datetime.fromtimestamp(value.value, timezone.utc)
    return None


def read_last_load_times(
    instance: dg.DagsterInstance, assets: Collection[dg.AssetKey]
) -> dict[dg.AssetKey, datetime]:
    """Returns when each asset was last loaded, in UTC, without assets that never were."""
    return {
        record.asset_entry.asset_key: datetime.fromtimestamp(latest.timestamp, timezone.utc)
        for record in (instance.get_asset_records(list(assets)) if assets else ())
        if (latest := record.asset_entry.last_materialization)
    }


def read_complete_days(
    instance: dg.DagsterInstance, asset: dg.AssetKey, days: Collection[date], zone: str
) -> set[date]:
    """Returns those of the days whose latest load covered them to their end.

    A load that ran during a day leaves it incomplete. Days of 23 and 25 hours are honored.

    Args:
        asset: has daily partitions.
        zone: IANA name of the partitions' time zone.
    """
    day_by_key = {day.isoformat(): day for day in days}
    latest = instance.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, set(day_by_key)
    )
    if not latest:
        return set()
    storage_ids = list(latest.values())
    wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=storage_ids)
    return {
        day_by_key[record.partition_key]
        for record in instance.fetch_materializations(wanted, limit=len(latest)).records
        if record.partition_key in day_by_key
        and _covers(record.asset_materialization, day_by_key[record.partition_key], zone)
    }


def _covers(materialization: dg.AssetMaterialization | None, day: date, zone: str) -> bool:
    until = loaded_until(materialization)
    return until is not None and until >= midnight(day + timedelta(days=1), zone)


def _loads_partition(run: dg.DagsterRun, partition: str) -> bool:
    return any(first <= partition <= last for first, last in partition_ranges(run))


def read_state(context: dg.SensorEvaluationContext, state_type: type[_State]) -> _State:
    """Returns the state that the last tick wrote.

    Without one, or if another version wrote a cursor that does not decode, the state is new.

    Args:
        state_type: has a default for every field.
    """
    try:
        return msgspec.json.decode(context.cursor or "{}", type=state_type)
    except msgspec.DecodeError:
        context.log.warning("the cursor is of another version and was discarded")
        return state_type()


def write_state(context: dg.SensorEvaluationContext, state: Any) -> None:
    """Stores the state for the next tick."""
    context.update_cursor(msgspec.json.encode(state).decode())
