"""Pages of different sizes that overlap, though the API knows page numbers only.

Page `n` of size `s` holds the positions from `n * s` to `(n + 1) * s`. Pages of one size never
overlap; page 2 of size 4,999 overlaps page 1 of size 5,000 by one row. So the next page is the one
whose size makes it begin just before the last one ended: a list of 100,000 rows takes 21 requests.
`Coverage` links the pages that come, so that no record can hide between two of them; the argument
that uses it is in `completeness`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from st_pipelines.servicetitan.reading.envelope import ParsedPage

# From so many sizes below the largest the best is taken; more gain less than a row in a hundred.
_SIZES_TRIED = 256
# Smaller pages soon come to a position that no page can span: all their sizes divide it.
SMALLEST = 7


@dataclass(frozen=True, kw_only=True)
class PageRange:
    """A page by its place in the list.

    Attributes:
        index: number of the page, counted from 0 whatever the endpoint counts from.
        size: rows asked for.
    """

    index: int
    size: int

    @property
    def start(self) -> int:
        """Position of its first row, from 0."""
        return self.index * self.size

    @property
    def stop(self) -> int:
        """Position after its last row, if it is full."""
        return self.start + self.size


def overlap_of(limit: int) -> int:
    """By how many rows neighbours overlap: as many may leave between the two requests."""
    return max(1, min(50, limit // 20))


def after(end: int, limit: int, overlap: int) -> PageRange | None:
    """The page that reaches farthest among those that begin early enough.

    Args:
        end: position after the last row that is known.
        limit: the largest page.
        overlap: it begins at least so many rows before `end`, or at the first row.

    Returns:
        None if no page spans `end`.
    """
    begin = max(0, end - overlap)
    sizes = range(limit, max(limit - _SIZES_TRIED, 1), -1)
    found = (PageRange(index=begin // size, size=size) for size in sizes)
    far = sorted((one for one in found if one.stop > end), key=lambda one: -one.stop)
    return next((one for one in far if _spanned(one.stop, sizes)), far[0] if far else None)


def plan(first: PageRange, total: int, limit: int) -> Iterator[PageRange]:
    """The pages after the first one, up to a total.

    Args:
        first: fetched already.
        total: rows in the list.
        limit: the largest page.

    Yields:
        Each overlaps the one before. Ends early where no page spans the end of the last.
    """
    end = first.stop
    while end < total:
        following = after(end, limit, overlap_of(limit))
        if following is None:
            return
        yield following
        end = following.stop


def _spanned(end: int, sizes: range) -> bool:
    return any(end % size for size in sizes)


class Coverage:
    """Covers a list from its beginning, answer by answer.

    Attributes:
        by_id: the list is sorted by an integer id; else only its records' contents can tell that
            two answers touch.
        complete: it reaches from the first record to the last.
        disordered: ids do not rise within an answer, so that the list is not sorted by them.
    """

    def __init__(self, *, by_id: bool) -> None:
        """Start with nothing covered.

        Args:
            by_id: see above.
        """
        self.by_id = by_id
        self.complete = False
        self.disordered = False
        self._highest: int | None = None
        self._last: frozenset[int] = frozenset()

    @property
    def ended(self) -> bool:
        """Whether further answers can add nothing."""
        return self.complete or self.disordered

    def link(self, page: ParsedPage, *, at_start: bool = False) -> ParsedPage | None:
        """Add an answer, if it touches what is covered.

        Args:
            served: a page, not necessarily the next one.
            at_start: it begins at the first position, and so leaves out nothing before it.

        Returns:
            The answer without the records that are covered already; None if it does not touch.
        """
        self.disordered = self.disordered or (self.by_id and page.ascending is not True)
        if self.disordered or not (at_start or self.touches(page)):
            return None
        new = self._extend(page)
        # Once an answer that is linked was the end, a record that stays is covered for good.
        self.complete = self.complete or page.has_more is False
        return page if all(new) else page.only(new)

    def reach(self) -> object:
        """How far it has come; compare with `moved_from`."""
        return self._highest if self.by_id else self._last

    def moved_from(self, reach: object) -> bool:
        """Whether it has come to another place since `reach` was taken."""
        return self.reach() != reach

    def touches(self, page: ParsedPage) -> bool:
        """Whether no record that stays can lie between what is covered and an answer.

        An empty page behind the end tells nothing of what is between here and the end.
        """
        if self.by_id:
            return page.count > 0 and self._highest is not None and page.keys[0] <= self._highest
        return not self._last.isdisjoint(page.contents())

    def _extend(self, page: ParsedPage) -> list[bool]:
        """Cover an answer; returns for each of its records whether it was not covered before."""
        if not self.by_id:
            contents, known = page.contents(), self._last
            self._last = frozenset(contents)
            return [content not in known for content in contents]
        highest = self._highest
        if page.keys:
            last = page.keys[-1]
            self._highest = last if highest is None else max(last, highest)
        return [highest is None or key > highest for key in page.keys]
