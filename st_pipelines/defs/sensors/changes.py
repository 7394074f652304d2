"""The sensor `changes`: requests today's partition of the endpoints that changed at ServiceTitan.

Each tick sends one small request (see `probe_endpoints`) for every endpoint that has a date filter
or an export feed. An endpoint has changed when it serves a record modified since its last load
ended, or when its feed has entries beyond the last known position. Those that changed go into one
run of the job `intraday`: today's partition (in the environment's time zone) of just those assets.
While that run is active, a tick does nothing. If it fails, the endpoints are requested again, with
growing delays. Snapshots and daily aggregates cannot be probed and wait for their schedules.

The cursor stores, for each endpoint, the time up to which it is loaded and the end of its feed
(`PollState`), and the endpoint to resume from if a tick ran out of time. How far each load reached
is taken from Dagster's materializations, so scheduled and manual runs count as well.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import NotConfigured, SettingsError
from st_pipelines.defs.environment import CHANGES, EnvironmentDefs
from st_pipelines.defs.failures import describe_unexpected
from st_pipelines.defs.jobs import Job
from st_pipelines.defs.run_state import (
    loaded_until,
    read_state,
    read_unfinished_work,
    report_lost_runs,
    write_state,
)
from st_pipelines.defs.warehouse_record import compare_in_tick
from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    RateLimited,
    ServiceTitanError,
)
from st_pipelines.servicetitan.http.model import Connection, ReadStats
from st_pipelines.servicetitan.http.retry import Cancellation, Cancelled, RetryPolicy
from st_pipelines.sync.explain import diagnose
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.windows import local_day

if TYPE_CHECKING:  # it loads requests, which loading the definitions must not
    from st_pipelines.servicetitan.reading.probes import ChangeProbe

_log = logging.getLogger(__name__)

TICK_SECONDS = 40.0
"""Time for probing. Dagster ends a tick after 60 seconds; the next tick probes the rest."""

_RETRY_POLICY = RetryPolicy(attempts=2, backoff=0.5, max_retry_after_seconds=5)
_FIRST_RETRY_DELAY, _MAX_RETRY_DELAY = timedelta(minutes=5), timedelta(hours=6)
_REQUEST_TIMEOUT_SECONDS = 15.0
_CONCURRENCY = 8
_FATAL_ERRORS = (AuthenticationFailed, RateLimited)
"""Errors that every other endpoint would meet as well."""
_MAX_FAILURES = 16
"""After this many failures without a success, the problem is not one API's."""
_MAX_LOADS = 100
_CLOCK_SKEW = timedelta(minutes=5)
_DOUBTFUL = timedelta(days=2)
"""How much of the past is asked about again after a clock was ahead."""


class PollState(msgspec.Struct, omit_defaults=True):
    """How far the changes of one endpoint are known.

    Attributes:
        since: end of the window of its latest load; None before the first.
        token: where its export feed ended.
        round: of the probes of a feed, see `reading.probes`.
        tries: loads that were requested since the last one succeeded.
        until: no probe before this time, because a requested load may be about to run.
        seen: storage id of the latest materialization that was noted.
    """

    since: datetime | None = None
    token: str | None = None
    round: int = 0
    tries: int = 0
    until: datetime | None = None
    seen: int = 0

    def is_due(self, now: datetime) -> bool:
        """Whether to probe the endpoint now.

        A later `until` than any wait was noted while the clock was ahead.
        """
        return self.until is None or not now < self.until <= now + _MAX_RETRY_DELAY

    def request_load(self, now: datetime) -> None:
        """Notes that a load is requested. If it fails, it is due again with growing delays."""
        self.until = now + min(_MAX_RETRY_DELAY, _FIRST_RETRY_DELAY * 4**self.tries)
        self.tries += 1

    def note_load(self, until: datetime) -> None:
        """Notes how far the loads now reach, also if it is less far: a clock was ahead before."""
        self.since, self.tries, self.until = until, 0, None

    def correct_since(self, now: datetime) -> None:
        """Moves a `since` back that lies in the future: a clock was ahead when it was noted.

        Args:
            now: by ServiceTitan's clock, if it is known.
        """
        if self.since is not None and self.since > now + _CLOCK_SKEW:
            self.since = now - _DOUBTFUL


class _State(msgspec.Struct, omit_defaults=True):
    """Poll states by table, and the position of the endpoint with which the next tick begins."""

    polls: dict[str, PollState] = msgspec.field(default_factory=dict, name="places")
    begin: int = 0


