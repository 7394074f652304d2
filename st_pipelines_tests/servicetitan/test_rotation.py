"""A client secret is rotated while loads run: the next one is used, or the source is reloaded."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import SecretStr

from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceUnavailable
from st_pipelines.servicetitan.http.auth import (
    SecretState,
    TokenSource,
    token_source_for,
    try_client_secrets,
)
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.http.transport import new_http_session
from st_pipelines_tests.servicetitan.fake_server import CLIENT_SECRET, Canned, ScriptedServer

NEXT = "cs2.the next secret"
NAMES = ("CLIENT_SECRET (.env)", "CLIENT_SECRET_NEXT (.env)")


class Portal:
    """A server that accepts certain secrets, and a source of secrets beside it."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.accepted = {CLIENT_SECRET}
        self.kept = [CLIENT_SECRET]
        self.reloads = 0
        self.now = 1000.0
        self.issue = server.token
        server.token = self.token

    def token(self, form: dict[str, str]) -> Canned:
        if form["client_secret"] not in self.accepted:
            self.server.forms.append(form)
            return Canned(status=400, body={"error": "invalid_client"})
        return self.issue(form)

    def reload(self) -> tuple[SecretStr, ...]:
        self.reloads += 1
        return tuple(map(SecretStr, self.kept))

    def source(self, following: str | None = NEXT, **changes: Any) -> TokenSource:
        facts: dict[str, Any] = {
            "client_secret_next": SecretStr(following) if following else None,
            "secret_names": NAMES,
            "reload_secrets": self.reload,
        }
        connection = self.server.connection(**facts | changes)
        return TokenSource(connection, clock=lambda: self.now)

    @property
    def sent(self) -> list[str]:
        return [form["client_secret"] for form in self.server.forms]


@pytest.fixture
def portal(server: ScriptedServer) -> Portal:
    return Portal(server)


def renew(source: TokenSource) -> None:
    source.invalidate(source.get_token(new_http_session(), NO_WAIT))


def test_the_next_secret_is_not_sent_while_the_first_is_accepted(portal: Portal) -> None:
    portal.accepted = {CLIENT_SECRET, NEXT}
    source = portal.source()
    renew(source)
    renew(source)
    assert portal.sent == [CLIENT_SECRET] * 2
    assert source.notice == ""


def test_the_next_secret_replaces_a_refused_one_from_then_on(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    source = portal.source()
    renew(source)
    portal.accepted = {NEXT}
    with caplog.at_level(logging.WARNING, logger="st_pipelines"):
        renew(source)
        renew(source)
    assert portal.sent == [CLIENT_SECRET, CLIENT_SECRET, NEXT, NEXT]
    assert portal.reloads == 0
    assert source.notice == (
        "ServiceTitan refuses CLIENT_SECRET (.env) and accepts CLIENT_SECRET_NEXT (.env): move "
        "the value of the latter to the former, delete the old value there, and the old secret in "
        "the developer portal if it is still listed"
    )
    assert caplog.messages == [source.notice]


def test_the_first_secret_is_used_again_once_the_next_is_refused(portal: Portal) -> None:
    source = portal.source()
    portal.accepted = {NEXT}
    renew(source)
    portal.accepted = {CLIENT_SECRET}
    renew(source)
    assert "delete the latter" in source.notice
    renew(source)
    assert portal.sent[-1] == CLIENT_SECRET


@pytest.mark.parametrize("following", [None, NEXT])
def test_the_source_is_reloaded_once_all_secrets_are_refused(
    portal: Portal, following: str | None
) -> None:
    source = portal.source(following)
    renew(source)
    portal.accepted, portal.kept = {"cs2.new"}, ["cs2.new"]
    renew(source)
    assert portal.reloads == 1
    assert portal.sent[-1] == "cs2.new"
    assert source.notice.startswith("ServiceTitan refuses the value that CLIENT_SECRET (.env) had")
    portal.accepted, portal.kept = {"cs2.newer"}, ["cs2.newer"]
    sent = len(portal.sent)
    renew(source)
    assert portal.sent[sent:] == ["cs2.new", "cs2.newer"]  # and none of the forgotten ones


def test_a_source_without_new_secrets_is_not_reloaded_by_every_load(portal: Portal) -> None:
    source = portal.source()
    portal.accepted = set()
    for _ in range(3):
        with pytest.raises(AuthenticationFailed) as caught:
            renew(source)
    assert portal.reloads == 1
    assert "CLIENT_SECRET (.env) and CLIENT_SECRET_NEXT (.env) are both refused" in str(
        caught.value
    )
    portal.now += 60
    portal.accepted, portal.kept = {"cs2.new"}, ["cs2.new"]
    renew(source)
    assert portal.reloads == 2


def test_an_unreachable_source_is_tried_again_by_the_next_load(portal: Portal) -> None:
    """Its error may be transient, so Dagster retries each load; a refusal would be final."""
    portal.accepted = set()

    def gone() -> tuple[SecretStr, ...]:
        raise TimeoutError("the manager is out of reach")

    source = portal.source(reload_secrets=gone)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            renew(source)


def test_a_failing_token_endpoint_changes_no_secret(portal: Portal) -> None:
    portal.server.token = lambda form: Canned(status=503)
    with pytest.raises(ServiceUnavailable):
        renew(portal.source())
    assert portal.reloads == 0


def test_different_secrets_have_different_token_sources(server: ScriptedServer) -> None:
    one = server.connection(client_secret_next=SecretStr("a"))
    other = server.connection(client_secret_next=SecretStr("b"))
    assert token_source_for(one) is not token_source_for(other)
    assert token_source_for(one) is not token_source_for(server.connection())


def test_each_configured_secret_can_be_tried(portal: Portal) -> None:
    facts: Any = {"client_secret_next": SecretStr(NEXT), "secret_names": NAMES}
    assert try_client_secrets(portal.server.connection(**facts)) == (
        SecretState(name=NAMES[0], accepted=True),
        SecretState(name=NAMES[1], accepted=False, error_body="invalid_client"),
    )


def test_a_refusal_that_echoes_any_secret_shows_none(portal: Portal) -> None:
    echo = f"invalid_client {CLIENT_SECRET} {NEXT} cs2.fresh"
    portal.kept = ["cs2.fresh"]
    for last in (400, 503):
        portal.server.token = lambda form, last=last: Canned(
            status=last if form["client_secret"] == "cs2.fresh" else 400,
            body=echo if last == 503 else echo.removesuffix(" cs2.fresh"),
        )
        with pytest.raises(AuthenticationFailed if last == 400 else ServiceUnavailable) as caught:
            renew(portal.source())
        for secret in (CLIENT_SECRET, NEXT, "cs2.fresh"):
            assert secret not in str(caught.value) + repr(vars(caught.value))
