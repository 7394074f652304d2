"""The sensor `alerts`: tells people what failed, once, with what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import dagster as dg
import msgspec

from st_pipelines.config import project
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.config.errors import SettingsError
from st_pipelines.defs.jobs import JobKeys
from st_pipelines.defs.metadata import FAIL_AFTER
from st_pipelines.defs.run_state import is_of
from st_pipelines.defs.sensors.cursor import remember, remembered
from st_pipelines.defs.sensors.incidents import (
    WILL_RETRY,
    Failure,
    failing_ticks,
    failures_of,
    stale_assets,
)
from st_pipelines.defs.sensors.webhook import Undelivered, Webhook, escaped
from st_pipelines.windows import utc_now

NAME = "alerts"
MOST_WAITING = 100

_INTERVAL = 30
_MOST_RUNS, _MOST_SENT, _MOST_NAMED = 200, 10, 8
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
_GIVEN_UP_AFTER = timedelta(days=1)
_REMEMBERED = timedelta(days=2)
_OVERLAP = timedelta(minutes=1)
_LONGEST_TEXT = 1500
_SECONDS = 20.0


class _Message(msgspec.Struct):
    """Waits to be delivered."""

    text: str
    since: datetime
    due: datetime
    tries: int = 0


class _State(msgspec.Struct, omit_defaults=True):
    """Until when failures are known, what was told already, and what is not delivered yet."""

    until: datetime | None = None
    overlap: bool = True
    told: dict[str, datetime] = {}
    stale: set[str] = set()
    failing: set[str] = set()
    waiting: list[_Message] = []


def alerts_sensor(
    environment: EnvironmentName,
    jobs: JobKeys,
    *,
    status: dg.DefaultSensorStatus,
    clock: Callable[[], datetime] = utc_now,
) -> dg.SensorDefinition:
    """One message a failure to the webhook `ST_ALERT_WEBHOOK`, and none a retry.

    A failure of the same table and partition with the same cause is told once in two days, however
    often it is tried. A message that cannot be delivered is tried again for a day.

    Args:
        environment: whose failures.
        jobs: the assets of each of its jobs.
        status: whether it runs without being turned on.
        clock: tells the time, aware.
    """
    keys = frozenset[dg.AssetKey]().union(*jobs.values())

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=_INTERVAL,
        default_status=status,
        description="Tells a webhook what failed, what is no longer fresh, and which schedules and"
        " sensors keep failing.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            url = project.alert_webhook_url()
        except SettingsError as error:
            return dg.SkipReason(str(error))
        if url is None:
            return dg.SkipReason("ST_ALERT_WEBHOOK is not set: failures show in the UI alone")
        now, state = clock(), remembered(context, _State)
        texts = [
            *_failures(context.instance, environment, keys, state, now),
            *_stale(context.instance, environment, keys, state, now),
            *_failing(context, environment, state),
        ]
        state.waiting += [_Message(text, since=now, due=now) for text in texts]
        told = _deliver(Webhook(url=url), state, now, context.log.warning)
        remember(context, state)
        return dg.SkipReason(told)

    return alerts


def _failures(
    instance: dg.DagsterInstance,
    environment: str,
    keys: Iterable[dg.AssetKey],
    state: _State,
    now: datetime,
) -> Iterator[str]:
    """A message for each cause in each run that failed since the last tick."""
    state.told = {key: at for key, at in state.told.items() if now - at < _REMEMBERED}
    since, state.until = state.until, state.until or now
    if since is None:
        return  # what failed before alerts were turned on is no news
    since -= _OVERLAP if state.overlap else timedelta()
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    records = instance.get_run_records(
        failed, limit=_MOST_RUNS, order_by="update_timestamp", ascending=True
    )
    state.overlap = len(records) < _MOST_RUNS  # else the same ones would come again and again
    state.until = max([state.until, *(record.update_timestamp for record in records)])
    if state.overlap:
        state.until = max(state.until, now)
    for run in [record.dagster_run for record in records]:
        again = run.tags.get(WILL_RETRY) == "true"
        if again or not is_of(run, environment) or run.run_id in state.told:
            continue
        state.told[run.run_id] = now
        by_cause: dict[tuple[str, str], list[Failure]] = {}
        for failure in failures_of(instance, run, keys):
            key = f"{failure.what}|{failure.partition}|{failure.cause[:80]}"
            if key not in state.told:
                state.told[key] = now
                by_cause.setdefault((failure.cause, failure.hint), []).append(failure)
        for alike in by_cause.values():
            yield _failed_text(environment, alike)


def _stale(
    instance: dg.DagsterInstance,
    environment: str,
    keys: Iterable[dg.AssetKey],
    state: _State,
    now: datetime,
) -> Iterator[str]:
    stale = stale_assets(instance, keys, now)
    new = sorted(stale.keys() - state.stale)
    state.stale = set(stale)
    if new:
        hours = FAIL_AFTER.total_seconds() / 3600
        oldest = min(stale[table] for table in new)
        yield (
            f":hourglass: *{environment}*: {_some(new)} not loaded for more than {hours:.0f} hours"
            f" (last {oldest:%Y-%m-%d %H:%M} UTC)\n*What to do*: see whether the daemon runs and"
            f" which ticks of `daily` and `gaps` were skipped: {project.ui_url()}/automation"
        )


def _failing(context: dg.SensorEvaluationContext, environment: str, state: _State) -> Iterator[str]:
    origin = context.code_location_origin
    failing = failing_ticks(context.instance, origin.location_name if origin else None)
    for name in sorted(failing.keys() - state.failing):
        yield (
            f":red_circle: *{environment}*: `{name}` keeps failing\n{_short(failing[name])}\n"
            f"*What to do*: its ticks are at {project.ui_url()}/automation"
        )
    state.failing = set(failing)


def _failed_text(environment: str, alike: list[Failure]) -> str:
    first = alike[0]
    where = f", {first.partition}" if first.partition else ""
    what = _some(sorted({failure.what for failure in alike}))
    lines = [f":red_circle: *{environment}*: {what}{where} failed", _short(first.cause)]
    if first.hint:
        lines.append(f"*What to do*: {escaped(first.hint)}")
    return "\n".join([*lines, f"<{project.ui_url()}/runs/{first.run_id}|Open the run>"])


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return escaped(f"{shown} and {more} more" if more > 0 else shown)


def _short(text: str) -> str:
    return escaped(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " ...")


def _deliver(webhook: Webhook, state: _State, now: datetime, warn: Callable[[str], object]) -> str:
    """Sends what is due; keeps what the receiver does not take. Returns the tick's message."""
    sent, trouble, kept, until = 0, "", [], time.monotonic() + _SECONDS
    for message in state.waiting:
        late = time.monotonic() > until  # a tick that Dagster breaks off forgets what it sent
        if trouble or late or message.due > now or sent == _MOST_SENT:
            kept.append(message)
            continue
        try:
            webhook.send(message.text)
            sent += 1
        except Undelivered as error:
            trouble = str(error)
            message.due = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**message.tries)
            message.tries += 1
            kept.append(message)
    state.waiting = [message for message in kept if now - message.since < _GIVEN_UP_AFTER]
    dropped = len(kept) - len(state.waiting) + max(0, len(state.waiting) - MOST_WAITING)
    state.waiting = state.waiting[-MOST_WAITING:]
    if dropped:
        warn(f"{dropped} messages could not be delivered and were given up")
    if trouble:
        return f"sent {sent}, {len(state.waiting)} wait: {trouble}"
    return f"sent {sent} messages" if sent else "nothing to tell"