def build_changes_sensor(env: EnvironmentDefs, job: Job) -> dg.SensorDefinition:
    """Returns the sensor.

    Args:
        job: loads one partition of the partitioned assets.
    """
    pollable = [e for e in env.catalog if strategy_for(e).can_probe]

    @dg.sensor(
        name=env.name(CHANGES),
        job=job,
        minimum_interval_seconds=int(env.settings.changes_minutes * 60),
        default_status=env.sensor_status,
        description="Asks ServiceTitan with one small request per endpoint what has changed since"
        " its last load, and loads today's partition of just that.",
    )
    def changes(context: dg.SensorEvaluationContext) -> dg.SkipReason | dg.RunRequest:
        try:
            connection = build_connection(env.resolve_config())
        except NotConfigured as error:
            return dg.SkipReason(str(error))
        except SettingsError as error:
            raise dg.Failure(diagnose(error).line, allow_retries=False) from None
        now = env.clock()
        report_lost_runs(context.instance, env)
        unfinished = read_unfinished_work(context.instance, env, now)
        if requested := unfinished.requested_by(env.name(CHANGES)):
            return dg.SkipReason(
                f"run {requested[0].run_id[:8]}, which loads the last changes, is unfinished"
            )
        state = read_state(context, _State)
        for endpoint in pollable:
            state.polls.setdefault(endpoint.table, PollState())
        today = _find_today(connection, env, now)
        _note_loads(state, context.instance, env, pollable, today)
        compared = compare_in_tick(context.instance, env, now)
        difference = compared.difference if compared else ""
        if compared and difference:
            context.log.warning(difference)
            for table in state.polls.keys() & set(compared.stale):
                state.polls[table].since = None  # its loads are not there: it needs another
        due = [
            endpoint
            for endpoint in _rotate(pollable, state.begin)
            if state.polls[endpoint.table].is_due(now)
            and not unfinished.is_loading(env.asset_keys[endpoint.table], today.isoformat())
        ]
        results = probe_endpoints(connection, due, state.polls, now)
        if results.refused:  # the cursor stays as it was, and alerts report it once
            raise dg.Failure(results.refused, allow_retries=False)
        _note_results(state, results, pollable, now)
        write_state(context, state)
        summary, changed = results.summary(len(due)), results.changed
        if not changed:
            text = f"nothing changed: {summary}"
            return dg.SkipReason(f"{text}; {difference}" if difference else text)
        context.log.info(f"changed: {', '.join(changed)}; {summary}")
        today = _find_today(connection, env, now)  # only now a new process knows the server's time
        return dg.RunRequest(
            partition_key=today.isoformat(),
            asset_selection=[env.asset_keys[table] for table in changed],
        )

    return changes


def _find_today(connection: Connection, env: EnvironmentDefs, now: datetime) -> date:
    """The local day, by ServiceTitan's time where that is known and earlier than ours."""
    from st_pipelines.servicetitan.http.auth import token_source_for

    server_time = token_source_for(connection).server_clock.now() or now
    return local_day(min(now, server_time), env.settings.timezone)


def _rotate(endpoints: list[Endpoint], begin: int) -> list[Endpoint]:
    begin %= max(1, len(endpoints))
    return endpoints[begin:] + endpoints[:begin]


def _note_loads(
    state: _State,
    instance: dg.DagsterInstance,
    env: EnvironmentDefs,
    endpoints: list[Endpoint],
    today: date,
) -> None:
    """Moves the poll states to the ends of today's and yesterday's loads since the last tick.

    The latest load alone is not enough: it may be one of older days, which says nothing of today.
    """
    days = [(today - timedelta(days=1)).isoformat(), today.isoformat()]
    for record in instance.get_asset_records([env.asset_keys[e.table] for e in endpoints]):
        key, latest = record.asset_entry.asset_key, record.asset_entry.last_materialization_record
        poll = state.polls[env.tables[key]]
        if latest is None or latest.storage_id == poll.seen:
            continue
        wanted = dg.AssetRecordsFilter(
            asset_key=key, asset_partitions=days, after_storage_id=poll.seen or None
        )
        ends: dict[str | None, datetime] = {}
        for load in instance.fetch_materializations(wanted, limit=_MAX_LOADS).records:
            if until := loaded_until(load.asset_materialization):
                ends.setdefault(load.partition_key, until)  # the latest of each day comes first
        end = max(ends.values(), default=None)
        if end and (today.isoformat() in ends or poll.since is None or end > poll.since):
            poll.note_load(end)
        poll.seen = latest.storage_id


