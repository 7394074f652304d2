"""Reads child lists from a sandbox without the code under test, and says what their tables hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from st_pipelines.catalog.model import Catalog, Endpoint, snake_case
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.context import LoadReport, SyncContext
from st_pipelines.sync.sync import extract_load
from st_pipelines_tests.churn_reader import build_rows, days, query

ALL = days("2026-03-01", "2026-03-10", open_start=True)


def with_parents(table: str, catalog: Catalog | None = None) -> list[Endpoint]:
    """The table's endpoint after those of its parents, the eldest first."""
    catalog = catalog or load_catalog()
    endpoint = catalog[table]
    elders = with_parents(endpoint.parent.table, catalog) if endpoint.parent else []
    return [*elders, endpoint]


def load_with_parents(context: SyncContext, table: str) -> LoadReport:
    """Loads the parents of a child list, then the list."""
    reports = [
        extract_load(context, endpoint, ALL if endpoint.partitioned else None)
        for endpoint in with_parents(table, context.catalog)
    ]
    return reports[-1]


class ChildReader:
    """Requests child lists of a sandbox, one parent after the other."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._session = requests.Session()
        grant = {
            "grant_type": "client_credentials",
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
        }
        token = self._session.post(f"{sandbox.url}/connect/token", data=grant).json()
        self._session.headers["Authorization"] = token["access_token"]
        self._session.headers["ST-App-Key"] = sandbox.app_key

    def expected_rows(self, file: Path, endpoint: Endpoint) -> list[tuple]:
        """The rows that a child's table must hold, for the live parents in a warehouse."""
        assert endpoint.parent is not None
        names = ", ".join(f'"{snake_case(name)}"' for name in endpoint.parent.ids.values())
        parents = query(
            file, f"SELECT {names} FROM {endpoint.parent.table} WHERE _deleted_at IS NULL"
        )
        parents = [ids for ids in parents if None not in ids]
        records: list[dict[str, Any]] = []
        if endpoint.parent.per_request > 1:
            for start in range(0, len(parents), 50):
                ids = ",".join(str(ids[0]) for ids in parents[start : start + 50])
                records += self._list(endpoint, endpoint.path, ids=ids)
        for ids in parents if endpoint.parent.per_request == 1 else ():
            parts = iter(ids)
            path = "/".join(
                quote(str(next(parts)), safe="")
                if part.startswith("{") and part != "{tenant}"
                else part
                for part in endpoint.path.split("/")
            )
            given = dict(zip(endpoint.parent.ids, ids, strict=True))
            records += [{**record, **given} for record in self._list(endpoint, path)]
        return build_rows(records, endpoint.row_fields)

    def _list(self, endpoint: Endpoint, path: str, **params: str) -> list[dict[str, Any]]:
        return [record for body in self._bodies(endpoint, path, params) for record in body]

    def _bodies(
        self, endpoint: Endpoint, path: str, params: dict[str, str]
    ) -> Iterator[Sequence[dict[str, Any]]]:
        url = self._sandbox.url + path.replace("{tenant}", self._sandbox.tenant_id)
        page = 1
        while True:
            paging = {"page": str(page), "pageSize": "200"} if endpoint.paged else {}
            query_ = {**endpoint.params, **params, **paging}
            response = self._session.get(url, params=query_)
            response.raise_for_status()
            body = json.loads(response.text, parse_float=Decimal)
            match endpoint.envelope:
                case "array":
                    yield body
                case "object":
                    yield [body]
                case "value":
                    yield [] if body is None else [{endpoint.columns[-1].name: body}]
                case _:
                    yield body["data"]
            if not isinstance(body, dict) or not body.get("hasMore"):
                return
            page += 1
