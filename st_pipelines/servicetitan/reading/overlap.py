"""Pages of different sizes that overlap, though the API knows page numbers only.

Page `n` of size `s` holds the positions from `n * s` to `(n + 1) * s`. Pages of one size never
overlap; page 2 of size 4,999 overlaps page 1 of size 5,000 by one row. So the next page is the one
whose size makes it begin just before the last one ended: a list of 100,000 rows takes 21 requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
