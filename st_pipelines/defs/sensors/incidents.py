"""What went wrong, as Dagster's records tell it: failed runs, stale assets, failing ticks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from st_pipelines.defs.dagster_internals import InstigatorState, InstigatorType, TickStatus
from st_pipelines.defs.metadata import FAIL_AFTER
from st_pipelines.defs.run_state import last_loads, ranges_of

SENSOR_FAILURES = 3
"""So many ticks of a sensor in a row; of a schedule one is enough, as its run is missing then."""

WILL_RETRY = "dagster/will_retry"
"""Of a failed run that Dagster runs again by itself."""

_OVER = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
_WHOLE_RUN = "the run"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One step that failed for good, or a run that failed without one.

    Attributes:
        what: the table, or the step.
        partition: key or range; empty where it has none.
        cause: the error's message.
        hint: what to do, where it is known.
        run_id: of the run.
    """

    what: str
    partition: str
    cause: str
    hint: str
    run_id: str


def failures_of(
    instance: dg.DagsterInstance, run: dg.DagsterRun, keys: Iterable[dg.AssetKey]
) -> list[Failure]:
    """What failed in a run, once for each step however often it was tried.

    Args:
        instance: has its events.
        run: which has failed.
        keys: the environment's assets, to name the tables.
    """
    tables = {"__".join(key.path): _table(key) for key in keys}
    found = [
        _of_step(entry, tables, run)
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    ]
    if found:
        return found
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    told = [entry.dagster_event.message for entry in entries if entry.dagster_event]
    cause = (told or ["no reason is on record"])[-1] or "no reason is on record"
    return [_failure(f"{_WHOLE_RUN} of {run.job_name}", cause, "", run)]


def stale_assets(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey], now: datetime
) -> dict[str, datetime]:
    """The tables that have been loaded once, but not for longer than their policy allows.

    Args:
        instance: has the loads.
        keys: the environment's assets.
        now: aware.

    Returns:
        By table, when it was loaded last, UTC.
    """
    loads = last_loads(instance, [*keys])
    return {_table(key): at for key, at in loads.items() if now - at > FAIL_AFTER}


def failing_ticks(instance: dg.DagsterInstance, location: str | None) -> Mapping[str, str]:
    """The schedules and sensors that keep failing.

    Args:
        instance: has the ticks.
        location: of which code location; None is any.

    Returns:
        By name, the error of the last tick.
    """
    return dict(_failing(instance, location))


def _failing(instance: dg.DagsterInstance, location: str | None) -> Iterator[tuple[str, str]]:
    for state in instance.all_instigator_state():
        if location and _location_of(state) != location:
            continue
        wanted = SENSOR_FAILURES if state.instigator_type == InstigatorType.SENSOR else 1
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=wanted, statuses=_OVER
        )
        if len(ticks) == wanted and all(tick.status == TickStatus.FAILURE for tick in ticks):
            error = ticks[0].error
            text = (error.cause or error).message if error else "no reason is on record"
            yield state.instigator_name, text.strip()


def _table(key: dg.AssetKey) -> str:
    """Without the environment."""
    return ".".join(key.path[1:])


def _location_of(state: InstigatorState) -> str:
    return state.origin.repository_origin.code_location_origin.location_name


def _of_step(entry: dg.EventLogEntry, tables: Mapping[str, str], run: dg.DagsterRun) -> Failure:
    event = entry.get_dagster_event()
    data, step = event.step_failure_data, event.step_key or ""
    told = data.user_failure_data
    hint = told.metadata.get("hint") if told and told.metadata else None
    error = data.error and (data.error.cause or data.error)
    cause = told.description if told and told.description else error.message if error else ""
    text = str(hint.value) if hint else ""
    return _failure(tables.get(step, step), cause or "no reason is on record", text, run)


def _failure(what: str, cause: str, hint: str, run: dg.DagsterRun) -> Failure:
    first, last = next(ranges_of(run), ("", ""))
    return Failure(
        what=what,
        partition=first if first == last else f"{first} to {last}",
        cause=cause.strip().removesuffix(hint).strip() if hint else cause.strip(),
        hint=hint,
        run_id=run.run_id,
    )
