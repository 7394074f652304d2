"""The sensor alerts on a real instance, with a real HTTP server as the webhook."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo
from starlette.responses import Response

from st_pipelines_tests.daemon import Daemon, at


class Receiver:
    """Stores the posted messages and responds with `status`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    assert set(body) == {"text"}
                    receiver.texts.append(body["text"])
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/services/T0/very-secret"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv("ST_ALERT_WEBHOOK", made.url)
    monkeypatch.setenv("ST_UI_URL", "https://dagster.example.com/")
    yield made
    made.close()


@pytest.fixture
def watched(daemon: Daemon) -> Daemon:
    """Its alerts have ticked once, and requests for jobs are refused."""
    daemon.tick_sensor("alerts")
    daemon.sandbox.interceptors.append(
        lambda request: Response(b"{}", 403) if request.url.path.endswith("/jobs") else None
    )
    return daemon


def test_a_failure_is_reported_once_with_cause_hint_and_link(
    receiver: Receiver, watched: Daemon
) -> None:
    watched.tick_schedule("daily", at(5, 0, 30))
    watched.tick_sensor("alerts")
    (text,) = receiver.texts
    head, cause, hint, link = text.splitlines()
    assert head == ":red_circle: *production*: jpm.jobs, 2026-03-04 failed"
    assert "403" in cause
    assert hint.startswith("*What to do*: ")
    assert "API Application Access" in hint
    run = watched.instance.get_runs()[0]
    assert link == f"<https://dagster.example.com/runs/{run.run_id}|Open the run>"
    watched.tick_sensor("alerts")
    watched.restart()
    watched.tick_schedule("daily", at(5, 0, 30))  # tried again, fails alike
    watched.tick_sensor("alerts")
    assert len(receiver.texts) == 1
    watched.tick_schedule("daily", at(4, 0, 30))
    watched.tick_sensor("alerts")
    assert "jpm.jobs, 2026-03-03 failed" in receiver.texts[1]


def test_failures_with_the_same_cause_in_a_run_are_one_message(
    receiver: Receiver, daemon: Daemon
) -> None:
    daemon.tick_sensor("alerts")
    daemon.sandbox.set_faults({"token-401": 1.0})
    daemon.tick_schedule("daily", at(5, 0, 30))
    daemon.tick_sensor("alerts")
    (text,) = receiver.texts
    assert text.startswith(
        ":red_circle: *production*: accounting.invoice_items, jpm.jobs, 2026-03-04 failed\n"
    )


def test_an_undelivered_message_waits_and_fails_no_tick(
    receiver: Receiver, watched: Daemon
) -> None:
    receiver.status = 503
    watched.tick_schedule("daily", at(5, 0, 30))
    watched.tick_sensor("alerts")
    assert watched.told["alerts"][-1] == "sent 0, 1 wait: 127.0.0.1 answered 503"
    assert "very-secret" not in str(watched.cursors) + str(watched.told)
    receiver.status = 200
    watched.tick_sensor("alerts")
    assert not receiver.texts, "it is not due yet"
    watched.sleep_until(watched.now + timedelta(minutes=1))
    watched.tick_sensor("alerts")
    assert len(receiver.texts) == 1
    assert watched.told["alerts"][-1] == "sent 1 messages"


def test_an_undelivered_message_is_given_up_after_a_day(
    receiver: Receiver, watched: Daemon
) -> None:
    receiver.close()
    watched.tick_schedule("daily", at(5, 0, 30))
    watched.tick_sensor("alerts")
    assert watched.told["alerts"][-1] == "sent 0, 1 wait: 127.0.0.1: connection error"
    watched.sleep_until(watched.now + timedelta(hours=25))
    watched.tick_sensor("alerts")
    assert json.loads(watched.cursors["alerts"] or "{}").get("waiting", []) == []


def test_a_message_that_was_noted_with_a_clock_ahead_is_sent_at_the_next_tick(
    receiver: Receiver, watched: Daemon
) -> None:
    """A clock a month ahead silenced an alert for a month."""
    receiver.status = 503
    watched.tick_schedule("daily", at(5, 0, 30))
    watched.tick_sensor("alerts")
    cursor = json.loads(watched.cursors["alerts"] or "")
    [message] = cursor["waiting"]
    message["since"] = message["due"] = at(5, 9, month=4).isoformat()
    watched.cursors["alerts"] = json.dumps(cursor)
    watched.tick_sensor("alerts")
    [message] = json.loads(watched.cursors["alerts"] or "")["waiting"]
    assert datetime.fromisoformat(message["since"]) == watched.now, "it is given up in a day"
    receiver.status = 200
    watched.sleep_until(watched.now + timedelta(minutes=5))
    watched.tick_sensor("alerts")
    assert len(receiver.texts) == 1


