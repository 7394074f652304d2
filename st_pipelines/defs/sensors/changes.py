"""The sensor `changes`: requests today's partition of the endpoints that changed at ServiceTitan.

Each tick sends one small request (see `probing`) for every endpoint that has a date filter or an
export feed. An endpoint has changed when it serves a record modified since its last load ended, or
when its feed goes on past the known end. Those that changed go into one run of the job `intraday`:
today's partition (in the environment's time zone) of just those assets. While that run is active, a
tick does nothing. If it fails, the endpoints are requested again, with growing delays. Snapshots
and daily aggregates cannot be probed and wait for their schedules.

The cursor stores, for each endpoint, the time up to which it is loaded and the end of its feed
(`PollState`), and the endpoint to resume from if a tick ran out of time. How far each load reached
is taken from Dagster's materializations, so runs of schedules and people count as well.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import dagster as dg
import msgspec

from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import SettingsError
from st_pipelines.defs.environment import CHANGES, EnvironmentDefs
from st_pipelines.defs.jobs import Job
from st_pipelines.defs.run_state import (
    loaded_until,
    read_state,
    read_unfinished_work,
    write_state,
)
from st_pipelines.defs.sensors.probing import PollState, ProbeResults, probe_endpoints
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.windows import local_day

_MAX_LOADS = 100


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
        except SettingsError as error:
            return dg.SkipReason(str(error))
        now = env.clock()
        unfinished = read_unfinished_work(context.instance, env, now)
        if requested := unfinished.requested_by(env.name(CHANGES)):
            return dg.SkipReason(
                f"run {requested[0].run_id[:8]}, which loads the last changes, is unfinished"
            )
        state = read_state(context, _State)
        for endpoint in pollable:
            state.polls.setdefault(endpoint.table, PollState())
        today = local_day(now, env.settings.timezone)
        _note_loads(state, context.instance, env, pollable, today)
        due = [
            endpoint
            for endpoint in _rotate(pollable, state.begin)
            if state.polls[endpoint.table].is_due(now)
            and not unfinished.is_loading(env.asset_keys[endpoint.table], today.isoformat())
        ]
        results = probe_endpoints(connection, due, state.polls, now)
        _note_results(state, results, pollable, now)
        write_state(context, state)
        summary, changed = results.summary(len(due)), results.changed
        if not changed:
            return dg.SkipReason(f"nothing changed: {summary}")
        context.log.info(f"changed: {', '.join(changed)}; {summary}")
        return dg.RunRequest(
            partition_key=today.isoformat(),
            asset_selection=[env.asset_keys[table] for table in changed],
        )

    return changes


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
        for load in instance.fetch_materializations(wanted, limit=_MAX_LOADS).records:
            if until := loaded_until(load.asset_materialization):
                poll.note_load(until)
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
