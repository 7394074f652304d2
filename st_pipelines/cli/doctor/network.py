"""Steps that need a network: both hosts, the clock, the token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from requests.utils import get_environ_proxies, select_proxy

from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.config.environments import ENVIRONMENTS, EnvironmentName, hosts
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import load_settings
from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    ServiceTitanError,
    Unreachable,
)
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.diagnosis import extract_host
from st_pipelines.servicetitan.http.messages import Request, Response
from st_pipelines.servicetitan.http.token_claims import TokenClaims
from st_pipelines.servicetitan.http.token_request import Token
from st_pipelines.servicetitan.http.transport import Unsigned, send
from st_pipelines.sync.explain import Finding, failed

CONNECTING = 10.0
"""Seconds in which a host has to answer."""
ODD_CLOCK, WRONG_CLOCK = timedelta(seconds=30), timedelta(minutes=5)


def reach_auth_host(subject: Subject) -> Iterator[Finding]:
    """DNS, connection and TLS of the host that issues tokens."""
    yield _reach(subject, "auth host", subject.connection.auth_url)


def reach_api_host(subject: Subject) -> Iterator[Finding]:
    """DNS, connection and TLS of the host that serves data."""
    yield _reach(subject, "api host", subject.connection.api_url)


def _reach(subject: Subject, step: str, url: str) -> Finding:
    """Any answer but a proxy's will do: what ServiceTitan says at `/` is nobody's business."""
    asked = Request(method="GET", url=f"{url}/")
    before = datetime.now(timezone.utc)
    answer = send(subject.session, asked, auth=Unsigned(), timeout=CONNECTING)
    if answer.status == 407:
        raise Unreachable(
            "answered 407",
            method="GET",
            url=asked.redacted_url,
            problem=build_problem("proxy-credentials"),
        )
    _note_clock(subject, answer, before)
    proxy = select_proxy(url, get_environ_proxies(url))
    through = f", through the proxy {extract_host(proxy)}" if proxy else ""
    return Finding(step=step, status="ok", text=f"{extract_host(url)} answers{through}")


def _note_clock(subject: Subject, answer: Response, before: datetime) -> None:
    try:
        told = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (TypeError, ValueError):
        return
    now = datetime.now(timezone.utc)
    middle = before + (now - before) / 2
    # The header has whole seconds: its moment is half a second later on average.
    subject.skew = told.astimezone(timezone.utc) + timedelta(seconds=0.5) - middle


def compare_clocks(subject: Subject) -> Iterator[Finding]:
    """This machine's clock against the `Date` of the hosts' answers."""
    if subject.skew is None:
        yield Finding(
            step="clock", status="warning", code="clock-unknown",
            text="no host tells the time", hint="See for yourself that this clock is right.",
        )  # fmt: skip
        return
    off = abs(subject.skew)
    if off < ODD_CLOCK:
        yield Finding(step="clock", status="ok", text="right to within half a minute")
        return
    side = "behind" if subject.skew > timedelta(0) else "ahead of"
    minutes = f"{off.total_seconds() / 60:,.0f} min" if off >= WRONG_CLOCK else f"{off.seconds} s"
    yield Finding(
        step="clock", status="failed" if off >= WRONG_CLOCK else "warning", code="clock",
        text=f"this machine's clock is {minutes} {side} the clock of ServiceTitan's hosts",
        hint="Set it by NTP: it decides where today's window ends, and whether certificates are "
        "valid.",
    )  # fmt: skip


def get_token(subject: Subject) -> Iterator[Finding]:
    """A token for the credentials; a refused pair is tried at the other environment's host."""
    try:
        token = subject.token
    except AuthenticationFailed as error:
        yield failed("token", _explained_by_another(subject, error))
        return
    yield Finding(step="token", status="ok", text=_what_it_says(token, subject.claims))


def _what_it_says(token: Token, claims: TokenClaims | None) -> str:
    """Life, tenant and scopes, as far as the token tells them."""
    if claims is None:
        return f"issued for {token.lifetime:,.0f} s; it tells neither tenant nor scopes"
    seconds = token.lifetime if claims.lifetime is None else claims.lifetime
    tenant = f", for tenant {', '.join(sorted(claims.tenants))}" if claims.tenants else ""
    scopes = "" if claims.scopes is None else f", with {len(claims.scopes)} scopes"
    return f"issued for {seconds:,.0f} s{tenant}{scopes}"


def _explained_by_another(subject: Subject, error: AuthenticationFailed) -> ServiceTitanError:
    if error.problem is None or error.problem.code != "credentials-refused":
        return error
    for other in ENVIRONMENTS:
        if (elsewhere := _at(subject, other)) and _issues(subject, elsewhere):
            error.problem = build_problem(
                "wrong-environment", other=other, environment=subject.environment
            )
    return error


def _at(subject: Subject, other: EnvironmentName) -> Connection | None:
    """The same credentials at another environment's host, where the two may be mistaken.

    Those of a server of one's own are not sent to ServiceTitan's hosts, nor the other way round.
    """
    try:
        its_own = load_settings(other).auth_url
    except SettingsError:
        return None
    url = its_own or hosts(other)[1]
    same_kind = bool(its_own) == bool(subject.settings.auth_url)
    if not url or not same_kind or url == subject.connection.auth_url:
        return None
    return dataclasses.replace(subject.connection, environment=other, auth_url=url)


def _issues(subject: Subject, connection: Connection) -> bool:
    try:
        TokenSource(connection).get_token(subject.session, subject.policy)
    except ServiceTitanError:
        return False
    return True
