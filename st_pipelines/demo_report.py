"""What the demo shows: progress while it works, and a summary at the end."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import dagster as dg
import rich.progress
from rich.console import Console
from rich.table import Table

from st_pipelines.warehouse.connect import Warehouse

FIRST_QUERY = """\
SELECT strftime(j.completed_on, '%Y-%m') AS month, b.name AS business_unit,
       count(DISTINCT j.id) AS jobs, count(DISTINCT c.id) AS customers,
       sum(i.total)::DECIMAL(18,2) AS invoiced
FROM jpm.jobs j
JOIN crm.customers c ON c.id = j.customer_id
JOIN settings.business_units b ON b.id = j.business_unit_id
JOIN accounting.invoices i ON i.id = j.invoice_id
WHERE j.job_status = 'Completed'
GROUP BY ALL ORDER BY month DESC, invoiced DESC LIMIT 5"""


@dataclass(frozen=True, kw_only=True)
class ApiOutcome:
    """What one run did.

    Attributes:
        api: whose assets it materialised.
        endpoints: how many.
        rows, requests, seconds: added up over the assets that succeeded.
        failures: asset to message.
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
                failures[str(event.step_key)] = _message(event)
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
            self._bar.console.print(f"{api}: {assets} endpoints")

    def saw(self, event: dg.DagsterEvent) -> None:
        """Moves with the steps."""
        if event.is_step_start:
            name = str(event.step_key).split("__", 1)[-1].replace("__", ".")
            self._bar.update(self._task, description=name)
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


def print_summary(
    console: Console, outcomes: Sequence[ApiOutcome], warehouse: Warehouse, ui_command: str
) -> None:
    """A line an API, what failed, and what to type next."""
    console.print(_table(outcomes))
    for outcome in outcomes:
        for step, message in outcome.failures.items():
            console.print(f"[red]failed[/] {step}: {message}", highlight=False)
    path = os.path.relpath(warehouse.path)
    opening = f"import duckdb; db = duckdb.connect('{path}', read_only=True)"
    console.print(f"\nOpen {path} in Python, then db.sql('...'):", highlight=False)
    quoted = shlex.quote(opening) if set(path) & set("\"'$`\\!") else f'"{opening}"'
    console.print(f"  python -i -c {quoted}\n", highlight=False, soft_wrap=True)
    console.print("A first query:\n")
    console.print(FIRST_QUERY, highlight=False, soft_wrap=True)
    console.print(_result_of(warehouse, FIRST_QUERY))
    console.print("\nOpen the Dagster UI on it:")
    console.print(f"  {ui_command}", highlight=False, soft_wrap=True)


def _table(outcomes: Sequence[ApiOutcome]) -> Table:
    table = Table(show_footer=True)
    table.add_column("api", "total")
    for heading, total in (
        ("endpoints", sum(o.endpoints for o in outcomes)),
        ("rows", sum(o.rows for o in outcomes)),
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


def _result_of(warehouse: Warehouse, query: str) -> Table | str:
    if not warehouse.path.exists():
        return "(nothing was loaded)"
    with warehouse.reading() as connection:
        try:
            result = connection.execute(query)
        except Exception as error:  # a table is missing because its load failed: say so, go on
            return f"(not possible: {error})"
        names, rows = [column[0] for column in result.description or ()], result.fetchall()
        table = Table()
        for at, name in enumerate(names):
            numbers = all(isinstance(row[at], int | float | Decimal) for row in rows)
            table.add_column(name, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*[str(value) for value in row])
        return table


def _message(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return failure.error.message.strip() if failure.error else "failed"
