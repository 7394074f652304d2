"""When is a reading complete? The argument, and the book that is kept to make it.

Lists are served by page number and move while they are read. A record that leaves moves all
that come after it up by one place; the one that crosses a page border towards a page that was
read already is never served. The count at the end does not notice: of 2,000 records 48 leave,
1,952 rows arrive, the final `totalCount` is 1,952, and other rows than the 48 are missing.

*One page.* An answer without `hasMore` is one state of the list; if its `totalCount` is the
number of its records, it is complete. Anything below is about several pages.

*A window that has ended, nothing moved.* A record is in a window by the time of its latest
change. A change sets that time to now, which is after the end: records can leave a window that
has ended, none can enter, so its total only ever falls. If every page and one more request after
the last page report the same total, it was the same all the while, so no record left and no
position changed. Distinct keys as many as that total are then all there are. The extra request is
there because a page's rows and its total need not be of the same instant; the distinct keys are
counted because an order that is not the same in every request repeats some rows and omits others.
(A change that is committed late can still enter, and so can a record whose date a user sets:
where a total shows it, the reading has moved.)

*A window that has ended, something left.* Read it from the last page to the first, one after the
other, sorted by an id that only rises. A leaving record only lowers the positions of others. A
record that is not yet on a page read lies before all pages read, and lowering keeps it there: it
may be served twice, never skipped. It is necessary that the last page really is the last (its
`hasMore` is false), that the total never rose, that ids rise within each page, and that there are
at least as many distinct keys as the final total.

*A list without a window* (snapshot). Records can enter as well, so equal totals prove nothing:
one may have left and another entered. With the sort by id a new record has the highest id and
enters behind all others, which moves none of them: the descending reading holds every record
that was there from start to end, by the same argument and the same conditions. It is used from
the start. (An old record that a filter lets in again enters further down; then the total rises.)

*Everything else*: no sort by id, no totals, ids that are no integers (a server may order GUIDs by
rules of its own), a window that has not ended. Read until two successive readings agree in the
multiset of their keys, and with the total where there is one. A record missed by both would have
to be pushed over a page border twice, by records that none of the two readings shows to have
moved. That is not a proof like the others; it is what such lists permit.

What none of this shows complete raises `ReadingMoved`, and nothing of it may be loaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.envelope import Served
from st_pipelines.servicetitan.errors import ReadingMoved
from st_pipelines.servicetitan.window import Window

MOST_READINGS = 6
_DIGEST_BITS = (1 << 128) - 1


class Course(Enum):
    """How a reading goes through the pages."""

    SINGLE = "one page"
    ASCENDING = "first to last"
    DESCENDING = "last to first"
    UNTIL_REPEATED = "until nothing new"


@dataclass(kw_only=True)
class Tally:
    """What one reading saw.

    Attributes:
        course: how it went.
        keys: distinct ones.
        records: all records, duplicates included.
        pages: how many.
        totals: `totalCount` of each page, in the order of the pages.
        in_order: the ids rose within each page.
        ended: the page that should be the last had no `hasMore`.
    """

    course: Course
    keys: set[int] = field(default_factory=set)
    records: int = 0
    pages: int = 0
    totals: list[int | None] = field(default_factory=list)
    in_order: bool = True
    ended: bool = True
    _digest: int = 0

    def add(self, served: Served) -> None:
        """Enter a page.

        Args:
            served: the next page of this reading.
        """
        if self.course is Course.DESCENDING and not self.pages:
            self.ended = served.has_more is False
        self.keys.update(served.keys)
        self.records += served.count
        self.pages += 1
        self.totals.append(served.total)
        self.in_order = self.in_order and served.ascending is True
        # A sum does not depend on the order. `hash` of a tuple, as that of an integer is itself.
        self._digest = (self._digest + sum(map(hash, zip(served.keys)))) & _DIGEST_BITS

    @property
    def total(self) -> int | None:
        """The last total, or None if any page came without one."""
        return None if None in self.totals or not self.totals else self.totals[-1]

    @property
    def steady(self) -> bool:
        """Whether every page told the same total, or none told any."""
        return len(set(self.totals)) <= 1

    @property
    def rose(self) -> bool:
        """Whether a later page told a higher total than an earlier one."""
        told = [total for total in self.totals if total is not None]
        return any(later > earlier for earlier, later in itertools.pairwise(told))

    @property
    def fingerprint(self) -> tuple[int, int]:
        """Equal for readings with the same multiset of keys."""
        return self.records, self._digest

    def __str__(self) -> str:
        """For the message of `ReadingMoved`."""
        told = [total for total in self.totals if total is not None]
        totals = "no totals" if not told else f"total {told[0]}"
        if told and min(told) != max(told):
            totals = f"totals from {told[0]} to {told[-1]}"
        return (
            f"{self.course.value}, {self.pages} pages, {self.records} records,"
            f" {len(self.keys)} distinct, {totals}"
        )


class Proof:
    """Decides how to read, and whether what was read is complete."""

    def __init__(self, endpoint: Endpoint, window: Window | None) -> None:
        """Start without a reading.

        Args:
            endpoint: its sort and key decide what can be proven.
            window: None for a snapshot.
        """
        self._endpoint = endpoint
        self._ended = window is not None and window.ended
        self._snapshot = window is None
        self._keyless = not endpoint.key or endpoint.explode is not None
        self._sorted = (endpoint.sort or "").lower() == "+id" and not self._keyless
        self._previous: tuple[int, int] | None = None
        self._story: list[str] = []

    @property
    def given_up(self) -> bool:
        """Whether so many readings have failed that another is not worth its requests."""
        return len(self._story) >= MOST_READINGS

    def course(self, first: Served) -> Course:
        """How to go on after the first page.

        Args:
            first: the first page of this reading.

        Returns:
            The course that can prove the most for the fewest requests.
        """
        if not self._endpoint.paged or first.has_more is False:
            return Course.SINGLE
        if first.has_more is None:
            return Course.UNTIL_REPEATED
        orderly = self._sorted and first.ascending is True and first.total is not None
        moved = self._ended and bool(self._story)
        return Course.DESCENDING if orderly and (self._snapshot or moved) else Course.ASCENDING

    def accepts(self, tally: Tally, total_now: Callable[[], int | None]) -> bool:
        """Whether a reading is complete.

        Args:
            tally: the reading, after its last page.
            total_now: asks for the total once more; called only if the answer matters.

        Returns:
            True if it is; False means that another reading is needed.
        """
        if tally.pages and (self._by_itself(tally, total_now) or self._agrees(tally)):
            return True
        if not tally.in_order:
            self._sorted = False
        self._previous = None if tally.course is Course.SINGLE else tally.fingerprint
        self._story.append(str(tally))
        return False

    def moved(self) -> ReadingMoved:
        """The error after the last reading; not raised yet."""
        story = "; ".join(f"reading {n}: {one}" for n, one in enumerate(self._story, start=1))
        return ReadingMoved(
            f"{self._endpoint.table} ({self._endpoint.path}) could not be proven complete: {story}",
            hint="Nothing was taken from it. Run it again when less is being changed; if the"
            " distinct records stay fewer than the total, the catalogue's key is not a key.",
        )

    def _by_itself(self, tally: Tally, total_now: Callable[[], int | None]) -> bool:
        total, distinct = tally.total, len(tally.keys)
        if tally.course is Course.SINGLE:
            return total is None or total == tally.records
        if tally.course is Course.UNTIL_REPEATED:
            return tally.pages == 1 and total in (None, tally.records)
        if total is None:
            return False
        if tally.course is Course.DESCENDING:
            return tally.ended and tally.in_order and not tally.rose and distinct >= total
        return self._ended and tally.steady and distinct == total and total_now() == total

    def _agrees(self, tally: Tally) -> bool:
        # Where there is no key, equal records may be two; then only their number can be checked.
        count = tally.records if self._keyless else len(tally.keys)
        fits = tally.total is None or (tally.steady and count == tally.total)
        return fits and tally.fingerprint == self._previous
