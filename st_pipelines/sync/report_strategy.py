"""Reads a report for a load: free what killed runs left, run it, keep its pages, plan its columns.

`strategies.DailyReport` and `strategies.WholeReport` decide which runs a load makes. A report is
read before its rows are staged, as only its data tells the columns.

Imports neither DuckDB nor requests, because Dagster's definitions import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec

from st_pipelines.catalog.report import Report
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.strategy import OpenReading, ReadPart, Strategy
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.windows import Window, local_day

if TYPE_CHECKING:
    from st_pipelines.servicetitan.http.client import Client, Session
    from st_pipelines.servicetitan.reporting.run import ReportRunner, ReportTarget
    from st_pipelines.warehouse.reports.rows import KeptPages
    from st_pipelines.warehouse.store.base import Store


@dataclass(frozen=True, kw_only=True)
class KeptReading:
    """A report that was read.

    Attributes:
        stats: of the reading.
        pages: yields the records of each page.
    """

    stats: ReadStats
    pages: Callable[[], Iterator[list[msgspec.Raw]]]


@dataclass(frozen=True)
class ReportStrategy(Strategy):
    """How reports are read.

    Attributes:
        kept: what was read, in the strategy that `open_reading` returns.
    """

    kept: KeptReading | None = None

    can_probe: ClassVar[bool] = False
    resumes: ClassVar[bool] = True

    @property
    def report(self) -> Report:
        """What the user's file says of it."""
        assert self.endpoint.report is not None
        return self.endpoint.report

    @property
    def description(self) -> str:
        """By days or whole."""
        if not self.report.by_day:
            return "Run whole with every load, which replaces all rows."
        names = [n for n in (self.report.from_parameter, self.report.to_parameter) if n]
        return f"Run for each local day, by its {' and '.join(names)}; a run replaces its day."

    def open_reading(
        self, client: Client, store: Store, spec: LoadSpec
    ) -> AbstractContextManager[OpenReading]:
        """Runs the report, all its pages, and plans the columns of its table.

        Raises:
            ReportNotFound: there is no such report; near matches are named.
            ServiceTitanError: it could not be read completely.
            WarehouseError: the warehouse cannot be read, or the disk is full.
        """
        return _open_reading(self, client, store, spec)

    def read(self, client: Client, window: Window | None) -> Iterator[ReadPart]:
        """Yields the report as one part, from the pages that were kept."""
        from st_pipelines.servicetitan.reading.page_source import Page

        if self.kept is None:
            raise RuntimeError("a report is read by open_reading")
        pages = (Page(rows=rows, reading=1) for rows in self.kept.pages())
        yield ReadPart(stats=self.kept.stats, pages=pages)


@contextmanager
def _open_reading(
    strategy: ReportStrategy, client: Client, store: Store, spec: LoadSpec
) -> Iterator[OpenReading]:
    from st_pipelines.warehouse.reports.columns import (
        describe_changes,
        plan_columns,
        resolve_endpoint,
    )
    from st_pipelines.warehouse.reports.rows import KeptPages
    from st_pipelines.warehouse.reports.table import read_known_columns
    from st_pipelines.warehouse.store.scratch import staging_folder

    endpoint, stats = strategy.endpoint, ReadStats()
    with staging_folder(store.scratch_folder, f"{endpoint.table}-pages") as folder:
        kept = KeptPages(folder)
        runner = read_report(client.session(stats), strategy.report, store, spec, kept)
        known = read_known_columns(store, endpoint, spec)
        columns, fields = plan_columns(known, kept.served, kept.values)
        changes = describe_changes(known, columns, fields)
        if kept.differing_pages:
            numbers = ", ".join(map(str, kept.differing_pages))
            changes.append(f"pages {numbers} have other fields, or in another order, than page 1")
        reading = KeptReading(stats=stats, pages=lambda: kept.records(columns, fields))
        resolved = resolve_endpoint(endpoint, columns, fields)
        yield OpenReading(
            strategy=dataclasses.replace(strategy, endpoint=resolved, kept=reading),
            changes=tuple(changes),
            facts={
                "report": f"{runner.target.category}/{runner.target.report_id}",
                "contract": "asynchronous" if runner.is_asynchronous else "synchronous",
                "pages": kept.count,
            },
        )


def read_report(
    session: Session[ReadStats], report: Report, store: Store, spec: LoadSpec, kept: KeptPages
) -> ReportRunner:
    """Runs a report completely and keeps its pages; returns how it was run.

    Raises:
        ReportNotFound: there is no such report.
        ServiceTitanError: it could not be read completely.
        ValueError: a date of its parameters cannot be computed.
    """
    from st_pipelines.servicetitan.errors.errors import WrongPath
    from st_pipelines.servicetitan.reporting.directory import explain_not_found
    from st_pipelines.servicetitan.reporting.reading import read_pages
    from st_pipelines.servicetitan.reporting.run import ReportRunner, free_leftovers
    from st_pipelines.sync.report_queries import QueryFiles

    tokens = QueryFiles(store.scratch_folder, f"{spec.environment}-{spec.tenant_id}")
    free_leftovers(session, tokens)
    day = spec.default_date if report.by_day else None
    values = report.parameter_values(local_day(spec.loaded_at, spec.timezone), day)
    target = find_target(session, report)
    runner = ReportRunner(session, target, values, contract=report.contract, tokens=tokens)
    reading = 1
    try:
        for page in read_pages(runner):
            if page.reading > reading:
                reading = page.reading
                kept.clear()
            kept.add(page.fields, page.rows)
    except WrongPath as error:
        session.client.report_ids.clear()
        name = report.report if isinstance(report.report, str) else report.name
        raise explain_not_found(session, error, target, name) from None
    return runner


def find_target(session: Session[ReadStats], report: Report) -> ReportTarget:
    """Returns the ids of a report, which are looked up once per client where names are given.

    Raises:
        ReportNotFound: there is no report of that name.
        ServiceTitanError: after the retries.
    """
    from st_pipelines.servicetitan.reporting.directory import resolve_report
    from st_pipelines.servicetitan.reporting.run import ReportTarget

    ids, named = session.client.report_ids, (report.category, str(report.report))
    if named not in ids:
        found = resolve_report(session, report.category, report.report)
        ids[named] = (found.category, found.report_id)
    category, report_id = ids[named]
    return ReportTarget(category=category, report_id=report_id)
