"""The definitions inside a host project: merged, with prefixes, and with other asset specs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pytest
from starlette.responses import Response

from st_pipelines import component as component_module
from st_pipelines.catalog.model import Catalog
from st_pipelines.component import ServiceTitanComponent
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import load_catalog
from st_pipelines.config.settings import load_settings
from st_pipelines.definitions import build_definitions
from st_pipelines.defs.environment import EnvironmentDefs
from st_pipelines.defs.metadata import EndpointTranslatorData, ServiceTitanTranslator
from st_pipelines.defs.run_state import is_run_of
from st_pipelines.defs.sensors.gaps import MAX_ACTIVE_RUNS
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.daemon import TABLES, Build, Daemon, at
from st_pipelines_tests.defs.test_alerts import Receiver, add_failing_sensor
from st_pipelines_tests.defs.test_assets import count


def key(environment: str, table: str) -> dg.AssetKey:
    return dg.AssetKey(["st", environment, *table.split(".")])


def host_definitions() -> dg.Definitions:
    """A project that has used every name before."""

    @dg.op
    def tables() -> None: ...

    @dg.op(required_resource_keys={"warehouse"})
    def reconcile_table(context) -> None:  # Dagster resolves no deferred annotation
        assert context.resources.warehouse == "the host's"

    @dg.job
    def daily() -> None:
        tables()
        reconcile_table()

    @dg.schedule(job=daily, cron_schedule="0 0 * * *", name="daily")
    def schedule() -> dg.RunRequest:
        return dg.RunRequest()

    @dg.sensor(job=daily)
    def gaps() -> dg.SkipReason:
        return dg.SkipReason("no gaps")

    @dg.asset(key=["production", "jpm", "jobs"])
    def jobs() -> None: ...

    return dg.Definitions(
        assets=[jobs],
        jobs=[daily],
        schedules=[schedule],
        sensors=[gaps],
        resources={"warehouse": dg.ResourceDefinition.hardcoded_resource("the host's")},
        executor=dg.multiprocess_executor,
    )


def merge_with_host(clock: Callable[[], datetime]) -> dg.Definitions:
    """Production and integration in the code location of the host."""
    return dg.Definitions.merge(
        host_definitions(),
        *(
            build_definitions(
                environment,
                key_prefix=["st"],
                resource_prefix=f"{environment}_",
                job_prefix=f"{environment}_",
                clock=clock,
            )
            for environment in ("production", "integration")
        ),
    )


@pytest.fixture
def rebuilt(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Callable[[Build], Daemon]:
    """Puts other definitions under the daemon. Integration is the same sandbox."""
    for name, value in daemon.sandbox.environment().items():
        monkeypatch.setenv(name.replace("SERVICETITAN_", "SERVICETITAN_INTEGRATION_"), value)
    for name in ("TIMEZONE", "START_DATE", "SELECT"):
        value = {"TIMEZONE": daemon.zone, "START_DATE": "2026-03-02", "SELECT": ",".join(TABLES)}
        monkeypatch.setenv(f"SERVICETITAN_INTEGRATION_{name}", value[name])

    def rebuild(build: Build) -> Daemon:
        daemon.build = build
        daemon.restart()
        return daemon

    return rebuild


@pytest.fixture
def merged(rebuilt: Callable[[Build], Daemon]) -> Daemon:
    return rebuilt(merge_with_host)


def test_names_of_the_host_and_of_two_environments_do_not_collide(merged: Daemon) -> None:
    dg.Definitions.validate_loadable(merged.definitions)
    repository = merged.repository
    assert repository.get_job("daily").execute_in_process(instance=merged.instance).success
    for environment in ("production", "integration"):
        keys = repository.get_job(f"{environment}_daily").asset_layer.selected_asset_keys
        assert keys == {key(environment, table) for table in TABLES}
        assert repository.has_job(f"{environment}_reconcile")
        assert repository.has_schedule_def(f"{environment}_weekly_reconcile")
        for name in ("changes", "gaps", "alerts"):
            assert repository.has_sensor_def(f"{environment}_{name}")
    table = merged.definitions.resolve_asset_graph().get(key("production", "jpm.jobs")).metadata
    assert table["dagster/table_name"] == "production.jpm.jobs", "the prefix is Dagster's alone"


def test_our_jobs_run_in_one_process_and_those_of_the_host_as_it_likes(merged: Daemon) -> None:
    executors = {
        name: merged.repository.get_job(name).executor_def.name
        for name in ("daily", "production_daily", "production_reconcile", "__ASSET_JOB")
    }
    assert executors == {
        "daily": "multiprocess",
        "production_daily": "in_process",
        "production_reconcile": "in_process",
        "__ASSET_JOB": "multiprocess",
    }
    from st_pipelines import definitions

    standalone = definitions.production.get_repository_def()
    assert standalone.get_job("__ASSET_JOB").executor_def.name == "in_process"


def test_changes_loads_what_changed_in_a_merged_code_location(
    merged: Daemon, tmp_path: Path
) -> None:
    (request,) = merged.tick_sensor("production_changes")
    assert set(request.asset_selection or ()) == {key("production", table) for table in TABLES}
    for environment, rows in (("production", True), ("integration", False)):
        file = tmp_path / "data" / f"{environment}.duckdb"
        assert file.exists() == rows
    assert count(tmp_path / "data" / "production.duckdb", "jpm.jobs") > 0
    merged.tick_sensor("production_changes")
    assert "nothing changed: asked 2 of 2 endpoints" in merged.told["production_changes"][-1]
    (request,) = merged.tick_sensor("integration_changes")
    assert set(request.asset_selection or ()) == {key("integration", table) for table in TABLES}
    merged.tick_schedule("production_weekly_reconcile", at(8, 3))
    observed = {
        record.asset_key
        for table in TABLES
        for record in merged.instance.fetch_observations(key("production", table), limit=1).records
    }
    assert observed == {key("production", table) for table in TABLES}


def test_gaps_loads_incomplete_days_in_a_merged_code_location(merged: Daemon) -> None:
    merged.tick_schedule("production_daily", at(5, 0, 30))  # loads the 4th
    merged.sleep_until(at(6, 4))
    requests = merged.tick_sensor("production_gaps")
    assert [request.partition_key for request in requests] == ["2026-03-05", None]
    for request in requests:
        assert set(request.asset_selection or ()) == {key("production", table) for table in TABLES}
    for day in (2, 3, 4, 5):
        wanted = dg.AssetRecordsFilter(
            asset_key=key("production", "jpm.jobs"), asset_partitions=[f"2026-03-{day:02}"]
        )
        assert merged.instance.fetch_materializations(wanted, limit=9).records
    merged.tick_sensor("production_gaps")
    assert merged.told["production_gaps"][-1] == "the last 14 days are complete"


def test_an_environment_waits_for_its_own_runs_alone(merged: Daemon) -> None:
    def start(job: str, **tags: str) -> dg.DagsterRun:
        environment = {"st_pipelines/environment": job.split("_")[0]}
        return merged.start_run(job, **environment, **{"dagster/partition": "2026-03-05"}, **tags)

    start("integration_intraday")
    start("integration_intraday", **{"dagster/sensor_name": "integration_changes"})
    assert merged.tick_schedule("production_intraday", at(5, 9), run=False)
    assert merged.tick_sensor("production_changes", run=False)
    mine = start("production_intraday")
    assert not merged.tick_schedule("production_intraday", at(5, 9), run=False)
    assert merged.told["production_intraday"] == [
        f"run {mine.run_id[:8]} of production_intraday is unfinished"
    ]
    merged.instance.report_run_canceled(mine)
    requested = start("production_intraday", **{"dagster/sensor_name": "production_changes"})
    assert not merged.tick_sensor("production_changes", run=False)
    assert merged.told["production_changes"] == [
        f"run {requested.run_id[:8]}, which loads the last changes, is unfinished"
    ]


def test_gaps_keeps_a_few_runs_in_flight_in_a_merged_code_location(merged: Daemon) -> None:
    merged.sleep_until(at(6, 4))
    for sensor, runs in (("production_gaps", MAX_ACTIVE_RUNS), ("integration_gaps", 1)):
        for _ in range(runs):
            tags = {
                "st_pipelines/environment": sensor.split("_")[0],
                "dagster/sensor_name": sensor,
                "dagster/partition": "2026-01-01",
            }
            merged.start_run("production_daily", **tags)
    assert not merged.tick_sensor("production_gaps", run=False)
    assert merged.told["production_gaps"] == ["3 requested runs are unfinished"]
    assert merged.tick_sensor("integration_gaps", run=False)


def test_a_run_without_a_job_belongs_to_the_environment_of_its_assets(merged: Daemon) -> None:
    """Materialize in the UI starts such runs. They carry no tag of ours."""
    selection = [key("production", "jpm.jobs")]
    partition = {"dagster/partition": "2026-03-05"}
    merged.start_run("__ASSET_JOB", selection=selection, lock=False, **partition)
    (request,) = merged.tick_sensor("production_changes", run=False)
    assert request.asset_selection == [key("production", "accounting.invoice_items")]
    (request,) = merged.tick_sensor("integration_changes", run=False)
    assert set(request.asset_selection or ()) == {key("integration", table) for table in TABLES}


def test_alerts_of_an_environment_name_its_tables_and_jobs(
    merged: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    monkeypatch.setenv("ST_ALERT_WEBHOOK", receiver.url)
    try:
        for environment in ("production", "integration"):
            merged.tick_sensor(f"{environment}_alerts")
        merged.sandbox.interceptors.append(
            lambda request: Response(b"{}", 403) if request.url.path.endswith("/jobs") else None
        )
        merged.tick_schedule("production_daily", at(5, 0, 30))
        for environment in ("production", "integration"):
            merged.tick_sensor(f"{environment}_alerts")
        (text,) = receiver.texts
        assert text.startswith(":red_circle: *production*: jpm.jobs, 2026-03-04 failed\n")
        run = merged.instance.get_runs()[0]
        assert text.endswith(f"/runs/{run.run_id}|Open the run>")
        merged.sandbox.interceptors.clear()
        merged.tick_schedule("production_daily", at(5, 0, 30))
        for day in (6, 8):
            merged.sleep_until(at(day, 10))
            merged.tick_sensor("production_alerts")
        assert "jpm.jobs not loaded for more than 54 hours" in receiver.texts[1]
        assert "`production_daily` and `production_gaps`" in receiver.texts[1]
        merged.tick_sensor("integration_alerts")
        assert len(receiver.texts) == 2
    finally:
        receiver.close()


def test_alerts_of_an_environment_leave_sensors_of_others_alone(
    merged: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    monkeypatch.setenv("ST_ALERT_WEBHOOK", receiver.url)
    try:
        for name in ("gaps", "integration_gaps", "production_gaps"):
            fail = add_failing_sensor(merged, name)
            for _ in range(3):
                fail()
        merged.tick_sensor("production_alerts")
        (text,) = receiver.texts
        assert text.startswith(":red_circle: *production*: `production_gaps` keeps failing\n")
    finally:
        receiver.close()


class Renaming(ServiceTitanTranslator):
    """A host that keeps neither the environment nor the API in its keys."""

    def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(
            key=["raw", f"st_{data.endpoint.flat_name}"],
            group_name="raw",
            owners=["team:finance"],
            tags={"tier": "1"},
            deps=["upstream"],
            description="A collection of ServiceTitan.",
        )


def build_renamed(clock: Callable[[], datetime]) -> dg.Definitions:
    return build_definitions("production", translator=Renaming(), clock=clock)


RENAMED = dg.AssetKey(["raw", "st_jpm_jobs"])


def test_a_key_of_a_translator_is_honored_by_jobs_sensors_and_checks(
    rebuilt: Callable[[Build], Daemon],
) -> None:
    daemon = rebuilt(build_renamed)
    assert RENAMED in daemon.repository.get_job("jpm").asset_layer.selected_asset_keys
    (request,) = daemon.tick_sensor("changes")
    assert RENAMED in (request.asset_selection or ())
    daemon.tick_sensor("changes")
    assert "nothing changed: asked 2 of 2 endpoints" in daemon.told["changes"][-1]
    daemon.sleep_until(at(6, 4))
    assert all(RENAMED in (r.asset_selection or ()) for r in daemon.tick_sensor("gaps"))
    daemon.tick_sensor("gaps")
    assert daemon.told["gaps"][-1] == "the last 14 days are complete"
    records = daemon.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(RENAMED, "rows"), limit=1
    )
    assert records[0].status.value == "SUCCEEDED"


def test_a_translator_changes_what_an_asset_says(rebuilt: Callable[[Build], Daemon]) -> None:
    graph = rebuilt(build_renamed).definitions.resolve_asset_graph()
    asset = graph.get(RENAMED)
    assert (asset.group_name, asset.owners, asset.tags["tier"]) == ("raw", ["team:finance"], "1")
    assert asset.description == "A collection of ServiceTitan."
    assert asset.parent_keys == {dg.AssetKey("upstream")}
    assert asset.freshness_policy is not None
    assert asset.metadata["operation"] == "GET /jpm/v2/tenant/{tenant}/jobs"


def test_partitions_are_not_translated() -> None:
    class Monthly(ServiceTitanTranslator):
        def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
            monthly = dg.MonthlyPartitionsDefinition("2026-01-01")
            return super().get_asset_spec(data).replace_attributes(partitions_def=monthly)

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="leave it out"):
        build_definitions("production", translator=Monthly(), select=["jpm.jobs"])


def test_a_selection_and_a_prefix_may_be_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICETITAN_SELECT", "crm")
    one = build_definitions("production", select="jpm.jobs", key_prefix="st")
    assert list(one.resolve_all_asset_keys()) == [key("production", "jpm.jobs")]
    two = build_definitions("production", select=["jpm.jobs", "settings.u*"])
    assert {k.path[-1] for k in two.resolve_all_asset_keys()} == {"jobs", "user_roles"}
    with pytest.raises(SettingsError, match=r"select: no table 'jpm.job'.*did you mean jpm.jobs"):
        build_definitions("production", select=["jpm.job"])


def test_a_misspelled_override_is_an_error() -> None:
    with pytest.raises(SettingsError, match="no setting 'timezon': did you mean timezone"):
        build_definitions("production", timezon="America/New_York")


def test_an_empty_selection_is_an_error_and_an_empty_prefix_is_none() -> None:
    with pytest.raises(SettingsError, match="select is empty: name tables or APIs"):
        build_definitions("production", select=[])
    bare = build_definitions("production", select="jpm.jobs", key_prefix="")
    assert list(bare.resolve_all_asset_keys()) == [dg.AssetKey(["production", "jpm", "jobs"])]


@pytest.mark.parametrize("cron", ["0 0 * * mon,tue#1", "0 0 30 02 *"])
def test_a_cron_expression_that_only_dagster_refuses_is_named_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, cron: str
) -> None:
    monkeypatch.setenv("SERVICETITAN_SNAPSHOTS_CRON", cron)
    with pytest.raises(SettingsError, match=r"SERVICETITAN_SNAPSHOTS_CRON is .* Dagster cannot"):
        build_definitions("production")


def test_halves_of_an_environment_do_not_count_each_other_s_runs() -> None:
    """Two alerts sensors in one code location both reported a failed run of either half."""
    catalog = load_catalog()
    one, other = (
        EnvironmentDefs(
            environment="production",
            settings=load_settings("production"),
            catalog=Catalog({table: catalog[table]}),
            job_prefix=prefix,
        )
        for prefix, table in (("a_", "jpm.jobs"), ("b_", "accounting.invoice_items"))
    )
    tags = {"st_pipelines/environment": "production"}
    selection = frozenset({dg.AssetKey(["production", "jpm", "jobs"])})
    partial_run = dg.DagsterRun(job_name="a_intraday", tags=tags, asset_selection=selection)
    assert (is_run_of(partial_run, one), is_run_of(partial_run, other)) == (True, False)
    whole_run = dg.DagsterRun(job_name="b_daily", tags=tags)
    assert is_run_of(whole_run, other)
    dropped = frozenset({dg.AssetKey(["production", "crm", "leads"])})
    former_table = dg.DagsterRun(job_name="a_daily", tags=tags, asset_selection=dropped)
    assert (is_run_of(former_table, one), is_run_of(former_table, other)) == (True, False)


def test_defaults_name_everything_as_in_a_code_location_of_its_own() -> None:
    repository = build_definitions("production", select="jpm.jobs").get_repository_def()
    assert set(repository.get_top_level_resources()) == {"servicetitan", "warehouse"}
    assert {job.name for job in repository.get_all_jobs()} == {
        "daily",
        "intraday",
        "full_refresh",
        "jpm",
        "reconcile",
        "__ASSET_JOB",
    }
    nodes = {node.name for node in repository.get_job("reconcile").all_node_defs}
    assert nodes == {"tables", "reconcile_table"}


TRANSLATED = """
environment: production
select: [jpm.jobs, settings.user_roles]
key_prefix: [ignored]
job_prefix: st_
resource_prefix: st_
translation:
  key: "raw/{{ endpoint.flat_name }}"
  group_name: "{{ environment }}_{{ spec.group_name }}"
  metadata: {contract: gold}
