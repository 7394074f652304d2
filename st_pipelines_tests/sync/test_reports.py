"""Reports, loaded from the sandbox over HTTP: tables equal what the reports serve."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.model import snake_case
from st_pipelines.catalog.report import RelativeDate, Report
from st_pipelines.sandbox.report_definitions import PERIOD
from st_pipelines_tests.report_lab import Lab, comparable, open_lab, own_report
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
