"""The asset checks: each passes on a correct load and fails on a table that was tampered with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from st_pipelines.catalog.model import Catalog, DateFilter
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.definitions import build_definitions
from st_pipelines.defs.checks import ROWS, SCHEMA_DRIFT, check_results, rules_of
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.sync import LoadReport, extract_load
from st_pipelines.warehouse.tables.load import Loaded
from st_pipelines.warehouse.tables.load_facts import count_facts
from st_pipelines.warehouse.tables.table_load import TableLoad
from st_pipelines_tests.churn_reader import build_context, days
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

CATALOG = load_catalog()
WHOLE = days("2026-02-01", "2026-03-10", open_start=True)
LAST_DAY = days("2026-03-08", "2026-03-10")
FORMS = (
    "jpm.jobs",
    "telecom.calls",
    "accounting.ap_bills",
    "jpm.job_history",
    "settings.user_roles",
    "marketing_reputation.reviews",
    "payroll.locations_rates",
    "customer_interactions.technician_ratings",
    "marketing_ads.performance_by_campaign",
)


REPORT = LoadReport(
    endpoint=endpoint(),
    window=None,
    seconds=0,
    read=ReadStats(requests=1, readings=1),
    loaded=Loaded(),
)


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    """A company of a few customers and weeks. Only read from it."""
    with Sandbox(customers=30, history_days=40, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """The same company, for a test to change."""
    with Sandbox(customers=30, history_days=40, now=NOW, requests_per_second=1e9) as running:
        yield running


def load(sandbox: Sandbox, file: Path, table: str, range_=WHOLE) -> LoadReport:
    of = CATALOG[table]
    return extract_load(build_context(sandbox, file), of, range_ if of.partitioned else None)


def tamper(file: Path, sql: str) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute(sql)


def results(report: LoadReport) -> tuple[dg.AssetCheckResult, dg.AssetCheckResult]:
    rows, drift = check_results(report)
    assert (rows.check_name, drift.check_name) == (ROWS, SCHEMA_DRIFT)
    return rows, drift


def test_an_asset_has_both_checks_and_only_rules_that_can_fail() -> None:
    names = {t: [rule.name for rule in rules_of(CATALOG[t])] for t in FORMS}
    counts = ["row_count", "no_sudden_drop"]
    by_day = [*counts, "in_warehouse"]
    in_days = ["in_partition", "in_window"]
    assert names["jpm.jobs"] == ["key_unique", "key_not_null", *in_days, *by_day]
    assert names["settings.user_roles"] == ["key_unique", "key_not_null", *counts]
    assert names["marketing_reputation.reviews"] == [*in_days, *by_day]
    assert names["marketing_ads.performance_by_campaign"] == by_day
    few = Catalog({t: CATALOG[t] for t in FORMS})
    graph = build_definitions("production", catalog=few).resolve_asset_graph()
    for of in few:
        key = dg.AssetKey(["production", of.api, of.name])
        assert {c.name for c in graph.asset_check_keys if c.asset_key == key} == {
            ROWS,
            SCHEMA_DRIFT,
        }
        assert graph.get(key).freshness_policy is not None


@pytest.mark.parametrize("table", FORMS)
def test_all_checks_pass_on_a_load_and_on_the_same_load_again(
    small: Sandbox, tmp_path: Path, table: str
) -> None:
    range_ = days("2026-03-07", "2026-03-10") if CATALOG[table].by_day else WHOLE
    for _ in range(2):
        report = load(small, tmp_path / "x.duckdb", table, range_)
        assert report.loaded.rows_read > 0
        for result in results(report):
            assert result.passed, result.description
    assert report.loaded.facts.rows_before == report.loaded.table_rows


def test_a_list_that_ignores_its_date_filter_is_reported_once_and_loaded_correctly(
    small: Sandbox, tmp_path: Path
) -> None:
    jobs = CATALOG["jpm.jobs"]
    ignored = dataclasses.replace(jobs, date_filter=DateFilter(lower="since", upper="until"))
    context = build_context(small, tmp_path / "x.duckdb")
    load(small, tmp_path / "x.duckdb", "jpm.jobs")
    report = extract_load(context, ignored, LAST_DAY)
    result, drift = results(report)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert result.description
    assert f"of {len(small.world.records('jpm.jobs')):,} records are from outside" in (
        result.description
    )
    assert "ignore since and until" in result.description
    assert result.description.startswith("in_window: ")
    assert drift.passed
    assert report.loaded.counts.inserted == report.loaded.counts.deleted == 0


OUTSIDE = "_partition_date < '2026-03-08'"
TAMPERINGS = {
    "key_unique": ("INSERT INTO {t} FROM (FROM {t} WHERE {o} LIMIT 1)", "1 keys have more", True),
    "key_not_null": ("UPDATE {t} SET id = NULL WHERE id = {id}", "1 rows lack id", True),
    "in_partition": (
        "UPDATE {t} SET _partition_date = _partition_date - 1 WHERE id = {id}",
        "1 rows are not in the local day of their modifiedOn ({id} ",
        True,
    ),
    "row_count": (
        "INSERT INTO {t} BY NAME SELECT * REPLACE (9 AS id) "
        "FROM (FROM {t} WHERE NOT ({o}) LIMIT 1)",
        "the table has 1 more rows",
        False,
    ),
    "no_sudden_drop": (
        "DELETE FROM {t} WHERE {o}",
        "the table had {n:,} rows and has",
        False,
    ),
}


@pytest.mark.parametrize("rule", TAMPERINGS)
def test_a_rule_fails_on_a_table_that_was_tampered_with(
    small: Sandbox, tmp_path: Path, rule: str
) -> None:
    # a row that should not be there would be looked up and marked where there are ids to ask for
    table = "payroll.jobs_timesheets" if rule == "row_count" else "jpm.appointments"
    file = tmp_path / "x.duckdb"
    loaded = load(small, file, table).loaded.table_rows
    with duckdb.connect(str(file)) as connection:
        [(id_,)] = connection.execute(f"SELECT min(id) FROM {table} WHERE {OUTSIDE}").fetchall()
    sql, told, certain = TAMPERINGS[rule]
    tamper(file, sql.format(t=table, o=OUTSIDE, id=id_))
    result, _ = results(load(small, file, table, LAST_DAY))
    assert not result.passed
    assert (result.severity == dg.AssetCheckSeverity.ERROR) == certain
    text = str(result.metadata[rule].value)
    assert told.format(n=loaded, id=id_) in text
    assert result.description == f"{rule}: {text}", "and no other rule"


def test_rows_of_another_tenant_and_deleted_ones_are_left_out(
    small: Sandbox, tmp_path: Path
) -> None:
    file, table = tmp_path / "x.duckdb", "jpm.appointments"
    load(small, file, table)
    other = "SELECT * REPLACE ('x' AS _tenant_id, DATE '2020-01-01' AS _partition_date)"
    tamper(file, f"INSERT INTO {table} BY NAME {other} FROM {table}")
    deleted = "SELECT * REPLACE (9 AS id, now() AS _deleted_at)"
    tamper(
        file,
        f"INSERT INTO {table} BY NAME {deleted} FROM (FROM {table} WHERE NOT ({OUTSIDE}) "
        "AND _tenant_id <> 'x' LIMIT 1)",
    )
    result, _ = results(load(small, file, table))
    assert result.passed, result.description


def test_a_row_that_was_read_and_is_not_in_the_table_is_found(place: Place) -> None:
    of, what = endpoint(), place.what()
    place.load([record(id=1)], of)
    with place.staged(of, what) as (staging, typed):
        typed.add(staging.add(b"[" + b",".join([ONE, TWO]) + b"]"))
        typed.finish()
        with place.warehouse.attach(typed.connection):
            facts = count_facts(TableLoad(typed.connection, of, what))
    assert (facts.lost, facts.not_read, facts.distinct_read) == (1, 0, 2)


ONE = b'{"id":1,"modifiedOn":"2026-01-02T03:04:05Z"}'
TWO = b'{"id":2,"modifiedOn":"2026-01-02T03:04:05Z"}'


def test_fewer_records_than_servicetitan_reports_are_an_error(
    small: Sandbox, tmp_path: Path
) -> None:
    report = load(small, tmp_path / "x.duckdb", "jpm.jobs")
    assert report.source_total == report.loaded.rows_read
    total = ReadStats(total=report.loaded.rows_read + 1)
    lacking = dataclasses.replace(report, read=total)
    result, _ = results(lacking)
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.ERROR
    facts = dataclasses.replace(report.loaded.facts, lost=2)
    lost = dataclasses.replace(report, loaded=dataclasses.replace(report.loaded, facts=facts))
    assert "2 of them are not in the table" in str(results(lost)[0].description)


@pytest.mark.parametrize(("rows", "passes"), [(20, False), (60, True)])
def test_a_window_is_compared_with_those_of_its_weekday(
    place: Place, rows: int, passes: bool
) -> None:
    start, day = datetime(2026, 6, 8, 4, tzinfo=timezone.utc), timedelta(days=1)
    for weeks in (4, 3, 2, 1):  # shorter ones of the weekday, and those of the day before
        monday = start - timedelta(weeks=weeks)
        earlier = monday - timedelta(weeks=4)
        load_window(place, earlier, earlier + day / 3, 1)
        load_window(place, monday - day, monday, 1)
    for weeks, held in ((4, 100), (3, 120), (2, 110), (1, 130), (0, rows)):
        monday = start - timedelta(weeks=weeks)
        if weeks:  # once more, when most of its records had changed on a later day
            load_window(place, monday, monday + day, held)
            load_window(place, monday, monday + day, 5)
        else:
            loaded = load_window(place, monday, monday + day, held)
    assert loaded.facts.usual_rows == 115
    assert loaded.rows_read == rows
    report = dataclasses.replace(REPORT, loaded=loaded)
    result, _ = results(report)
    assert result.passed == passes
    if not passes:
        assert "20 records read, where such a window usually has 115" in str(result.description)


def test_a_window_that_is_loaded_late_is_not_compared(place: Place) -> None:
    start, day = datetime(2026, 6, 8, 4, tzinfo=timezone.utc), timedelta(days=1)
    for weeks, usual in ((4, None), (3, None), (2, None), (1, 1)):  # from three others on
        monday = start - timedelta(weeks=weeks)
        assert load_window(place, monday, monday + day, 1).facts.usual_rows == usual
    assert load_window(place, start, start + day, 1).facts.usual_rows == 1
    late = load_window(place, start, start + day, 1, after=timedelta(days=2))
    assert late.facts.usual_rows is None


def load_window(
    place: Place, start: datetime, end: datetime, rows: int, after: timedelta = timedelta(hours=2)
) -> Loaded:
    one = record(modifiedOn=start.isoformat().replace("+00:00", "Z"))
    records = [one | {"id": number + int(start.timestamp())} for number in range(rows)]
    loaded, _ = place.load(records, window_start=start, window_end=end, loaded_at=end + after)
    return loaded


def test_drift_is_reported_with_path_type_example_and_number(own: Sandbox, tmp_path: Path) -> None:
    for number, one in enumerate(own.world.records("jpm.jobs")[:3]):
        own.world.change("jpm.jobs", one["id"], novel={"a": number}, jobNumber=[7])
    _, result = results(load(own, tmp_path / "x.duckdb", "jpm.jobs"))
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "novel: object of 7 characters in 3 records" in str(result.description)
    table = result.metadata["drift"]
    assert isinstance(table, dg.TableMetadataValue)
    told = {str(row.data["path"]): row.data for row in table.records}
    assert told["novel"]["expected"] == "unknown field"
    assert told["novel"]["records"] == 3
    assert (told["jobNumber"]["found"], told["jobNumber"]["example"]) == (
        "array",
        "array of 3 characters",
    )
    assert told["jobNumber"]["expected"] == "expected VARCHAR"


def test_a_field_that_stops_coming_is_reported(own: Sandbox, tmp_path: Path) -> None:
    table = "jpm.appointments"
    load(own, tmp_path / "x.duckdb", table)
    for one in own.world.records(table):
        own.world.change(table, one["id"], appointmentNumber=None)
    _, result = results(load(own, tmp_path / "x.duckdb", table))
    assert str(result.description).startswith("appointment_number: nothing in ")
    assert "100% of the rows had a value before" in str(result.description)


def test_the_checks_of_a_range_are_events_of_its_run(
    small: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in small.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    few = Catalog({t: CATALOG[t] for t in ("jpm.jobs", "settings.user_roles")})
    materialize = build_definitions("production", catalog=few).resolve_implicit_global_asset_job_def
    tags = {
        "dagster/asset_partition_range_start": "2026-03-09",
        "dagster/asset_partition_range_end": "2026-03-10",
    }
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        first = materialize().execute_in_process(instance=instance, tags=tags)
        evaluations = first.get_asset_check_evaluations()
        twice = "INSERT INTO settings.user_roles FROM (FROM settings.user_roles LIMIT 1)"
        tamper(tmp_path / "data" / "production.duckdb", twice)
        second = materialize().execute_in_process(instance=instance, tags=tags)
    assert len(evaluations) == 4
    assert all(evaluation.passed for evaluation in evaluations)
    assert second.success, "a failed check does not fail the load"
    [failed] = [e for e in second.get_asset_check_evaluations() if not e.passed]
    assert (failed.asset_key.path[-1], failed.check_name) == ("user_roles", ROWS)
