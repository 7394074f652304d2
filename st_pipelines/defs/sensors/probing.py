"""Asks endpoints whether they have changed, several at a time, within the time of a tick."""

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
from st_pipelines.servicetitan.http.cancellation import Cancellation, Cancelled
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.reading.stats import ReadStats

if TYPE_CHECKING:  # these load requests, which loading the definitions must not
    from st_pipelines.servicetitan.http.retry import RetryPolicy
    from st_pipelines.servicetitan.reading.probes import ChangeProbe

_log = logging.getLogger(__name__)

SECONDS = 40.0
"""A tick that takes longer goes on with the next one; Dagster ends a tick after 60."""

_PAUSE, _LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=6)
_TIMEOUT = 15.0
_AT_ONCE = 8
_GENERAL = (AuthenticationFailed, RateLimited)
_MOST_FAILED = 16
"""So many failures without one answer are no longer the trouble of one API."""


class PollState(msgspec.Struct, omit_defaults=True):
    """Of one endpoint: until when its changes are known, and where its feed was left.

    `since` is None before its first load, `seen` is the latest load that was looked at. `tries`
    are the loads that were asked for and did not come about; it is left alone `until` a later
    time then.
    """

    since: datetime | None = None
    token: str | None = None
    round: int = 0
    tries: int = 0
    until: datetime | None = None
    seen: int = 0

    def ask_again(self, now: datetime) -> None:
        """Notes that a load is asked for, and when to ask again if that fails."""
        self.until = now + min(_LONGEST_PAUSE, _PAUSE * 4**self.tries)
        self.tries += 1

    def loaded(self, until: datetime) -> None:
        """Notes a load; one of older days changes nothing."""
        if self.since is None or until > self.since:
            self.since, self.tries, self.until = until, 0, None


@dataclass(kw_only=True)
class Answers:
    """What a tick learned.

    Attributes:
        looks: by table, of the endpoints that answered.
        failed: by table, what went wrong.
        stopped: why no more were asked.
        stats: what it cost.
    """

    looks: dict[str, ChangeProbe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    stats: ReadStats = field(default_factory=ReadStats)

    @property
    def changed(self) -> list[str]:
        """Tables that changed."""
        return sorted(table for table, found in self.looks.items() if found.changed)

    def told(self, wanted: int) -> str:
        """For the tick's message.

        Args:
            wanted: how many were to be asked.
        """
        text = f"asked {len(self.looks)} of {wanted} endpoints, {self.stats.requests} requests"
        if self.failed:
            some = "; ".join(f"{table}: {error}" for table, error in list(self.failed.items())[:3])
            text += f"; {len(self.failed)} could not be asked ({some})"
        return f"{text}; {self.stopped}" if self.stopped else text


def ask(
    connection: Connection,
    endpoints: list[Endpoint],
    places: Mapping[str, PollState],
    now: datetime,
    *,
    seconds: float = SECONDS,
) -> Answers:
    """Looks at endpoints, several at a time, until all are asked or the time is over.

    What concerns them all (a refused secret, too many requests) ends it at once, failures
    without any answer soon.

    Args:
        connection: where and as whom.
        endpoints: whom to ask, in this order. One whose load is owed has changed.
        places: until when changes are known.
        now: aware.
        seconds: after so many nothing more is asked.
    """
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.probes import ChangeProbe, probe_for_changes

    answers, cancelled, until = Answers(), Cancellation(), time.monotonic() + seconds
    connection = dataclasses.replace(connection, timeout=min(connection.timeout, _TIMEOUT))
    with closing(Client(connection, policy=_retry_policy())) as client:

        def one(endpoint: Endpoint) -> ChangeProbe:
            place = places[endpoint.table]
            before = ChangeProbe(since=place.since or now, token=place.token, round=place.round)
            if place.since is None or place.tries:  # a load is owed, whatever came since
                return dataclasses.replace(before, changed=True)
            return probe_for_changes(
                client.session(answers.stats, cancelled), endpoint, before, now
            )

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="changes") as pool:
            flying = {pool.submit(one, endpoint): endpoint.table for endpoint in endpoints}
            while flying and not answers.stopped:
                done, _ = wait(flying, max(0, until - time.monotonic()), FIRST_COMPLETED)
                for future in done:
                    _note(answers, flying.pop(future), future)
                if not done:
                    answers.stopped = f"stopped after {seconds:.0f} s, the next tick goes on"
            for future in flying:
                future.cancel()
            cancelled.set()
    return answers


def _note(answers: Answers, table: str, future: Future[ChangeProbe]) -> None:
    try:
        answers.looks[table] = future.result()
    except Cancelled:
        pass
    except _GENERAL as error:
        answers.stopped = answers.stopped or f"stopped, as the others would fail alike: {error}"
    except ServiceTitanError as error:
        answers.failed[table] = str(error)
        if len(answers.failed) >= _MOST_FAILED and not answers.looks:
            answers.stopped = f"stopped after {_MOST_FAILED} failures and no answer: {error}"
    except Exception as error:  # of one table, and no reason to ask none of the others
        _log.exception("%s could not be asked", table)
        answers.failed[table] = f"{type(error).__name__}, see the log"


def _retry_policy() -> RetryPolicy:
    from st_pipelines.servicetitan.http.retry import RetryPolicy

    return RetryPolicy(attempts=2, backoff=0.5, max_retry_after_seconds=5)
