"""The sensor `alerts`: posts failures to the webhook `ST_ALERT_WEBHOOK`. It requests no runs.

There is one message for each cause in a failed run (none for a failure that Dagster retries), one
for the tables that are overdue under their freshness policy, and one for each schedule or sensor
that keeps failing. Failed asset checks are shown in the UI only. `incidents` finds the failures.
The same failure of a table and partition is reported at most once every two days. A message that
cannot be delivered is retried for a day and then dropped.

The cursor stores the time up to which failures have been processed, what was reported, and the
undelivered messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import dagster as dg
import msgspec

from st_pipelines.config.errors import SettingsError
from st_pipelines.defs.environment import ALERTS, DAILY, GAPS, EnvironmentDefs
from st_pipelines.defs.metadata import FAIL_AFTER
from st_pipelines.defs.privacy import code_span
from st_pipelines.defs.run_state import (
    is_run_of,
    read_state,
    write_state,
)
from st_pipelines.defs.sensors.incidents import (
    WILL_RETRY_TAG,
    Failure,
    read_failing_instigators,
    read_failures,
    read_stale_tables,
)
from st_pipelines.defs.sensors.webhook import Undelivered, Webhook, escape_markup

MAX_WAITING = 100
"""Undelivered messages that are kept; the oldest are dropped."""

_INTERVAL_SECONDS = 30
_MAX_RUNS, _MAX_SENT, _MAX_NAMES = 200, 10, 8
_FIRST_RETRY_DELAY, _MAX_RETRY_DELAY = timedelta(minutes=1), timedelta(hours=1)
_GIVE_UP_AFTER = timedelta(days=1)
_REPORT_AGAIN_AFTER = timedelta(days=2)
_OVERLAP = timedelta(minutes=1)
_MAX_TEXT_CHARS = 1500
_DELIVERY_SECONDS = 20.0


class _Message(msgspec.Struct):
    """An undelivered message; not tried before `due`."""

    text: str
    since: datetime
    due: datetime
    tries: int = 0

    def correct_times(self, now: datetime) -> None:
        """Makes it due if it waits longer than any wait: the clock was ahead when it was noted."""
        if self.due > now + _MAX_RETRY_DELAY:
            self.due = now
        self.since = min(self.since, now)


class _State(msgspec.Struct, omit_defaults=True):
    """What the cursor keeps.

    Attributes:
        until: failures up to this time are known.
        overlap: the next tick reads a little of the past again, as updates may arrive late.
        reported: when each run and each failure was reported.
        stale: tables that were reported as stale and still are.
        failing: schedules and sensors that were reported as failing and still are.
    """

    until: datetime | None = None
    overlap: bool = True
    reported: dict[str, datetime] = msgspec.field(default_factory=dict, name="told")
    stale: set[str] = set()
    failing: set[str] = set()
    waiting: list[_Message] = []


def build_alerts_sensor(env: EnvironmentDefs) -> dg.SensorDefinition:
    """Returns the sensor."""

    @dg.sensor(
        name=env.name(ALERTS),
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=env.sensor_status,
        description="Posts to a webhook what failed, what is no longer fresh, and which schedules"
        " and sensors keep failing.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            config = env.resolve_config()
            url = config.alert_webhook_url
        except SettingsError as error:
            return dg.SkipReason(str(error))
        if url is None:
            return dg.SkipReason("ST_ALERT_WEBHOOK is not set: failures show in the UI alone")
        now, state = env.clock(), read_state(context, _State)
        texts = [
            *_report_failures(context.instance, env, state, now, config.ui_url),
            *_report_stale_tables(context.instance, env, state, now, config.ui_url),
            *_report_failing_instigators(context, env, state, config.ui_url),
        ]
        state.waiting += [_Message(text, since=now, due=now) for text in texts]
        outcome = _deliver(Webhook(url=url), state, now, context.log.warning)
        write_state(context, state)
        return dg.SkipReason(outcome)

    return alerts


def _report_failures(
    instance: dg.DagsterInstance, env: EnvironmentDefs, state: _State, now: datetime, ui_url: str
) -> Iterator[str]:
    """Yields a message for each cause in each run that failed since the last tick."""
    state.reported = {
        key: at for key, at in state.reported.items() if abs(now - at) < _REPORT_AGAIN_AFTER
    }
    for run in _read_failed_runs(instance, state, now):
        retried = run.tags.get(WILL_RETRY_TAG) == "true"
        if retried or not is_run_of(run, env) or run.run_id in state.reported:
            continue
        state.reported[run.run_id] = now
        by_cause: dict[tuple[str, str], list[Failure]] = {}
        for failure in read_failures(instance, run, env):
            key = f"{failure.subject}|{failure.partition}|{failure.cause[:80]}"
            if key not in state.reported:
                state.reported[key] = now
                by_cause.setdefault((failure.cause, failure.hint), []).append(failure)
        for failures in by_cause.values():
            yield _failure_text(env.environment, failures, ui_url)


def _read_failed_runs(
    instance: dg.DagsterInstance, state: _State, now: datetime
) -> list[dg.DagsterRun]:
    """Returns the runs that failed since the last tick, oldest first, and advances the state."""
    if state.until is not None and state.until > now + _OVERLAP:  # the clock was ahead
        state.until, state.overlap = now, True
    since, state.until = state.until, state.until or now
    if since is None:
        return []  # failures from before the sensor was turned on are not news
    since -= _OVERLAP if state.overlap else timedelta()
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    records = instance.get_run_records(
        failed, limit=_MAX_RUNS, order_by="update_timestamp", ascending=True
    )
    # With a full page and an overlap, the same runs would come again and again.
    state.overlap = len(records) < _MAX_RUNS
    state.until = max([state.until, *(record.update_timestamp for record in records)])
    if state.overlap:
        state.until = max(state.until, now)
    return [record.dagster_run for record in records]


def _report_stale_tables(
    instance: dg.DagsterInstance, env: EnvironmentDefs, state: _State, now: datetime, ui_url: str
) -> Iterator[str]:
    stale = read_stale_tables(instance, env, now)
    new = sorted(stale.keys() - state.stale)
    state.stale = set(stale)
    if new:
        hours = FAIL_AFTER.total_seconds() / 3600
        oldest = min(stale[table] for table in new)
        yield (
            f":hourglass: *{env.environment}*: {_join_names(new)} not loaded for more than"
            f" {hours:.0f} hours (last {oldest:%Y-%m-%d %H:%M} UTC)\n*What to do*: check that the"
            f" daemon runs, and which ticks of `{env.name(DAILY)}` and `{env.name(GAPS)}` were"
            f" skipped: {ui_url}/automation"
        )


def _report_failing_instigators(
    context: dg.SensorEvaluationContext, env: EnvironmentDefs, state: _State, ui_url: str
) -> Iterator[str]:
    origin = context.code_location_origin
    location = origin.location_name if origin else None
    failing = read_failing_instigators(context.instance, location, env.instigator_names)
    for name in sorted(failing.keys() - state.failing):
        yield (
            f":red_circle: *{env.environment}*: `{name}` keeps failing\n{_quote(failing[name])}\n"
            f"*What to do*: its ticks are at {ui_url}/automation"
        )
    state.failing = set(failing)


def _failure_text(environment: str, failures: list[Failure], ui_url: str) -> str:
    """Returns one message for failures with the same cause in one run."""
    first = failures[0]
    partition = f", {first.partition}" if first.partition else ""
    subjects = _join_names(sorted({failure.subject for failure in failures}))
    lines = [
        f":red_circle: *{environment}*: {subjects}{partition} failed",
        _quote(first.cause),
    ]
    if first.hint:
        lines.append(f"*What to do*: {escape_markup(first.hint)}")
    return "\n".join([*lines, f"<{ui_url}/runs/{first.run_id}|Open the run>"])


def _join_names(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    return escape_markup(f"{shown} and {more} more" if more > 0 else shown)


def _quote(text: str) -> str:
    """Returns an error's text as code: ServiceTitan's and other programs' words are in it."""
    shown = text if len(text) <= _MAX_TEXT_CHARS else text[:_MAX_TEXT_CHARS] + " ..."
    return escape_markup(code_span(shown))


