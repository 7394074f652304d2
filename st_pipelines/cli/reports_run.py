"""Runs reports for `st-pipelines reports run`: says how long it takes, loads, can be continued.

Each day is committed on its own, and a Dagster run covers few days, so that a stop loses at most
the page in flight.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import rich.progress
from rich.console import Console

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.report import API as REPORTS
from st_pipelines.cli.console import counted, print_failures
from st_pipelines.config.environments import EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.windows import Days, describe_days, local_day, utc_now

if TYPE_CHECKING:
    from st_pipelines.cli.load import OpenDagster
    from st_pipelines.config.project import EnvironmentConfig
    from st_pipelines.sync.report_backfill import BackfillPlan

LONGEST_RANGE = 31
"""Days of a Dagster run where reports may run without a pause; otherwise a run has one day."""

_SLOW_SECONDS = 10


def run_reports(
    environment: EnvironmentName,
    names: Sequence[str],
    console: Console,
    *,
    first: date | None = None,
    last: date | None = None,
    again: bool = False,
    accept_deletions: bool = False,
    only_plan: bool = False,
) -> int:
    """Loads reports for a range of days; prints the plan, progress and a summary.

    Args:
        names: of the reports; none for all.
        first: the start date if None.
        last: yesterday if None.
        again: also read days that are done.
        accept_deletions: also load what leaves little or nothing of a day.
        only_plan: load nothing.

    Returns:
        Number of reports that failed.

    Raises:
        SettingsError: a setting is missing or wrong, or there is no report.
        ValueError: a name is unknown, or the range is empty or out of bounds.
        ServiceTitanError: no token was issued.
        WarehouseError: the warehouse cannot be read or written.
        KeyboardInterrupt: Ctrl-C; the days that were loaded stay.
    """
    from st_pipelines.cli.load import open_dagster
    from st_pipelines.cli.progress import run_configuration
    from st_pipelines.config.project import resolve_environment

    config = resolve_environment(environment)
    endpoints = _select(config, names)
    plans = _plan(config, endpoints, _resolve_days(config, first, last), again)
    _print_plans(console, plans)
    if only_plan or not any(plan.runs for plan in plans):
        return 0
    with open_dagster(config, console) as dagster:
        return _run(console, dagster, plans, run_configuration(accept_deletions))


def _select(config: EnvironmentConfig, names: Sequence[str]) -> list[Endpoint]:
    tables = {e.name: e for e in config.apply_selection() if e.report}
    if not tables:
        file = config.reports_file
        problem = (
            f"{file.name} has no report for {config.environment}"
            if file.exists()
            else f"there is no file {file}"
        )
        raise SettingsError(
            f"{problem}: add a report by st-pipelines reports add --environment "
            f"{config.environment}"
        )
    for name in names:
        if name not in tables:
            near = difflib.get_close_matches(name, tables, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(tables)}"
            raise ValueError(f"no report {name!r} in {config.reports_file.name}: {hint}")
    return [tables[name] for name in names] or list(tables.values())


def _resolve_days(config: EnvironmentConfig, first: date | None, last: date | None) -> Days:
    settings = config.settings
    today = local_day(utc_now(), settings.timezone)
    start = settings.start_date
    first, last = first or start, last or max(today - timedelta(days=1), first or start)
    if first < start:
        setting = setting_name(config.environment, "start_date")
        raise ValueError(f"{first} is before the start date {start}: see {setting}")
    if last > today or first > last:
        raise ValueError(f"{first} to {last} is not a range of days up to today, {today}")
    return Days(first=first, last=last, timezone=settings.timezone)


def _plan(
    config: EnvironmentConfig, endpoints: Sequence[Endpoint], days: Days, again: bool
) -> list[BackfillPlan]:
    from st_pipelines.config.connection import build_connection
    from st_pipelines.sync.report_backfill import plan_backfill, read_loaded_windows

    connection, store = build_connection(config), config.open_store()
    owner = {"environment": config.environment, "tenant_id": connection.tenant_id}
    return [
        plan_backfill(
            endpoint,
            days,
            read_loaded_windows(store, endpoint, **owner),
            interval_seconds=connection.report_interval_seconds,
            again=again,
        )
        for endpoint in endpoints
    ]


def _print_plans(console: Console, plans: Sequence[BackfillPlan]) -> None:
    for plan in plans:
        console.print(describe_plan(plan), highlight=False, markup=False, soft_wrap=True)
    seconds = sum(plan.seconds for plan in plans)
    if seconds >= _SLOW_SECONDS:
        end = datetime.now().astimezone() + timedelta(seconds=seconds)
        console.print(
            f"This takes {format_duration(seconds)}, until about {end:%Y-%m-%d %H:%M}, and longer "
            "where a day has more rows than a page. Ctrl-C stops it; the same command continues.",
            highlight=False,
            soft_wrap=True,
        )


def describe_plan(plan: BackfillPlan) -> str:
    """Returns what a plan does, in a sentence."""
    name = plan.report.name
    if not plan.report.by_day:
        return f"{name}: one run, read whole"
    done = f" ({counted(plan.done, 'day')} loaded before)" if plan.done else ""
    if not plan.days:
        return f"{name}: nothing to read{done}"
    pace = ""
    if plan.interval_seconds:
        duration = format_duration(plan.seconds)
        pace = f", one every {plan.interval_seconds:g} s: {duration}"
    return f"{name}: {describe_days(plan.days)}{done}, {counted(plan.runs, 'run')}{pace}"


def format_duration(seconds: float) -> str:
    """Returns a duration as people say it: 12 h 9 min, 45 s."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


def _run(
    console: Console,
    dagster: OpenDagster,
    plans: Sequence[BackfillPlan],
    run_config: dict[str, Any],
) -> int:
    failures: dict[str, str] = {}
    loaded = 0
    columns = rich.progress.Progress.get_default_columns()
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        for plan in plans:
            task = bar.add_task(plan.report.name, total=plan.runs)
            try:
                for first, last in _ranges(plan):
                    failure = _run_range(dagster, plan, first, last, run_config)
                    if failure:
                        failures[f"{REPORTS}.{plan.report.name}"] = failure
                        break
                    days = (last - first).days + 1 if first and last else 1
                    loaded += days
                    bar.advance(task, days)
            except KeyboardInterrupt:
                console.print(
                    f"Stopped. {counted(loaded, 'run')} of reports loaded stay; the same command "
                    "continues.",
                    highlight=False,
                )
                raise
    console.print(f"{counted(loaded, 'run')} of reports loaded", highlight=False)
    print_failures(console, failures)
    return len(failures)


def _ranges(plan: BackfillPlan) -> list[tuple[date | None, date | None]]:
    if not plan.report.by_day:
        return [(None, None)]
    return list(plan.ranges(1 if plan.interval_seconds >= _SLOW_SECONDS else LONGEST_RANGE))


def _run_range(
    dagster: OpenDagster,
    plan: BackfillPlan,
    first: date | None,
    last: date | None,
    run_config: dict[str, Any],
) -> str:
    """Runs the asset of a report once; returns why it failed, or an empty text."""
    from st_pipelines.cli.progress import ApiOutcome, run_in_process
    from st_pipelines.defs.run_state import range_tags

    tags = dagster.tags
    if first and last:
        tags = tags | range_tags(first.isoformat(), last.isoformat())
    keys = [dagster.keys[f"{REPORTS}.{plan.report.name}"]]
    result = run_in_process(dagster.instance, dagster.job, keys, tags, run_config)
    return next(iter(ApiOutcome.from_run(REPORTS, result).failures.values()), "")