def test_a_stale_table_is_reported_once(receiver: Receiver, daemon: Daemon) -> None:
    daemon.tick_schedule("daily", at(5, 0, 30))
    for hours in (53, 2, 24):
        daemon.sleep_until(daemon.now + timedelta(hours=hours))
        daemon.tick_sensor("alerts")
    (text,) = receiver.texts
    assert "accounting.invoice_items, jpm.jobs not loaded for more than 54 hours" in text
    assert "(last 2026-03-05 14:00 UTC)" in text
    daemon.tick_schedule("daily", at(6, 0, 30))
    daemon.tick_sensor("alerts")
    daemon.sleep_until(daemon.now + timedelta(hours=55))
    daemon.tick_sensor("alerts")
    assert len(receiver.texts) == 2


def add_failing_sensor(
    daemon: Daemon, name: str, location: str = "production"
) -> Callable[[], None]:
    """Registers a sensor with Dagster. Returns a function that adds a failed tick."""
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__"), name
    )
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    daemon.instance.add_instigator_state(state)
    numbers = itertools.count()

    def fail() -> None:
        daemon.instance.create_tick(
            TickData(
                state.instigator_origin_id,
                name,
                InstigatorType.SENSOR,
                TickStatus.FAILURE,
                daemon.now.timestamp() + next(numbers),
                selector_id=state.selector_id,
                error=SerializableErrorInfo("ValueError: <odd>\n", [], "ValueError"),
            )
        )

    return fail


def test_a_sensor_that_keeps_failing_is_reported_once(receiver: Receiver, daemon: Daemon) -> None:
    fail = add_failing_sensor(daemon, "gaps")
    for number in range(4):
        fail()
        daemon.tick_sensor("alerts")
        assert len(receiver.texts) == (number >= 2)
    assert receiver.texts[0].splitlines()[:2] == [
        ":red_circle: *production*: `gaps` keeps failing",
        "`ValueError: &lt;odd&gt;`",
    ]


def test_without_a_webhook_the_tick_says_how_to_have_one(
    daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon.tick_sensor("alerts")
    monkeypatch.setenv("ST_ALERT_WEBHOOK", "hooks.example.com/very-secret")
    daemon.tick_sensor("alerts")
    assert daemon.told["alerts"] == [
        "ST_ALERT_WEBHOOK is not set: failures show in the UI alone",
        "ST_ALERT_WEBHOOK is not a URL: give it as https://host/path",
    ]


def test_a_run_that_fails_without_a_failed_step_is_reported(
    receiver: Receiver,
    daemon: Daemon,
) -> None:
    daemon.tick_sensor("alerts")
    run = daemon.instance.create_run_for_job(
        daemon.repository.get_job("intraday"),
        status=dg.DagsterRunStatus.STARTED,
        tags={"st_pipelines/environment": "production", "dagster/partition": "2026-03-05"},
    )
    daemon.instance.report_run_failed(run, "The process was killed.")
    daemon.tick_sensor("alerts")
    assert (
        "the run of intraday, 2026-03-05 failed\n`The process was killed.`\n" in receiver.texts[0]
    )


def test_a_resolved_failure_is_not_reported_again_days_later(
    receiver: Receiver, watched: Daemon
) -> None:
    watched.tick_schedule("daily", at(5, 0, 30))
    for _ in range(4):
        watched.tick_sensor("alerts")
        watched.sleep_until(watched.now + timedelta(hours=25))
    assert [text.splitlines()[0] for text in receiver.texts if ":red_circle:" in text] == [
        ":red_circle: *production*: jpm.jobs, 2026-03-04 failed"
    ]


def test_an_unexpected_error_is_reported_without_the_values_that_it_quotes(
    receiver: Receiver, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.tick_sensor("alerts")
    monkeypatch.setattr("st_pipelines.sync.sync.extract_load", lambda *_: {}["the real cause"])
    daemon.tick_schedule("daily", at(5, 0, 30))
    daemon.tick_sensor("alerts")
    assert "unexpected KeyError at assets.py" in receiver.texts[0]
    assert "the real cause" not in receiver.texts[0]
