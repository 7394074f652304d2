"""Settings come from the environment and `.env`, and every mistake is reported by name."""

from __future__ import annotations

import warnings
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import pytest

from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.settings import load_settings
from st_pipelines.config.validators import check_cron

COMPLETE = {
    "CLIENT_ID": "cid.abc",
    "CLIENT_SECRET": "cs1.hidden",
    "APP_KEY": "ak1.hidden",
    "TENANT_ID": "42",
}


def set_all(monkeypatch: pytest.MonkeyPatch, prefix: str = "SERVICETITAN_", **changes: str) -> None:
    for name, value in (COMPLETE | changes).items():
        monkeypatch.setenv(prefix + name, value)


def test_servicepytans_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, TIMEZONE="America/Chicago", APP_ID="unused")
    config = resolve_environment("production")
    found, settings = build_connection(config), config.settings
    assert (found.client_id, found.tenant_id, settings.timezone) == (
        "cid.abc",
        "42",
        "America/Chicago",
    )
    assert found.client_secret.get_secret_value() == "cs1.hidden"
    assert found.api_url == "https://api.servicetitan.io"
    assert found.auth_url == "https://auth.servicetitan.io"


def test_integration_has_its_own_names_and_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, "SERVICETITAN_INTEGRATION_", CLIENT_ID="cid.int")
    found = build_connection(resolve_environment("integration"))
    assert (found.client_id, found.api_url) == (
        "cid.int",
        "https://api-integration.servicetitan.io",
    )
    with pytest.raises(SettingsError, match="production is not configured"):
        build_connection(resolve_environment("production"))


def test_a_dotenv_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f"SERVICETITAN_{name}='{value}'" for name, value in COMPLETE.items()]
    (tmp_path / ".env").write_text("\n".join(lines) + "\nST_WAREHOUSE_DIR=elsewhere\n")
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "43")
    found = build_connection(resolve_environment("production"))
    assert (found.client_id, found.tenant_id) == ("cid.abc", "43")
    uri = resolve_environment("production").open_store().uri
    assert uri == str(tmp_path / "elsewhere" / "production.duckdb")


def test_all_missing_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICETITAN_CLIENT_ID", "cid.abc")
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert str(caught.value) == (
        "production is not configured: set SERVICETITAN_CLIENT_SECRET, SERVICETITAN_APP_KEY, "
        "SERVICETITAN_TENANT_ID in the environment or in .env"
    )


def test_an_empty_setting_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, APP_KEY="  ")
    with pytest.raises(SettingsError, match="set SERVICETITAN_APP_KEY in"):
        build_connection(resolve_environment("production"))


@pytest.mark.parametrize("day", [date(2999, 1, 1), datetime(2999, 1, 1), 4_102_444_800])
def test_a_start_date_of_any_type_must_not_be_in_the_future(day: object) -> None:
    with pytest.raises(SettingsError, match="is in the future"):
        load_settings("production", start_date=day)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TIMEZONE", "America/New York", "'America/New York': not an IANA time zone"),
        ("TIMEZONE", "Eastern", "such as America/New_York"),
        ("START_DATE", "2999-01-01", "2999-01-01 is in the future"),
        ("START_DATE", "0001-01-01", "0001-01-01 is before 2000-01-01: each day"),
        ("START_DATE", "1999-12-31", "1999-12-31 is before 2000-01-01"),
        ("API_URL", "https://api.example.com:99999999", "no valid port"),
        ("START_DATE", "soon", "SERVICETITAN_START_DATE is 'soon': write it as YYYY-MM-DD"),
        ("API_URL", "http://api.example.com", "is not https"),
        ("AUTH_URL", "ftp://x", "is not a URL"),
        ("API_URL", "https://user:pw@host", "without user"),
        ("TENANT_ID", "abc", "'abc': a tenant ID is a number"),
        ("EXTERNAL_DATA_APP_GUID", "my app", "an application's GUID looks like 01234567-89ab"),
        ("PAGE_SIZE", "0", "SERVICETITAN_PAGE_SIZE"),
        ("REQUESTS_PER_SECOND", "fast", "SERVICETITAN_REQUESTS_PER_SECOND"),
    ],
)
def test_an_invalid_value_is_reported_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings("production")
    assert f"SERVICETITAN_{name}" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("{0123ABCD-89ab-cdef-0123-456789abcdef}", "0123abcd-89ab-cdef-0123-456789abcdef"),
        ("", None),
    ],
)
def test_the_application_of_external_data_is_an_environments_own(
    monkeypatch: pytest.MonkeyPatch, value: str, sent: str | None
) -> None:
    set_all(monkeypatch, EXTERNAL_DATA_APP_GUID=value)
    connection = build_connection(resolve_environment("production"))
    assert connection.external_data_app_guid == sent
    assert load_settings("integration").external_data_app_guid is None


