"""Reports, loaded from the sandbox over HTTP: tables equal what the reports serve."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from pydantic import SecretStr

from st_pipelines.catalog.model import build_report_endpoint, snake_case
from st_pipelines.catalog.report import RelativeDate, Report
from st_pipelines.sandbox.report_definitions import PERIOD
from st_pipelines.servicetitan.http import client as client_module
from st_pipelines.servicetitan.reporting import reading
from st_pipelines.sync.report_backfill import plan_backfill, read_loaded_windows
from st_pipelines.sync.report_queries import QueryFiles
from st_pipelines.sync.verify import verify_table
from st_pipelines.warehouse.reports import rows as rows_module
from st_pipelines_tests.deadlines import wait_until
from st_pipelines_tests.report_lab import ZONE, Lab, comparable, connect, open_lab, own_report, span
from st_pipelines_tests.sandbox.report_client import ReportClient

REVENUE = Report(
    name="revenue",
    category="business-unit-dashboard",
    report="Revenue by Business Unit and Day",
    from_parameter="From",
    to_parameter="To",
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def served_rows(lab: Lab, name: str, **values: Any) -> Counter[tuple]:
    """What a report serves, by the names of our columns."""
    client = ReportClient(lab.sandbox)
    lab.clock.seconds += 1000
    rows = client.read_rows_of(client.find_report(name), **values)
    return Counter(
        tuple(sorted((snake_case(n), comparable(v)) for n, v in row.items() if v is not None))
        for row in rows
    )


def loaded_rows(lab: Lab, table: str) -> Counter[tuple]:
    return Counter(
        tuple(sorted((n, comparable(v)) for n, v in row.items() if v is not None))
        for row in lab.rows(table)
    )


@pytest.mark.parametrize("contract", ["sync", "async", "auto"])
@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("running", [0, 45])
def test_days_of_a_report_equal_what_it_serves_for_them(
    lab: Lab, contract: Any, observed: bool, running: float
) -> None:
    settings = lab.sandbox.reports.settings
    settings.as_observed, settings.running_seconds = observed, running
    report = dataclasses.replace(REVENUE, contract=contract)

    loaded = lab.load(report, "2026-03-02", "2026-03-06")

    assert loaded.facts["contract"] == ("synchronous" if contract == "sync" else "asynchronous")
    expected = served_rows(lab, "Revenue", From="2026-03-02", To="2026-03-06")
    assert loaded_rows(lab, "revenue") == expected
    assert expected.total() > 3
    days = lab.query("SELECT DISTINCT _partition_date, date FROM reports.revenue")
    assert all(day == of_row for day, of_row in days)


def test_a_report_without_days_is_replaced_whole(lab: Lab) -> None:
    dates = {"From": "2026-02-01", "To": RelativeDate("yesterday")}
    report = Report(
        name="technicians",
        category="Technician Dashboard",
        report="technician performance",
        parameters=dates,
    )

    lab.load(report)

    expected = served_rows(lab, "Technician", From="2026-02-01", To="2026-03-09")
    assert loaded_rows(lab, "technicians") == expected
    shorter = dataclasses.replace(report, parameters=dates | {"From": "2026-03-09"})
    lab.load(shorter)
    expected = served_rows(lab, "Technician", From="2026-03-09", To="2026-03-09")
    assert loaded_rows(lab, "technicians") == expected


def test_a_day_that_is_read_again_replaces_its_rows_and_no_others(lab: Lab) -> None:
    numbers = {"2026-03-02": [1, 2, 2], "2026-03-03": [7]}
    lab.serve(
        ["N"], lambda values: [[n] for n in numbers[str(values["From"])]], parameters=PERIOD[:1]
    )
    report = own_report(from_parameter="From")
    lab.load(report, "2026-03-02", "2026-03-03")
    numbers["2026-03-02"] = [2, 5]

    counts = lab.load(report, "2026-03-02").loaded.counts

    assert sorted(row["n"] for row in lab.rows()) == [2, 5, 7]
    assert (counts.inserted, counts.unchanged, counts.deleted) == (1, 1, 2)


def test_the_days_of_a_table_that_was_dropped_count_as_loaded_no_more(
    lab: Lab, tmp_path: Path
) -> None:
    """Neither before it is loaded again, nor after one of its days was."""
    lab.serve(["N"], [[1]], parameters=PERIOD[:1])
    report = own_report(from_parameter="From")
    lab.load(report, "2026-03-02", "2026-03-04")
    connection = lab.context.client.connection
    owner = {"environment": connection.environment, "tenant_id": connection.tenant_id}
    endpoint, store = build_report_endpoint(report), lab.context.warehouse
    assert len(read_loaded_windows(store, endpoint, **owner)) == 3
    with duckdb.connect(str(tmp_path / "x.duckdb")) as opened:
        opened.execute("DROP TABLE reports.r")
    assert read_loaded_windows(store, endpoint, **owner) == {}

    lab.load(report, "2026-03-03")

    [(start, _)] = read_loaded_windows(store, endpoint, **owner)
    assert start.astimezone(ZoneInfo(ZONE)).date() == date(2026, 3, 3)
    assert lab.rows() == [{"n": 1}]


def test_a_wider_value_widens_the_column_and_keeps_the_values_it_has(lab: Lab) -> None:
    days = {
        "2026-03-02": [[5, 1, 0.5, True, "2026-03-02"]],
        "2026-03-03": [[Decimal("2.25"), 1, 1 / 3, True, "2026-03-03"]],
        "2026-03-04": [["n/a", 2**62, 0.00001, "yes", "soon"]],
    }
    lab.serve(list("ABCDE"), lambda values: days[str(values["From"])], parameters=PERIOD[:1])
    report = own_report(from_parameter="From")

    lab.load(report, "2026-03-02")
    assert lab.types() == {
        "a": "BIGINT",
        "b": "BIGINT",
        "c": "DECIMAL(38,10)",
        "d": "BOOLEAN",
        "e": "DATE",
    }
    changes = lab.load(report, "2026-03-03").column_changes
    assert (lab.types()["a"], lab.types()["c"]) == ("DECIMAL(38,10)", "DOUBLE")
    assert any("'A'" in line and "DECIMAL" in line for line in changes)
    lab.load(report, "2026-03-04")
    assert lab.types() == {
        "a": "VARCHAR",
        "b": "BIGINT",
        "c": "DOUBLE",
        "d": "VARCHAR",
        "e": "VARCHAR",
    }
    rows = sorted(lab.rows(), key=lambda row: row["e"])
    assert [row["a"] for row in rows] == ["5", "2.25", "n/a"]
    assert [row["c"] for row in rows] == [0.5, 1 / 3, 0.00001]
    assert [row["d"] for row in rows] == ["true", "true", "yes"]
    assert [row["e"] for row in rows] == ["2026-03-02", "2026-03-03", "soon"]


def test_numbers_that_no_double_holds_become_text_and_not_nearly_equal(lab: Lab) -> None:
    """A rate arrives, which has too many places for a decimal."""
    exact, long, large = Decimal("0.5"), Decimal("12345678.1234567891"), 2**53 + 1
    days = {"2026-03-02": [[exact, long, large]], "2026-03-03": [[1 / 3] * 3]}
    lab.serve(list("ABC"), lambda values: days[str(values["From"])], parameters=PERIOD[:1])
    report = own_report(from_parameter="From")
    lab.load(report, "2026-03-02", "2026-03-03")
    assert lab.types() == {"a": "DOUBLE", "b": "VARCHAR", "c": "VARCHAR"}
    assert {(row["a"], row["b"], row["c"]) for row in lab.rows()} == {
        (0.5, str(long), str(large)),
        (1 / 3, str(1 / 3), str(1 / 3)),
    }


def test_a_day_is_done_once_it_was_read_after_its_look_back_days() -> None:
    report = own_report(from_parameter="From", look_back_days=2)
    endpoint, zone = build_report_endpoint(report), ZoneInfo(ZONE)
    start, end, settled = (datetime(2026, 3, day, tzinfo=zone) for day in (2, 3, 5))
    day = span("2026-03-02")
    assert day is not None
    for loaded_at, days in ((settled - timedelta(seconds=1), 1), (settled, 0)):
        plan = plan_backfill(endpoint, day, {(start, end): loaded_at}, interval_seconds=60)
        assert (len(plan.days), plan.done, plan.seconds) == (days, 1 - days, 0)


def test_columns_that_come_go_and_move_are_reported_and_lose_nothing(lab: Lab) -> None:
    report = own_report(from_parameter="From")
    lab.serve(["Id", "Old", "Name"], [[1, "o", "n"]], parameters=PERIOD[:1])
    assert lab.load(report, "2026-03-02").column_changes == ()
    lab.serve(["Name", "Id", "New"], [["n", 2, True]], parameters=PERIOD[:1])

    changes = lab.load(report, "2026-03-03").column_changes

    assert changes == (
        "new field 'New' (column new)",
        "field 'Old' is no longer served",
        "the fields come in another order",
    )
    assert lab.load(report, "2026-03-04").column_changes == ()
    rows = {row["id"]: row for row in lab.rows() if row["new"] is None}
    assert rows[1] == {"id": 1, "old": "o", "name": "n", "new": None}
    assert {row["id"] for row in lab.rows()} == {1, 2}


def test_pages_with_other_fields_are_each_read_by_their_own(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_PAGE_SIZE", 1)

    def edit(_values: Any) -> list[list[Any]]:
        lab.serve(["B", "A", "C"], [["b", 1, None], ["b", 2, "c"]])
        return [[1, "b"], [2, "b"]]

    lab.serve(["A", "B"], edit)
    loaded = lab.load(own_report())

    assert sorted((row["a"], row["b"], row["c"]) for row in lab.rows() if row["c"]) == [
        (2, "b", "c")
    ]
    assert [row["b"] for row in lab.rows()] == ["b", "b"]
    assert "pages 2 have other fields, or in another order, than page 1" in loaded.column_changes


def test_two_tenants_share_the_columns_of_a_table(tmp_path: Path) -> None:
    with open_lab(tmp_path, tenants=2) as lab:
        lab.serve(["A", "B"], [[1, "x"]])
        lab.load(own_report())
        other = lab.sandbox.tenants[1]
        with closing(
            connect(
                lab.sandbox,
                lab.clock,
                client_id=other.client_id,
                client_secret=SecretStr(other.client_secret),
                tenant_id=other.tenant_id,
            )
        ) as client:
            context = dataclasses.replace(lab.context, client=client)
            theirs = dataclasses.replace(lab, context=context)
            theirs.serve(["b", "A"], [["y", 0.5]], tenant=other.tenant_id)
            assert theirs.load(own_report()).column_changes == ()
        lab.clock.seconds += 100
        assert lab.load(own_report()).column_changes == (), "their field was never one of ours"
        rows = lab.query("SELECT _tenant_id, a, b, b_2 FROM reports.r ORDER BY 1")
        assert rows == [
            (lab.sandbox.tenant_id, Decimal(1), "x", None),
            (other.tenant_id, Decimal("0.5"), None, "y"),
        ]


def test_an_overtaken_load_reads_again_and_both_end_up_in_the_table(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another load of the report adds a column between the plan of this one and its commit."""
    report = own_report(from_parameter="From")
    lab.serve(["A"], [[1]], parameters=PERIOD[:1])
    lab.load(report, "2026-03-02")
    planned = rows_module.KeptPages.records
    calls = 0

    def overtaken(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            lab.serve(["A", "B"], [["x", 2]], parameters=PERIOD[:1])
            lab.load(report, "2026-03-03")
        return planned(*arguments)

    monkeypatch.setattr(rows_module.KeptPages, "records", overtaken)
    lab.load(report, "2026-03-04")

    found = lab.query("SELECT _partition_date::VARCHAR, a, b FROM reports.r ORDER BY 1")
    assert found == [("2026-03-02", "1", None), ("2026-03-03", "x", 2), ("2026-03-04", "x", 2)]


def test_a_row_that_is_not_valid_json_is_kept_as_it_was_served(lab: Lab) -> None:
    lab.serve(["A", "B"], [["x", 1]])

    def send(session: Any, *arguments: Any, **options: Any) -> Any:
        response = original(session, *arguments, **options)
        broken = response.body.replace(b'"x"', b'"\\ud800"')
        return dataclasses.replace(response, body=broken)

    original = client_module.send
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_module, "send", send)
        lab.load(own_report(contract="sync"))
    (row,) = lab.query("SELECT a, b, _extra::VARCHAR FROM reports.r")
    assert row[:2] == ("\ufffd", 1)
    assert "ud800" in row[2]


