"""The commands `check` and `scopes`, and the same diagnosis in Dagster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli import scopes
from st_pipelines.cli.app import app
from st_pipelines.cli.doctor import steps
from st_pipelines.definitions import build_definitions
from st_pipelines.servicetitan.errors.problems import PROBLEMS
from st_pipelines_tests.cli.doctor.check_runner import problem_lines, run_check
from st_pipelines_tests.cli.doctor.conftest import Portal
from st_pipelines_tests.servicetitan.fake_server import ScriptedServer


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, list(arguments), catch_exceptions=False)


def test_check_prints_a_line_per_finding_and_a_summary(portal: Portal) -> None:
    portal("scope-surplus", "scope-surplus:tn.jpm.jobs:w")
    command = "-m st_pipelines.cli.app check --environment production --select jpm.jobs --deep"
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[-1] == "production: all is well, with 1 warning"
    assert [line.partition(":")[0] for line in printed[:-1]] == [
        "✅ settings",
        "✅ auth host",
        "✅ api host",
        "✅ clock",
        "✅ token",
        "✅ secrets",
        "✅ access",
        "✅ scopes",
        "⚠  scopes",
        "✅ endpoints",
        "✅ warehouse",
        "✅ files",
        "✅ history",
        "✅ time zone",
        "✅ definitions",
    ]
    assert "cs1.sandbox" not in done.stdout + done.stderr


def test_a_failed_check_exits_with_1_and_can_print_json(portal: Portal) -> None:
    portal("scope-missing:tn.jpm.jobs:r")
    done = run("check", "--environment", "production", "--select", "jpm.jobs", "--format", "json")
    output = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (output["environment"], output["well"]) == ("production", False)
    [failed] = [finding for finding in output["findings"] if finding["status"] == "failed"]
    assert (failed["step"], failed["code"], failed["items"]) == (
        "scopes",
        "scopes-missing",
        ["tn.jpm.jobs:r"],
    )
    assert [f["step"] for f in output["findings"] if f["status"] == "skipped"] == []


def test_a_selection_that_matches_no_table_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"did you mean jpm\.jobs"):
        run("check", "--environment", "production", "--select", "jpm.jbos")


def test_scopes_as_text_has_one_line_per_scope() -> None:
    done = run("scopes", "--select", "jpm.jobs,jpm.job_history", "--format", "text")
    assert done.stdout == "tn.jpm.jobhistory:r\ntn.jpm.jobs:r\n"


def test_scopes_as_json_groups_by_api_and_compares_with_the_token(portal: Portal) -> None:
    portal("scope-missing:tn.jpm.jobs:r", "scope-surplus")
    done = run(
        "scopes",
        "--environment",
        "production",
        "--select",
        "jpm.jobs,settings.user_roles",
        "--format",
        "json",
    )
    output = json.loads(done.stdout)
    assert output["scopes"] == {
        "jpm": {"tn.jpm.jobs:r": ["jpm.jobs"]},
        "settings": {"tn.stt.userroles:r": ["settings.user_roles"]},
    }
    assert output["missing"] == ["tn.jpm.jobs:r"]
    assert output["surplus"][0] == "tn.crm.customers:w", "scopes that allow writing come first"
    assert "tn.stt.userroles:r" not in output["surplus"]


def test_surplus_scopes_that_allow_writing_come_first() -> None:
    chosen = select(load_catalog(), ["jpm.jobs", "crm.leads"])
    granted = ["tn.jpm.jobs:r", "tn.acc.invoices:r", "tn.crm.leads:w", "tn.odd"]
    granted.append("tn.dis.capacity:w")
    assert scopes.difference_lines(scopes.compare_scopes(granted, chosen)) == [
        "missing, tick: tn.crm.leads:r",
        "not needed and can change data, untick first: tn.crm.leads:w, tn.odd",
        "not needed, untick: tn.acc.invoices:r, tn.dis.capacity:w",
    ]
    assert scopes.difference_lines(
        scopes.compare_scopes(["tn.jpm.jobs:r", "tn.crm.leads:r"], chosen)
    ) == ["the token has these scopes and no others"]


def test_the_comparison_with_a_token_begins_with_what_to_change_and_lists_nothing_else(
    portal: Portal,
) -> None:
    """A table of all scopes came first, and the lines to act on were far below."""
    portal("scope-missing:tn.jpm.jobs:r")
    done = run("scopes", "--environment", "production", "--select", "jpm.jobs,jpm.job_types")
    assert done.stdout.startswith("missing, tick: tn.jpm.jobs:r\n")
    assert "│ tn.jpm.jobs:r │ jpm │ jpm.jobs" in done.stdout
    assert "tn.jpm.jobtypes:r" not in done.stdout


def test_scopes_of_an_opaque_token_are_unknown(server: ScriptedServer) -> None:
    done = run("scopes", "--environment", "production", "--select", "jpm.jobs", "--format", "text")
    assert (done.exit_code, done.stdout) == (0, "tn.jpm.jobs:r\n")
    assert done.stderr == "the token does not list its scopes\n"


@pytest.mark.parametrize(
    ("defect", "step"),
    [("scope-not-accepted", "endpoints"), ("secret-rotated", "token"), ("wrong-tenant", "access")],
)
def test_a_failing_asset_shows_the_diagnosis_of_the_check(
    portal: Portal, defect: str, step: str
) -> None:
    portal(defect)
    [finding] = [f for f in run_check(deep=True) if f.status == "failed"]
    assert finding.step == step
    few = select(load_catalog(), ["crm.customers"])
    definitions = build_definitions(
        "production", catalog=type(load_catalog())({e.table: e for e in few})
    )
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key="2026-03-01", raise_on_error=False
    )
    [failure] = [e for e in result.all_events if e.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data
    assert data.description == f"{finding.text}. {finding.hint}"
    assert data.metadata["finding"] == dg.TextMetadataValue(finding.code)
    assert data.metadata["hint"] == dg.TextMetadataValue(finding.hint)


def test_the_guide_lists_every_finding_by_code_and_title() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "setup.md").read_text(encoding="utf-8")
    for code, (title, _) in PROBLEMS.items():
        assert f"`{code}`" in guide
        shown = re.sub(r"\{(\w+)\}", lambda place: place[1].upper(), title)
        assert shown in guide, code
    package = Path(steps.__file__).parent
    texts = [file.read_text() for file in package.glob("*.py")]
    codes = {code for text in texts for code in re.findall(r'code="([\w-]+)"', text)}
    assert len(codes) > 15
    assert [code for code in sorted(codes) if f"`{code}`" not in guide] == []


def test_show_lists_each_setting_with_its_source_and_masks_secrets(portal: Portal) -> None:
    portal()
    output = run(
        "check", "--environment", "production", "--select", "jpm.jobs", "--show", "--format", "json"
    ).stdout
    settings = {one["name"].split(" ")[0]: one for one in json.loads(output)["settings"]}
    assert settings["SERVICETITAN_CLIENT_ID"]["value"].startswith("cid.")
    assert settings["SERVICETITAN_CLIENT_ID"]["source"] == "environment variable"
    assert settings["SERVICETITAN_PAGE_SIZE"]["source"] == "default"
    assert settings["SERVICETITAN_CLIENT_SECRET"]["value"] == "**********"
    shown = run("check", "--environment", "production", "--select", "jpm.jobs", "--show").stdout
    assert "SERVICETITAN_CLIENT_SECRET = ********** (environment variable)\n" in shown
    assert "SERVICETITAN_PAGE_SIZE = 5000 (default)\n" in shown
    assert "SERVICETITAN_CLIENT_SECRET_NEXT is not set\n" in shown
    assert "cs1.sandbox" not in output + shown


def test_a_second_secret_in_use_and_a_quoted_value_are_reported_once(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    portal()
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET_NEXT", os.environ["SERVICETITAN_CLIENT_SECRET"])
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", "cs1.0a1b2c3d4e5f6g7h")
    monkeypatch.setenv("SERVICETITAN_APP_KEY", f"'{os.environ['SERVICETITAN_APP_KEY']}'")
    done = run("check", "--environment", "production", "--select", "jpm.jobs")
    assert "quotes around its value" not in done.stderr + caplog.text
    warnings = [line for line in done.stdout.splitlines() if "secrets:" in line]
    assert done.exit_code == 0, done.stdout
    assert any("SERVICETITAN_APP_KEY" in line and "quot" in line for line in warnings)
    first = "SERVICETITAN_CLIENT_SECRET (environment variable)"
    second = "SERVICETITAN_CLIENT_SECRET_NEXT (environment variable)"
    assert (
        f"⚠  secrets: ServiceTitan refuses {first} and accepts {second}: move the value of the "
        "latter to the former, delete the old value there, and the old secret in the developer "
        "portal if it is still listed"
    ) in warnings


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (
            True,
            "⚠  secrets: ServiceTitan accepts both {first} and {second}: delete the old secret in "
            "the developer portal, then move the value of the latter to the former",
        ),
        (
            False,
            "⚠  secrets: ServiceTitan accepts {first} but refuses {second} (invalid_client): keep "
            "the first secret in the developer portal, and replace or remove the second",
        ),
    ],
)
def test_both_secrets_of_a_rotation_are_tried(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, accepted: bool, expected: str
) -> None:
    portal()
    good = os.environ["SERVICETITAN_CLIENT_SECRET"]
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET_NEXT", good if accepted else "cs1.refused0")
    assert problem_lines() == [
        expected.format(
            first="SERVICETITAN_CLIENT_SECRET (environment variable)",
            second="SERVICETITAN_CLIENT_SECRET_NEXT (environment variable)",
        )
    ]


def test_check_uses_the_selection_of_the_environment_by_default(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal("scope-missing:tn.jpm.jobs:r")
    monkeypatch.setenv("SERVICETITAN_SELECT", "crm.customers")
    assert run("check", "--environment", "production").exit_code == 0
    monkeypatch.setenv("SERVICETITAN_SELECT", "crm.customers,jpm.jobs")
    assert run("check", "--environment", "production").exit_code == 1
