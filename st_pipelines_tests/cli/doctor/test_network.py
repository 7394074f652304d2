"""What may be wrong between here and ServiceTitan: each by itself, each line whole."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests import Response
from requests.adapters import HTTPAdapter

from st_pipelines.cli.doctor.report import as_line
from st_pipelines.cli.doctor.steps import check
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.servicetitan.errors.errors import Unreachable
from st_pipelines.servicetitan.http.model import Request
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.http.transport import Unsigned, new_http_session, send
from st_pipelines.sync.explain import diagnose
from st_pipelines_tests.cli.doctor.check_runner import (
    CUSTOMERS,
    QUICK_STEPS,
    problem_lines,
    run_check,
)
from st_pipelines_tests.cli.doctor.conftest import Portal
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer

Server = Callable[..., str]


class _Plain(BaseHTTPRequestHandler):
    """Answers everything with `status`, without a Date; CONNECT too."""

    status = 200

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response_only(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_CONNECT = do_POST = do_GET


@pytest.fixture
def serve() -> Iterator[Server]:
    """Starts a server that answers with a status, over TLS if it is given a context."""
    running: list[ThreadingHTTPServer] = []

    def start(status: int = 200, tls: ssl.SSLContext | None = None) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (_Plain,), {"status": status}))
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda request, client_address: None  # a client that hangs up
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def issue_certificate(
    name: str = "127.0.0.1", *, root: bool = False, **options: object
) -> ssl.SSLContext:
    """A server's certificate of a new authority."""
    return _context(trustme.CA(), name, root=root, **options)