def test_a_report_can_be_verified(tmp_path: Path) -> None:
    with open_lab(tmp_path, simulated_date=True) as lab:
        lab.serve(["N"], [[1], [2]], parameters=PERIOD[:1])
        report = own_report(from_parameter="From")
        lab.load(report, "2026-03-08", "2026-03-09")
        endpoint = build_report_endpoint(report)
        found = verify_table(lab.context, endpoint, days=3)
        assert (found.same, found.rows_here, found.values) == (True, 4, True)
        lab.serve(["N"], [[1], [3]], parameters=PERIOD[:1])
        found = verify_table(lab.context, endpoint, days=3)
    assert sorted(d.kind for d in found.differences) == ["extra", "extra", "missing", "missing"]


LOAD_FOREVER = """
import sys, time
from contextlib import closing
from pathlib import Path
from st_pipelines_tests.report_lab import MovedClock, build_context, connect, own_report
from st_pipelines.catalog.model import build_report_endpoint
from st_pipelines.sync.sync import extract_load

class Url:
    url, client_id, client_secret, app_key, tenant_id = sys.argv[2:]

class RealTime(MovedClock):
    def sleep(self, seconds):
        time.sleep(0.05)

with closing(connect(Url, RealTime())) as client:
    context = build_context(client, Path(sys.argv[1]))
    extract_load(context, build_report_endpoint(own_report()), None)
"""