"""


def build_component(clock: Callable[[], datetime]) -> dg.Definitions:
    component = ServiceTitanComponent.resolve_from_yaml(TRANSLATED)
    with pytest.MonkeyPatch.context() as patch:
        build = partial(build_definitions, clock=clock)
        patch.setattr(component_module, "build_definitions", build)
        return component.build_defs(dg.ComponentTree.for_test().load_context)


def test_a_translation_in_yaml_is_honored_by_jobs_and_sensors(
    rebuilt: Callable[[Build], Daemon],
) -> None:
    daemon = rebuilt(build_component)
    jobs, roles = dg.AssetKey(["raw", "jpm_jobs"]), dg.AssetKey(["raw", "settings_user_roles"])
    asset = daemon.definitions.resolve_asset_graph().get(jobs)
    assert asset.group_name == "production_jpm"
    assert asset.metadata["contract"] == "gold"
    assert asset.metadata["scope"] == "tn.jpm.jobs:r"
    assert daemon.repository.get_job("st_daily").asset_layer.selected_asset_keys == {jobs, roles}
    (request,) = daemon.tick_sensor("st_changes")
    assert request.asset_selection == [jobs]
    daemon.tick_sensor("st_changes")
    assert daemon.told["st_changes"][-1].startswith("nothing changed: asked 1 of 1 endpoints")
    daemon.tick_schedule("st_snapshots", at(5, 9))
    assert daemon.instance.fetch_materializations(roles, limit=1).records


def test_a_subclass_of_the_component_translates_in_python() -> None:
    class Ours(ServiceTitanComponent):
        def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
            return super().get_asset_spec(data).replace_attributes(owners=["team:ours"])

    component = Ours(environment="production", select=["jpm.jobs"])
    graph = component.build_defs(dg.ComponentTree.for_test().load_context).resolve_asset_graph()
    assert graph.get(dg.AssetKey(["production", "jpm", "jobs"])).owners == ["team:ours"]


def build_overridden(sandbox: Sandbox, clock: Callable[[], datetime]) -> dg.Definitions:
    """A host that knows everything in its code and sets no environment variables."""
    names = ("CLIENT_ID", "CLIENT_SECRET", "APP_KEY", "TENANT_ID", "API_URL", "AUTH_URL")
    given = {name.lower(): sandbox.environment()[f"SERVICETITAN_{name}"] for name in names}
    return build_definitions(
        "production",
        select=TABLES,
        clock=clock,
        timezone="Pacific/Auckland",
        start_date="2026-03-02",
        page_size=7,
        **given,
    )


AUCKLAND = ZoneInfo("Pacific/Auckland")


@pytest.fixture
def overridden(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    for name in daemon.sandbox.environment():
        monkeypatch.delenv(name)
    daemon.build = partial(build_overridden, daemon.sandbox)
    daemon.restart()
    daemon.sleep_until(datetime(2026, 3, 6, 9, tzinfo=AUCKLAND))
    return daemon


def test_overrides_reach_runs_schedules_and_sensors(overridden: Daemon, tmp_path: Path) -> None:
    page_sizes: set[str] = set()
    overridden.sandbox.interceptors.append(
        lambda request: page_sizes.add(request.query_params.get("pageSize", ""))
    )
    overridden.sandbox.world.create("jpm.jobs", summary="created on the 6th in Auckland")
    midnight = datetime(2026, 3, 7, tzinfo=AUCKLAND)
    overridden.sleep_until(midnight)
    (request,) = overridden.tick_schedule("daily", midnight + timedelta(minutes=30))
    assert request.partition_key == "2026-03-06"
    with duckdb.connect(str(tmp_path / "data" / "production.duckdb"), read_only=True) as connection:
        days = connection.execute(
            "SELECT _partition_date FROM jpm.jobs WHERE summary = 'created on the 6th in Auckland'"
        ).fetchall()
    assert days == [(date(2026, 3, 6),)], "in New York and in UTC it is the 5th"
    assert "7" in page_sizes
    assert "5000" not in page_sizes
    overridden.tick_sensor("changes", run=False)
    assert overridden.told["changes"] == ["nothing changed: asked 2 of 2 endpoints, 2 requests"]
    assert overridden.tick_sensor("gaps", run=False), "the days since the overridden start date"


def test_dagster_neither_stores_nor_shows_an_overridden_secret(
    overridden: Daemon, tmp_path: Path
) -> None:
    overridden.tick_schedule("daily", datetime(2026, 3, 7, 0, 30, tzinfo=AUCKLAND))
    assert overridden.instance.get_runs()[0].is_success
    secret = overridden.sandbox.environment()["SERVICETITAN_CLIENT_SECRET"]
    for resource in overridden.repository.get_top_level_resources().values():
        assert secret not in repr(vars(resource))
    stored = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"RESOURCE_INIT_SUCCESS" in file.read_bytes() for file in stored)
    assert not [file for file in stored if secret.encode() in file.read_bytes()]
