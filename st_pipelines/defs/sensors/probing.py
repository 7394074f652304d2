"""Probes endpoints for changes, several at a time, within the time of one sensor tick.

The sensor `changes` calls `probe_endpoints` and keeps the poll states; what a probe asks
ServiceTitan is in `servicetitan.reading.probes`.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    RateLimited,
    ServiceTitanError,
)
from st_pipelines.servicetitan.http.model import Connection, ReadStats
from st_pipelines.servicetitan.http.retry import Cancellation, Cancelled, RetryPolicy

if TYPE_CHECKING:  # it loads requests, which loading the definitions must not
    from st_pipelines.servicetitan.reading.probes import ChangeProbe

_log = logging.getLogger(__name__)

TICK_SECONDS = 40.0
"""Time for probing. Dagster ends a tick after 60 seconds; the next tick probes the rest."""

_RETRY_POLICY = RetryPolicy(attempts=2, backoff=0.5, max_retry_after_seconds=5)
_FIRST_RETRY_DELAY, _MAX_RETRY_DELAY = timedelta(minutes=5), timedelta(hours=6)
_REQUEST_TIMEOUT_SECONDS = 15.0
_CONCURRENCY = 8
_FATAL_ERRORS = (AuthenticationFailed, RateLimited)
"""Errors that every other endpoint would meet as well."""
_MAX_FAILURES = 16
"""So many failures without one success are not a problem of a single API."""


class PollState(msgspec.Struct, omit_defaults=True):
    """How far the changes of one endpoint are known.

    Attributes:
        since: end of the window of its latest load; None before the first.
        token: where its export feed ended.
        round: of the probes of a feed, see `reading.probes`.
        tries: loads that were requested since the last one succeeded.
        until: no probe before this time, because a requested load may be about to run.
        seen: storage id of the latest materialization that was noted.
    """

    since: datetime | None = None
    token: str | None = None
    round: int = 0
    tries: int = 0
    until: datetime | None = None
    seen: int = 0

    def is_due(self, now: datetime) -> bool:
        """Whether to probe the endpoint now."""
        return self.until is None or self.until <= now

    def request_load(self, now: datetime) -> None:
        """Notes that a load is requested. If it fails, it is due again with growing delays."""
        self.until = now + min(_MAX_RETRY_DELAY, _FIRST_RETRY_DELAY * 4**self.tries)
        self.tries += 1

    def note_load(self, until: datetime) -> None:
        """Notes the end of a load's window. A load of older days changes nothing."""
        if self.since is None or until > self.since:
            self.since, self.tries, self.until = until, 0, None


@dataclass(kw_only=True)
class ProbeResults:
    """What the probes of one tick found.

    Attributes:
        probes: by table, of the endpoints that responded.
        failed: error messages, by table.
        stopped: why endpoints were left out; empty if none were.
    """

    probes: dict[str, ChangeProbe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    stats: ReadStats = field(default_factory=ReadStats)

    @property
    def changed(self) -> list[str]:
        """The tables that changed, sorted."""
        return sorted(table for table, probe in self.probes.items() if probe.changed)

    def summary(self, due: int) -> str:
        """Returns the tick's message.

        Args:
            due: number of endpoints that were to be probed.
        """
        text = f"asked {len(self.probes)} of {due} endpoints, {self.stats.requests} requests"
        if self.failed:
            examples = [f"{table}: {error}" for table, error in list(self.failed.items())[:3]]
            text += f"; {len(self.failed)} could not be asked ({'; '.join(examples)})"
        return f"{text}; {self.stopped}" if self.stopped else text


def probe_endpoints(
    connection: Connection,
    endpoints: list[Endpoint],
    polls: Mapping[str, PollState],
    now: datetime,
    *,
    seconds: float = TICK_SECONDS,
) -> ProbeResults:
    """Probes endpoints in this order until all are done or the time is over.

    An endpoint that has never been loaded, or whose last requested load is missing, counts as
    changed without a request. Errors that concern all endpoints stop the probing at once, and
    failures without any success stop it soon.

    Args:
        polls: by table.
        now: timezone-aware.
        seconds: no probe is waited for after this time.
    """
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.probes import ChangeProbe, probe_for_changes

    results, cancelled, deadline = ProbeResults(), Cancellation(), time.monotonic() + seconds
    timeout = min(connection.timeout, _REQUEST_TIMEOUT_SECONDS)
    connection = dataclasses.replace(connection, timeout=timeout)
    with closing(Client(connection, policy=_RETRY_POLICY)) as client:

        def probe(endpoint: Endpoint) -> ChangeProbe:
            poll = polls[endpoint.table]
            before = ChangeProbe(since=poll.since or now, token=poll.token, round=poll.round)
            if poll.since is None or poll.tries:  # needs a load, whatever a probe would find
                return dataclasses.replace(before, changed=True)
            return probe_for_changes(
                client.session(results.stats, cancelled), endpoint, before, now
            )

        with ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="changes") as pool:
            pending = {pool.submit(probe, endpoint): endpoint.table for endpoint in endpoints}
            while pending and not results.stopped:
                done, _ = wait(pending, max(0, deadline - time.monotonic()), FIRST_COMPLETED)
                for future in done:
                    _note_result(results, pending.pop(future), future)
                if not done:
                    results.stopped = f"stopped after {seconds:.0f} s, the next tick continues"
            for future in pending:
                future.cancel()
            cancelled.set()
    return results


def _note_result(results: ProbeResults, table: str, future: Future[ChangeProbe]) -> None:
    try:
        results.probes[table] = future.result()
    except Cancelled:
        pass
    except _FATAL_ERRORS as error:
        results.stopped = results.stopped or f"stopped, as the others would fail alike: {error}"
    except ServiceTitanError as error:
        results.failed[table] = str(error)
        if len(results.failed) >= _MAX_FAILURES and not results.probes:
            results.stopped = f"stopped after {_MAX_FAILURES} failures and no success: {error}"
    except Exception as error:  # concerns one table and must not stop the others
        _log.exception("%s could not be probed", table)
        results.failed[table] = f"{type(error).__name__}, see the log"
