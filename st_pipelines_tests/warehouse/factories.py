"""Builds endpoints, records and loads for the warehouse tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb

from st_pipelines.catalog.model import (
    Catalog,
    DateFilter,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    StructOf,
)
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import TypedRows
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.tables.deletion_guard import Approval
from st_pipelines.warehouse.tables.load import FollowUp, Loaded, commit_load
from st_pipelines.warehouse.tables.load_log import ExportBookmark, ReadCost
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_state import begin_read

FIELDS = (
    Field("id", Scalar("BIGINT")),
    Field("name", Scalar("VARCHAR")),
    Field("total", Scalar("DECIMAL")),
    Field("rate", Scalar("DOUBLE")),
    Field("active", Scalar("BOOLEAN")),
    Field("dueDate", Scalar("DATE")),
    Field("modifiedOn", Scalar("TIMESTAMPTZ")),
    Field("open", Scalar("JSON")),
    Field("tagIds", ListOf(Scalar("BIGINT"))),
    Field(
        "items",
        ListOf(
            StructOf(
                (
                    Field("skuId", Scalar("BIGINT")),
                    Field("unitPrice", Scalar("DECIMAL")),
                    Field("from", StructOf((Field("zipCode", Scalar("VARCHAR")),))),
                )
            )
        ),
    ),
)


def endpoint(**changes: Any) -> Endpoint:
    facts: dict[str, Any] = {
        "api": "abc",
        "name": "things",
        "kind": "window",
        "path": "/abc/v2/tenant/{tenant}/things",
        "envelope": "page",
        "scope": "tn.abc.things:r",
        "columns": FIELDS,
        "cursor": "modifiedOn",
        "date_filter": DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore"),
    }
    return Endpoint(**(facts | changes))


def record(**changes: Any) -> dict[str, Any]:
    facts = {
        "id": 1,
        "name": "Müller",
        "total": "12.50",
        "rate": 0.25,
        "active": True,
        "dueDate": "2026-01-02T00:00:00",
        "modifiedOn": "2026-01-02T03:04:05.1234567Z",
        "open": {"a": [1, "x"]},
        "tagIds": [1, 2],
        "items": [{"skuId": 7, "unitPrice": 3.5, "from": {"zipCode": "0815"}}],
    }
    return facts | changes


COST = ReadCost(requests=1, bytes=2, seconds=0.5)


def catalog_of(of: Endpoint) -> Catalog:
    return Catalog({of.table: of})


SECOND_READ = Approval(missing=())
"""A second read may empty a small table, which a first one may not."""

READ_LATER = 1_000
"""A sequence number that no load in a test reaches: nothing has overtaken the read."""


@dataclass
class Place:
    """A folder with a warehouse file, and loads into it."""

    folder: Path
    timezone: str = "America/New_York"
    number: int = field(default=0)

    @property
    def file(self) -> Path:
        return self.folder / "test.duckdb"

    @property
    def warehouse(self) -> DuckDBFile:
        return DuckDBFile(uri=str(self.file), wait_seconds=5)

    def what(self, **changes: Any) -> LoadSpec:
        facts: dict[str, Any] = {
            "environment": "sandbox",
            "tenant_id": "1",
            "window_start": None,
            "window_end": datetime(2027, 1, 1, tzinfo=timezone.utc),
            "timezone": self.timezone,
            "default_date": date(2026, 12, 31),
            "run_id": "a run",
            "loaded_at": datetime(2026, 6, 1, tzinfo=timezone.utc),
        }
        return LoadSpec(**(facts | changes))

    @contextmanager
    def staged(self, of: Endpoint, what: LoadSpec) -> Iterator[tuple[Staging, TypedRows]]:
        self.number += 1
        folder = self.folder / f"staging-{self.number}"
        staging = Staging(of, folder)
        try:
            with TypedRows(of, what, folder) as typed:
                yield staging, typed
        finally:
            shutil.rmtree(folder)

    def load(
        self,
        records: Iterable[dict[str, Any]] | bytes,
        of: Endpoint | None = None,
        *,
        follow_up: FollowUp | None = None,
        approval: Approval = SECOND_READ,
        catalog: Catalog | None = None,
        **changes: Any,
    ) -> tuple[Loaded, Staging]:
        of, what = of or endpoint(), self.what(**changes)
        if "sequence" not in changes:
            start = begin_read(self.warehouse, of, what)
            what = replace(what, sequence=start.sequence)
        pages = records if isinstance(records, bytes) else json.dumps(list(records)).encode()
        with self.staged(of, what) as (staging, typed):
            typed.add(staging.add(pages))
            staged = StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)
            staged.finish()
            loaded = commit_load(
                staged,
                self.warehouse,
                catalog=catalog or catalog_of(of),
                cost=COST,
                follow_up=follow_up,
                approval=approval,
            )
        return loaded, staging

    def load_with_feed(
        self,
        records: Iterable[dict[str, Any]],
        exported: Sequence[dict[str, Any]],
        of: Endpoint,
        *,
        bookmark: ExportBookmark | None = None,
        **changes: Any,
    ) -> Loaded:
        """Loads records of the list together with those of the export feed."""
        what = self.what(**changes)
        if "sequence" not in changes:
            what = replace(what, sequence=begin_read(self.warehouse, of, what).sequence)
        with self.staged(of, what) as (staging, typed):
            staged = StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)
            staged.add(json.dumps(list(records)).encode())
            staged.finish()
            folder = staging.folder / "export_rows"
            with TypedRows(of, what, folder, name="export_rows", beside=typed) as rows:
                feed = StagedRecords(endpoint=of, spec=what, staging=Staging(of, folder), rows=rows)
                if exported:
                    feed.add(json.dumps(exported).encode())
                    feed.finish()
                return commit_load(
                    staged,
                    self.warehouse,
                    catalog=catalog_of(of),
                    cost=COST,
                    follow_up=FollowUp(export_rows=feed if exported else None, bookmark=bookmark),
                    approval=SECOND_READ,
                )

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(str(self.file), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(sql).fetchall()
