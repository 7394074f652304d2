"""Loads the three tables with HTTP and DuckDB alone: the least that such a load can cost.

Nothing is checked, neither that the reading is complete nor that records match the catalog. The
`data` of each page goes into a file, and DuckDB reads all files of a table at once, with the same
types as st_pipelines. Run by `load.py`.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import msgspec
import requests
from server import TOKEN_PATH

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.warehouse.columns import literal, quote, select_expression, staged_type

TABLES = ("crm.customers", "jpm.jobs", "accounting.invoices")
PAGE_SIZE, CONNECTIONS = 5000, 8


class Page(msgspec.Struct, rename="camel"):
    """A page of a list."""

    data: msgspec.Raw
    has_more: bool


def main(file: str) -> None:
    reader = Reader()
    with duckdb.connect(file) as warehouse, tempfile.TemporaryDirectory() as folder:
        warehouse.execute("SET TimeZone = 'UTC'")
        for table in TABLES:
            endpoint = load_catalog()[table]
            pages = Path(folder) / table
            pages.mkdir()
            reader.read(endpoint, pages)
            fields = endpoint.row_fields
            types = ", ".join(f"{literal(f.name)}: {literal(staged_type(f.type))}" for f in fields)
            columns = ", ".join(f"{select_expression(f)} AS {quote(f.column)}" for f in fields)
            warehouse.execute(f"CREATE SCHEMA IF NOT EXISTS {endpoint.api}")
            warehouse.execute(
                f"CREATE TABLE {table} AS SELECT {columns} FROM read_json('{pages}/*.json', "
                f"format = 'array', maximum_object_size = 50000000, columns = {{{types}}})"
            )


class Reader:
    """Reads lists, eight pages at a time."""

    def __init__(self) -> None:
        self._url = os.environ["SERVICETITAN_API_URL"]
        form = {
            "grant_type": "client_credentials",
            "client_id": os.environ["SERVICETITAN_CLIENT_ID"],
            "client_secret": os.environ["SERVICETITAN_CLIENT_SECRET"],
        }
        token_url = os.environ["SERVICETITAN_AUTH_URL"] + TOKEN_PATH
        token = requests.post(token_url, data=form, timeout=60).json()["access_token"]
        self._headers = {"Authorization": token, "ST-App-Key": os.environ["SERVICETITAN_APP_KEY"]}

    def read(self, endpoint: Endpoint, folder: Path) -> None:
        """Writes the records of each page into a file in the folder."""
        numbers, ended = itertools.count(1), threading.Event()

        def work(_: int) -> None:
            session = requests.Session()
            while not ended.is_set():
                number = next(numbers)
                params = {**endpoint.params, "page": number, "pageSize": PAGE_SIZE}
                path = endpoint.path.format(tenant=os.environ["SERVICETITAN_TENANT_ID"])
                answer = session.get(
                    self._url + path, params=params, headers=self._headers, timeout=60
                )
                answer.raise_for_status()
                page = msgspec.json.decode(answer.content, type=Page)
                (folder / f"{number:06}.json").write_bytes(page.data)
                if not page.has_more:
                    ended.set()

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(work, range(CONNECTIONS)))


if __name__ == "__main__":
    main(sys.argv[1])
