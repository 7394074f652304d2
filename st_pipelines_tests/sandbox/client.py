"""A minimal client that talks to the sandbox over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import requests

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox

CATALOG = load_catalog()
LISTS = [e for e in CATALOG if e.envelope != "object" and e.member is None and e.parent is None]
"""The endpoints whose records the sandbox has as a collection."""

LONG_AGO = "2000-01-01T00:00:00Z"
FAR_AHEAD = "2100-01-01T00:00:00Z"


class Client:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["ST-App-Key"] = sandbox.app_key
        self.session.headers["Authorization"] = self.request_token().json()["access_token"]

    def request_token(self, **changes: Any) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.sandbox.client_id,
            "client_secret": self.sandbox.client_secret,
        }
        return requests.post(f"{self.sandbox.url}/connect/token", data={**form, **changes})

    def url(self, path: str) -> str:
        return self.sandbox.url + path.replace("{tenant}", self.sandbox.tenant_id)

    def get(self, path: str, **query: Any) -> requests.Response:
        return self.session.get(self.url(path), params=query)

    def request_list(self, table: str, **query: Any) -> requests.Response:
        return self.get(CATALOG[table].path, **query)

    def read_rows(self, table: str, **query: Any) -> list[dict[str, Any]]:
        endpoint = CATALOG[table]
        response = self.request_list(table, **{"pageSize": endpoint.max_page_size, **query})
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def read_pages(self, table: str, **query: Any) -> Iterator[dict[str, Any]]:
        page = CATALOG[table].first_page
        while True:
            body = self.request_list(table, page=page, **query).json()
            yield body
            if not body["hasMore"]:
                return
            page += 1

    def request_export(self, table: str, **query: Any) -> requests.Response:
        return self.get(find_export_path(CATALOG[table]), **query)

    def read_export(self, table: str, **query: Any) -> list[dict[str, Any]]:
        return self.request_export(table, **query).json()["data"]


def find_export_path(endpoint: Endpoint) -> str:
    return endpoint.path if endpoint.export is None else endpoint.export.path


def get_ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]
