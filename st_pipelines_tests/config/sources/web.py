"""HTTP servers on 127.0.0.1 that imitate secrets managers: Vault (KV v2) and Azure Key Vault."""

from __future__ import annotations

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import trustme

Response = tuple[int, dict[str, Any], dict[str, str]]
"""Status, body as JSON, further headers."""


class FakeServer:
    """A server that responds with what a subclass's `respond` returns.

    Attributes:
        values: the secrets, by name.
        created: when they were created, in seconds since 1970.
        denies_access: whether every client lacks the permission to read.
        raw: the body of every response, if it is not to be what `respond` returns.
        status: of every response, if the server is to fail.
        redirects_to: URL of the server to which requests are redirected.
        redirected_paths: what the paths of redirected requests begin with.
        requests: path, headers and parsed body of each request.
    """

    scheme = "http"

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.created = time.time()
        self.denies_access = False
        self.raw: bytes | None = None
        self.status: int | None = None
        self.redirects_to = ""
        self.redirected_paths = "/"
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        self.url = f"{self.scheme}://{self.address}"
        self.prepare(self._http)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def prepare(self, http: ThreadingHTTPServer) -> None:
        """Changes the server before it starts."""

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def respond(self, path: str, headers: dict[str, str], body: Any) -> Response:
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FakeServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = urlsplit(self.path).path
        parsed = json.loads(body) if body else None
        self.owner.requests.append((path, headers, parsed))
        status, response, more_headers = self.owner.respond(path, headers, parsed)
        if self.owner.redirects_to and path.startswith(self.owner.redirected_paths):
            status, response = 307, {}
            more_headers = {"Location": f"{self.owner.redirects_to}{path}"}
        content = json.dumps(response).encode() if self.owner.raw is None else self.owner.raw
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **more_headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET


class VaultServer(FakeServer):
    """One secret at `secret/servicetitan`, and three ways to log in."""

    token = "hvs.MARKED-token-of-vault"
    role_id, secret_id = "role-of-the-tests", "MARKED-secret-id-of-vault"
    service_account = "MARKED-service-account-token"

    def respond(self, path: str, headers: dict[str, str], body: Any) -> Response:
        if self.status:
            return self.status, {"errors": ["Vault is sealed"]}, {}
        if path.endswith("/login"):
            valid_logins: dict[str, Any] = {
                "/v1/auth/approle/login": {"role_id": self.role_id, "secret_id": self.secret_id},
                "/v1/auth/kubernetes/login": {"role": "loader", "jwt": self.service_account},
            }
            if body == valid_logins.get(path):
                return 200, {"auth": {"client_token": self.token}}, {}
            return 400, {"errors": ["invalid role or secret ID"]}, {}
        if self.denies_access or headers.get("x-vault-token") != self.token:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}, {}
        if path != "/v1/secret/data/servicetitan" or not self.values:
            return 404, {"errors": []}, {}
        created = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(self.created))
        metadata = {"created_time": created, "deletion_time": "", "destroyed": False, "version": 3}
        return 200, {"data": {"data": self.values, "metadata": metadata}}, {}


class KeyVaultServer(FakeServer):
    """One secret per name. Clients log in with a managed identity, after Azure's challenge."""

    scheme = "https"
    token = "MARKED-token-of-azure"
    identity_header = "MARKED-identity-header"

    def prepare(self, http: ThreadingHTTPServer) -> None:
        self.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        http.socket = context.wrap_socket(http.socket, server_side=True)

    def respond(self, path: str, headers: dict[str, str], body: Any) -> Response:
        if path == "/identity":
            if headers.get("x-identity-header") != self.identity_header:
                return 400, {"error": "invalid_request"}, {}
            expires = str(int(time.time()) + 86400)
            token = {"access_token": self.token, "expires_on": expires, "token_type": "Bearer"}
            return 200, {**token, "resource": "https://vault.azure.net"}, {}
        if headers.get("authorization") != f"Bearer {self.token}":
            # The client requires the host of the vault to end in the host of this resource.
            challenge = (
                f'Bearer authorization="https://{self.address}/tenant-of-the-tests", '
                f'resource="https://{self.address.removeprefix("127.")}"'
            )
            return 401, {"error": {"code": "Unauthorized"}}, {"WWW-Authenticate": challenge}
        if self.status:
            return self.status, {"error": {"code": "Busy", "message": "busy"}}, {}
        if self.denies_access:
            return 403, {"error": {"code": "Forbidden", "message": "no permission"}}, {}
        name = path.removeprefix("/secrets/").strip("/").upper()
        if name not in self.values:
            return 404, {"error": {"code": "SecretNotFound", "message": "not found"}}, {}
        times = {"enabled": True, "created": int(self.created), "updated": int(self.created)}
        identifier = f"{self.url}/secrets/{name}/0123456789abcdef0123456789abcdef"
        return 200, {"value": self.values[name], "id": identifier, "attributes": times}, {}