def _context(
    authority: trustme.CA, name: str = "127.0.0.1", *, root: bool = False, **options: object
) -> ssl.SSLContext:
    certificate = authority.issue_cert(name, **options)  # pyright: ignore[reportArgumentType]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = [*certificate.cert_chain_pems, *([authority.cert_pem] if root else [])]
    pem = b"".join(blob.bytes() for blob in (certificate.private_key_pem, *chain))
    with trustme.Blob(pem).tempfile() as file:
        context.load_cert_chain(file)
    return context


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, file = serialization.Encoding.PEM, folder / "own.pem"
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def lines_of_api_host(host: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("SERVICETITAN_API_URL", f"https://{host}")
    return problem_lines()


def test_a_host_name_that_does_not_resolve(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    portal()
    assert lines_of_api_host("name.invalid", monkeypatch) == [
        "❌ api host: the host name name.invalid does not resolve (GET https://name.invalid/). "
        "Check the spelling in the settings API_URL and AUTH_URL, and this machine's DNS. If only "
        "your proxy resolves names, set HTTPS_PROXY."
    ]


def test_the_auth_host_is_checked_separately(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal()
    monkeypatch.setenv("SERVICETITAN_AUTH_URL", "https://name.invalid")
    [line] = problem_lines()
    assert line.startswith("❌ auth host: the host name name.invalid does not resolve")
    assert [f.step for f in run_check() if f.status == "skipped"] == [
        "clock",
        "token",
        "secrets",
        "access",
        "scopes",
    ]


def test_a_closed_port_refuses_the_connection(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal()
    host = f"127.0.0.1:{closed_port()}"
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: {host} refused the connection (GET https://{host}/). Nothing is listening "
        "there, or a firewall rejects the connection. Check the host in the settings API_URL and "
        "AUTH_URL, and allow port 443."
    ]


def test_a_self_signed_certificate(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    portal()
    host = serve(tls=self_signed(tmp_path))
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: the certificate of {host} is self-signed (GET https://{host}/). Something "
        "other than ServiceTitan is answering, such as an intercepting proxy, a virus scanner or "
        "another server. Have the host exempted from interception. If you trust that certificate, "
        "set REQUESTS_CA_BUNDLE to a file that contains it."
    ]


@pytest.mark.parametrize("root", [False, True])
def test_a_certificate_of_an_intercepting_proxy(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch, root: bool
) -> None:
    portal()
    host = serve(tls=issue_certificate(root=root))
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: the certificate of {host} was issued by an unknown authority (GET "
        f"https://{host}/). The cause is usually your company's intercepting proxy. Set "
        "REQUESTS_CA_BUNDLE to a file with the certificate of its authority, or have the host "
        "exempted from interception."
    ]


def trusted(monkeypatch: pytest.MonkeyPatch, folder: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    return authority


def test_a_custom_authority_is_accepted(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    portal()
    host = serve(tls=_context(trusted(monkeypatch, tmp_path)))
    monkeypatch.setenv("SERVICETITAN_API_URL", f"https://{host}")
    [finding] = [finding for finding in run_check() if finding.step == "api host"]
    assert as_line(finding) == f"✅ api host: {host} answers"


def test_a_certificate_for_another_name(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    portal()
    host = serve(tls=_context(trusted(monkeypatch, tmp_path), "other.test"))
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: the certificate of {host} was issued for another name (GET "
        f"https://{host}/). Check the host in the settings API_URL and AUTH_URL. A sign-in page of "
        "your network may also be answering in its place."
    ]


def test_a_certificate_that_has_expired(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    portal()
    old = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
    ended = old + datetime.timedelta(days=1)
    host = serve(tls=_context(trusted(monkeypatch, tmp_path), not_before=old, not_after=ended))
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: the certificate of {host} has expired or is not valid yet (GET "
        f"https://{host}/). Check this machine's clock first. If it is right, the operator of "
        f"{host} must renew the certificate."
    ]


def test_a_host_that_does_not_speak_tls(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal()
    host = serve()
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: the TLS connection to {host} failed (GET https://{host}/). The server there "
        "does not speak TLS, or no version that is accepted here. Check the scheme and port in "
        "the settings API_URL and AUTH_URL, and any proxy that intercepts TLS."
    ]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_file_of_authorities(
    portal: Portal,
    serve: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
) -> None:
    portal()
    if content:
        (tmp_path / "own.pem").write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "own.pem"))
    host = serve(tls=issue_certificate())
    assert lines_of_api_host(host, monkeypatch) == [
        f"❌ api host: the file of certificate authorities cannot be used (GET https://{host}/). "
        "Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE. Each must name a file of certificates in "
        "PEM format, or be unset."
    ]


def test_an_app_key_that_cannot_be_a_header(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = portal()
    monkeypatch.setenv("SERVICETITAN_APP_KEY", "ak1.a\N{EN DASH}b")
    customers = CUSTOMERS.format(tenant=sandbox.tenant_id)
    assert problem_lines(selection=["crm.customers"]) == [
        f"❌ access: the request could not be made (GET {sandbox.url}{customers}). Possible "
        "causes: a line break or an unusual character that was copied along with the app key; "
        "the host in the settings API_URL and AUTH_URL; or the proxy address in HTTPS_PROXY and "
        "HTTP_PROXY, which must look like http://proxy:port."
    ]


class _NoRequests(HTTPAdapter):
    def send(self, *args: object, **more: object) -> Response:
        raise OSError(24, "Too many open files")


def test_a_request_that_fails_for_another_reason(portal: Portal) -> None:
    sandbox = portal()
    subject = Subject(environment="production", endpoints=[], policy=NO_WAIT)
    subject.session.mount("http://", _NoRequests())
    lines = [
        as_line(finding) for finding in check(subject, QUICK_STEPS) if finding.status == "failed"
    ]
    host = sandbox.url.removeprefix("http://")
    assert lines == [
        f"❌ {step}: the request to {host} failed (GET {sandbox.url}/). Check the proxy, the "
        "firewall, and the host in this environment's settings API_URL and AUTH_URL."
        for step in ("auth host", "api host")
    ]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_cannot_be_reached(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    portal()
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{closed_port()}")
    assert lines_of_api_host("name.invalid", monkeypatch) == [
        "❌ api host: the proxy cannot be reached (GET https://name.invalid/). Check HTTPS_PROXY "
        "and HTTP_PROXY. Hosts that need no proxy belong in NO_PROXY."
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            407,
            "the proxy requires a user name and password (GET https://name.invalid/). Put them "
            "into "
            "HTTPS_PROXY, as http://user:password@proxy:port, or have this machine allowed through "
            "without them.",
        ),
        (
            403,
            "the proxy does not allow name.invalid (GET https://name.invalid/). Have the host "
            "allowed there. docs/setup.md lists all hosts.",
        ),
    ],
)
def test_a_proxy_that_refuses(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch, status: int, expected: str
) -> None:
    portal()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{serve(status)}")
    assert lines_of_api_host("name.invalid", monkeypatch) == [f"❌ api host: {expected}"]


def test_a_proxy_that_refuses_a_request_without_tls(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = portal()
    monkeypatch.setenv("HTTP_PROXY", f"http://{serve(407)}")
    expected = "Put them into HTTPS_PROXY, as http://user:password@proxy:port, or have this machine"
    assert problem_lines() == [
        f"❌ {step}: the proxy requires a user name and password (GET {sandbox.url}/). {expected} "
        "allowed through without them."
        for step in ("auth host", "api host")
    ]


def test_a_proxy_is_named_without_its_password(
    portal: Portal, serve: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, proxy = portal(), serve()
    monkeypatch.setenv("HTTP_PROXY", f"http://user:hidden@{proxy}")
    host = sandbox.url.removeprefix("http://")
    assert as_line(run_check()[1]) == f"✅ auth host: {host} answers, through the proxy {proxy}"


def test_no_proxy_is_honored(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    portal()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert problem_lines() == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (600, "❌ clock: this machine's clock is 10 min behind"),
        (-600, "❌ clock: this machine's clock is 10 min ahead of"),
    ],
)
def test_a_clock_that_is_wrong(portal: Portal, seconds: int, expected: str) -> None:
    portal(f"wrong-clock:{seconds}")
    assert problem_lines() == [
        f"{expected} the clock of ServiceTitan's hosts. Synchronize it with NTP: it decides where "
        "today's window ends, and whether certificates are valid."
    ]


def test_a_clock_that_is_a_little_wrong_is_a_warning(portal: Portal) -> None:
    portal("wrong-clock:90")
    [line] = problem_lines()
    assert line.startswith("⚠  clock: this machine's clock is ")
    assert " s behind the clock of ServiceTitan's hosts. Synchronize it with NTP" in line


def test_hosts_that_send_no_date(
    server: ScriptedServer, serve: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_AUTH_URL", f"http://{serve()}")
    monkeypatch.setenv("SERVICETITAN_API_URL", f"http://{serve()}")
    assert problem_lines()[0] == (
        "⚠  clock: no host sent its time. Check yourself that this machine's clock is right."
    )


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "hang",
            "{host} did not answer in time (GET {url}/). It is overloaded, or something in "
            "between holds the request back. Try again later. If the problem persists, check "
            "your proxy "
            "and firewall.",
        ),
        (
            "reset",
            "the connection to {host} was cut off (GET {url}/). A proxy or firewall may have "
            "closed it. Try again. If the problem persists, check both.",
        ),
    ],
)
def test_a_host_that_does_not_respond(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, fault: str, expected: str
) -> None:
    monkeypatch.setattr("st_pipelines.cli.doctor.network.HOST_TIMEOUT_SECONDS", 0.2)
    server.canned.append(Canned(fault=fault))
    host = server.url.removeprefix("http://")
    assert problem_lines() == ["❌ auth host: " + expected.format(host=host, url=server.url)]


def test_a_firewall_that_drops_the_connection() -> None:
    """A listener whose queue is full is as silent as a firewall that drops packets."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        host = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        request = Request(method="GET", url=f"http://{host}/")
        with pytest.raises(Unreachable) as caught:
            send(new_http_session(), request, auth=Unsigned(), timeout=0.2)
        for client in waiting:
            client.close()
    assert diagnose(caught.value).line == (
        f"could not connect to {host} (GET http://{host}/). A firewall drops the connection, or "
        "this network requires a proxy. Allow port 443, or set HTTPS_PROXY."
    )