def test_http_is_accepted_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, API_URL="http://127.0.0.1:8000/", AUTH_URL="http://localhost:8000")
    found = build_connection(resolve_environment("production"))
    assert found.api_url == "http://127.0.0.1:8000"


def test_a_misspelled_setting_is_refused_with_the_right_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch)
    monkeypatch.setenv("SERVICETITAN_TIMEZON", "UTC")
    with pytest.raises(
        SettingsError, match="SERVICETITAN_TIMEZON: did you mean SERVICETITAN_TIMEZONE"
    ):
        load_settings("production")


@pytest.mark.parametrize("name", ["ST_WAREHOUSEDIR", "ST_HISTROY", "ST_PRODUCTION_WAREHOUS"])
def test_a_misspelled_project_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_all(monkeypatch)
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv("ST_OF_ANOTHER_PROGRAM", "x")
    with pytest.raises(SettingsError, match=f"unknown setting {name}: did you mean ST_"):
        load_settings("production")


def test_an_unknown_project_setting_in_dotenv_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ST_COLOUR=red\nst_ui_url=http://x\n")
    with pytest.raises(SettingsError, match="unknown setting ST_COLOUR: known are ST_ALERT_WEBHO"):
        load_settings("production")


def test_project_settings_may_be_in_lower_case(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("st_warehouse_dir=elsewhere\n")
    load_settings("production")
    assert resolve_environment("production").warehouse_folder == tmp_path / "elsewhere"


def test_a_dotenv_in_another_encoding_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SERVICETITAN_TENANT_ID=1\n", encoding="utf-16")
    for read in (load_settings, resolve_environment):
        with pytest.raises(SettingsError, match=r"\.env is not UTF-8 text: save it"):
            read("production")


def test_an_unknown_setting_in_dotenv_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SERVICETITAN_COLOUR=red\n")
    with pytest.raises(SettingsError, match="unknown setting SERVICETITAN_COLOUR: known are"):
        load_settings("production")


def test_one_environment_ignores_the_settings_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch, "SERVICETITAN_INTEGRATION_")
    assert load_settings("production").client_id is None


def test_nothing_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch)
    config = resolve_environment("production", client_secret="cs1.hidden")
    settings = config.settings
    shown = repr(settings) + str(settings) + repr(config) + repr(build_connection(config))
    assert "hidden" not in shown + str(settings.model_dump())


def test_there_is_no_default_environment() -> None:
    with pytest.raises(SettingsError, match="unknown environment 'prod': name one of production"):
        load_settings("prod")  # pyright: ignore[reportArgumentType]


def test_history_tables_are_those_that_the_setting_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_environment("production").history_tables == frozenset()
    monkeypatch.setenv("ST_HISTORY", "jpm.jobs, marketing_ads.*")
    assert {"jpm.jobs", "marketing_ads.ad_group"} & resolve_environment(
        "production"
    ).history_tables >= {"jpm.jobs"}
    assert "marketing_ads.attributed_leads" not in resolve_environment("production").history_tables


def test_a_pattern_leaves_out_a_table_without_key_whose_name_it_contains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ST_HISTORY", "jpm.jobs, payroll.locations_rates*")
    assert resolve_environment("production").history_tables == {"jpm.jobs"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("jpm.jbos", "did you mean jpm.jobs"),
        ("marketing_ads.attributed_leads", "its records have no key"),
    ],
)
def test_a_table_that_cannot_have_history_is_reported(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("ST_HISTORY", value)
    with pytest.raises(SettingsError, match=expected) as error:
        _ = resolve_environment("production").history_tables
    assert "ST_HISTORY" in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("300", 300.0), (" 0.5 ", 0.5), ("0", None), ("", None)]
)
def test_publish_seconds_are_read_and_zero_means_never(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float | None
) -> None:
    assert resolve_environment("production").open_store().publish_seconds is None
    monkeypatch.setenv("ST_PUBLISH_SECONDS", text)
    assert resolve_environment("production").open_store().publish_seconds == seconds
    monkeypatch.setenv("ST_SANDBOX_WAREHOUSE", "x.duckdb")
    assert resolve_environment("sandbox").open_store().publish_seconds == seconds


