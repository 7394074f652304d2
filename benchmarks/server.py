"""Runs the sandbox in a process of its own, as a context manager."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from datetime import datetime, timezone
from urllib.parse import urlencode

TOKEN_PATH = "/connect/token"
_JSON = {"Content-Type": "application/json"}


class Server:
    """A sandbox that serves inside the `with` block, and ends with this process at the latest.

    Attributes:
        environment: variables that point a client at it.
    """

    environment: dict[str, str]

    def __init__(self, customers: int) -> None:
        """Starts nothing yet.

        Args:
            customers: size of the company; each brings about 5.5 rows in the three tables.
        """
        self._customers = customers

    def __enter__(self) -> Server:
        now = datetime.now(timezone.utc).replace(microsecond=0).isoformat()
        command = [sys.executable, "-m", "st_pipelines.cli.app", "sandbox", "--until-input-ends"]
        command += ["--port", "0", "--customers", str(self._customers), "--now", now]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self._url = self._process.stdout.readline().strip()
        if not self._url.startswith("http://127.0.0.1:"):
            raise ChildProcessError(f"the sandbox did not start: {self._url}")
        self.environment = {}
        while "SERVICETITAN_TIMEZONE" not in self.environment:
            line = self._process.stdout.readline()
            if not line:
                raise ChildProcessError("the sandbox ended before it was ready")
            name, _, value = line.strip().removeprefix("export ").partition("=")
            self.environment[name] = value
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def prepare(self, paths: tuple[str, ...]) -> None:
        """Requests each path once, because the sandbox creates records on the first request."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.environment["SERVICETITAN_CLIENT_ID"],
            "client_secret": self.environment["SERVICETITAN_CLIENT_SECRET"],
        }
        token = json.loads(self._answer(TOKEN_PATH, data=urlencode(form).encode()))["access_token"]
        app_key = self.environment["SERVICETITAN_APP_KEY"]
        for path in paths:
            filled = path.format(tenant=self.environment["SERVICETITAN_TENANT_ID"])
            self._answer(filled, {"Authorization": token, "ST-App-Key": app_key})

    def change(self, table: str, id_: int, fields: dict[str, str]) -> None:
        """Changes a record now."""
        now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        self._answer("/_sandbox/now", _JSON, json.dumps({"now": now}).encode())
        body = {"table": table, "id": id_, "fields": fields}
        self._answer("/_sandbox/change", _JSON, json.dumps(body).encode())

    def requests(self) -> Counter[str]:
        """Returns how often each path was requested."""
        return Counter(json.loads(self._answer("/_sandbox/state"))["requests"])

    def _answer(
        self, path: str, headers: dict[str, str] | None = None, data: bytes | None = None
    ) -> bytes:
        request = urllib.request.Request(self._url + path, headers=headers or {}, data=data)
        with urllib.request.urlopen(request) as response:
            return response.read()
