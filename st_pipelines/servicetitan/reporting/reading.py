"""Reads all pages of a report, and checks that they belong together.

Rows have no key, and each page is a run of its own: rows may change between two pages. What the
responses say about themselves is checked: the number and size of each page, `totalCount`, which
all pages must agree on and the rows must add up to, and `hasMore`. A reading that contradicts
itself is started over. A change that leaves the number of rows as it was cannot be seen; a report
that fits on one page is read in one run, and has no such gap.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator

from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ReadingMoved,
    ResponseTooLarge,
    ServiceTitanError,
    ServiceUnavailable,
    Unreachable,
)
from st_pipelines.servicetitan.reporting.envelope import ReportPage
from st_pipelines.servicetitan.reporting.run import ReportRunner

MAX_PAGE_SIZE = 25_000
"""The vendor's maximum for a page of a report."""

MIN_PAGE_SIZE = 1_000
MAX_READINGS = 3
MAX_PAGES = 4_000
_PAGE_SIZE = re.compile(r"page[ _-]?size", re.IGNORECASE)


class _Contradiction(Exception):
    """Pages that cannot belong to one reading."""


def read_pages(runner: ReportRunner) -> Generator[ReportPage, None, None]:
    """Read a report completely, by pages of `MAX_PAGE_SIZE`, or smaller ones where it must.

    Yields:
        At least one page for every reading. A page with a higher `reading` makes all pages before
        it void. The reading is complete once the generator has ended without an error.

    Raises:
        ReadingMoved: the pages of all readings contradicted each other.
        ServiceTitanError: after the retries.
    """
    stats, page_size, reasons = runner.session.usage, MAX_PAGE_SIZE, list[str]()
    while len(reasons) < MAX_READINGS:
        stats.readings += 1
        stats.page_size = page_size
        stats.records, stats.total = 0, None
        try:
            yield from _read_once(runner, page_size, stats.readings)
            return
        except _Contradiction as contradiction:
            reasons.append(str(contradiction))
        except (BadRequest, ResponseTooLarge, ServiceUnavailable, Unreachable) as error:
            page_size = _halve(page_size, error)
    raise ReadingMoved(
        f"report {runner.target.report_id}: its pages contradicted each other in "
        f"{MAX_READINGS} readings: {'; '.join(dict.fromkeys(reasons))}",
        hint="Its rows change while they are read. Run it again at a quieter time, or make it "
        "smaller, so that it fits on one page of 25,000 rows.",
    )


def _read_once(
    runner: ReportRunner, page_size: int, reading: int
) -> Generator[ReportPage, None, None]:
    stats, served_size = runner.session.usage, None
    for number in range(1, MAX_PAGES + 1):
        page = runner.fetch(number, page_size)
        if page.number not in (None, number):
            raise _Contradiction(f"page {page.number} came for page {number}")
        if page.has_more and number > 1 and page.size != served_size:
            raise _Contradiction("pages have different sizes")
        served_size = page.size
        if page.total is not None:
            if stats.total not in (None, page.total):
                raise _Contradiction("pages have different totals")
            stats.total = page.total
        stats.records += len(page.rows)
        has_more = _has_more(page, stats.records, stats.total)
        yield dataclasses.replace(page, reading=reading)
        if not has_more:
            return
    raise _Contradiction(f"it has more than {MAX_PAGES:,} pages")


def _has_more(page: ReportPage, rows: int, total: int | None) -> bool:
    """Whether pages follow. Raises _Contradiction where that is not certain."""
    if page.has_more is None and total is None:
        raise _Contradiction("neither hasMore nor totalCount was served")
    has_more = rows < total if page.has_more is None and total is not None else page.has_more
    if total is not None and (rows > total or has_more != (rows < total)):
        after = "more pages follow" if has_more else "no page follows"
        raise _Contradiction(f"{rows:,} of {total:,} rows were read, and {after}")
    if has_more and not page.rows:
        raise _Contradiction("an empty page says that more follow")
    if has_more and total is None and len(page.rows) < (page.size or 0):
        raise _Contradiction("a page that is not full says that more follow, without a totalCount")
    return bool(has_more)


def _halve(page_size: int, error: ServiceTitanError) -> int:
    """Return half of the page size, if that can help against an error; otherwise raise it."""
    overloaded = isinstance(error, ServiceUnavailable) and (error.status or 0) >= 500
    hung = isinstance(error, Unreachable) and error.smaller_may_help
    refused = isinstance(error, BadRequest) and bool(_PAGE_SIZE.search(error.detail))
    may_help = overloaded or hung or refused or isinstance(error, ResponseTooLarge)
    if page_size <= MIN_PAGE_SIZE or not may_help:
        raise error
    return max(MIN_PAGE_SIZE, page_size // 2)
