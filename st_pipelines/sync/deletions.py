"""Finds what a reading cannot show: records that became inactive, and records that were deleted.

Asked for a window, a list serves the records last changed in it. It never serves deleted records
and, for some collections, no inactive ones. So after each reading

- the export feed is read onward from its bookmark (`feed_reading`); and
- suspects are looked up, where the endpoint takes `ids`. Suspects are rows that the table has in
  this window but the reading lacks, and records that the feed serves as inactive but the list does
  not serve. Without `ids`, only `reconcile` finds deletions.

A suspect that still exists is loaded in its present version. One that ServiceTitan no longer serves
is marked with `_deleted_at` (`warehouse.tables.merge.mark_deleted`). If the feed or a lookup fails,
the load fails and nothing is marked.

A reading of everything shows by itself what is gone. Still, a few missing ids are looked up, as
they cost little. If much is missing (`warehouse.tables.deletion_guard`), the load is refused, and
a sample is looked up along with its second read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.lookup import Controls, LookupResult, look_up
from st_pipelines.sync.feed_reading import FeedReading, drop_margin, find_inactive
from st_pipelines.sync.strategy import Strategy
from st_pipelines.warehouse.errors import TooManyDeletions
from st_pipelines.warehouse.load_spec import MAX_DELETED_ROWS, MAX_LOOKUPS, MergeMode
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.deletion_guard import (
    INACTIVE,
    exceeds_limits,
    part_of,
)
from st_pipelines.warehouse.tables.load import FollowUp
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_load import export_only_columns
from st_pipelines.warehouse.tables.table_state import MissingRows, TableState, read_table_state

SAMPLE = 48
"""Missing ids to look up after a second read: with two controls, one request."""


@contextmanager
def followed_up(
    client: Client,
    warehouse: Store,
    strategy: Strategy,
    records: StagedRecords,
    stats: ReadStats,
    doubt: TooManyDeletions | None = None,
) -> Iterator[FollowUp]:
    """Reads the feed and looks up suspects after a complete reading.

    Args:
        client: sends the requests.
        warehouse: is attached for a moment, to read.
        strategy: of the endpoint.
        records: the reading, finished. Records that are looked up are added to it. After a reading
            of everything the feed is read from its beginning, unless that was done before.
        stats: counts the requests.
        doubt: an earlier read lacked so many rows that it was not loaded.

    Yields:
        What to load besides; its rows live as long as the context.

    Raises:
        ServiceTitanError: after the retries that may help.
        WarehouseError: the warehouse cannot be read, or the disk is full.
        TooManyDeletions: ServiceTitan serves records by id that its list lacks.
    """
    if not strategy.can_follow_up:
        yield FollowUp()
        return
    endpoint = strategy.endpoint
    state = read_table_state(records, warehouse)
    with ExitStack() as stack:
        feed = FeedReading(client=client, reading=records, stack=stack, stats=stats)
        bookmark, inactive = None, list[int]()
        whole = records.spec.mode is MergeMode.REPLACE_ALL
        if endpoint.export and (records.staging.rows or state.bookmark or whole):
            bookmark = feed.read(state.bookmark, whole)
            if state.bookmark and export_only_columns(endpoint):
                bookmark = feed.complete(bookmark or state.bookmark)
            if feed.records:
                feed.records.finish()
                if state.bookmark is None and not whole:
                    drop_margin(feed.records)
                if endpoint.has_active and not whole:
                    inactive = find_inactive(feed.records)
        plan = _plan_lookups(state, records, inactive)
        ids = [id_ for part in plan for id_ in part.ids]
        lookups = _Lookups(client, records, stats, plan)
        looked_up, deleted, sample_gone = frozenset[int](), frozenset[int](), False
        if not whole or endpoint.variants or lookups.are_few(state.live):
            looked_up, deleted = frozenset(ids), lookups.run()
            sample_gone = lookups.are_gone(deleted)
        elif doubt or lookups.are_many:
            sample_gone = lookups.confirm_sample(doubt)
        last = bookmark or state.bookmark
        if last and export_only_columns(endpoint):
            feed.catch_up(last, ids, state.versions)
        yield FollowUp(
            export_rows=feed.records,
            bookmark=bookmark,
            deleted_ids=deleted,
            looked_up_ids=looked_up,
            sample_gone=sample_gone,
        )


@dataclass(frozen=True, kw_only=True)
class _PartLookup:
    """Ids of one part of the list to look up."""

    ids: tuple[int, ...]
    controls: Controls

    def sample(self) -> _PartLookup:
        """Some of the ids, from the first to the last."""
        last, number = len(self.ids) - 1, min(SAMPLE, len(self.ids))
        chosen = {round(n * last / max(number - 1, 1)) for n in range(number)}
        return _PartLookup(ids=tuple(self.ids[n] for n in sorted(chosen)), controls=self.controls)


def _plan_lookups(
    state: TableState, records: StagedRecords, inactive: Sequence[int]
) -> list[_PartLookup]:
    """What to look up, part by part.

    Args:
        records: the reading, finished.
        inactive: ids to look up besides what the reading lacks; they belong to the inactive part.
    """
    endpoint = records.endpoint
    known = {ids for part in state.missing for ids in part.ids}
    more = tuple(id_ for id_ in inactive if id_ not in known)
    parts = {part.part: part for part in state.missing}
    home = INACTIVE if part_of(endpoint, "t") and not endpoint.variants else None
    if more and home not in parts:
        parts[home] = MissingRows(part=home)
    if more and not parts[home].served:  # as in a first load: the table has no row of the reading
        parts[home] = replace(parts[home], served=_find_listed(records, home))
    planned = []
    for part in parts.values():
        ids = part.ids + (more if part.part == home else ())
        others = [p.served[0] for p in parts.values() if p is not part and p.served]
        controls = Controls(
            known=part.served,
            unverified=part.elsewhere,
            others=tuple(others) if endpoint.variants else (),
        )
        if ids:
            planned.append(_PartLookup(ids=ids, controls=controls))
    return planned


def _find_listed(records: StagedRecords, part: str | None) -> tuple[int, ...]:
    """Ids of the part that the reading has, in order."""
    sql = part_of(records.endpoint, "s") or "NULL::VARCHAR"
    rows = records.rows.connection.execute(
        f"SELECT id FROM {records.rows.name} s WHERE id IS NOT NULL "
        f"AND ({sql}) IS NOT DISTINCT FROM ? ORDER BY id",
        [part],
    ).fetchall()
    return tuple(row[0] for row in rows)


@dataclass(frozen=True)
class _Lookups:
    """Lookups by id after a reading."""

    client: Client
    records: StagedRecords
    stats: ReadStats
    parts: Sequence[_PartLookup]

    def are_few(self, live: int) -> bool:
        """Whether looking up all ids costs little, and their absence needs no other evidence.

        Args:
            live: rows of which they are a part.
        """
        return not self.are_many and not exceeds_limits(self._number, live)

    @property
    def are_many(self) -> bool:
        """Whether there are too many ids to look up all of them."""
        return self._number > MAX_LOOKUPS

    @property
    def _number(self) -> int:
        return sum(len(part.ids) for part in self.parts)

    def run(self) -> frozenset[int]:
        """Adds the records that still exist to the reading; returns the ids of the deleted ones."""
        deleted = set[int]()
        for part in self.parts:
            for result in self._look_up(part):
                deleted |= result.gone
                for page in result.records:
                    self.records.add(page)
        if self.parts:
            self.records.finish()
        return frozenset(deleted)

    def confirm_sample(self, doubt: TooManyDeletions | None) -> bool:
        """Looks up a sample of what the reading lacks; returns whether it is gone for certain.

        Args:
            doubt: an earlier read lacked so many rows that it was not loaded.

        Raises:
            TooManyDeletions: some are still served after a second read.
        """
        asked, gone = set[int](), set[int]()
        for part in self.parts:
            sample = part.sample()
            results = list(self._look_up(sample))
            found = sum(len(result.found) for result in results)
            if found and doubt is None:
                return False
            if found and doubt:
                raise doubt.because(
                    f"Of {len(sample.ids)} of these rows, {found} are still served by their ids, "
                    "so the list is incomplete."
                )
            if len(part.ids) > MAX_DELETED_ROWS:
                asked |= {*sample.ids}
                gone |= {id_ for result in results for id_ in result.gone}
        return gone >= asked

    def are_gone(self, deleted: frozenset[int]) -> bool:
        """Whether everything that was looked up in number is among the deleted ids."""
        return all(
            deleted.issuperset(part.ids) for part in self.parts if len(part.ids) > MAX_DELETED_ROWS
        )

    def _look_up(self, part: _PartLookup) -> Iterator[LookupResult]:
        session = self.client.session(self.stats)
        return look_up(session, self.records.endpoint, part.ids, controls=part.controls)
