"""Decides how to read a list, and proves that a reading of it is complete.

ServiceTitan serves lists by page number, and they move while they are read. A record that leaves
moves all records after it up by one place; the one that crosses a page border, towards a page that
was read already, is never served. The count at the end does not show it: of 2,000 records 48 leave,
1,952 rows arrive, the final `totalCount` is 1,952, and other rows than the 48 are missing.

*One page.* A response without `hasMore` is one state of the list; if its `totalCount` equals the
number of its records, it is complete. The rest is about several pages.

*Several pages, sorted by id.* Each page is a stretch of the list as it was at one moment: it holds
every record from its first id to its last. The first page has nothing before it, a page without
`hasMore` nothing after it. If each page begins at or below the last id read before, the stretches
cover all ids, and a record that was there from start to end is in one of them, whatever else was
created, changed or deleted meanwhile. Nothing is assumed about clocks, totals, or which records may
enter a window. So the pages overlap (see `overlap`). Where a page does not touch the one before it,
because more records left than the overlap holds, further requests walk through the gap. The ids
must rise within each page, or the list is not sorted as requested. That there are at least as many
distinct records as the lowest total served only checks `hasMore`.

*Several pages, not sorted by id* (or by an id that is not an integer: a server may order GUIDs by
rules of its own). If the order depends on nothing but the contents of the records, two records that
do not change never swap places. Two pages touch if both hold the same record, unchanged. A record
that stays, and lies behind one page, lies behind the record shared with the next page; so it is in
the next page, or behind it too. It cannot be behind the page without `hasMore`. Here every page
must have the same total, and exactly as many distinct records must have come, because an order that
changes between requests repeats some records and omits others.

*Everything else*: no total, an order that depends on the page, pages too small to overlap. Read
until two successive readings agree in the multiset of their keys, and with the total where there is
one. A record missed by both would have to be pushed over a page border twice, by records that
neither reading shows to have moved. That is not a proof like the others, but all that such lists
permit.

Equal totals alone prove nothing, not even in a window that has ended. A change that is committed
late, a clock that differs from ours, a record that is revived or whose date a user sets can enter
the window while another record leaves.

A reading that none of this proves complete raises `ReadingMoved`, and nothing of it may be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import ReadingMoved
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import MIN_OVERLAPPING_PAGE_SIZE, Coverage

MAX_READINGS = 6
_MAX_OVERLAPPING_READINGS = 3  # the rest of the readings is for two that agree
_DIGEST_BITS = (1 << 128) - 1


class PagingStrategy(Enum):
    """How a reading goes through the pages."""

    SINGLE = "one page"
    OVERLAPPING = "overlapping pages"
    ASCENDING = "first to last"
    UNTIL_REPEATED = "until nothing new"


@dataclass(kw_only=True)
class ReadingSummary:
    """Summarizes the pages of one reading.

    Attributes:
        paging: how the reading went through the pages.
        keys: the distinct ones.
        records: number of all records, duplicates included.
        pages: number of pages.
        totals: `totalCount` of each page, in the order of the pages.
    """

    paging: PagingStrategy
    keys: set[int] = field(default_factory=set)
    records: int = 0
    pages: int = 0
    totals: list[int | None] = field(default_factory=list)
    _digest: int = 0

    def add(self, page: ParsedPage) -> None:
        """Add the next page of the reading."""
        self.keys.update(page.keys)
        self.records += page.count
        self.pages += 1
        self.totals.append(page.total)
        # A sum does not depend on the order. The tuples are hashed, as an integer hashes to itself.
        self._digest = (self._digest + sum(map(hash, zip(page.keys)))) & _DIGEST_BITS

    @property
    def known_totals(self) -> list[int]:
        """The totals of the pages that had one."""
        return [total for total in self.totals if total is not None]

    @property
    def total(self) -> int | None:
        """The last total, or None if any page came without one."""
        return None if None in self.totals or not self.totals else self.totals[-1]

    @property
    def has_steady_total(self) -> bool:
        """Whether every page had the same total, or none had any."""
        return len(set(self.totals)) <= 1

    @property
    def fingerprint(self) -> tuple[int, int]:
        """Equal for readings with the same multiset of keys."""
        return self.records, self._digest

    def __str__(self) -> str:
        """Describe the reading, for the message of `ReadingMoved`."""
        known = self.known_totals
        totals = "no totals" if not known else f"total {known[0]}"
        if known and min(known) != max(known):
            totals = f"totals from {known[0]} to {known[-1]}"
        return (
            f"{self.paging.value}, {self.pages} pages, {self.records} records,"
            f" {len(self.keys)} distinct, {totals}"
        )


class CompletenessProof:
    """Decides how to read an endpoint, and whether a reading of it is complete."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Start without a reading; the endpoint's sort and key decide what can be proven."""
        self._endpoint = endpoint
        self._keyless = not endpoint.key or endpoint.explode is not None
        self._sorted = (endpoint.sort or "").lower() == "+id" and not self._keyless
        self._overlaps = True
        self._previous: tuple[int, int] | None = None
        self._failed_readings: list[str] = []

    @property
    def given_up(self) -> bool:
        """Whether enough readings have failed that another is not worth its requests."""
        return len(self._failed_readings) >= MAX_READINGS

    def choose_paging(self, first: ParsedPage, rows: int) -> PagingStrategy:
        """Choose the strategy that can prove the most for the fewest requests.

        Args:
            first: the first page of this reading.
            rows: how many the server puts into a page.
        """
        if not self._endpoint.paged or first.has_more is False:
            return PagingStrategy.SINGLE
        if first.has_more is None:
            return PagingStrategy.UNTIL_REPEATED
        countable = self._sorted or first.total is not None
        large_enough = rows >= MIN_OVERLAPPING_PAGE_SIZE and first.count > 0
        overlaps = self._overlaps and countable and large_enough
        return PagingStrategy.OVERLAPPING if overlaps else PagingStrategy.ASCENDING

    def start_coverage(self, first: ParsedPage) -> Coverage:
        """Start the coverage of a reading with overlapping pages, of which this is the first."""
        return Coverage(by_id=self._sorted and first.ascending is True)

    def is_complete(self, summary: ReadingSummary, coverage: Coverage | None, rows: int) -> bool:
        """Whether a reading is complete; if not, another one is needed.

        Args:
            summary: of the whole reading.
            coverage: of its pages; None if they do not overlap.
            rows: the page size that was requested.
        """
        if summary.pages and (
            self._is_proven(summary, coverage, rows) or self._agrees_with_previous(summary)
        ):
            return True
        if coverage is not None:
            self._learn(summary, coverage)
        keeps = summary.paging in (PagingStrategy.ASCENDING, PagingStrategy.UNTIL_REPEATED)
        self._previous = summary.fingerprint if keeps else None
        self._failed_readings.append(str(summary))
        return False

    def build_error(self) -> ReadingMoved:
        """Build the error for when the last reading has failed."""
        readings = enumerate(self._failed_readings, start=1)
        story = "; ".join(f"reading {number}: {text}" for number, text in readings)
        return ReadingMoved(
            f"{self._endpoint.table} ({self._endpoint.path}) could not be proven complete: {story}",
            hint="Nothing of it was loaded. Run it again when fewer records are being changed. If"
            " there are always fewer distinct records than the total, the catalog's key is not a"
            " key.",
        )

    def _is_proven(self, summary: ReadingSummary, coverage: Coverage | None, rows: int) -> bool:
        """Whether the reading is complete without a second one."""
        total, distinct = summary.total, len(summary.keys)
        if summary.paging is PagingStrategy.SINGLE:
            return total is None or total == summary.records
        if summary.paging is PagingStrategy.UNTIL_REPEATED:
            # A full page may be a part: then the next one was empty because records moved up.
            is_short = summary.pages == 1 and summary.records < rows
            return is_short and total in (None, summary.records)
        if coverage is None or not coverage.complete:
            return False
        if coverage.by_id:
            return distinct >= min(summary.known_totals, default=0)
        return summary.has_steady_total and distinct == total

    def _agrees_with_previous(self, summary: ReadingSummary) -> bool:
        if summary.paging is PagingStrategy.OVERLAPPING:
            return False  # it left out records that were covered already
        # Without a key, equal records may be two; then only their number can be checked.
        count = summary.records if self._keyless else len(summary.keys)
        fits = summary.total is None or (summary.has_steady_total and count == summary.total)
        return fits and summary.fingerprint == self._previous

    def _learn(self, summary: ReadingSummary, coverage: Coverage) -> None:
        """Adapt the next reading to why this one with overlapping pages was not proven."""
        if coverage.disordered:
            self._sorted = False
            return
        last_attempt = len(self._failed_readings) >= _MAX_OVERLAPPING_READINGS - 1
        if summary.has_steady_total or last_attempt:
            # The order cannot be relied upon: nothing seems to have moved, or it moves too much.
            self._overlaps = False
