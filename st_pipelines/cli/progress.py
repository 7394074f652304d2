"""Runs Dagster's jobs in this process, with a progress bar and a table of outcomes.

`load` and `demo` use it.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import dagster as dg
import rich.progress
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from st_pipelines.cli.console import counted, print_failures, print_warning
from st_pipelines.defs import run_lock
from st_pipelines.defs.assets import ANNOUNCEMENT
from st_pipelines.defs.dagster_internals import RunFailureReason
from st_pipelines.defs.metadata import CLOCK, PARENTS_REMAINING


@dataclass(frozen=True, kw_only=True)
class ApiOutcome:
    """What one run, which loads the assets of one API, did.

    Attributes:
        endpoints: number of assets that started.
        rows, requests, seconds: sums over the assets that succeeded.
        failures: message by table.
        clock: how wrong this machine's clock is; empty if it is right.
        remaining: by table, the parents whose children the next load has to read.
    """

    api: str
    endpoints: int
    rows: int
    requests: int
    seconds: float
    failures: dict[str, str]
    clock: str = ""
    remaining: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_run(cls, api: str, result: dg.ExecuteInProcessResult) -> ApiOutcome:
        """Reads the events of a run."""
        metadata_by_step: dict[str, Mapping[str, Any]] = {}
        failures: dict[str, str] = {}
        steps = set()
        for event in result.all_events:
            if event.step_key and event.is_step_start:
                steps.add(event.step_key)
            if event.is_step_failure:
                failures[_table_of(event)] = _failure_message(event)
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                materialization = event.step_materialization_data.materialization
                # Of a range of days, only the last one's event describes the whole load.
                metadata_by_step[str(event.step_key)] = materialization.metadata
        values = [
            {name: entry.value for name, entry in metadata.items()}
            for metadata in metadata_by_step.values()
        ]
        return cls(
            api=api,
            endpoints=len(steps),
            rows=sum(value["rows_in_table"] for value in values),
            requests=sum(value["requests"] for value in values),
            seconds=sum(value["seconds"] for value in values),
            failures=failures,
            clock=next((value[CLOCK] for value in values if CLOCK in value), ""),
            remaining={
                _table_of_step(step): metadata[PARENTS_REMAINING].value
                for step, metadata in metadata_by_step.items()
                if PARENTS_REMAINING in metadata and metadata[PARENTS_REMAINING].value
            },
        )


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run.

    Attributes:
        loaded: the assets that were loaded before.
    """

    def __init__(self, loaded: Set[dg.AssetKey]) -> None:
        super().__init__()
        self.loaded = loaded


def materialize(
    console: Console,
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    keys: Collection[dg.AssetKey],
    *,
    tags: Mapping[str, str],
    accept_deletions: bool = False,
) -> list[ApiOutcome]:
    """Runs a job once for the assets of each API, with a progress bar.

    Args:
        job: of definitions that have `progress_logger` as the logger `console`.
        keys: assets of one environment.
        tags: of each run, such as `run_state.range_tags`.
        accept_deletions: also load what deletes a large part of a table; given to the
            resource `warehouse`.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    run_config = run_configuration(accept_deletions)
    keys_by_api: dict[str, list[dg.AssetKey]] = {}
    for key in keys:
        keys_by_api.setdefault(key.path[-2], []).append(key)
    outcomes, done = [], set[dg.AssetKey]()
    with Progress(console, len(keys)) as progress:
        for api in _order_apis(job, keys_by_api):
            api_keys = keys_by_api[api]
            with progress.api_run(api, len(api_keys)):
                try:
                    result = run_in_process(instance, job, api_keys, tags, run_config)
                except RunInterrupted as interrupted:
                    done |= interrupted.loaded
                    _print_interruption(console, job, [key for key in keys if key not in done])
                    raise
            done |= _find_loaded(result)
            outcomes.append(ApiOutcome.from_run(api, result))
    return outcomes


def run_configuration(accept_deletions: bool) -> dict[str, Any]:
    """Returns the configuration of a run that prints nothing."""
    config: dict[str, Any] = {"loggers": {"console": {}}}
    if accept_deletions:
        config["resources"] = {"warehouse": {"config": {"accept_deletions": True}}}
    return config


def run_in_process(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    keys: Sequence[dg.AssetKey],
    tags: Mapping[str, str],
    run_config: dict[str, Any],
) -> dg.ExecuteInProcessResult:
    """Runs a job once, for some of its assets; failures are in the result.

    Raises:
        RunInterrupted: Ctrl-C.
    """
    run_id = str(uuid.uuid4())
    with run_lock.held(instance, run_id):
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=keys,
            tags=dict(tags),
            run_config=run_config,
            raise_on_error=False,
        )
    if _was_interrupted(result):
        raise RunInterrupted(_find_loaded(result))
    return result


def _order_apis(
    job: dg.JobDefinition, keys_by_api: Mapping[str, Sequence[dg.AssetKey]]
) -> list[str]:
    """Returns the APIs by name, but after those whose assets theirs depend on."""
    graph = job.asset_layer.asset_graph
    needed = {
        api: {parent.path[-2] for key in keys for parent in graph.get(key).parent_keys} - {api}
        for api, keys in keys_by_api.items()
    }
    waiting, ordered = sorted(keys_by_api), list[str]()
    while waiting:
        ready = (api for api in waiting if not needed[api].intersection(waiting))
        ordered.append(next(ready, waiting[0]))
        waiting.remove(ordered[-1])
    return ordered


def _find_loaded(result: dg.ExecuteInProcessResult) -> set[dg.AssetKey]:
    return {key for event in result.get_asset_materialization_events() if (key := event.asset_key)}


def _print_interruption(
    console: Console, job: dg.JobDefinition, keys: Collection[dg.AssetKey]
) -> None:
    """Prints what is left as a value for `--select`.

    Args:
        job: has all assets of the environment.
        keys: what is left to load; empty if the run was interrupted after its last asset.
    """
    left = name_tables(keys, job.asset_layer.asset_graph.materializable_asset_keys)
    console.print(
        "Interrupted. What was loaded stays, and loading again duplicates nothing. "
        + (f"Still to load: {','.join(left)}" if left else "Nothing is left to load."),
        soft_wrap=True,
    )


def name_tables(keys: Collection[dg.AssetKey], known: Collection[dg.AssetKey]) -> list[str]:
    """Returns the patterns that select exactly these tables.

    Args:
        keys: end with the API and the name of the table.
        known: all tables of the environment. The name of an API stands for all of its tables.
    """
    counts = Counter(key.path[-2] for key in known)
    by_api: dict[str, set[str]] = {}
    for key in keys:
        by_api.setdefault(key.path[-2], set()).add(key.path[-1])
    patterns: list[str] = []
    for api, names in sorted(by_api.items()):
        whole = len(names) == counts[api]
        patterns += [api] if whole else [f"{api}.{name}" for name in sorted(names)]
    return patterns


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C ended the run. Dagster catches it and only marks the run as failed."""
    return any(
        event.is_job_failure
        and event.job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION
        for event in result.all_events
    )


