"""What the reading of a window does not tell: what became inactive, and what is gone.

The list of a window shows the records whose latest change falls into it. It cannot show a record
that was deleted, nor, for some collections, that one became inactive. So after the window

- the export feed of the same collection is read on from where it was left (it serves "active,
  inactive, deleted data", facts 4.9), and
- records that the table has in this window and the reading lacks, and those that the feed calls
  inactive and the list knows nothing of, are asked for by their ids, where the endpoint takes
  `ids`. What is still there is loaded in its present version; what is not is marked as deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.export_feed import MAY_BE_STALE, read_feed
from st_pipelines.servicetitan.reading.lookup import look_up
from st_pipelines.servicetitan.reading.page_source import Page
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import LoadSpec, TypedRows
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.load import FollowUp, Typed
from st_pipelines.warehouse.tables.load_log import ExportBookmark
from st_pipelines.warehouse.tables.merge import CLOCKS_DIFFER
from st_pipelines.warehouse.tables.table_state import TableState, can_look_up, read_table_state


@contextmanager
def followed_up(
    client: Client,
    warehouse: Store,
    listed: Typed,
    load: LoadSpec,
    *,
    stats: ReadStats,
    whole_feed: bool = False,
) -> Iterator[FollowUp]:
    """Reads on after a complete reading.

    Args:
        client: asks.
        warehouse: is opened for reading, for a moment.
        listed: the reading, finished. Records that are found by their ids are added to it.
        load: which tenant and window.
        stats: counts the requests.
        whole_feed: read the feed from its beginning, unless that was done before.

    Yields:
        What to load besides; its rows live as long as the context.

    Raises:
        ServiceTitanError: after the retries that may help.
        WarehouseError: the warehouse cannot be read, or the disk is full.
    """
    endpoint = listed.staging.endpoint
    if endpoint.kind == "feed" or not (endpoint.export or can_look_up(endpoint)):
        yield FollowUp()
        return
    before = read_table_state(listed.rows, warehouse, endpoint, load)
    with ExitStack() as stack:
        fed, place, suspects = None, None, before.missing
        if endpoint.export and (listed.staging.rows or before.bookmark or whole_feed):
            feed = _Feed(client, listed, load, stack, stats)
            place = feed.read(before.bookmark, whole_feed)
            fed = feed.typed
            if fed:
                fed.finish()
            if fed and endpoint.has_active and not load.replaces:
                suspects = tuple(sorted({*suspects, *_inactive(fed)}))
        gone = _ask_for(client, listed, suspects, before, stats)
        yield FollowUp(export_rows=fed, bookmark=place, gone=gone)


class _Feed:
    """The export feed of an endpoint, from where it was left to its present end."""

    def __init__(
        self, client: Client, listed: Typed, load: LoadSpec, stack: ExitStack, stats: ReadStats
    ) -> None:
        self.typed: Typed | None = None
        self._client = client
        self._listed = listed
        self._load = load
        self._stack = stack
        self._stats = stats

    def read(self, place: ExportBookmark | None, whole: bool) -> ExportBookmark | None:
        """Stages all that is new; returns the place after it, to be noted with the rows."""
        now = self._load.loaded_at
        if whole and (place is None or place.since is not None):
            return self._read_from(None, since=None)
        if place is None:
            start = now - CLOCKS_DIFFER
            return self._read_from(start, since=start)
        try:
            return self._read_from(place.continue_from, since=place.since) or place
        except MAY_BE_STALE:
            return self._read_from(place.loaded_at - CLOCKS_DIFFER, since=place.since)

    def _read_from(
        self, start: datetime | str | None, *, since: datetime | None
    ) -> ExportBookmark | None:
        stats = ReadStats()
        try:
            for page in read_feed(
                self._client.session(stats), self._listed.staging.endpoint, start
            ):
                if page.count:
                    self._stage(page)
        finally:
            self._stats.add_usage(stats)
        if stats.continue_from is None:
            return None
        return ExportBookmark(
            since=since, continue_from=stats.continue_from, loaded_at=self._load.loaded_at
        )

    def _stage(self, page: Page) -> None:
        if self.typed is None:
            self.typed = self._open()
        self.typed.add(page.records, page.rows)

    def _open(self) -> Typed:
        endpoint, beside = self._listed.staging.endpoint, self._listed.rows
        folder = self._listed.staging.folder / "fed"
        staging = self._stack.enter_context(Staging(endpoint, folder))
        rows = TypedRows(endpoint, self._load, folder, name="fed", beside=beside)
        return Typed(staging=staging, rows=self._stack.enter_context(rows))


def _inactive(fed: Typed) -> list[int]:
    """Ids that the feed calls inactive, which for some collections is all it says of a deletion."""
    if not can_look_up(fed.staging.endpoint):
        return []
    rows = fed.rows.connection.execute(
        "SELECT DISTINCT id FROM fed WHERE active IS FALSE AND id IS NOT NULL "
        "AND id NOT IN (SELECT id FROM staged WHERE id IS NOT NULL)"
    ).fetchall()
    return [row[0] for row in rows]


def _ask_for(
    client: Client, listed: Typed, ids: Sequence[int], before: TableState, stats: ReadStats
) -> frozenset[int]:
    """Adds the records that are still there to the listed ones; returns the ids of the others."""
    if not ids:
        return frozenset()
    # Without a record that is known to be there an empty answer would prove nothing.
    gone: set[int] = set()
    endpoint = listed.staging.endpoint
    for answered in look_up(client.session(stats), endpoint, ids, control_id=before.control_id):
        gone |= answered.gone if before.control_id is not None else frozenset()
        for records in answered.records:
            listed.add(records)
    listed.finish()
    return frozenset(gone)