def test_the_next_load_frees_the_slot_of_a_killed_process(lab: Lab, tmp_path: Path) -> None:
    lab.serve(["N"], [[1]])
    behavior, queries = lab.sandbox.reports.settings, lab.sandbox.reports._queries
    behavior.running_seconds, behavior.slots = 1e6, 1
    box = lab.sandbox
    facts = [box.url, box.client_id, box.client_secret, box.app_key, box.tenant_id]
    command = [sys.executable, "-c", LOAD_FOREVER, str(tmp_path / "x.duckdb"), *facts]
    folder = tmp_path / ".report_queries"
    checkout = str(Path(__file__).parents[2])
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": checkout})
    try:
        wait_until(lambda: any(f.stat().st_size for f in folder.glob("*.token")), "token stored")
        assert QueryFiles(tmp_path, f"sandbox-{box.tenant_id}").leftovers() == []
    finally:
        process.kill()
        process.wait()
    (left,) = queries
    assert QueryFiles(tmp_path, f"sandbox-{box.tenant_id}").leftovers() == [left]
    assert [stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()] == [0o600]
    behavior.running_seconds = 0
    lab.clock.seconds += 100

    lab.load(own_report())

    assert lab.rows() == [{"n": 1}]
    assert (queries, list(folder.iterdir())) == ({}, [])


