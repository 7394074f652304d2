"""Pages planned for a list reach its end, each overlapping the one before."""

from __future__ import annotations

from itertools import pairwise

import pytest

from st_pipelines.servicetitan.reading.overlap import (
    PageRange,
    choose_overlap,
    find_page_across,
    plan_pages,
)


@pytest.mark.parametrize("limit", [20, 50, 99, 500])
def test_planned_pages_reach_the_end_and_overlap_by_as_much_as_they_should(limit: int) -> None:
    total, first = 12 * limit + 1, PageRange(index=0, size=limit)
    pages = [first, *plan_pages(first, total, limit)]
    assert pages[-2].stop < total <= pages[-1].stop
    for before, page in pairwise(pages):
        assert page.size <= limit
        assert page.start <= before.stop - choose_overlap(limit)
        assert page.stop > before.stop


def test_no_pages_are_planned_after_one_that_reaches_the_total() -> None:
    first = PageRange(index=0, size=50)
    assert list(plan_pages(first, 50, 50)) == []
    assert len(list(plan_pages(first, 51, 50))) == 1


def test_neighbors_overlap_by_a_twentieth_but_by_one_row_at_least_and_fifty_at_most() -> None:
    assert [choose_overlap(limit) for limit in (7, 40, 1_000, 5_000)] == [1, 2, 50, 50]


def test_a_page_is_not_chosen_if_no_page_spans_its_end() -> None:
    """All sizes up to 7 divide 420, so that every page would begin or end there."""
    assert find_page_across(414, 7, 1) == PageRange(index=103, size=4)
