"""Every request that the pipeline sends is one that the vendor's documents describe."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl

import dagster as dg
import jwt
import pytest

import st_pipelines
from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.probes import probe_access
from st_pipelines.sync import children
from st_pipelines.sync.strategies import strategy_for
from st_pipelines_tests.children_reader import with_parents
from st_pipelines_tests.churn_reader import build_context
from st_pipelines_tests.daemon import ZONE, Daemon, one_event_log
from st_pipelines_tests.judges.documents import needs_documents
from st_pipelines_tests.judges.request_judge import RequestLog, SeenRequest, judge

pytestmark = [
    needs_documents,
    # openapi-core leaves OAuth to others: the judge reads the token itself.
    pytest.mark.filterwarnings("ignore:Unsupported scheme type"),
]
CATALOG = load_catalog()
SCOPES = sorted({endpoint.scope for endpoint in CATALOG})
"""What `st-pipelines scopes` tells users to grant, and no more."""
APPLICATION = "0b8c8b5e-9d3c-4f51-8a8b-2f1f6b1f2a7d"
NOW = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=10)
"""Not a fixed time: a verify reads each day of an aggregate up to the real one."""
TODAY = NOW.astimezone(ZONE).date()
START = TODAY - timedelta(days=2)


def configure(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", START.isoformat())


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A company whose clock stands still, and an app with the scopes that the catalog names."""
    with Sandbox(
        customers=8, history_days=20, now=NOW, scopes=SCOPES, requests_per_second=1e9
    ) as running:
        yield running


@pytest.fixture
def log(sandbox: Sandbox) -> RequestLog:
    log = RequestLog()
    log.listen(sandbox)
    return log


def days_of(endpoint: Endpoint) -> tuple[date, date] | tuple[()]:
    return (START, TODAY) if strategy_for(endpoint).partitioned else ()


