"""Endpoints of the user's YAML file: loaded like those of the catalog, with columns as served."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from st_pipelines.cli.app import app
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import load_catalog, resolve_environment
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.session import connect
from st_pipelines_tests.churn_reader import query
from st_pipelines_tests.sync.opportunities import FEED, YAML, Opportunities, opportunity

TABLE = "salestech.opportunities"
COLUMNS = (
    "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'opportunities' "
    "AND schema_name = 'salestech' AND column_name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY 1"
)


@pytest.fixture
def source(own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Opportunities:
    """Nine opportunities of an environment that has only them."""
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    monkeypatch.setenv("SERVICETITAN_SELECT", TABLE)
    Path("st_endpoints.yaml").write_text(YAML)
    source = Opportunities([opportunity(number) for number in range(1, 10)])
    source.serve(own_sandbox)
    return source


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def load() -> None:
    """Loads the days of all opportunities, or the whole collection where it has no days."""
    with connect("production") as session:
        days = () if resolve_kind() == "snapshot" else ("2026-03-01", "2026-03-10")
        session.load(TABLE, *days)


def resolve_kind() -> str:
    return load_catalog()[TABLE].kind


def find_warehouse() -> Path:
    return Path("data/production.duckdb")


def test_the_command_line_loads_it(
    source: Opportunities, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    result = run("load", "--environment", "production", "--to", "2026-03-10")
    assert result.exit_code == 0, result.output
    sql = f"SELECT count(*), sum(amount) FROM {TABLE}"
    assert query(find_warehouse(), sql) == [(9, Decimal("47.25"))]


def test_a_file_alone_makes_a_table_of_what_is_served(source: Opportunities) -> None:
    load()
    assert query(find_warehouse(), COLUMNS) == [
        ("amount", "DECIMAL(38,10)"),
        ("customer", "STRUCT(id BIGINT, tags BIGINT[])"),
        ("id", "BIGINT"),
        ("modified_on", "TIMESTAMP WITH TIME ZONE"),
        ("name", "VARCHAR"),
        ("open", "BOOLEAN"),
    ]
    rows = query(
        find_warehouse(),
        f'SELECT id, "name", amount, "open", customer, _partition_date, _extra FROM {TABLE} '
        "ORDER BY id",
    )
    assert rows == [
        (
            number,
            f"Opportunity {number}",
            Decimal(f"{number}.25"),
            number % 2 == 0,
            {"id": 10 * number, "tags": [number, number + 1]},
            date(2026, 3, 1 + number % 9),
            '{"lostReason":null}',
        )
        for number in range(1, 10)
    ]
    assert all(query_.get("active") == "Any" for _, query_ in source.seen)
    assert {query_["sort"] for _, query_ in source.seen} == {"+Id"}


def test_later_fields_and_other_types_become_columns_with_the_load(source: Opportunities) -> None:
    load()
    late = "2026-03-10T15:00:00Z"
    source.records[0] |= {"modifiedOn": late, "lostReason": "price", "stage": {"name": "Lost"}}
    source.records.append(opportunity(20, modifiedOn=late, amount="unknown"))
    load()
    types = dict(query(find_warehouse(), COLUMNS))
    assert types["lost_reason"] == "VARCHAR"
    assert types["stage"] == 'STRUCT("name" VARCHAR)'
    assert types["amount"] == "VARCHAR"
    sql = f"SELECT id, amount, lost_reason, stage.name, _extra FROM {TABLE} WHERE id IN (1, 2, 20)"
    assert query(find_warehouse(), sql + " ORDER BY id") == [
        (1, "1.2500000000", "price", "Lost", None),
        (2, "2.2500000000", None, None, None),
        (20, "unknown", None, None, None),
    ]
    known = json.loads(Path("st_catalog.json").read_text())[TABLE]
    assert known["lostReason"] == "VARCHAR"
    load()
    assert query(find_warehouse(), f"SELECT count(*) FROM {TABLE}") == [(10,)]


def test_dagster_materializes_it_by_days(
    source: Opportunities, own_sandbox: Sandbox, tmp_path: Path
) -> None:
    definitions = build_definitions("production", clock=lambda: own_sandbox.world.now)
    key = dg.AssetKey(["production", "salestech", "opportunities"])
    assert set(definitions.resolve_all_asset_keys()) == {key}
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for day in ("2026-03-02", "2026-03-03"):
            result = job.execute_in_process(instance=instance, partition_key=day)
            assert result.success
        [event] = result.get_asset_materialization_events()
    assert event.asset_key == key
    sql = f"SELECT id, amount FROM {TABLE} ORDER BY id"
    assert query(find_warehouse(), sql) == [(1, Decimal("1.25")), (2, Decimal("2.25"))]


def test_its_feed_tells_what_the_list_does_not(source: Opportunities) -> None:
    Path("st_endpoints.yaml").write_text(f"{YAML}  export:\n    path: {FEED}\n")
    load()
    sql = f"SELECT id, active FROM {TABLE} ORDER BY id"
    assert query(find_warehouse(), sql)[:4] == [(1, True), (2, True), (3, False), (4, True)]


def test_a_feed_alone_is_a_table(source: Opportunities) -> None:
    Path("st_endpoints.yaml").write_text(
        f"{TABLE}:\n  path: {FEED}\n  scope: tn.sal.opportunities:r\n"
        "  envelope: export\n  cursor: modifiedOn\n"
    )
    load()
    assert query(find_warehouse(), f"SELECT count(*), min(amount) FROM {TABLE}") == [
        (9, Decimal("1.25"))
    ]


def test_a_collection_without_a_filter_is_read_whole(source: Opportunities) -> None:
    Path("st_endpoints.yaml").write_text(
        YAML.replace("  cursor: modifiedOn\n", "").replace(
            "  date_filter: {lower: modifiedOnOrAfter, upper: modifiedBefore}\n", ""
        )
    )
    load()
    del source.records[4]
    load()
    sql = f"SELECT count(*), count(_deleted_at) FROM {TABLE}"
    assert query(find_warehouse(), sql) == [(9, 1)]


def test_declared_columns_stay_and_the_rest_is_kept_aside(source: Opportunities) -> None:
    columns = "{id: BIGINT, modifiedOn: TIMESTAMPTZ, amount: DOUBLE, customer: {id: BIGINT}}"
    Path("st_endpoints.yaml").write_text(f"{YAML}  columns: {columns}\n")
    load()
    assert dict(query(find_warehouse(), COLUMNS)) == {
        "amount": "DOUBLE",
        "customer": "STRUCT(id BIGINT)",
        "id": "BIGINT",
        "modified_on": "TIMESTAMP WITH TIME ZONE",
    }
    extra = query(find_warehouse(), f"SELECT _extra->>'name' FROM {TABLE} WHERE id = 4")
    assert extra == [("Opportunity 4",)]
    assert not Path("st_catalog.json").exists()
    result = run("catalog", "adopt", "--environment", "production")
    assert result.exit_code == 0, result.output
    assert query(find_warehouse(), f'SELECT "name" FROM {TABLE} WHERE id = 4') == [
        ("Opportunity 4",)
    ]


def test_an_empty_collection_is_an_empty_table_until_it_has_records(
    source: Opportunities,
) -> None:
    records, source.records = source.records, []
    load()
    assert query(find_warehouse(), f"SELECT count(*) FROM {TABLE}") == [(0,)]
    source.records = [{**record, "id": f"op-{record['id']}"} for record in records]
    load()
    assert query(find_warehouse(), f"SELECT min(id) FROM {TABLE}") == [("op-1",)]


def test_it_is_reconciled_verified_and_listed(source: Opportunities) -> None:
    load()
    del source.records[2]
    with connect("production") as session:
        session.reconcile(TABLE)
        assert not session.verify(TABLE).differences
    sql = f"SELECT id FROM {TABLE} WHERE _deleted_at IS NOT NULL"
    assert query(find_warehouse(), sql) == [(3,)]
    listed = json.loads(run("endpoints", "--api", "salestech", "--format", "json").output)
    assert {"amount", "id"} <= {
        column["name"]
        for endpoint in listed
        if endpoint["table"] == TABLE
        for column in endpoint["columns"]
    }
    assert "tn.sal.opportunities:r" in run("scopes", "--select", TABLE).output


@pytest.mark.parametrize(
    ("records", "more", "complaint"),
    [
        ([{"modifiedOn": "2026-03-02T15:00:00Z"}], "", "key: its records have no value in id"),
        ([opportunity(1, id={"a": 1})], "", "key: id is not a single value in its records"),
        (
            [opportunity(1), opportunity(2, modifiedOn="2026-03-yesterday")],
            "",
            "cursor: modifiedOn is not a time in its records",
        ),
        ([opportunity(1)], "changedOn", "cursor: its records have no value in changedOn"),
    ],
)
def test_records_without_the_key_or_the_cursor_load_nothing(
    source: Opportunities, records: list[dict[str, Any]], more: str, complaint: str
) -> None:
    source.records = records
    if more:
        Path("st_endpoints.yaml").write_text(YAML.replace("cursor: modifiedOn", f"cursor: {more}"))
    with connect("production") as session, pytest.raises(SettingsError) as caught:
        session.load(TABLE, "2026-03-01", "2026-03-10")
    assert f"{TABLE}: {complaint}" in str(caught.value)
    assert "st_endpoints.yaml" in str(caught.value)


def test_two_processes_with_old_definitions_use_the_columns_of_the_file(
    source: Opportunities,
) -> None:
    with connect("production") as early:
        load()
        source.records.append(opportunity(30, modifiedOn="2026-03-10T14:00:00Z", extra="x"))
        early.load(TABLE, "2026-03-10", "2026-03-10")
    assert query(find_warehouse(), f"SELECT amount, extra FROM {TABLE} WHERE id = 30") == [
        (Decimal("30.25"), "x")
    ]


def test_the_setting_names_another_file(
    source: Opportunities, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("st_endpoints.yaml").rename("ours.yaml")
    assert TABLE not in load_catalog().endpoints
    monkeypatch.setenv("ST_ENDPOINTS", "ours.yaml")
    assert load_catalog()[TABLE].open
    assert resolve_environment("production").base_catalog[TABLE].untyped