def _deliver(webhook: Webhook, state: _State, now: datetime, warn: Callable[[str], object]) -> str:
    """Sends the messages that are due and keeps the undelivered ones. Returns the tick's message.

    After the first error the others wait. Sending ends well before Dagster would end the tick, as
    an ended tick stores no cursor and would send its messages again.
    """
    for message in state.waiting:
        message.correct_times(now)
    sent, problem, kept, deadline = 0, "", [], time.monotonic() + _DELIVERY_SECONDS
    for message in state.waiting:
        out_of_time = time.monotonic() > deadline
        if problem or out_of_time or message.due > now or sent == _MAX_SENT:
            kept.append(message)
            continue
        try:
            webhook.send(message.text)
            sent += 1
        except Undelivered as error:
            problem = str(error)
            message.due = now + min(_MAX_RETRY_DELAY, _FIRST_RETRY_DELAY * 2**message.tries)
            message.tries += 1
            kept.append(message)
    state.waiting = [message for message in kept if now - message.since < _GIVE_UP_AFTER]
    dropped = len(kept) - len(state.waiting) + max(0, len(state.waiting) - MAX_WAITING)
    state.waiting = state.waiting[-MAX_WAITING:]
    if dropped:
        warn(f"{dropped} messages could not be delivered and were given up")
    if problem:
        return f"sent {sent}, {len(state.waiting)} wait: {problem}"
    return f"sent {sent} messages" if sent else "nothing to report"
