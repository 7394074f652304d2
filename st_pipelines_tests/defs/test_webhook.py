"""The address of the webhook stays secret, and messages go to nobody else and hold no markup."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.defs.sensors.webhook import Undelivered, Webhook
from st_pipelines_tests.daemon import Daemon, at


class Receiver:
    """Stores what is posted, and responds with the status, headers and body that it is given."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b"ok"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/services/T0/very-secret?key=secret-too"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_nothing_is_logged_or_printed_of_the_address(
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    hook = Webhook(url=SecretStr(receiver.url))
    hook.send("it failed")
    receiver.status = 500
    with pytest.raises(Undelivered) as refused:
        hook.send("it failed")
    receiver.close()
    with pytest.raises(Undelivered) as unreachable:
        hook.send("it failed")
    texts = [str(refused.value), str(unreachable.value), repr(hook), caplog.text]
    texts += [*capfd.readouterr(), repr(unreachable.value.__context__)]
    assert "secret" not in "".join(texts)
    logging.getLogger("urllib3.connectionpool").debug("of another request")
    assert "of another request" in caplog.text, "the rest of urllib3's log is kept"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    other = Receiver()
    receiver.status, receiver.headers = 307, {"Location": other.url}
    with pytest.raises(Undelivered, match=r"^127\.0\.0\.1 answered 307$"):
        Webhook(url=SecretStr(receiver.url)).send("it failed")
    assert other.requests == []
    other.close()


def test_netrc_is_not_sent_and_a_user_in_the_address_is(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password of-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    Webhook(url=SecretStr(receiver.url)).send("it failed")
    assert "Authorization" not in receiver.requests[0][1]
    Webhook(url=SecretStr(receiver.url.replace("//", "//us%40er:word@"))).send("it failed")
    assert receiver.requests[1][1]["Authorization"] == "Basic dXNAZXI6d29yZA=="


def test_the_body_of_the_response_is_not_waited_for(receiver: Receiver) -> None:
    """A receiver that never ends its body would end the tick, and its messages would come again."""
    receiver.headers = {"Content-Length": str(1 << 40)}
    Webhook(url=SecretStr(receiver.url)).send("it failed")
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://hooks.example.com/very-secret", "is not https"),
        ("hooks.example.com/very-secret", "is not a URL"),
        ("ftp://hooks.example.com/very-secret", "is not a URL"),
        ("https://[hooks/very-secret", "is not a URL"),
        ("https://hooks.example.com:secret/very-secret", "is not a URL"),
        ("https:///very-secret", "is not a URL"),
    ],
)
def test_an_address_that_others_could_read_is_refused_without_quoting_it(
    monkeypatch: pytest.MonkeyPatch, url: str, problem: str
) -> None:
    monkeypatch.setenv("ST_ALERT_WEBHOOK", url)
    with pytest.raises(SettingsError, match=problem) as caught:
        _ = resolve_environment("production").alert_webhook_url
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost", "[::1]:9"])
def test_this_machine_needs_no_https(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ST_ALERT_WEBHOOK", f"http://{host}/hook")
    assert resolve_environment("production").alert_webhook_url == SecretStr(f"http://{host}/hook")


def test_markup_in_servicetitan_s_words_has_no_effect_in_a_message(
    receiver: Receiver, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = "![x](http://evil.example/b.png) `code` @channel <!here> *bold*\n# Heading"

    def refuse(request: Request) -> Response | None:
        refused = request.url.path.endswith("/jobs")
        return JSONResponse({"title": title}, 403) if refused else None

    monkeypatch.setenv("ST_ALERT_WEBHOOK", receiver.url)
    daemon.tick_sensor("alerts")
    daemon.sandbox.interceptors.append(refuse)
    daemon.tick_schedule("daily", at(5, 0, 30))
    daemon.tick_sensor("alerts")
    text = json.loads(receiver.requests[0][2])["text"]
    cause = text.splitlines()[1]
    assert "evil" in cause
    assert cause.count("`") == 2
    assert cause[0] == cause[-1] == "`", "all of the cause is code"
    assert "<!here>" not in text