@pytest.mark.parametrize("text", ["often", "-1", "inf", "nan"])
def test_an_invalid_number_of_seconds_is_reported(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ST_PUBLISH_SECONDS", text)
    with pytest.raises(SettingsError, match=f"ST_PUBLISH_SECONDS: '{text}' is not a number"):
        resolve_environment("production").open_store()


def test_requests_for_child_lists_are_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_environment("production").max_child_requests == 10_000
    for text, requests in (("250", 250), ("0", 0), ("", 10_000)):
        monkeypatch.setenv("ST_MAX_CHILD_REQUESTS", text)
        assert resolve_environment("production").max_child_requests == requests
    for text in ("many", "-1", "1.5"):
        monkeypatch.setenv("ST_MAX_CHILD_REQUESTS", text)
        with pytest.raises(SettingsError, match=f"ST_MAX_CHILD_REQUESTS: '{text}' is not a number"):
            _ = resolve_environment("production").max_child_requests


def test_a_warehouse_of_an_unknown_environment_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown environment 'prod'"):
        resolve_environment("prod").open_store()  # pyright: ignore[reportArgumentType]


def test_two_environments_with_one_warehouse_file_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "production.duckdb").touch()
    (tmp_path / "other.duckdb").symlink_to(tmp_path / "data" / "production.duckdb")
    monkeypatch.setenv("ST_INTEGRATION_WAREHOUSE", str(tmp_path / "other.duckdb"))
    with pytest.raises(SettingsError, match="integration and production have the same warehouse"):
        resolve_environment("integration").open_store()
    with pytest.raises(SettingsError, match="ST_INTEGRATION_WAREHOUSE"):
        resolve_environment("production").open_store()
    monkeypatch.setenv("ST_INTEGRATION_WAREHOUSE", "elsewhere.duckdb")
    assert resolve_environment("integration").open_store().uri == str(tmp_path / "elsewhere.duckdb")


@pytest.mark.parametrize(
    "uri",
    [
        "duckdb:data/x.duckdb",
        "./data/x.duckdb",
        "duckdb:./data/../data/x.duckdb",
        "duckdb:{folder}/data/x.duckdb",
    ],
)
def test_one_warehouse_file_is_recognized_in_every_spelling(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_PRODUCTION_WAREHOUSE", "data/x.duckdb")
    monkeypatch.setenv("ST_INTEGRATION_WAREHOUSE", uri.format(folder=Path.cwd()))
    for environment in ("production", "integration"):
        with pytest.raises(SettingsError, match="have the same warehouse file"):
            _ = resolve_environment(environment).warehouse_uri
    monkeypatch.setenv("ST_INTEGRATION_WAREHOUSE", "duckdb:data/y.duckdb")
    assert resolve_environment("integration").warehouse_uri == str(Path.cwd() / "data/y.duckdb")


def test_the_host_of_the_other_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "APP_KEY", "TENANT_ID"):
        monkeypatch.setenv(f"SERVICETITAN_{name}", "1")
    monkeypatch.setenv("SERVICETITAN_API_URL", "https://api-integration.servicetitan.io/")
    with pytest.raises(SettingsError, match="SERVICETITAN_API_URL is the host of integration"):
        build_connection(resolve_environment("production"))


def test_selecting_an_unknown_table_suggests_similar_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICETITAN_INTEGRATION_SELECT", "crm, jpm.jobz")
    config = resolve_environment("integration")
    with pytest.raises(SettingsError, match=r"INTEGRATION_SELECT: no table 'jpm.jobz': did you"):
        config.apply_selection()
    monkeypatch.setenv("SERVICETITAN_INTEGRATION_SELECT", "crm, jpm.jobs")
    config = resolve_environment("integration")
    chosen = config.apply_selection()
    assert {endpoint.api for endpoint in chosen} == {"crm", "jpm"}
    assert [e.table for e in chosen if e.api == "jpm"] == ["jpm.jobs"]


def test_an_invalid_cron_expression_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICETITAN_DAILY_CRON", "at midnight")
    with pytest.raises(SettingsError, match="SERVICETITAN_DAILY_CRON is 'at midnight': write it"):
        load_settings("production")


CRON_VALUES = (
    "0 1 5 7 8 12 13 23 24 31 32 59 60 * ? l L mon jan x -1 1- *-5 1-5-6 1-l 5-2 1-5 */15 1/2"
    " 1-9/3 */0 fri-mon feb-9 l5 l8 2#3 mon#6 mon#2 1,2 1,,2 *,1 1-60"
)


@pytest.mark.parametrize("at", range(5))
def test_cron_expressions_are_those_that_dagster_accepts(at: int) -> None:
    """The configuration checks them itself, as it must not import Dagster."""
    for other in ("0 0 * * *", "0 0 30 2 *", "0 0 31 feb *"):
        for value in CRON_VALUES.split():
            fields = other.split()
            fields[at] = value
            text = " ".join(fields)
            assert is_accepted(text) == is_accepted_by_dagster(text), text


@pytest.mark.parametrize("text", ["@daily", "@Hourly", "@reboot", "* * * *", "* * * * * *"])
def test_cron_aliases_and_counts_of_fields_are_those_that_dagster_accepts(text: str) -> None:
    assert is_accepted(text) == is_accepted_by_dagster(text)


def is_accepted(cron: str) -> bool:
    try:
        check_cron(cron)
    except ValueError:
        return False
    return True


def is_accepted_by_dagster(cron: str) -> bool:
    try:
        with warnings.catch_warnings():  # of intervals that are not even
            warnings.simplefilter("ignore")
            dg.ScheduleDefinition(name="x", job_name="x", cron_schedule=cron)
    except dg.DagsterInvalidDefinitionError:
        return False
    return True