@pytest.mark.parametrize("api", CATALOG.apis)
def test_loads_reconciles_and_verifies_send_what_the_documents_describe(
    sandbox: Sandbox, log: RequestLog, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    configure(sandbox, monkeypatch)
    monkeypatch.setenv("SERVICETITAN_EXTERNAL_DATA_APP_GUID", APPLICATION)
    monkeypatch.setenv("ST_MAX_CHILD_REQUESTS", "3")  # each request of a list is like the others
    monkeypatch.setattr(children, "PARENTS_TO_VERIFY", 3)
    endpoints = parents_first([endpoint for endpoint in CATALOG if endpoint.api == api])
    deleted_from = set()
    with st_pipelines.connect("production") as session:
        for endpoint in endpoints:
            session.load(endpoint.table, *days_of(endpoint))
            if delete_some(sandbox, endpoint):
                deleted_from.add(endpoint.path.replace("{tenant}", sandbox.tenant_id))
            session.reconcile(endpoint.table, accept_deletions=True)
            session.verify(endpoint.table, deep=True)
    assert log.find_deviations() == []
    templates = {path for endpoint in endpoints for path in list_paths(endpoint, sandbox)}
    # A small company may have no parent of some list.
    children_of = {e.path.replace("{tenant}", sandbox.tenant_id) for e in endpoints if e.parent}
    requested = {find_template(request.path, templates) for request in log.seen}
    assert requested | children_of == templates
    assert len(requested & children_of) >= len(children_of) / 2
    looked_up = {request.path for request in log.seen if "ids" in dict(request.query)}
    assert looked_up >= deleted_from


def parents_first(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints, each after the one that has the ids it needs."""
    ordered = (elder for endpoint in endpoints for elder in with_parents(endpoint.table))
    return list(dict.fromkeys(ordered))


def find_template(path: str, templates: Collection[str]) -> str | None:
    """The template that has this path; None if there is none."""
    if path in templates:
        return path
    patterns = {re.sub(r"{[^{}]+}", "[^/]+", template): template for template in templates}
    return next((t for pattern, t in patterns.items() if re.fullmatch(pattern, path)), None)


def list_paths(endpoint: Endpoint, sandbox: Sandbox) -> list[str]:
    templates = [endpoint.path, *([endpoint.export.path] if endpoint.export else [])]
    if endpoint.each_of:
        records = sandbox.world.records(endpoint.each_of)
        templates = [endpoint.path.replace("{id}", record["id"]) for record in records]
    return [template.replace("{tenant}", sandbox.tenant_id) for template in templates]


def delete_some(sandbox: Sandbox, endpoint: Endpoint) -> bool:
    """Deletes a few records, so that they are looked up by their ids; returns whether it did."""
    if not endpoint.can_look_up:
        return False
    keys = [*sandbox.world.table(endpoint.table).keys][:3]
    for key in keys:
        sandbox.world.delete(endpoint.table, key)
    return bool(keys)


@pytest.fixture
def daemon(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    configure(sandbox, monkeypatch)
    with (
        dg.DagsterInstance.local_temp(str(tmp_path), overrides=one_event_log(tmp_path)) as instance,
        closing(Daemon(instance, sandbox)) as daemon,
    ):
        yield daemon


def test_the_sensors_send_what_the_documents_describe(
    daemon: Daemon, sandbox: Sandbox, log: RequestLog
) -> None:
    probed = [endpoint for endpoint in CATALOG if strategy_for(endpoint).can_probe]
    report_loads(daemon, probed)
    daemon.sleep_until(NOW + timedelta(minutes=5))
    for name in ("changes", "gaps", "alerts", "changes", "changes"):
        daemon.tick_sensor(name, run=False)  # of a feed, the first tick finds the end
    paths = {request.path for request in log.seen}
    assert paths == {endpoint.path.replace("{tenant}", sandbox.tenant_id) for endpoint in probed}
    assert log.find_deviations() == []


def report_loads(daemon: Daemon, endpoints: list[Endpoint]) -> None:
    """Records a load up to now, as a sensor needs it to know what a change is."""
    metadata = {"window_end": dg.MetadataValue.timestamp(daemon.now + timedelta(seconds=1))}
    for endpoint in endpoints:
        key = ["production", endpoint.api, endpoint.name]
        load = dg.AssetMaterialization(key, partition=TODAY.isoformat(), metadata=metadata)
        daemon.instance.report_runless_asset_event(load)


def test_a_check_of_permissions_sends_what_the_documents_describe(
    sandbox: Sandbox, log: RequestLog, tmp_path: Path
) -> None:
    listed = [endpoint for endpoint in CATALOG if endpoint.parent is None]
    with closing(build_context(sandbox, tmp_path / "x.duckdb").client) as client:
        for endpoint in listed:
            probe_access(client.session(ReadStats()), endpoint)
    assert sum(log.seen.values()) == len(listed)
    assert log.find_deviations() == []


@pytest.mark.parametrize(
    ("request_", "deviation"),
    [
        ("jpm/v2/tenant/1/jobs?jobStatus=Fixed", "Invalid query parameter: jobStatus"),
        ("jpm/v2/tenant/1/jobs?page=one", "Query parameter error: page"),
        ("jpm/v2/tenant/1/jobs?createdBefore=2026-03-10", "Invalid query parameter: createdBefore"),
        ("jpm/v2/tenant/1/jobs?includeTotal=maybe", "Query parameter error: includeTotal"),
        ("jpm/v2/tenant/1/jobs?changedBefore=2026-03-10T00:00:00Z", "changedBefore is not a"),
        ("jpm/v2/tenant/1/jobs?ids=1&ids=2", "ids is given 2 times"),
        ("jpm/v2/tenant/1/jobs?pageSize=5001", "pageSize 5001 exceeds 5000"),
        ("jpm/v2/tenant/1/jobs?page=0", "page 0 comes before the first, 1"),
        ("jpm/v2/tenant/1/jobs?ids=" + "1," * 50 + "1", "more than 50 ids"),
        ("jpm/v2/tenant/1/jobs?sort=%2BJobId", "sort +JobId is not one of"),
        ("jpm/v2/tenant/1/job", "no such operation"),
        ("accounting/v2/tenant/1/journal-entries?pageSize=501", "pageSize 501 exceeds 500"),
        ("inventory/v2/tenant/1/return-types", "Missing required query parameter: activeOnly"),
        ("crm/v2/tenant/1/customers", "the token lacks the scope tn.crm.customers:r"),
    ],
)
def test_the_judge_finds(request_: str, deviation: str) -> None:
    path, _, query = request_.partition("?")
    claims = {"scope": ["tn.jpm.jobs:r", "tn.acc.journalentries:r", "tn.inv.returntypes:r"]}
    headers = (("authorization", jwt.encode(claims, "x" * 32)), ("st-app-key", "ak1.x"))
    request = SeenRequest("get", f"/{path}", tuple(parse_qsl(query)), headers)
    [found] = judge(request)
    assert found.startswith(deviation)


def test_the_judge_finds_missing_credentials() -> None:
    [first, second] = judge(SeenRequest("get", "/jpm/v2/tenant/1/jobs", (), ()))
    assert "Security not found" in first
    assert second == "the token lacks the scope tn.jpm.jobs:r"
