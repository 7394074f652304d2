"""Loads that a person watches: a bar while they go on, a table at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import dagster as dg
import rich.progress
from rich.console import Console
from rich.table import Table

from st_pipelines.cli.output import counted, show_failures


@dataclass(frozen=True, kw_only=True)
class ApiOutcome:
    """What one run did.

    Attributes:
        api: whose assets it materialised.
        endpoints: how many.
        rows, requests, seconds: added up over the assets that succeeded.
        failures: table to message.
    """

    api: str
    endpoints: int
    rows: int
    requests: int
    seconds: float
    failures: dict[str, str]

    @classmethod
    def of(cls, api: str, result: dg.ExecuteInProcessResult) -> ApiOutcome:
        """From the events of the run."""
        done: dict[str, Mapping[str, Any]] = {}
        failures: dict[str, str] = {}
        steps = set()
        for event in result.all_events:
            if event.step_key and event.is_step_start:
                steps.add(event.step_key)
            if event.is_step_failure:
                failures[_table_of(event)] = _message(event)
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                materialization = event.step_materialization_data.materialization
                done[str(event.step_key)] = materialization.metadata
        values = [{name: metadata.value for name, metadata in m.items()} for m in done.values()]
        return cls(
            api=api,
            endpoints=len(steps),
            rows=sum(value["rows_in_table"] for value in values),
            requests=sum(value["requests"] for value in values),
            seconds=sum(value["seconds"] for value in values),
            failures=failures,
        )


class Progress:
    """A bar over the assets, moved by the events of the running step.

    Dagster's own console log would print some thousand lines instead.
    """

    _current: ClassVar[Progress | None] = None

    def __init__(self, console: Console, by_api: Mapping[str, Sequence[object]]) -> None:
        """Args: where to draw, and the assets of each API."""
        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", table_column=None),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=sum(len(keys) for keys in by_api.values()))
        self._done = 0
        self._steps = 0

    def __enter__(self) -> Progress:
        """Starts to draw."""
        Progress._current = self
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops to draw."""
        self._bar.stop()
        Progress._current = None

    @contextmanager
    def of(self, api: str, assets: int) -> Iterator[None]:
        """For the time of an API's run; a line tells when it is done."""
        self._steps = 0
        self._bar.update(self._task, description=api)
        yield
        self._done += assets
        self._bar.update(self._task, completed=self._done)
        if not self._bar.console.is_terminal:
            self._bar.console.print(f"{api}: {counted(assets, 'endpoint')}")

    def saw(self, event: dg.DagsterEvent) -> None:
        """Moves with the steps."""
        if event.is_step_start:
            self._bar.update(self._task, description=_table_of(event))
        elif event.is_step_success or event.is_step_failure:
            self._steps += 1
            self._bar.update(self._task, completed=self._done + self._steps)


@dg.logger
def progress_logger(_context: dg.InitLoggerContext) -> logging.Logger:
    """In place of Dagster's console logger: moves the bar."""
    logger = logging.Logger("demo")
    logger.addHandler(_EventHandler())
    return logger


class _EventHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "dagster_event", None)
        progress = Progress._current
        if progress is not None and isinstance(event, dg.DagsterEvent):
            progress.saw(event)


def print_outcomes(console: Console, outcomes: Sequence[ApiOutcome]) -> None:
    """A line an API, and what failed."""
    console.print(_table(outcomes))
    show_failures(console, {k: v for outcome in outcomes for k, v in outcome.failures.items()})


def _table(outcomes: Sequence[ApiOutcome]) -> Table:
    table = Table(show_footer=True)
    table.add_column("api", "total")
    for heading, total in (
        ("endpoints", sum(o.endpoints for o in outcomes)),
        ("rows in tables", sum(o.rows for o in outcomes)),
        ("requests", sum(o.requests for o in outcomes)),
        ("seconds", round(sum(o.seconds for o in outcomes), 1)),
        ("failed", sum(len(o.failures) for o in outcomes)),
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
    """The table that a step loads: `production__jpm__jobs` is `jpm.jobs`."""
    return str(event.step_key).split("__", 1)[-1].replace("__", ".")


def _message(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return failure.error.message.strip() if failure.error else "failed"
