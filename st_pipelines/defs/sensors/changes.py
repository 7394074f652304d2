"""The sensor `changes`: asks which endpoints changed, and has only those loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import dagster as dg
import msgspec

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.config import connection as connecting
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import EnvironmentSettings, load_settings
from st_pipelines.defs.assets import asset_key
from st_pipelines.defs.jobs import Job, JobKeys
from st_pipelines.defs.run_state import loaded_until, unfinished
from st_pipelines.defs.sensors.cursor import remember, remembered
from st_pipelines.defs.sensors.probing import Answers, PollState, ask
from st_pipelines.windows import local_day, utc_now

NAME = "changes"
_MOST_LOADS = 100


class _State(msgspec.Struct, omit_defaults=True):
    """Of all endpoints, and with which of them the next tick begins."""

    places: dict[str, PollState] = {}
    begin: int = 0


def changes_sensor(
    environment: EnvironmentName,
    of: EnvironmentSettings,
    catalog: Catalog,
    job: Job,
    jobs: JobKeys,
    *,
    status: dg.DefaultSensorStatus,
    clock: Callable[[], datetime] = utc_now,
) -> dg.SensorDefinition:
    """Asks every endpoint with a date filter for one record since its last load.

    Aggregates by day and snapshots have nothing to ask for; they wait for their schedules.

    Args:
        environment: whose.
        of: its settings.
        catalog: its endpoints.
        job: loads partitions; of its assets those that changed are asked for.
        jobs: the assets of each job of the environment.
        status: whether it runs without being turned on.
        clock: tells the time, aware.
    """
    asked = [e for e in catalog if e.partitioned and not e.by_day]
    keys = {endpoint.table: asset_key(environment, endpoint) for endpoint in asked}

    @dg.sensor(
        name=NAME,
        job=job,
        minimum_interval_seconds=int(of.changes_minutes * 60),
        default_status=status,
        description="Asks ServiceTitan which lists changed since they were loaded, one small"
        " request each, and loads today's partition of just those.",
    )
    def changes(context: dg.SensorEvaluationContext) -> dg.SkipReason | dg.RunRequest:
        try:
            connection = connecting.connection(environment, load_settings(environment))
        except SettingsError as error:
            return dg.SkipReason(str(error))
        now = clock()
        today = local_day(now, of.timezone).isoformat()
        busy = unfinished(context.instance, environment, jobs, now)
        waiting = busy.requested_by(NAME)
        if waiting:
            return dg.SkipReason(
                f"run {waiting[0].run_id[:8]}, which the last change asked for, is not over"
            )
        state = remembered(context, _State)
        for table in keys:
            state.places.setdefault(table, PollState())
        yesterday = (local_day(now, of.timezone) - timedelta(days=1)).isoformat()
        _catch_up(state, context.instance, keys, [yesterday, today])
        free = [
            e
            for e in _from(asked, state.begin)
            if not busy.loads(keys[e.table], today) and _is_due(state.places[e.table], now)
        ]
        answers = ask(connection, free, state.places, now)
        _learn(state, answers, asked, now)
        remember(context, state)
        told = answers.told(len(free))
        changed = answers.changed
        if not changed:
            return dg.SkipReason(f"nothing changed: {told}")
        context.log.info(f"changed: {', '.join(changed)}; {told}")
        return dg.RunRequest(
            partition_key=today, asset_selection=[keys[table] for table in changed]
        )

    return changes


def _from(endpoints: list[Endpoint], begin: int) -> list[Endpoint]:
    begin %= max(1, len(endpoints))
    return endpoints[begin:] + endpoints[:begin]


def _catch_up(
    state: _State,
    instance: dg.DagsterInstance,
    keys: Mapping[str, dg.AssetKey],
    days: list[str],
) -> None:
    """Moves the places to the ends of the loads of the last days since the last tick.

    The latest load may be one of older days, which tells nothing of today.
    """
    tables = {key: table for table, key in keys.items()}
    for record in instance.get_asset_records(list(tables)):
        latest = record.asset_entry.last_materialization_record
        place = state.places[tables[record.asset_entry.asset_key]]
        if latest is None or latest.storage_id == place.seen:
            continue
        wanted = dg.AssetRecordsFilter(
            asset_key=record.asset_entry.asset_key,
            asset_partitions=days,
            after_storage_id=place.seen or None,
        )
        for load in instance.fetch_materializations(wanted, limit=_MOST_LOADS).records:
            if until := loaded_until(load.asset_materialization):
                place.loaded(until)
        place.seen = latest.storage_id


def _is_due(place: PollState, now: datetime) -> bool:
    return place.until is None or place.until <= now


def _learn(state: _State, answers: Answers, asked: list[Endpoint], now: datetime) -> None:
    for table, found in answers.looks.items():
        place = state.places[table]
        place.token, place.round = found.token, found.round
        if found.changed:
            place.ask_again(now)
    if answers.stopped:
        state.begin = (state.begin + len(answers.looks) + len(answers.failed)) % len(asked)
    else:
        state.begin = 0