def test_without_anything_served_there_is_a_table_all_the_same(lab: Lab) -> None:
    lab.serve(["A", "B"], [])
    lab.load(own_report())
    assert lab.types() == {"a": "VARCHAR", "b": "VARCHAR"}
    lab.serve(["A", "B"], [[1, None]])
    lab.load(own_report())
    assert lab.types() == {"a": "BIGINT", "b": "VARCHAR"}
    assert lab.rows() == [{"a": 1, "b": None}]


def test_a_report_that_gets_days_later_loses_what_it_had_as_a_whole(lab: Lab) -> None:
    lab.serve(["N"], [[1], [2]], parameters=PERIOD[:1])
    whole = own_report(parameters={"From": "2026-03-01"})
    lab.load(whole)
    by_day = own_report(from_parameter="From")
    lab.load(by_day, "2026-03-02", "2026-03-03")
    assert lab.query("SELECT DISTINCT _partition_date::VARCHAR FROM reports.r ORDER BY 1") == [
        ("2026-03-02",),
        ("2026-03-03",),
    ]
    lab.load(whole)
    assert [row["n"] for row in lab.rows()] == [1, 2]


def test_a_report_without_fields_has_its_rows(lab: Lab) -> None:
    lab.serve([], [[], []])
    lab.load(own_report())
    assert lab.query("SELECT count(*) FROM reports.r") == [(2,)]
