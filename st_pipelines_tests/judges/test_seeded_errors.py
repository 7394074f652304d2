"""An error in any kind of catalog fact makes a judge fail; the packaged catalog makes none fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from st_pipelines.catalog.model import DateFilter, Endpoint, Field, ListOf, Scalar
from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines_tests.churn_reader import build_context, days
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.judges import catalog_judge
from st_pipelines_tests.judges.documents import needs_documents
from st_pipelines_tests.judges.request_judge import RequestLog

pytestmark = [
    needs_documents,
    pytest.mark.filterwarnings("ignore:Unsupported scheme type"),
]
CATALOG = packaged_catalog()
WHOLE = days("2026-03-10", "2026-03-10", open_start=True)
TODAY = days("2026-03-10", "2026-03-10")

Change = Callable[[Endpoint], Endpoint]


def change(**fields: Any) -> Change:
    return lambda endpoint: dataclasses.replace(endpoint, **fields)


def filtered(lower: str, upper: str) -> Change:
    return change(date_filter=DateFilter(lower=lower, upper=upper))


def typed(name: str, kind: Any) -> Change:
    def replace(endpoint: Endpoint) -> Endpoint:
        columns = tuple(Field(name, kind) if f.name == name else f for f in endpoint.columns)
        assert columns != endpoint.columns
        return dataclasses.replace(endpoint, columns=columns)

    return replace


def export_at(path: str) -> Change:
    def replace(endpoint: Endpoint) -> Endpoint:
        assert endpoint.export is not None
        return dataclasses.replace(endpoint, export=dataclasses.replace(endpoint.export, path=path))

    return replace


TEXT, NUMBER = Scalar("VARCHAR"), Scalar("BIGINT")
ERRORS: tuple[tuple[str, str, Change], ...] = (
    # a misspelled filter
    ("jpm.jobs", "lower bound", filtered("modifiedAfter", "modifiedBefore")),
    ("crm.customers", "upper bound", filtered("modifiedOnOrAfter", "modifiedOnBefore")),
    ("telecom.calls", "bounds of another list", filtered("dateFrom", "dateTo")),
    ("payroll.payrolls", "bounds of most lists", filtered("modifiedOnOrAfter", "modifedBefore")),
    ("accounting.payments", "active", change(params={"active": "Any"})),
    ("settings.employees", "includeInactive", change(params={"includeInactive": "true"})),
    ("dispatch.teams", "active", change(params={"active": "Any"})),
    ("jpm.jobs", "sort", change(sort="+JobId")),
    # a wrong variant or value
    ("accounting.ap_bills", "two of three", change(variants=({"billType": "Procurement"},))),
    ("accounting.ap_bills", "none", change(variants=())),
    ("accounting.ap_bills", "unknown", change(variants=({"billType": "Bill"},))),
    ("accounting.invoices", "unknown state", change(params={"activeState": "Any"})),
    ("crm.customers", "unknown active", change(params={"active": "All"})),
    ("crm.customers", "active only", change(params={})),
    (
        "marketing_ads.performance_by_ad_group",
        "unknown segmentation",
        change(params={"performanceSegmentationType": "Adgroup"}),
    ),
    # a wrong type
    ("jpm.jobs", "money as integer", typed("total", NUMBER)),
    ("jpm.jobs", "time as text", typed("completedOn", TEXT)),
    ("jpm.jobs", "list of texts", typed("tagTypeIds", ListOf(TEXT))),
    ("crm.customers", "boolean as text", typed("active", TEXT)),
    ("crm.customers", "object as text", typed("address", TEXT)),
    ("crm.customers", "text as integer", typed("name", NUMBER)),
    # a wrong key
    ("jpm.jobs", "key of another list", change(key=("customerId",))),
    ("jpm.jobs", "no key", change(key=())),
    ("payroll.payroll_settings", "half a key", change(key=("employeeType",))),
    ("jpm.job_history", "not exploded", change(explode=None, key=("id",))),
    # a wrong first page
    ("jpm.jobs", "page 0", change(first_page=0)),
    ("crm.customers", "page 2", change(first_page=2)),
    ("settings.business_units_intacct", "page 1", change(first_page=1)),
    # a wrong page limit
    ("accounting.journal_entries", "5,000", change(max_page_size=5000)),
    ("settings.business_units_intacct", "501", change(max_page_size=501)),
    ("accounting.journal_entries", "501", change(max_page_size=501)),
    # a wrong scope or path
    ("crm.customers", "scope of another list", change(scope="tn.crm.locations:r")),
    ("telecom.calls", "misspelled scope", change(scope="tn.tlc.call:r")),
    ("jpm.jobs", "scope to write", change(scope="tn.jpm.jobs:w")),
    ("jpm.jobs", "path", change(path="/jpm/v2/tenant/{tenant}/job")),
    ("jpm.jobs", "path of the export", export_at("/jpm/v2/tenant/{tenant}/jobs/export")),
)


def test_there_are_at_least_thirty_seeded_errors() -> None:
    assert len(ERRORS) >= 30


@pytest.mark.parametrize(
    ("table", "apply"), [(t, c) for t, _, c in ERRORS], ids=[f"{t}-{name}" for t, name, _ in ERRORS]
)
def test_a_seeded_error_makes_a_judge_fail(tmp_path: Path, table: str, apply: Change) -> None:
    assert [*find_errors(apply(CATALOG[table]), tmp_path / "x.duckdb")] != []


@pytest.mark.parametrize("table", sorted({table for table, _, _ in ERRORS}))
def test_the_packaged_facts_make_no_judge_fail(tmp_path: Path, table: str) -> None:
    assert [*find_errors(CATALOG[table], tmp_path / "x.duckdb")] == []


def test_no_column_and_no_scope_contradicts_the_documents() -> None:
    assert [f"{e.table}: {text}" for e in CATALOG for text in catalog_judge.judge(e)] == []


def find_errors(endpoint: Endpoint, file: Path) -> Iterator[str]:
    """Describe what the judges find: of the catalog, the requests of two loads, and the table."""
    yield from catalog_judge.judge(endpoint)
    log = RequestLog()
    with Sandbox(
        customers=12,
        history_days=30,
        now=NOW,
        scopes=[endpoint.scope],
        requests_per_second=1e9,
    ) as sandbox:
        log.listen(sandbox)
        try:
            yield from load_twice(sandbox, endpoint, file)
        except (ServiceTitanError, WarehouseError, duckdb.Error) as error:
            yield f"not loaded: {error}"
    yield from log.find_deviations()


def load_twice(sandbox: Sandbox, endpoint: Endpoint, file: Path) -> Iterator[str]:
    """Load everything, change a record, load today, and describe how the table differs.

    One record is inactive, so that a filter that hides such records is noticed.
    """
    context, true = build_context(sandbox, file, NO_WAIT), CATALOG[endpoint.table]
    keys = [] if true.by_day else [*sandbox.world.table(true.table).keys]
    if true.has_active and true.record_key == ("id",):
        sandbox.world.deactivate(true.table, keys[1])
    partitioned = strategy_for(endpoint).partitioned
    report = extract_load(context, endpoint, WHOLE if partitioned else None)
    yield from (f"drift at {path}" for path in report.drift.counts)
    if endpoint.by_day:
        return
    if true.partitioned and true.record_key == ("id",):
        sandbox.world.change(true.table, keys[0])
        sandbox.world.move(timedelta(minutes=5))
    extract_load(context, endpoint, TODAY if partitioned else None)
    yield from compare(sandbox, true, file)


def compare(sandbox: Sandbox, true: Endpoint, file: Path) -> Iterator[str]:
    """Describe how the number of rows differs from the source's."""
    served = sandbox.world.export_records(true.table)
    rows = sum(len(record[true.explode]) for record in served) if true.explode else len(served)
    with duckdb.connect(str(file), read_only=True) as connection:
        [(stored,)] = connection.execute(
            f"SELECT count(*) FROM {true.table} WHERE _deleted_at IS NULL"
        ).fetchall()
    if stored != rows:
        yield f"{stored} rows instead of {rows}"
