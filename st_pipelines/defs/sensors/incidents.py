"""Searches Dagster's records for failures: failed steps and runs, stale assets, failing ticks.

The sensor `alerts` turns what it finds into messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from st_pipelines.defs.dagster_internals import InstigatorState, InstigatorType, TickStatus
from st_pipelines.defs.environment import EnvironmentDefs
from st_pipelines.defs.metadata import FAIL_AFTER
from st_pipelines.defs.run_state import partition_ranges, read_last_load_times

SENSOR_FAILURES = 3
"""Failed ticks of a sensor in a row. For a schedule one is enough, as its run is then missing."""

WILL_RETRY_TAG = "dagster/will_retry"
"""On a failed run that Dagster retries."""

_FINAL_STATUSES = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
_NO_REASON = "no reason is on record"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A step that failed for good, or a run that failed without a failed step.

    Attributes:
        subject: the table, the step, or the run.
        partition: key or range; empty if the run has none.
        cause: the error's message.
        hint: what to do; empty if unknown.
    """

    subject: str
    partition: str
    cause: str
    hint: str
    run_id: str


def read_failures(
    instance: dg.DagsterInstance, run: dg.DagsterRun, env: EnvironmentDefs
) -> list[Failure]:
    """Returns what failed in a failed run, each step once however often it was retried."""
    tables = {key.to_python_identifier(): table for key, table in env.loaded_tables.items()}
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    if entries:
        return [_step_failure(entry, tables, run) for entry in entries]
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    messages = [entry.dagster_event.message for entry in entries if entry.dagster_event]
    cause = (messages or [_NO_REASON])[-1] or _NO_REASON
    return [_failure(f"the run of {run.job_name}", cause, "", run)]


def read_stale_tables(
    instance: dg.DagsterInstance, env: EnvironmentDefs, now: datetime
) -> dict[str, datetime]:
    """Returns the tables that were loaded once, but not within their freshness policy.

    Args:
        now: timezone-aware.

    Returns:
        The time of the last load in UTC, by table.
    """
    times = read_last_load_times(instance, env.tables)
    return {env.tables[key]: time for key, time in times.items() if now - time > FAIL_AFTER}


def read_failing_instigators(
    instance: dg.DagsterInstance, location: str | None, names: Collection[str]
) -> Mapping[str, str]:
    """Returns the schedules and sensors that keep failing, with the error of the last tick.

    Args:
        location: the code location they are in; None accepts any.
        names: the schedules and sensors to check; a location may have others.
    """
    return dict(_failing_instigators(instance, location, names))


def _failing_instigators(
    instance: dg.DagsterInstance, location: str | None, names: Collection[str]
) -> Iterator[tuple[str, str]]:
    for state in instance.all_instigator_state():
        if state.instigator_name not in names:
            continue
        if location and _location_of(state) != location:
            continue
        limit = SENSOR_FAILURES if state.instigator_type == InstigatorType.SENSOR else 1
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=limit, statuses=_FINAL_STATUSES
        )
        if len(ticks) == limit and all(tick.status == TickStatus.FAILURE for tick in ticks):
            error = ticks[0].error
            text = (error.cause or error).message if error else _NO_REASON
            yield state.instigator_name, text.strip()


def _location_of(state: InstigatorState) -> str:
    return state.origin.repository_origin.code_location_origin.location_name


def _step_failure(
    entry: dg.EventLogEntry, tables: Mapping[str, str], run: dg.DagsterRun
) -> Failure:
    event = entry.get_dagster_event()
    data, step = event.step_failure_data, event.step_key or ""
    user_data = data.user_failure_data
    hint = user_data.metadata.get("hint") if user_data and user_data.metadata else None
    error = data.error and (data.error.cause or data.error)
    described = user_data.description if user_data else None
    cause = described or (error.message if error else "")
    hint_text = str(hint.value) if hint else ""
    return _failure(tables.get(step, step), cause or _NO_REASON, hint_text, run)


def _failure(subject: str, cause: str, hint: str, run: dg.DagsterRun) -> Failure:
    first, last = next(partition_ranges(run), ("", ""))
    return Failure(
        subject=subject,
        partition=first if first == last else f"{first} to {last}",
        cause=cause.strip().removesuffix(hint).strip() if hint else cause.strip(),
        hint=hint,
        run_id=run.run_id,
    )
