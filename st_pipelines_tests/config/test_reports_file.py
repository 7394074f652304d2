"""`st_reports.yaml`: what it may say, and what the errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipelines.catalog.report import RelativeDate
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.reports_file import add_report, read_reports

FULL = """
reports:
  - name: revenue
    category: business-unit-dashboard
    report: 1482
    parameters:
      BusinessUnitIds: [12, 15]
      Since: {date: month_start-1m}
      Until: 2026-01-31
      Time: 12:30
      Code: 007
      Share: 0.5
      Active: true
    days: {from: From, to: To}
    look_back_days: 3
    schedule: "30 5 * * *"
    contract: sync
    environments: [production]
  - {name: calls, category: Operations, report: Calls and Bookings}
"""
ENTRY = "reports:\n  - name: r\n    category: c\n    report: 1\n"


def write(text: str) -> Path:
    file = Path("st_reports.yaml").absolute()
    file.write_text(text, encoding="utf-8")
    return file


def test_an_entry_has_values_as_they_were_written() -> None:
    revenue, calls = read_reports(write(FULL))
    assert revenue.parameters == {
        "BusinessUnitIds": (12, 15),
        "Since": RelativeDate("month_start-1m"),
        "Until": "2026-01-31",
        "Time": "12:30",
        "Code": "007",
        "Share": 0.5,
        "Active": True,
    }
    assert (revenue.from_parameter, revenue.to_parameter) == ("From", "To")
    assert (revenue.look_back_days, revenue.schedule) == (3, "30 5 * * *")
    assert (revenue.contract, revenue.environments) == ("sync", ("production",))
    assert revenue.by_day
    assert not calls.by_day
    assert calls.report == "Calls and Bookings"


@pytest.mark.parametrize("text", ["", "reports:\n", "reports: []\n", "# nothing\n"])
def test_a_file_may_be_empty(text: str) -> None:
    assert read_reports(write(text)) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reports: 5", r"expected `reports:` with a list"),
        ("report: []", r"unknown member 'report': it may have `reports` alone"),
        ("reports:\n  - 5", r"report 1: expected members such as `name: revenue`"),
        ("reports:\n  - category: c", r"report 1: `name` is missing: give the table's name"),
        ("reports:\n  - name: r", r"report 1 \(r\): `category` is missing: st-pipelines reports"),
        (ENTRY.replace("1", "0"), r"report 1 \(r\): report: 0 is neither an id .* nor a report's"),
        (ENTRY.replace("1", "[1]"), r"report: \[1\] is neither an id"),
        (ENTRY.replace(" c\n", " [c]\n"), r"category: \['c'\] is neither an id nor a name"),
        (ENTRY.replace(" r\n", " My Table\n"), r"'My Table' is not a table's name: use lower"),
        (
            ENTRY + "    lookback: 3",
            r"unknown member 'lookback': did you mean look_back",
        ),
        (ENTRY + "    days: From", r"days: name the date parameters .* `days: \{from: From"),
        (ENTRY + "    days: {form: From}", r"days: unknown member 'form': did you mean from\?"),
        (ENTRY + "    days: {from: 3}", r"days: 3 is not the name of a parameter"),
        (ENTRY + "    look_back_days: 3", r"look_back_days needs `days`"),
        (
            ENTRY + "    days: {from: F}\n    look_back_days: -1",
            r"-1 is not a number of days",
        ),
        (ENTRY + "    schedule: often", r"schedule: write it as five fields: .*; or none"),
        (ENTRY + "    contract: soap", r"contract: 'soap': give one of auto, async, sync"),
        (
            ENTRY + "    environments: [prod]",
            r"'prod': give one of production, integration",
        ),
        (ENTRY + "    environments: []", r"environments: give a list, such as \[production\]"),
        (ENTRY + "    parameters: [1]", r"parameters: expected names and values"),
        (ENTRY + "    parameters: {A: }", r"parameter A: has no value: give one, or remove"),
        (ENTRY + "    parameters: {A: {b: 1}}", r"parameter A: give a value, a list of values, or"),
        (
            ENTRY + "    parameters: {A: {date: soon}}",
            r"A: 'soon' is not a relative date",
        ),
        (ENTRY + "    parameters: {A: {date: day}}", r"a date from `day` needs `days`"),
        (ENTRY + "    parameters: {A: [{date: day}]}", r"a date from `day` needs `days`"),
        (ENTRY + "    parameters: {1: a}", r"parameters: 1 is not a name: put it in quotes"),
        (ENTRY + "    parameters: {A: 2026-01-01 10:00:00}", r"put a time in quotes"),
        (
            ENTRY + "    parameters: {From: 2026-01-01}\n    days: {from: From}",
            r"parameter From gets the day, as `days` says: remove it from",
        ),
        (ENTRY + ENTRY.partition("\n")[2], r"two reports are named 'r': name tables differently"),
        (ENTRY + "    name: s", r", line 2: is not valid YAML: 'name' comes twice"),
        ("reports: [", r", line 1: is not valid YAML"),
        ("reports:\n\t- a", r", line 2: is not valid YAML"),
        ("\x00", r"is not valid YAML"),
    ],
)
def test_an_error_names_the_file_the_entry_and_what_to_do(text: str, message: str) -> None:
    file = write(text)
    with pytest.raises(SettingsError, match=message) as error:
        read_reports(file)
    assert str(error.value).startswith(str(file))


def test_a_file_that_is_not_utf_8_or_not_readable_is_named(tmp_path: Path) -> None:
    file = tmp_path / "reports.yaml"
    file.write_bytes(b"reports: \xff")
    with pytest.raises(SettingsError, match=r"reports.yaml: is not UTF-8 text: save it as UTF-8"):
        read_reports(file)


def test_two_environments_may_have_reports_of_one_name() -> None:
    entry = "  - {name: r, category: c, report: %d, environments: [%s]}\n"
    write("reports:\n" + entry % (1, "production") + entry % (2, "integration"))
    assert [r.report for r in resolve_environment("production").reports] == [1]
    assert [r.report for r in resolve_environment("integration").reports] == [2]
    assert resolve_environment("sandbox").reports == ()


def test_reports_are_in_the_catalog_whatever_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    write(ENTRY)
    monkeypatch.setenv("SERVICETITAN_SELECT", "jpm.jobs")
    tables = [endpoint.table for endpoint in resolve_environment("production").apply_selection()]
    assert tables == ["jpm.jobs", "reports.r"]
    Path("elsewhere.yaml").write_text(ENTRY.replace(" r\n", " other\n"))
    monkeypatch.setenv("ST_REPORTS", "elsewhere.yaml")
    assert "reports.other" in resolve_environment("production").apply_selection().endpoints


def test_a_change_of_the_file_is_seen() -> None:
    assert len(read_reports(write(ENTRY))) == 1
    assert len(read_reports(write(FULL))) == 2


def test_adding_keeps_what_people_have_written() -> None:
    file = Path("st_reports.yaml").absolute()
    entry = {"name": "a", "category": "c", "report": 7, "days": {"from": "From"}}
    add_report(file, entry, {"report": "Jobs: all\nof them"})
    file.write_text(file.read_text().replace("  - name: a", "  # mine\n  - name: a"))
    before = file.read_text()

    added = add_report(file, {"name": "b", "category": "c", "report": "No: 8"})

    assert added.report == "No: 8"
    assert file.read_text().startswith(before)
    assert "report: 7  # Jobs: all of them\n" in before
    assert [report.name for report in read_reports(file)] == ["a", "b"]


def test_adding_refuses_a_second_report_of_one_name_and_changes_nothing() -> None:
    file = write(ENTRY)
    with pytest.raises(SettingsError, match="two reports are named 'r'"):
        add_report(file, {"name": "r", "category": "c", "report": 2})
    assert file.read_text() == ENTRY


@pytest.mark.parametrize("text", ["reports: [{name: r, category: c, report: 1}]\n", "- {}\n"])
def test_adding_to_a_list_of_another_form_shows_the_entry(text: str) -> None:
    file = write(text)
    with pytest.raises(SettingsError) as error:
        add_report(file, {"name": "s", "category": "c", "report": 2})
    assert file.read_text() == text
    assert (
        "name: s" in str(error.value)
        or "expected members" in str(error.value)
        or ("`name` is missing" in str(error.value))
    )
