"""Records what a reading cost and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field

from st_pipelines.servicetitan.http.model import Usage


@dataclass(kw_only=True)
class ReadStats(Usage):
    """A `Usage` with the course of one reading; only the reading thread writes the rest.

    Attributes:
        readings: how many times the records were read from the start.
        records: records in the pages of the last reading, duplicates included.
        total: the last `totalCount` that ServiceTitan served, or None.
        page_size: rows per page at the end; 0 for an endpoint without pages.
        continue_from: the last continuation token of an export feed. Store it; do not log it.
    """

    readings: int = 0
    records: int = 0
    total: int | None = None
    page_size: int = 0
    continue_from: str | None = field(default=None, repr=False)

    def __add__(self, later: ReadStats) -> ReadStats:
        """Return the stats of two reads as one; `total` only if both have one."""
        totals = (self.total, later.total)
        return ReadStats(
            requests=self.requests + later.requests,
            bytes=self.bytes + later.bytes,
            token_requests=self.token_requests + later.token_requests,
            readings=max(self.readings, later.readings),
            records=self.records + later.records,
            total=None if None in totals else sum(total for total in totals if total is not None),
            page_size=later.page_size,
            continue_from=later.continue_from,
        )