def _note_results(
    state: _State, results: ProbeResults, endpoints: list[Endpoint], now: datetime
) -> None:
    for table, probe in results.probes.items():
        poll = state.polls[table]
        poll.token, poll.round = probe.token, probe.round
        if probe.changed:
            poll.request_load(now)
    if results.stopped:
        probed = len(results.probes) + len(results.failed)
        state.begin = (state.begin + probed) % len(endpoints)
    else:
        state.begin = 0


@dataclass(kw_only=True)
class ProbeResults:
    """What the probes of one tick found.

    Attributes:
        probes: by table, of the endpoints that responded.
        failed: error messages, by table.
        stopped: why endpoints were left out; empty if none were.
        refused: what to do about credentials that ServiceTitan refuses; empty if it accepts them.
    """

    probes: dict[str, ChangeProbe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    refused: str = ""
    stats: ReadStats = field(default_factory=ReadStats)

    @property
    def changed(self) -> list[str]:
        """The tables that changed, sorted."""
        return sorted(table for table, probe in self.probes.items() if probe.changed)

    def summary(self, due: int) -> str:
        """Returns the tick's message.

        Args:
            due: number of endpoints that were to be probed.
        """
        text = f"asked {len(self.probes)} of {due} endpoints, {self.stats.requests} requests"
        if self.failed:
            examples = [f"{table}: {error}" for table, error in list(self.failed.items())[:3]]
            text += f"; {len(self.failed)} could not be asked ({'; '.join(examples)})"
        return f"{text}; {self.stopped}" if self.stopped else text


def probe_endpoints(
    connection: Connection,
    endpoints: list[Endpoint],
    polls: Mapping[str, PollState],
    now: datetime,
    *,
    seconds: float = TICK_SECONDS,
) -> ProbeResults:
    """Probes endpoints in this order until all are done or the time is over.

    An endpoint that has never been loaded, or whose last requested load is missing, counts as
    changed without a request. Errors that concern all endpoints stop the probing at once, and
    failures without any success stop it soon.

    Args:
        polls: by table.
        now: timezone-aware.
        seconds: no probe is waited for after this time.
    """
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.probes import ChangeProbe, probe_for_changes

    results, cancelled, deadline = ProbeResults(), Cancellation(), time.monotonic() + seconds
    timeout = min(connection.timeout, _REQUEST_TIMEOUT_SECONDS)
    connection = dataclasses.replace(connection, timeout=timeout)
    with closing(Client(connection, policy=_RETRY_POLICY)) as client:
        try:
            if endpoints:
                client.sign_in(results.stats, cancelled)
        except AuthenticationFailed as error:
            results.refused = diagnose(error).line
            return results
        except ServiceTitanError as error:
            results.stopped = f"stopped, as there is no token: {error}"
            return results
        server_time = client.server_time() or now
        for endpoint in endpoints:
            polls[endpoint.table].correct_since(min(now, server_time))

        def probe(endpoint: Endpoint) -> ChangeProbe:
            poll = polls[endpoint.table]
            before = ChangeProbe(since=poll.since or now, token=poll.token, round=poll.round)
            if poll.since is None or poll.tries:  # needs a load, whatever a probe would find
                return dataclasses.replace(before, changed=True)
            return probe_for_changes(
                client.session(results.stats, cancelled), endpoint, before, now
            )

        with ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="changes") as pool:
            pending = {pool.submit(probe, endpoint): endpoint.table for endpoint in endpoints}
            while pending and not results.stopped:
                done, _ = wait(pending, max(0, deadline - time.monotonic()), FIRST_COMPLETED)
                for future in done:
                    _note_result(results, pending.pop(future), future)
                if not done:
                    results.stopped = f"stopped after {seconds:.0f} s, the next tick continues"
            for future in pending:
                future.cancel()
            cancelled.set()
    return results


def _note_result(results: ProbeResults, table: str, future: Future[ChangeProbe]) -> None:
    try:
        results.probes[table] = future.result()
    except Cancelled:
        pass
    except _FATAL_ERRORS as error:
        if isinstance(error, AuthenticationFailed):
            results.refused = results.refused or diagnose(error).line
        results.stopped = results.stopped or f"stopped, as the others would fail alike: {error}"
    except ServiceTitanError as error:
        results.failed[table] = str(error)
        if len(results.failed) >= _MAX_FAILURES and not results.probes:
            results.stopped = f"stopped after {_MAX_FAILURES} failures and no success: {error}"
    except Exception as error:  # concerns one table and must not stop the others
        text = describe_unexpected(error)
        _log.error("%s could not be probed: %s", table, text)
        results.failed[table] = text
