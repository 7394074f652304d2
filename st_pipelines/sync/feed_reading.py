"""Reads an endpoint's export feed after a reading of its list.

The feed is read onward from its bookmark: it serves active, inactive and deleted records. Where it
also serves columns that the list lacks, it is read from before the window, so the columns are
present after the first load. It is also read from before records that the list serves and the feed
has left out, as they were committed late. After the lookups it is read once more for records that
changed meanwhile. `deletions` decides what to look up and what was deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.export_feed import MAY_BE_STALE, read_feed
from st_pipelines.servicetitan.reading.page_source import Page
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import TypedRows
from st_pipelines.warehouse.tables.export_gaps import (
    find_first_gap,
    find_looked_up_gaps,
    keep_rows,
    replace_export_rows,
)
from st_pipelines.warehouse.tables.load_log import ExportBookmark
from st_pipelines.warehouse.tables.merge import CLOCK_SKEW
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_load import table_cursor

MARGIN = timedelta(days=1)
"""How far before a window its feed is read: the cursors of list and feed may differ."""

EXPORT_ROWS = "export_rows"
"""Name of the temporary table, and of the folder in the staging folder."""

LATER_EXPORT_ROWS = "later_export_rows"
"""The same for what the feed serves after the lookups."""


@dataclass(kw_only=True)
class FeedReading:
    """The export feed of an endpoint, from its bookmark to its present end.

    Attributes:
        client: sends the requests.
        reading: the reading that the feed follows, finished.
        stack: closes `records`.
        stats: counts the requests.
        records: what the feed served; None while it served nothing.
        opened: a table for its rows was opened.
    """

    client: Client
    reading: StagedRecords
    stack: ExitStack
    stats: ReadStats
    records: StagedRecords | None = None
    opened: bool = False

    def read(self, bookmark: ExportBookmark | None, whole: bool) -> ExportBookmark | None:
        """Stages everything new; returns the bookmark to store with the rows."""
        if whole and (bookmark is None or bookmark.since is not None):
            return self._read_from(None, since=None)
        since = self._find_start(bookmark)
        if bookmark is None or since != bookmark.since:
            return self._read_from(since, since=since)
        try:
            return self._read_from(bookmark.continue_from, since=bookmark.since) or bookmark
        except MAY_BE_STALE:
            return self._read_from(bookmark.loaded_at - CLOCK_SKEW, since=bookmark.since)

    def complete(self, bookmark: ExportBookmark) -> ExportBookmark:
        """Reads again from before the first row of the reading that the feed has left out.

        Returns:
            The bookmark to store: a new one, if anything was read.
        """
        if self.records:
            self.records.finish()
        gap = find_first_gap(self.reading, self.records)
        if gap is None:
            return bookmark
        return self._read_from(gap - MARGIN, since=bookmark.since) or bookmark

    def catch_up(
        self,
        bookmark: ExportBookmark,
        ids: Sequence[int],
        versions: Mapping[int, datetime | None],
    ) -> None:
        """Adds what the feed serves of looked-up records that it has not served yet.

        What else it serves is left to the next load, so the bookmark stays where it is.

        Args:
            bookmark: the end of what was read.
            ids: that were looked up.
            versions: cursors of the table's rows, by id.
        """
        changed = find_looked_up_gaps(self.reading, self.records, ids, versions) if ids else {}
        if not changed:
            return
        before, self.records = self.records, None
        try:
            self._read_from(min(changed.values()) - MARGIN, since=bookmark.since)
            if self.records:
                self.records.finish()
                keep_rows(self.records, changed)
                if before:
                    replace_export_rows(before, self.records)
        finally:
            self.records = before or self.records

    def _find_start(self, bookmark: ExportBookmark | None) -> datetime | None:
        """From when on the feed must have been read after this load; None for its beginning.

        Where only the feed serves some columns, its rows must reach back before the window. To
        load ever older windows must not read it from a day earlier each time, so the time that it
        has covered is doubled at least.
        """
        spec, export = self.reading.spec, self.reading.endpoint.export
        begun = spec.loaded_at - CLOCK_SKEW
        since = bookmark.since if bookmark else begun
        if not export or not export.adds or since is None:
            return since
        if spec.window_start is None:
            return None
        start = spec.window_start - MARGIN
        if start >= since:
            return since
        return min(start, begun - 2 * (begun - since)) if bookmark else start

    def _read_from(
        self, start: datetime | str | None, *, since: datetime | None
    ) -> ExportBookmark | None:
        stats = ReadStats()
        try:
            for page in read_feed(self.client.session(stats), self.reading.endpoint, start):
                if page.count:
                    self._stage(page)
        finally:
            self.stats.add_usage(stats)
        if stats.continue_from is None:
            return None
        return ExportBookmark(
            since=since, continue_from=stats.continue_from, loaded_at=self.reading.spec.loaded_at
        )

    def _stage(self, page: Page) -> None:
        if self.records is None:
            self.records = self._open(EXPORT_ROWS if not self.opened else LATER_EXPORT_ROWS)
        self.records.add(page.records, page.rows)

    def _open(self, name: str) -> StagedRecords:
        self.opened = True
        endpoint, spec = self.reading.endpoint, self.reading.spec
        staging = Staging(endpoint, self.reading.staging.folder / name)
        rows = TypedRows(endpoint, spec, staging.folder, name=name, beside=self.reading.rows)
        self.stack.enter_context(rows)
        return StagedRecords(endpoint=endpoint, spec=spec, staging=staging, rows=rows)


def drop_margin(exported: StagedRecords) -> None:
    """Leaves the rows that the feed served from before the window to the load of their own days."""
    start = exported.spec.window_start
    if start is not None:
        exported.rows.connection.execute(
            f"DELETE FROM {EXPORT_ROWS} WHERE {table_cursor(exported.endpoint)} < ?", [start]
        )


def find_inactive(exported: StagedRecords) -> list[int]:
    """Ids that only the feed serves, as inactive: the only trace of some deleted records."""
    if not exported.endpoint.can_look_up:
        return []
    rows = exported.rows.connection.execute(
        f"SELECT DISTINCT id FROM {EXPORT_ROWS} WHERE active IS FALSE AND id IS NOT NULL "
        "AND id NOT IN (SELECT id FROM staged WHERE id IS NOT NULL)"
    ).fetchall()
    return [row[0] for row in rows]
