"""Loads reports from a sandbox over HTTP, with a clock that moves when somebody waits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from st_pipelines.catalog.model import build_report_endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.catalog.report import Report
from st_pipelines.sandbox import report_definitions as definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import Connection
from st_pipelines.servicetitan.http.rate_limit import ReportPacer
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.sync.sync import LoadReport, SyncContext, extract_load
from st_pipelines.warehouse.columns import OWN_COLUMNS
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.windows import Days

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
ZONE = "America/New_York"
CATEGORY, NUMBER = "operations", 9_001


class MovedClock:
    """The time of the sandbox's limits and of the pacer. Waiting moves it.

    Attributes:
        seconds: the time.
        waits: what was waited for, in order.
    """

    def __init__(self) -> None:
        self.seconds = 10_000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Moves the time instead of waiting."""
        self.waits.append(seconds)
        self.seconds += seconds


@dataclasses.dataclass(kw_only=True)
class Lab:
    """A sandbox, and what loads its reports into a warehouse."""

    sandbox: Sandbox
    clock: MovedClock
    context: SyncContext

    def in_folder(self, folder: Path) -> Lab:
        """The same sandbox with a warehouse of its own."""
        context = build_context(self.context.client, folder / "x.duckdb")
        return dataclasses.replace(self, context=context)

    def load(self, report: Report, *days: str) -> LoadReport:
        """Loads a report, whole or from one day to another."""
        return extract_load(self.context, build_report_endpoint(report), span(*days))

    def serve(
        self,
        fields: Sequence[str | tuple[str, str]],
        rows: Any,
        *,
        number: int = NUMBER,
        tenant: str = "",
        parameters: Sequence[definitions.ReportParameter] = (),
    ) -> None:
        """Serves a report of our own, in place of an earlier one.

        Args:
            fields: names, or names and labels.
            rows: lists of values, or a function from the values of the parameters to these.
        """
        names = [f if isinstance(f, str) else f[0] for f in fields]
        named = [f if isinstance(f, tuple) else (f, f.title()) for f in fields]

        def compute(_world: Any, values: Any) -> Any:
            found: Any = rows(values) if callable(rows) else rows
            return [dict(zip(names, row, strict=True)) for row in found]

        self.sandbox.reports.add(
            tenant or self.sandbox.tenant_id,
            definitions.Report(
                id=number,
                category=CATEGORY,
                name=f"Report {number}",
                description="",
                modified_on="2026-01-01T00:00:00Z",
                parameters=tuple(parameters),
                fields=tuple(
                    definitions.ReportField(name=name, label=label, data_type="String")
                    for name, label in named
                ),
                compute=compute,
            ),
        )

    def rows(self, table: str = "r") -> list[dict[str, Any]]:
        """The rows of a report's table, without our own columns."""
        with self.context.warehouse.read_only() as connection:
            found = connection.execute(f"FROM reports.{table}")
            names = [column[0] for column in found.description or ()]
            return [
                {n: v for n, v in zip(names, row, strict=True) if n not in OWN_COLUMNS}
                for row in found.fetchall()
            ]

    def types(self, table: str = "r") -> dict[str, str]:
        """The types of the table's columns, without our own."""
        with self.context.warehouse.read_only() as connection:
            relation = connection.sql(f"FROM reports.{table} LIMIT 0")
            found = dict(zip(relation.columns, map(str, relation.types), strict=True))
        return {name: type_ for name, type_ in found.items() if name not in OWN_COLUMNS}

    def query(self, sql: str) -> list[tuple]:
        """Runs a query on the warehouse."""
        with self.context.warehouse.read_only() as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def open_lab(folder: Path, clock: MovedClock | None = None, **options: Any) -> Iterator[Lab]:
    """Starts a small sandbox, whose reports may run once a minute."""
    clock = clock or MovedClock()
    given = {"customers": 30, "history_days": 60, "now": NOW, "requests_per_second": 1e9}
    with (
        Sandbox(**(given | options), clock=clock) as sandbox,
        closing(connect(sandbox, clock)) as c,
    ):
        yield Lab(sandbox=sandbox, clock=clock, context=build_context(c, folder / "x.duckdb"))


def connect(sandbox: Any, clock: MovedClock, **changes: Any) -> Client:
    """A client whose waits move the clock."""
    facts: dict[str, Any] = {
        "environment": "sandbox",
        "api_url": sandbox.url,
        "auth_url": sandbox.url,
        "client_id": sandbox.client_id,
        "client_secret": SecretStr(sandbox.client_secret),
        "app_key": SecretStr(sandbox.app_key),
        "tenant_id": sandbox.tenant_id,
        "requests_per_second": 1e9,
    }
    connection = Connection(**(facts | changes))
    pacer = ReportPacer(connection.report_interval_seconds, clock=clock, sleep=clock.sleep)
    policy = RetryPolicy(sleep=clock.sleep)
    return Client(connection, policy=policy, report_pacer=pacer)


def build_context(client: Client, file: Path, **changes: Any) -> SyncContext:
    """What loads into a file, at the time at which the sandbox stands."""
    facts: dict[str, Any] = {
        "client": client,
        "warehouse": DuckDBFile(uri=str(file)),
        "timezone": ZONE,
        "run_id": "run",
        "clock": lambda: NOW,
        "catalog": load_catalog(),
    }
    return SyncContext(**(facts | changes))


def span(*days: str) -> Days | None:
    """A range of days; None for none."""
    if not days:
        return None
    first, last = date.fromisoformat(days[0]), date.fromisoformat(days[-1])
    return Days(first=first, last=last, timezone=ZONE)


def own_report(**changes: Any) -> Report:
    """The report of our own, in the user's file."""
    facts: dict[str, Any] = {"name": "r", "category": CATEGORY, "report": NUMBER}
    return Report(**(facts | changes))


def comparable(value: Any) -> Any:
    """A value as served or as stored, so that equal ones compare as equal."""
    match value:
        case bool() | None:
            return value
        case int() | float() | Decimal():
            return Decimal(str(value)).normalize()
        case datetime():
            return value.astimezone(timezone.utc).isoformat()
        case date():
            return value.isoformat()
    return value
