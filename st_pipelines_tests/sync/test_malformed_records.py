"""A record that no strict reader takes is loaded as far as it can be read, and its text is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sync.sync import LoadReport, SyncContext, extract_load, reconcile
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.windows import Days
from st_pipelines_tests.churn_reader import query
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer, Seen

CUSTOMERS = load_catalog()["crm.customers"]
NOW = datetime(2026, 3, 10, 15, tzinfo=timezone.utc)
PAGE_SIZE = 100


class Source:
    """A ServiceTitan that serves records as texts, in pages."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.records: list[str] = []
        server.rule = self._answer

    def _answer(self, seen: Seen) -> Canned | None:
        if "/export/" in seen.path:
            return Canned(body={"hasMore": False, "continueFrom": "end", "data": []})
        begin = (seen.page - 1) * seen.page_size
        rows, end = self.records[begin : begin + seen.page_size], begin + seen.page_size
        return Canned(
            body=f'{{"page":{seen.page},"hasMore":{json.dumps(end < len(self.records))},'
            f'"totalCount":{len(self.records)},"data":[{",".join(rows)}]}}'
        )


@pytest.fixture
def source() -> Iterator[Source]:
    server = ScriptedServer()
    yield Source(server)
    server.close()


@pytest.fixture
def context(source: Source, tmp_path: Path) -> Iterator[SyncContext]:
    with closing(source.server.client(page_size=PAGE_SIZE)) as client:
        yield SyncContext(
            client=client,
            warehouse=DuckDBFile(uri=str(tmp_path / "x.duckdb"), wait_seconds=5),
            timezone="America/New_York",
            run_id="test",
            clock=lambda: NOW,
        )


def customer(number: int | str, *members: str) -> str:
    more = "".join(f",{member}" for member in members)
    return f'{{"id":{number},"modifiedOn":"2026-03-05T12:00:00Z"{more}}}'


def load(context: SyncContext) -> LoadReport:
    days = Days(
        first=NOW.date().replace(day=1), last=NOW.date(), timezone=context.timezone, open_start=True
    )
    return extract_load(context, CUSTOMERS, days)


def rows(context: SyncContext, columns: str, where: str = "true") -> list[tuple]:
    sql = f"SELECT {columns} FROM crm.customers WHERE {where} ORDER BY 1"
    return query(Path(context.warehouse.name), sql)


@pytest.mark.parametrize(
    ("member", "column", "expected"),
    [
        ('"balance":NaN', "balance", None),
        ('"balance":-Infinity', "balance", None),
        ('"type":"a\tb"', "type", "a\tb"),
        ('"type":"a\nb"', "type", "a\nb"),
        (r'"type":"a\q"', "type", r"a\q"),
        ('"type":', "type", None),
        ('"type":"x","type":"y"', "type", "x"),
        ('"zz":' + "[" * 3000 + "]" * 3000, "type", None),
        ('"zz":{"a":1,"a":2}', "type", None),
    ],
)
def test_one_malformed_record_is_kept_as_text_and_the_others_load(
    source: Source, context: SyncContext, member: str, column: str, expected: str | None
) -> None:
    """The whole table stayed out of reach, after six requests of the same page."""
    odd = customer(1, member)
    source.records = [odd, *(customer(number) for number in range(2, 251))]
    report = load(context)
    assert report.loaded.counts.inserted == 250
    ((value, extra),) = rows(context, f"{column}, _extra", "id = 1")
    assert value == expected
    assert json.loads(extra)["(malformed)"] == odd
    assert report.drift.counts["(malformed)"] == 1
    assert rows(context, "count(*)", "_extra IS NULL") == [(249,)]
    assert report.read.requests < 10


def test_records_whose_id_cannot_be_read_are_rows_without_a_key(
    source: Source, context: SyncContext
) -> None:
    odd = [customer("NaN", f'"type":"{number}"') for number in range(3)]
    source.records = [customer(number) for number in range(1, 250)]
    source.records[120:120] = odd
    for _ in range(2):  # the same text is the same row
        load(context)
        assert rows(context, "count(*), count(id)", "_deleted_at IS NULL") == [(252, 249)]
    kept = [json.loads(extra) for (extra,) in rows(context, "_extra", "id IS NULL")]
    assert sorted(extra["(malformed)"] for extra in kept) == sorted(odd)


def test_a_record_without_a_readable_id_goes_once_it_can_be_read(
    source: Source, context: SyncContext
) -> None:
    source.records = [customer("NaN"), *(customer(number) for number in range(2, 30))]
    load(context)
    source.records[0] = customer(1)
    load(context)
    reconcile(context, CUSTOMERS)
    assert rows(context, "id", "_deleted_at IS NULL") == [(number,) for number in range(1, 30)]


def test_a_record_whose_last_time_cannot_be_read_is_in_the_last_day_of_its_window(
    source: Source, context: SyncContext
) -> None:
    source.records = ['{"id":1,"modifiedOn":NaN}', '{"id":2,"modifiedOn":"0001-01-01T00:00:00Z"}']
    load(context)
    assert rows(context, "id, modified_on, _partition_date = '2026-03-10'") == [
        (1, None, True),
        (2, None, True),
    ]
