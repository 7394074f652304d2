"""Steps that check the network and the credentials: both hosts, the clock, the token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from requests.utils import get_environ_proxies, select_proxy

from st_pipelines.cli.doctor.subject import SKEW_ERROR, Subject
from st_pipelines.config.environments import ENVIRONMENTS, HOSTS, EnvironmentName
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import load_settings
from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    ServiceTitanError,
    Unreachable,
)
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.diagnosis import extract_host
from st_pipelines.servicetitan.http.model import Connection, Request, Response, TokenClaims
from st_pipelines.servicetitan.http.server_clock import parse_http_date
from st_pipelines.servicetitan.http.tokens import Token
from st_pipelines.servicetitan.http.transport import Unsigned, send
from st_pipelines.sync.explain import MAX_CLOCK_OFFSET, Finding, failed

HOST_TIMEOUT_SECONDS = 10.0
ODD_CLOCK_SKEW = timedelta(seconds=30)
"""From this on, the clock is a warning."""


def check_auth_host(subject: Subject) -> Iterator[Finding]:
    """Checks DNS, connection and TLS of the host that issues tokens."""
    yield _check_host(subject, "auth host", subject.connection.auth_url)


def check_api_host(subject: Subject) -> Iterator[Finding]:
    """Checks DNS, connection and TLS of the host that serves data."""
    yield _check_host(subject, "api host", subject.connection.api_url)


def _check_host(subject: Subject, step: str, url: str) -> Finding:
    """Requests `/`. Any response will do, unless it is a proxy's."""
    request = Request(method="GET", url=f"{url}/")
    before = datetime.now(timezone.utc)
    response = send(subject.session, request, auth=Unsigned(), timeout=HOST_TIMEOUT_SECONDS)
    if response.status == 407:
        raise Unreachable(
            "answered 407",
            method="GET",
            url=request.redacted_url,
            problem=build_problem("proxy-credentials"),
        )
    _measure_skew(subject, response, before)
    proxy = select_proxy(url, get_environ_proxies(url))
    through = f", through the proxy {extract_host(proxy)}" if proxy else ""
    return Finding(step=step, status="ok", text=f"{extract_host(url)} answers{through}")


def _measure_skew(subject: Subject, response: Response, before: datetime) -> None:
    date = parse_http_date(response.headers.get("Date", ""))
    if date is None or "Age" in response.headers:  # a cache's
        return
    now = datetime.now(timezone.utc)
    middle = before + (now - before) / 2
    # The header has whole seconds, so the real time is half a second later on average.
    subject.skew = date + SKEW_ERROR - middle


def check_clock(subject: Subject) -> Iterator[Finding]:
    """Compares this machine's clock with the `Date` of the hosts' responses."""
    if subject.skew is None:
        yield Finding(
            step="clock",
            status="warning",
            code="clock-unknown",
            text="no host sent its time",
            hint="Check yourself that this machine's clock is right.",
        )
        return
    skew = abs(subject.skew)
    if skew < ODD_CLOCK_SKEW:
        yield Finding(step="clock", status="ok", text="right to within half a minute")
        return
    wrong = skew >= MAX_CLOCK_OFFSET
    side = "behind" if subject.skew > timedelta(0) else "ahead of"
    difference = f"{skew.total_seconds() / 60:,.0f} min" if wrong else f"{skew.seconds} s"
    yield Finding(
        step="clock",
        status="failed" if wrong else "warning",
        code="clock",
        text=f"this machine's clock is {difference} {side} the clock of ServiceTitan's hosts",
        hint="Synchronize it with NTP: it decides where today's window ends, and whether "
        "certificates are valid.",
    )


def check_token(subject: Subject) -> Iterator[Finding]:
    """Requests a token. Tries refused credentials at the host of the other environment."""
    try:
        token = subject.token
    except AuthenticationFailed as error:
        yield failed("token", _try_other_environments(subject, error))
        return
    yield Finding(step="token", status="ok", text=_describe(token, subject.claims))


def _describe(token: Token, claims: TokenClaims | None) -> str:
    """Describes lifetime, tenant and scopes, as far as the token lists them."""
    if claims is None:
        return f"issued for {token.lifetime:,.0f} s; it lists neither tenant nor scopes"
    seconds = token.lifetime if claims.lifetime is None else claims.lifetime
    tenant = f", for tenant {', '.join(sorted(claims.tenants))}" if claims.tenants else ""
    scopes = "" if claims.scopes is None else f", with {len(claims.scopes)} scopes"
    return f"issued for {seconds:,.0f} s{tenant}{scopes}"


def _try_other_environments(subject: Subject, error: AuthenticationFailed) -> ServiceTitanError:
    """Returns the error, explained if another environment accepts the credentials."""
    if error.problem is None or error.problem.code != "credentials-refused":
        return error
    for other in ENVIRONMENTS:
        if (connection := _connection_to(subject, other)) and _issues_token(subject, connection):
            error.problem = build_problem(
                "wrong-environment", other=other, environment=subject.environment
            )
    return error


def _connection_to(subject: Subject, other: EnvironmentName) -> Connection | None:
    """Returns the same credentials with another environment's host, if the two can be confused.

    Credentials of a custom server are never sent to ServiceTitan's hosts, nor the reverse.
    """
    try:
        custom_url = load_settings(other).auth_url
    except SettingsError:
        return None
    url = custom_url or HOSTS[other][1]
    same_kind = bool(custom_url) == bool(subject.settings.auth_url)
    if not url or not same_kind or url == subject.connection.auth_url:
        return None
    return dataclasses.replace(subject.connection, environment=other, auth_url=url)


def _issues_token(subject: Subject, connection: Connection) -> bool:
    try:
        TokenSource(connection).get_token(subject.session, subject.policy)
    except ServiceTitanError:
        return False
    return True
