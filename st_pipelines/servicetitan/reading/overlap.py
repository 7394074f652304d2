"""Plans pages that overlap, and links them into a coverage of the list.

The API knows page numbers only: page `n` of size `s` holds the positions from `n * s` to
`(n + 1) * s`. Pages of one size never overlap, but page 2 of size 4,999 overlaps page 1 of size
5,000 by one row. So the next page gets the size that makes it begin just before the last one ended.
A list of 100,000 rows takes 21 requests.

`Coverage` links the pages that come, so that no record can hide between two of them. The argument
that relies on it is in `completeness`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from st_pipelines.servicetitan.reading.envelope import ParsedPage

# The best of this many sizes below the largest is taken; more would gain less than 1 % of the rows.
_SIZES_TRIED = 256
# Smaller pages soon reach a position that no page spans, because all their sizes divide it.
MIN_OVERLAPPING_PAGE_SIZE = 7
_MAX_OVERLAP = 50


@dataclass(frozen=True, kw_only=True)
class PageRange:
    """A page by its position in the list.

    Attributes:
        index: page number, counted from 0 whatever the endpoint counts from.
        size: rows requested.
    """

    index: int
    size: int

    @property
    def start(self) -> int:
        """Position of its first row, from 0."""
        return self.index * self.size

    @property
    def stop(self) -> int:
        """Position after its last row, if the page is full."""
        return self.start + self.size


def choose_overlap(limit: int) -> int:
    """Choose by how many rows neighbors overlap: as many may leave between the two requests."""
    return max(1, min(_MAX_OVERLAP, limit // 20))


def find_page_across(end: int, limit: int, overlap: int) -> PageRange | None:
    """Find the page that reaches furthest among those that begin early enough.

    Args:
        end: position after the last row that is known.
        limit: the largest page size.
        overlap: the page begins at least this many rows before `end`, or at the first row.

    Returns:
        None if no page spans `end`.
    """
    begin = max(0, end - overlap)
    sizes = range(limit, max(limit - _SIZES_TRIED, 1), -1)
    stops = {size: (begin // size + 1) * size for size in sizes}
    spanning = [size for size in sizes if stops[size] > end]
    if not spanning:
        return None
    spanning.sort(key=stops.__getitem__, reverse=True)
    # A page whose end no size spans would leave the next one without a start.
    size = next((size for size in spanning if _is_spanned(stops[size], sizes)), spanning[0])
    return PageRange(index=begin // size, size=size)


def plan_pages(first: PageRange, total: int, limit: int) -> Iterator[PageRange]:
    """Yield the pages after the first one, up to a total, each overlapping the one before.

    Ends early where no page spans the end of the last.

    Args:
        first: fetched already.
        total: rows in the list.
        limit: the largest page size.
    """
    end = first.stop
    while end < total:
        page = find_page_across(end, limit, choose_overlap(limit))
        if page is None:
            return
        yield page
        end = page.stop


def _is_spanned(end: int, sizes: range) -> bool:
    return any(end % size for size in sizes)


class Coverage:
    """Covers a list from its beginning, page by page.

    Attributes:
        by_id: the list is sorted by an integer id; otherwise only the contents of records show
            that two pages touch.
        complete: the coverage reaches from the first record to the last.
        disordered: ids do not rise within a page, so the list is not sorted by them.
    """

    def __init__(self, *, by_id: bool) -> None:
        """Start with nothing covered."""
        self.by_id = by_id
        self.complete = False
        self.disordered = False
        self._highest: int | None = None
        self._last: frozenset[int] = frozenset()

    @property
    def ended(self) -> bool:
        """Whether further pages can add nothing."""
        return self.complete or self.disordered

    def link(self, page: ParsedPage, *, at_start: bool = False) -> ParsedPage | None:
        """Add a page if it touches what is covered.

        Args:
            page: not necessarily the next one.
            at_start: it begins at the first position, and so leaves out nothing before it.

        Returns:
            The page without the records that are covered already; None if it does not touch.
        """
        self.disordered = self.disordered or (self.by_id and page.ascending is not True)
        if self.disordered or not (at_start or self.touches(page)):
            return None
        new = self._extend(page)
        # Once a linked page was the last, every record that stays is covered for good.
        self.complete = self.complete or page.has_more is False
        return page if all(new) else page.keep(new)

    def reach(self) -> object:
        """Return how far the coverage goes, for comparison by `moved_from`."""
        return self._highest if self.by_id else self._last

    def moved_from(self, reach: object) -> bool:
        """Whether the coverage has moved since `reach` was taken."""
        return self.reach() != reach

    def touches(self, page: ParsedPage) -> bool:
        """Whether no record that stays can lie between what is covered and a page.

        An empty page after the end says nothing about the records between here and the end.
        """
        if self.by_id:
            return page.count > 0 and self._highest is not None and page.keys[0] <= self._highest
        return not self._last.isdisjoint(page.hash_records())

    def _extend(self, page: ParsedPage) -> list[bool]:
        """Cover a page; return for each of its records whether it was not covered before."""
        if not self.by_id:
            hashes, covered = page.hash_records(), self._last
            self._last = frozenset(hashes)
            return [one not in covered for one in hashes]
        highest = self._highest
        if page.keys:
            last = page.keys[-1]
            self._highest = last if highest is None else max(last, highest)
        return [highest is None or key > highest for key in page.keys]
