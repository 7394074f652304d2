"""When is a reading complete? The argument, and the book that is kept to make it.

Lists are served by page number and move while they are read. A record that leaves moves all
that come after it up by one place; the one that crosses a page border towards a page that was
read already is never page. The count at the end does not notice: of 2,000 records 48 leave,
1,952 rows arrive, the final `totalCount` is 1,952, and other rows than the 48 are missing.

*One page.* An answer without `hasMore` is one state of the list; if its `totalCount` is the
number of its records, it is complete. Anything below is about several pages.

*Several pages, sorted by id.* Each answer is a stretch of the list as it was at one moment: it
holds every record from its first id to its last. The first page has nothing before it, a page
without `hasMore` nothing after it. If each answer begins at or below the last id of what was read
before, the stretches cover all ids, and a record that was there from start to end is in one of
them, whatever else was created, changed or deleted meanwhile. Nothing is assumed of clocks, of
totals, or of what may enter a window. So pages are asked for that overlap (see `slices`); where a
page does not touch the one before it, since more records left than the overlap holds, the gap is
walked through. It is necessary that the ids rise within each page, or the list is not sorted as
asked. That there are at least as many distinct records as the lowest total told is a check of
`hasMore` alone.

*Several pages, no sort by id* (or an id that is no integer: a server may order GUIDs by rules of
its own). If the order depends on nothing but what records say, two that do not change never swap
places. Two answers touch if both hold the same record, unchanged. A record that stays, and lies
behind one answer, lies behind the record that is shared with the next; so it is in the next, or
behind it too. It cannot be behind the page without `hasMore`. Here every page must tell the same
total, and exactly as many distinct records must have come, for an order that changes from request
to request repeats some records and omits others.

*Everything else*: no total, an order that depends on the page, pages too small to overlap. Read
until two successive readings agree in the multiset of their keys, and with the total where there
is one. A record missed by both would have to be pushed over a page border twice, by records that
none of the two readings shows to have moved. That is not a proof like the others; it is what such
lists permit.

Equal totals alone prove nothing, not even in a window that has ended: a change that is committed
late, a clock that differs from ours, a record that is revived or whose date a user sets can enter
it while another leaves.

What none of this shows complete raises `ReadingMoved`, and nothing of it may be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import ReadingMoved
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import SMALLEST, Coverage

MOST_READINGS = 6
_MOST_OVERLAPPING = 3  # the others are for two that agree
_DIGEST_BITS = (1 << 128) - 1


class PagingStrategy(Enum):
    """How a reading goes through the pages."""

    SINGLE = "one page"
    OVERLAPPING = "overlapping pages"
    ASCENDING = "first to last"
    UNTIL_REPEATED = "until nothing new"


@dataclass(kw_only=True)
class ReadingSummary:
    """What one reading saw.

    Attributes:
        paging: how it went.
        keys: distinct ones.
        records: all records, duplicates included.
        pages: how many.
        totals: `totalCount` of each page, in the order of the pages.
    """

    paging: PagingStrategy
    keys: set[int] = field(default_factory=set)
    records: int = 0
    pages: int = 0
    totals: list[int | None] = field(default_factory=list)
    _digest: int = 0

    def add(self, page: ParsedPage) -> None:
        """Enter a page.

        Args:
            served: the next page of this reading.
        """
        self.keys.update(page.keys)
        self.records += page.count
        self.pages += 1
        self.totals.append(page.total)
        # A sum does not depend on the order. `hash` of a tuple, as that of an integer is itself.
        self._digest = (self._digest + sum(map(hash, zip(page.keys)))) & _DIGEST_BITS

    @property
    def told(self) -> list[int]:
        """The totals of the pages that told one."""
        return [total for total in self.totals if total is not None]

    @property
    def total(self) -> int | None:
        """The last total, or None if any page came without one."""
        return None if None in self.totals or not self.totals else self.totals[-1]

    @property
    def steady(self) -> bool:
        """Whether every page told the same total, or none told any."""
        return len(set(self.totals)) <= 1

    @property
    def fingerprint(self) -> tuple[int, int]:
        """Equal for readings with the same multiset of keys."""
        return self.records, self._digest

    def __str__(self) -> str:
        """For the message of `ReadingMoved`."""
        told = self.told
        totals = "no totals" if not told else f"total {told[0]}"
        if told and min(told) != max(told):
            totals = f"totals from {told[0]} to {told[-1]}"
        return (
            f"{self.paging.value}, {self.pages} pages, {self.records} records,"
            f" {len(self.keys)} distinct, {totals}"
        )


class CompletenessProof:
    """Decides how to read, and whether what was read is complete."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Start without a reading.

        Args:
            endpoint: its sort and key decide what can be proven.
        """
        self._endpoint = endpoint
        self._keyless = not endpoint.key or endpoint.explode is not None
        self._sorted = (endpoint.sort or "").lower() == "+id" and not self._keyless
        self._overlaps = True
        self._previous: tuple[int, int] | None = None
        self._story: list[str] = []

    @property
    def given_up(self) -> bool:
        """Whether so many readings have failed that another is not worth its requests."""
        return len(self._story) >= MOST_READINGS

    def choose_paging(self, first: ParsedPage, rows: int) -> PagingStrategy:
        """How to go on after the first page.

        Args:
            first: the first page of this reading.
            rows: that the server puts into a page.

        Returns:
            The paging that can prove the most for the fewest requests.
        """
        if not self._endpoint.paged or first.has_more is False:
            return PagingStrategy.SINGLE
        if first.has_more is None:
            return PagingStrategy.UNTIL_REPEATED
        countable = self._sorted or first.total is not None
        overlaps = self._overlaps and countable and rows >= SMALLEST and first.count > 0
        return PagingStrategy.OVERLAPPING if overlaps else PagingStrategy.ASCENDING

    def start_coverage(self, first: ParsedPage) -> Coverage:
        """What links the pages of a reading that overlaps.

        Args:
            first: the first page of this reading.
        """
        return Coverage(by_id=self._sorted and first.ascending is True)

    def is_complete(self, summary: ReadingSummary, coverage: Coverage, rows: int) -> bool:
        """Whether a reading is complete.

        Args:
            summary: the reading, after its last page.
            coverage: of its pages, if they overlap.
            rows: that were asked for in a page.

        Returns:
            True if it is; False means that another reading is needed.
        """
        if summary.pages and (self._by_itself(summary, coverage, rows) or self._agrees(summary)):
            return True
        if summary.paging is PagingStrategy.OVERLAPPING:
            self._learn(summary, coverage)
            self._previous = None
        else:
            self._previous = (
                None if summary.paging is PagingStrategy.SINGLE else summary.fingerprint
            )
        self._story.append(str(summary))
        return False

    def moved(self) -> ReadingMoved:
        """The error after the last reading; not raised yet."""
        story = "; ".join(f"reading {n}: {one}" for n, one in enumerate(self._story, start=1))
        return ReadingMoved(
            f"{self._endpoint.table} ({self._endpoint.path}) could not be proven complete: {story}",
            hint="Nothing was taken from it. Run it again when less is being changed; if the"
            " distinct records stay fewer than the total, the catalogue's key is not a key.",
        )

    def _by_itself(self, summary: ReadingSummary, coverage: Coverage, rows: int) -> bool:
        total, distinct = summary.total, len(summary.keys)
        if summary.paging is PagingStrategy.SINGLE:
            return total is None or total == summary.records
        if summary.paging is PagingStrategy.UNTIL_REPEATED:
            # A full page may be a part: then the next one was empty because records moved up.
            return (
                summary.pages == 1 and summary.records < rows and total in (None, summary.records)
            )
        if summary.paging is PagingStrategy.ASCENDING or not coverage.complete:
            return False
        if coverage.by_id:
            return distinct >= min(summary.told, default=0)
        return summary.steady and distinct == total

    def _agrees(self, summary: ReadingSummary) -> bool:
        if summary.paging is PagingStrategy.OVERLAPPING:
            return False  # what it left out as known already would be missing here
        # Where there is no key, equal records may be two; then only their number can be checked.
        count = summary.records if self._keyless else len(summary.keys)
        fits = summary.total is None or (summary.steady and count == summary.total)
        return fits and summary.fingerprint == self._previous

    def _learn(self, summary: ReadingSummary, coverage: Coverage) -> None:
        """What a reading that could not be proven tells about how to do the next."""
        if coverage.disordered:
            self._sorted = False
        elif summary.steady or len(self._story) >= _MOST_OVERLAPPING - 1:
            # Nothing was seen to move, so that the order itself is not to be relied upon.
            self._overlaps = False
