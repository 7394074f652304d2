"""Runs a report for one page, by the synchronous or the asynchronous contract.

Synchronous: `POST .../data` answers with the rows. Asynchronous (the vendor's documents of July
2026): `POST .../data/query` answers with the rows, or with 202 and a token if that takes longer;
`GET data-queries/{token}` answers with them once they are ready, and `DELETE` frees the slot that
the run takes up. A run is always freed, also after an error; what a killed process leaves behind,
the next reading frees (`free_leftovers`).

Limits, maintenance (429, 409) and running queries are waited for, up to the connection's
`report_wait_seconds`. Those waits hold back this report alone, and no other request of the tenant.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from st_pipelines.catalog.report import BASE_PATH, READ_SCOPE, Contract
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    RateLimited,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    WrongPath,
)
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import ReadStats, Response
from st_pipelines.servicetitan.http.retry import RetryPolicy, sleep_unless_cancelled
from st_pipelines.servicetitan.reporting.envelope import (
    PendingQuery,
    ReportPage,
    parse_nothing,
    parse_page,
    parse_query,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_RUNS = 3
"""Runs for one page, where ServiceTitan no longer knows the token of the one before."""

_MAX_WAITS = 500
"""Limits and maintenance are waited for so often, however short the waits are."""

_NOT_OFFERED = (404, 405, 501)
"""How a server that lacks the asynchronous contract may answer; which one is not documented."""

_FIRST_POLL_SECONDS, _MAX_POLL_SECONDS = 1.0, 15.0
_PARAMETERS = (
    "Compare the parameters of the report in st_reports.yaml with those that "
    "st-pipelines reports show lists."
)
_FAILED_STATUSES = ("fail", "error", "cancel", "expire")


@dataclass(frozen=True, kw_only=True)
class ReportTarget:
    """A report by its ids.

    Attributes:
        category: id of the category.
        report_id: id of the report.
    """

    category: str
    report_id: int

    @property
    def path(self) -> str:
        """Below the host, with `{tenant}`."""
        category = quote(self.category, safe="")
        return f"{BASE_PATH}/report-category/{category}/reports/{self.report_id}"


class QueryTokens(Protocol):
    """Keeps the tokens of runs in progress so that they outlive the process."""

    def remember(self, token: str) -> None:
        """Store a token durably, before anything waits for its run."""
        ...

    def forget(self, token: str) -> None:
        """Remove a token whose slot is free."""
        ...

    def give_up(self, token: str) -> None:
        """Keep a token whose slot could not be freed, so that it becomes a leftover."""
        ...

    def leftovers(self) -> Sequence[str]:
        """Return the tokens of processes that have ended."""
        ...


class ReportRunner:
    """Runs one report with the same parameters, page by page.

    Attributes:
        session: sends the requests.
        target: the report.
        is_asynchronous: which contract the last page was read by; None before the first.
    """

    def __init__(
        self,
        session: Session[ReadStats],
        target: ReportTarget,
        parameters: Mapping[str, Any],
        *,
        contract: Contract = "auto",
        tokens: QueryTokens,
    ) -> None:
        """Send nothing yet.

        Args:
            parameters: values by name; sent in the body. Paging is in the query, since ServiceTitan
                ignores it in the body.
        """
        self.session = session
        self.target = target
        self.is_asynchronous: bool | None = None
        self._includes_total = True
        self._contract = contract
        self._tokens = tokens
        given = [{"name": name, "value": value} for name, value in parameters.items()]
        self._body = msgspec.json.encode({"parameters": given})

    def fetch(self, page: int, page_size: int) -> ReportPage:
        """Run the report for one page, counted from 1.

        Raises:
            WrongPath: there is no such report.
            ServiceTitanError: after the retries.
        """
        params = {"page": str(page), "pageSize": str(page_size)}
        if self._includes_total:
            try:
                return self._run({**params, "includeTotal": "true"})
            except BadRequest as error:  # documented for one contract only
                if "includetotal" not in error.detail.lower():
                    raise
            self._includes_total = False
        return self._run(params)

    def _run(self, params: Mapping[str, str]) -> ReportPage:
        if self._contract == "sync" or self._lacks_async:
            return self._run_sync(params)
        try:
            return self._run_async(params)
        except (WrongPath, BadRequest) as error:
            if self._contract == "async" or error.status not in _NOT_OFFERED:
                raise
        page_read = self._run_sync(params)  # raises the 404 of a report that does not exist
        self.session.client.lacks_async_reports = True
        return page_read

    @property
    def _lacks_async(self) -> bool:
        return self._contract == "auto" and self.session.client.lacks_async_reports

    def _run_sync(self, params: Mapping[str, str]) -> ReportPage:
        self.is_asynchronous = False
        return self._call("POST", f"{self.target.path}/data", parse_page, params, is_run=True)

    def _run_async(self, params: Mapping[str, str]) -> ReportPage:
        self.is_asynchronous = True
        path = f"{self.target.path}/data/query"
        for _ in range(MAX_RUNS):
            started = self._call("POST", path, parse_query, params, is_run=True)
            if isinstance(started, ReportPage):
                return started
            if not started.token:
                raise self._unexpected("the report runs on, but has no token to read it by")
            finished = self._wait_for(started)
            if finished is not None:
                return finished
        raise self._unexpected(f"the results of {MAX_RUNS} runs were gone before they were read")

    def _wait_for(self, query: PendingQuery) -> ReportPage | None:
        """Wait for a run, and free its slot; None if ServiceTitan does not know it any more."""
        try:
            self._tokens.remember(query.token)
            return self._poll(query.token)
        finally:
            _free(self.session, self._tokens, query.token)

    def _poll(self, token: str) -> ReportPage | None:
        pacer, delay = self.session.client.report_pacer, _FIRST_POLL_SECONDS
        deadline = pacer.clock() + self._wait_limit
        while pacer.clock() <= deadline:
            sleep_unless_cancelled(delay, pacer.sleep, self.session.cancelled)
            delay = min(2 * delay, _MAX_POLL_SECONDS)
            try:
                state = self._call("GET", _query_path(token), parse_query, {}, is_run=False)
            except WrongPath:
                return None
            if isinstance(state, ReportPage):
                return state
            if state.status.lower().startswith(_FAILED_STATUSES):
                raise self._unexpected("the run of the report failed at ServiceTitan")
        raise ServiceUnavailable(
            f"report {self.target.report_id} has not ended after {self._wait_limit:,.0f} s",
            hint="Read fewer days or columns with it, or raise REPORT_WAIT_SECONDS.",
        )

    @property
    def _wait_limit(self) -> float:
        return self.session.client.connection.report_wait_seconds

    def _call(
        self,
        method: str,
        path: str,
        parse: Callable[[Response], _T],
        params: Mapping[str, str],
        *,
        is_run: bool,
    ) -> _T:
        """Send a request until it succeeds, fails permanently, or was waited for long enough."""
        pacer, cancelled = self.session.client.report_pacer, self.session.cancelled
        waits = _Waits(self.session.client.policy, self._wait_limit)
        while True:
            if is_run:
                pacer.start_run(self.target.report_id, cancelled)
            try:
                return self.session.send_once(
                    path,
                    params,
                    parse,
                    scope=READ_SCOPE,
                    method=method,
                    body=self._body if is_run else None,
                )
            except ServiceTitanError as refusal:
                error = _as_transient(refusal)
            if is_run and _is_refusal(error.status):
                pacer.undo_run(self.target.report_id)
            wait = waits.next_wait(error)
            if wait is None:
                error.exhausted = True
                raise _advise(error) if is_run else error
            _log.info("%s Trying again in %.1f s.", error, wait)
            sleep_unless_cancelled(wait, pacer.sleep, cancelled)

    def _unexpected(self, problem: str) -> UnexpectedResponse:
        return UnexpectedResponse(f"report {self.target.report_id}: {problem}")


@dataclass
class _Waits:
    """Decides how long to wait after each failure of one request.

    Failures are counted, limits and maintenance are timed: they end, however long they take.
    """

    policy: RetryPolicy
    limit_seconds: float
    failures: int = 0
    refusals: int = 0
    waited_seconds: float = 0

    def next_wait(self, error: ServiceTitanError) -> float | None:
        """Return the seconds to wait before the next try; None if there should be none."""
        if not self.policy.retries(error):
            return None
        if error.status not in (409, 429):
            self.failures += 1
            may_try = self.failures < self.policy.attempts
            return self.policy.wait(error, self.failures) if may_try else None
        self.refusals += 1
        wait = self.policy.wait(error, 1 if error.retry_after else self.refusals)
        self.waited_seconds += wait
        may_wait = self.waited_seconds <= self.limit_seconds and self.refusals < _MAX_WAITS
        return wait if may_wait else None


def free_leftovers(session: Session[ReadStats], tokens: QueryTokens) -> int:
    """Free the slots of runs whose processes have ended; return how many there were."""
    leftovers = tokens.leftovers()
    for token in leftovers:
        _free(session, tokens, token)
    return len(leftovers)


def _free(session: Session[ReadStats], tokens: QueryTokens, token: str) -> None:
    """Free the slot of a run. If that fails, its token is kept for the next reading."""
    try:
        session.send_once(_query_path(token), {}, parse_nothing, scope=READ_SCOPE, method="DELETE")
    except WrongPath:
        pass  # it is free already
    except ServiceTitanError as error:
        _log.warning("The slot of a report's run could not be freed yet: %s", error)
        tokens.give_up(token)
        return
    tokens.forget(token)


def _query_path(token: str) -> str:
    return f"{BASE_PATH}/data-queries/{quote(token, safe='')}"


def _advise(error: ServiceTitanError) -> ServiceTitanError:
    """Say of a refused run where its parameters come from."""
    if error.problem is not None and error.problem.code == "bad-request":
        error.problem = dataclasses.replace(error.problem, advice=_PARAMETERS)
        error.hint = error.problem.sentence
    return error


def _is_refusal(status: int | None) -> bool:
    """Whether a status says that nothing ran, so that the limit does not count it."""
    return status is not None and (400 <= status < 500 or status in _NOT_OFFERED)


def _as_transient(error: ServiceTitanError) -> ServiceTitanError:
    """Return a 409 as the unavailable service that it stands for, whatever its words.

    Clients have seen 409 during maintenance; other reasons are not documented for reports.
    """
    if error.status != 409 or isinstance(error, ServiceUnavailable | RateLimited):
        return error
    return ServiceUnavailable(
        str(error.args[0]),
        method=error.method,
        url=error.url,
        status=error.status,
        trace_id=error.trace_id,
        problem=error.problem,
        detail=error.detail,
        retry_after=error.retry_after,
    )
