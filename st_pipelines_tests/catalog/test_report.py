"""Dates that a report's parameters compute, and the values that are sent."""

from __future__ import annotations

from datetime import date

import pytest

from st_pipelines.catalog.report import RelativeDate, Report

TODAY, DAY = date(2026, 3, 31), date(2024, 2, 29)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", "2026-03-31"),
        ("yesterday", "2026-03-30"),
        ("today-30d", "2026-03-01"),
        ("today + 1d", "2026-04-01"),
        ("today-2w", "2026-03-17"),
        ("today-1m", "2026-02-28"),
        ("today-13m", "2025-02-28"),
        ("month_start", "2026-03-01"),
        ("month_start-1m", "2026-02-01"),
        ("quarter_start", "2026-01-01"),
        ("year_start-1y", "2025-01-01"),
        ("day", "2024-02-29"),
        ("day-1y", "2023-02-28"),
    ],
)
def test_a_relative_date_is_computed(text: str, expected: str) -> None:
    assert RelativeDate(text).resolve(TODAY, DAY).isoformat() == expected


@pytest.mark.parametrize("text", ["", "tomorrow", "today-", "today-3", "today-3h", "today--1d"])
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a relative date: give one of today, .* -30d"):
        RelativeDate(text)


def test_a_date_beyond_the_calendar_names_the_parameter() -> None:
    report = Report(
        name="r", category="c", report=1, parameters={"Since": RelativeDate("today-9999y")}
    )
    with pytest.raises(ValueError, match=r"report r: parameter Since: .* out of the calendar"):
        report.parameter_values(TODAY, None)


def test_the_day_goes_into_the_parameters_that_define_partitions() -> None:
    report = Report(
        name="r",
        category="c",
        report=1,
        parameters={"Ids": (1, 2), "Since": RelativeDate("day-1m"), "Flag": True},
        from_parameter="From",
        to_parameter="To",
    )
    assert report.parameter_values(TODAY, DAY) == {
        "Ids": [1, 2],
        "Since": "2024-01-29",
        "Flag": True,
        "From": "2024-02-29",
        "To": "2024-02-29",
    }