class Progress:
    """A progress bar over the assets, driven by the events of the running step.

    Dagster's own console logger would print thousands of lines instead.
    """

    _current: ClassVar[Progress | None] = None

    def __init__(self, console: Console, assets: int) -> None:
        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", table_column=None),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left:"),
            rich.progress.TimeRemainingColumn(),
            console=console,
            # A table may take minutes. Most of a long load is recording days, alike for each.
            speed_estimate_period=3600,
        )
        self._task = self._bar.add_task("", total=assets)
        self._done = 0
        self._steps = 0

    def __enter__(self) -> Progress:
        """Starts drawing."""
        Progress._current = self
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops drawing."""
        self._bar.stop()
        Progress._current = None

    @contextmanager
    def api_run(self, api: str, assets: int) -> Iterator[None]:
        """Shows the API whose run goes on; without a terminal, prints a line once it is done."""
        self._steps = 0
        self._bar.update(self._task, description=api)
        yield
        self._done += assets
        self._bar.update(self._task, completed=self._done)
        if not self._bar.console.is_terminal:
            self._bar.console.print(f"{api}: {counted(assets, 'endpoint')}")

    def announce(self, text: str) -> None:
        """Prints what is about to be read."""
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, event: dg.DagsterEvent) -> None:
        """Moves the bar when a step starts or ends."""
        if event.is_step_start:
            self._bar.update(self._task, description=_table_of(event))
        elif event.is_step_success or event.is_step_failure:
            self._steps += 1
            self._bar.update(self._task, completed=self._done + self._steps)


@dg.logger
def progress_logger(_context: dg.InitLoggerContext) -> logging.Logger:
    """Replaces Dagster's console logger: moves the progress bar instead of printing."""
    logger = logging.Logger("progress")
    logger.addHandler(_EventHandler())
    return logger


class _EventHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "dagster_event", None)
        progress = Progress._current
        if progress is None:
            return
        if isinstance(event, dg.DagsterEvent):
            progress.advance(event)
        elif hasattr(record, ANNOUNCEMENT):
            # The record's own message begins with the names of the run and the step.
            progress.announce(getattr(record, "dagster_meta", {}).get("orig_message", ""))


def print_outcomes(console: Console, outcomes: Sequence[ApiOutcome]) -> None:
    """Prints a row per API, what is left to load, a warning if the clock is wrong, the failures."""
    console.print(_as_table(outcomes))
    remaining = {table: n for outcome in outcomes for table, n in outcome.remaining.items()}
    if remaining:
        parents = ", ".join(f"{table} {number:,}" for table, number in sorted(remaining.items()))
        text = f"Parents that the next load reads (ST_MAX_CHILD_REQUESTS): {parents}"
        console.print(text, highlight=False)
    print_warning(console, next((outcome.clock for outcome in outcomes if outcome.clock), ""))
    failures = {table: text for outcome in outcomes for table, text in outcome.failures.items()}
    print_failures(console, failures)


def _as_table(outcomes: Sequence[ApiOutcome]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True, show_footer=True)
    table.add_column("api", "total", no_wrap=True)
    for heading, total in (
        ("endpoints", sum(outcome.endpoints for outcome in outcomes)),
        ("rows in tables", sum(outcome.rows for outcome in outcomes)),
        ("requests", sum(outcome.requests for outcome in outcomes)),
        ("seconds", round(sum(outcome.seconds for outcome in outcomes), 1)),
        ("failed", sum(len(outcome.failures) for outcome in outcomes)),
    ):
        table.add_column(heading, f"{total:,}", justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.api,
            str(outcome.endpoints),
            f"{outcome.rows:,}",
            f"{outcome.requests:,}",
            f"{outcome.seconds:.1f}",
            str(len(outcome.failures)),
        )
    return table


def _table_of(event: dg.DagsterEvent) -> str:
    """Returns the table that a step loads: `jpm.jobs` for `production__jpm__jobs`."""
    return _table_of_step(str(event.step_key))


def _table_of_step(step_key: str) -> str:
    return ".".join(step_key.split("__")[-2:])


def _failure_message(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return failure.error.message.strip() if failure.error else "failed"
