"""What a reading cost and how it went: counters that several threads write."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Usage:
    """Counts what was sent and received.

    Attributes:
        requests: data requests sent, retries included.
        bytes: size of the bodies received, after decompression.
        token_requests: requests to the token endpoint, retries included.
    """

    requests: int = 0
    bytes: int = 0
    token_requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, requests: int = 0, received: int = 0, token_requests: int = 0) -> None:
        """Add to the counters, from any thread.

        Args:
            requests: data requests.
            received: bytes.
            token_requests: requests to the token endpoint.
        """
        with self._lock:
            self.requests += requests
            self.bytes += received
            self.token_requests += token_requests


@dataclass(kw_only=True)
class ReadStats(Usage):
    """A `Usage` with the course of one reading; only the reading thread writes these.

    Attributes:
        readings: how many times the records were read from the start.
        records: records in the pages of the last reading, duplicates included.
        total: the last `totalCount` that ServiceTitan gave, or None.
        page_size: rows asked for in a page at the end, 0 for what is not paged.
        continue_from: the last continuation token of an export feed. Store it; do not log it.
    """

    readings: int = 0
    records: int = 0
    total: int | None = None
    page_size: int = 0
    continue_from: str | None = field(default=None, repr=False)
