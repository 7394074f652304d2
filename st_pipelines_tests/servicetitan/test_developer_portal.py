"""Downloading the OpenAPI documents from a stand-in for ServiceTitan's developer portal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from st_pipelines.cli.app import app
from st_pipelines.servicetitan.developer_portal import fetch_documents
from st_pipelines.servicetitan.errors.errors import ServiceTitanError, UnexpectedResponse

DOCUMENT = {"openapi": "3.1.0", "paths": {"/tenant/{tenant}/things": {}}}


class Portal:
    """Serves `answers` by path: JSON, or bytes as they are, with status 200, or a (status, ...)."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                portal.requests.append((self.path, dict(self.headers)))
                answer = portal.answers.get(self.path, (404, b"<html>no</html>"))
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", content.decode())
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def serve(self, listed: Any, documents: dict[str, Any]) -> None:
        self.answers = {"/api/docs/apis": listed} | {
            f"/api/docs/apis/{identifier}": document for identifier, document in documents.items()
        }


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    thread = threading.Thread(target=portal.server.serve_forever)
    thread.start()
    yield portal
    portal.server.shutdown()
    thread.join()
    portal.server.server_close()


def fetch(portal: Portal, folder: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["catalog", "fetch", str(folder), "--portal", portal.url, *more])


@pytest.mark.parametrize(
    "listed",
    [
        ["crm-v2", 7],
        [{"id": "crm-v2", "name": "CRM"}, {"id": 7}],
        {"apis": [{"apiId": "crm-v2"}, {"apiId": 7}], "total": 2},
    ],
)
@pytest.mark.parametrize(
    "served", [DOCUMENT, {"id": 1, "document": DOCUMENT}, {"content": json.dumps(DOCUMENT)}]
)
def test_every_plausible_shape_is_read(portal: Portal, listed: Any, served: Any) -> None:
    portal.serve(listed, {"crm-v2": served, "7": served})
    assert dict(fetch_documents(portal.url)) == {"crm-v2.json": DOCUMENT, "7.json": DOCUMENT}


def test_ids_become_names_that_are_files_and_differ(portal: Portal) -> None:
    documents = {"..%2Fup": DOCUMENT, "a%20b": DOCUMENT, "A-B": DOCUMENT, "%21": DOCUMENT}
    portal.serve(["../up", "a b", "A-B", "!"], documents)
    names = [name for name, _ in fetch_documents(portal.url)]
    assert names == ["up.json", "a-b.json", "A-B-2.json", "document.json"]


@pytest.mark.parametrize(
    ("listed", "document", "message"),
    [
        ((404, b"no"), DOCUMENT, r"/api/docs/apis: answered 404\. Name another address"),
        (b"<html>", DOCUMENT, "something other than JSON"),
        ([], DOCUMENT, "without the id of a document"),
        ({"apis": [True, None, {"title": 1}]}, DOCUMENT, "without the id of a document"),
        (["crm"], {"title": "CRM"}, "/crm: answered 200 without an OpenAPI document"),
        (["crm"], (500, b""), "/crm: answered 500"),
    ],
)
def test_what_holds_no_documents_is_an_error_that_says_what_to_do(
    portal: Portal, listed: Any, document: Any, message: str
) -> None:
    portal.serve(listed, {"crm": document})
    with pytest.raises(UnexpectedResponse, match=message):
        list(fetch_documents(portal.url))


def test_a_redirect_is_not_followed(portal: Portal) -> None:
    portal.serve((302, f"{portal.url}/elsewhere".encode()), {})
    with pytest.raises(ServiceTitanError, match="answered 302"):
        list(fetch_documents(portal.url))
    assert [path for path, _ in portal.requests] == ["/api/docs/apis"]


def test_the_command_writes_all_documents_or_none(portal: Portal, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "documents"
    portal.serve(["crm", "jpm"], {"crm": DOCUMENT, "jpm": (503, b"")})
    assert isinstance(fetch(portal, folder).exception, UnexpectedResponse)
    assert not folder.exists()
    portal.serve(["crm", "jpm"], {"crm": DOCUMENT, "jpm": DOCUMENT})
    done = fetch(portal, folder)
    assert done.exit_code == 0, done.output
    assert f"2 documents in {folder}" in done.output.replace("\n", "")
    assert {f.name: json.loads(f.read_text()) for f in folder.iterdir()} == {
        "crm.json": DOCUMENT,
        "jpm.json": DOCUMENT,
    }
    assert not [headers for _, headers in portal.requests if "Authorization" in headers]


@pytest.mark.parametrize(
    "address", ["http://example.com", "developer", "https://me:pw@example.com"]
)
def test_a_wrong_address_is_named_before_any_request(tmp_path: Path, address: str) -> None:
    done = CliRunner().invoke(app, ["catalog", "fetch", str(tmp_path / "x"), "--portal", address])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception).startswith("--portal or ST_DEVELOPER_PORTAL: ")
    assert "pw" not in str(done.exception)
