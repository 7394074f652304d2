"""Everything that can go wrong with ServiceTitan, by what the reader must do about it.

    ServiceTitanError
      AuthenticationFailed   correct the client id or secret of this environment
      PermissionDenied       tick the scope, or have the tenant's admin accept the app
      WrongPath              correct the path, tenant id or app key; never "no rows"
        EndpointRemoved      leave the table out: ServiceTitan no longer serves it
        ReportNotFound       correct the report's category or id; near matches are named
      BadRequest             correct the parameters: a fault in the catalog or in this package
      RateLimited            wait; lower the requests per second; see what else uses the app
        QuotaUsedUp          wait until the quota of calls is replenished; the message says when
      ServiceUnavailable     wait; ServiceTitan is down, in maintenance or overloaded
      Unreachable            check DNS, proxy, firewall, TLS; or wait
      UnexpectedResponse     wait; if it stays, the API has changed
      ResponseTooLarge       raise MAX_RESPONSE_MB, or lower PAGE_SIZE
      ReadingMoved           run again at a quieter time: completeness could not be proven
      TokenRepeated          an export feed does not advance; report it to ServiceTitan

`permanent` says whether running the same thing again would fail again. Messages, attributes and
chained exceptions hold no secret; `http.responses` and `http.transport` see to that.
"""

from __future__ import annotations

from typing import ClassVar

from st_pipelines.servicetitan.errors.problems import Problem, build_problem


class ServiceTitanError(Exception):
    """A request or a reading that failed.

    Attributes:
        permanent: running it again, unchanged, would fail again.
        method: HTTP method, or "" where no single request failed.
        url: redacted URL, or "".
        status: HTTP status, or None without a response.
        trace_id: ServiceTitan's `traceId`; their support asks for it.
        hint: what to do.
        detail: the text of the error body, scrubbed and shortened.
        retry_after: seconds that the response asked to wait, or None.
        problem: the known problem that it is, or None.
        exhausted: the retries are used up, so that no outer retry starts over.
    """

    permanent: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        url: str = "",
        status: int | None = None,
        trace_id: str | None = None,
        hint: str = "",
        detail: str = "",
        retry_after: float | None = None,
        problem: Problem | None = None,
    ) -> None:
        """Keep the parts, from which `str` composes the message that a person reads.

        Args:
            message: what happened, in one clause.
            hint: by default the sentence of the problem.
        """
        super().__init__(message)
        self.method = method
        self.url = url
        self.status = status
        self.trace_id = trace_id
        self.hint = hint or (problem.sentence if problem else "")
        self.problem = problem
        self.detail = detail
        self.retry_after = retry_after
        self.exhausted = False

    def __str__(self) -> str:
        """Compose request, what happened, traceId and hint."""
        where = f"{self.method} {self.url}: " if self.url else ""
        trace = f" (traceId {self.trace_id})" if self.trace_id else ""
        what = str(self.args[0]).rstrip(".")
        return f"{where}{what}{trace}." + (f" {self.hint}" if self.hint else "")


class AuthenticationFailed(ServiceTitanError):
    """The token endpoint refused the credentials, or a fresh token was answered with 401."""


class PermissionDenied(ServiceTitanError):
    """403: the app lacks the scope, or the tenant has not connected (this version of) the app."""


class WrongPath(ServiceTitanError):
    """404 or 410: on a collection this means a wrong path, tenant id or app key; or a redirect."""


class EndpointRemoved(WrongPath):
    """404 of an endpoint that ServiceTitan's documents no longer have."""

    @classmethod
    def from_not_found(cls, error: WrongPath, table: str) -> EndpointRemoved:
        """Returns the error to raise instead of a `WrongPath` that reading a table ended with."""
        return cls(
            str(error.args[0]),
            method=error.method,
            url=error.url,
            status=error.status,
            trace_id=error.trace_id,
            detail=error.detail,
            problem=build_problem("endpoint-removed", table=table),
        )


class ReportNotFound(WrongPath):
    """There is no such report: it was deleted, or is in another category or tenant."""


class BadRequest(ServiceTitanError):
    """400, or another 4xx that has no class of its own."""


class RateLimited(ServiceTitanError):
    """429, after all retries."""

    permanent = False


class QuotaUsedUp(RateLimited):
    """403 (or 429) because a quota of calls is used up: a limit, not a permission."""


class ServiceUnavailable(ServiceTitanError):
    """5xx, 408, 421, 423, 425, or 409 for maintenance, after all retries."""

    permanent = False


class Unreachable(ServiceTitanError):
    """No complete response came: DNS, refused or reset connection, TLS, timeout, cut body.

    Attributes:
        smaller_may_help: the server took too long or broke off, so a smaller page may succeed.
        retryable: False for a setting or a certificate that a retry cannot make valid.
    """

    permanent = False
    smaller_may_help: bool = False
    retryable: bool = True


class UnexpectedResponse(ServiceTitanError):
    """A response that is not the expected JSON, or paging that cannot be right."""

    permanent = False


class ResponseTooLarge(ServiceTitanError):
    """A body is larger than the setting MAX_RESPONSE_MB, or never ends."""


class ReadingMoved(ServiceTitanError):
    """The records moved while they were read, so that completeness could not be proven."""

    permanent = False


class TokenRepeated(ServiceTitanError):
    """An export feed repeats a continuation token, or never ends."""
