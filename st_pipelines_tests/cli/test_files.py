"""`st-pipelines files`, and what `scopes` and `check` say of files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from starlette.requests import Request
from starlette.responses import Response
from typer.testing import CliRunner

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.app import app
from st_pipelines.cli.doctor.stored_files import check_file_storage
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.session import connect
from st_pipelines_tests.churn_reader import query
from st_pipelines_tests.conftest import NOW

IN_PRODUCTION = ("--environment", "production")


@pytest.fixture(scope="module")
def company() -> Iterator[Sandbox]:
    with Sandbox(customers=12, seed=4, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def configured(company: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, value in company.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2024-01-01")
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("ST_FILES", "recordings,voicemails")
    return tmp_path / "data"


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))


def test_files_are_listed_loaded_and_listed_again(
    configured: Path, company: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect("production") as session:
        session.load("settings.business_units", "2026-03-10", "2026-03-10")
        early = run("files", "list", *IN_PRODUCTION)
        assert "call recordings: first load telecom.calls, whose rows" in early.output
        session.load("telecom.calls", "2024-01-01", "2026-03-10")
    due = query(
        configured / "production.duckdb",
        "SELECT count(lead_call.recording_url), count(lead_call.voice_mail_url) FROM telecom.calls",
    )[0]
    listed = run("files", "list", *IN_PRODUCTION)
    assert listed.exit_code == 0, listed.output
    assert f"│ recordings │ {due[0]} │ 0 │" in " ".join(listed.output.split())
    done = run("files", "load", *IN_PRODUCTION, "--limit", "5")
    assert done.exit_code == 0, done.output
    assert "call recordings: 5 to download" in done.output
    assert f"{due[0] - 5} more are due" in done.output
    assert f"voicemails: {due[1]} to download" in done.output
    nothing = run("files", "load", "voicemails", *IN_PRODUCTION, "--to", "2024-01-01")
    assert "voicemails: nothing is due" in nothing.output
    assert "recordings" not in nothing.output
    assert len(list((configured / "files").rglob("*.wav"))) > 1

    def refuse(request: Request) -> Response | None:
        return Response(status_code=403) if request.url.path.endswith("/recording") else None

    company.interceptors.append(refuse)
    refused = run("files", "load", *IN_PRODUCTION)
    company.interceptors.clear()
    assert refused.exit_code == 1
    assert "tn.tlc.calls:r" in refused.output


def test_without_a_kind_there_is_nothing_to_do(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = run("files", "load", "faxes", *IN_PRODUCTION)
    assert "known are recordings" in str(unknown.exception)
    monkeypatch.delenv("ST_FILES")
    assert "ST_FILES names no kind" in str(run("files", "list", *IN_PRODUCTION).exception)


def test_scopes_include_those_of_the_files_that_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tn.pb.images:r" not in run("scopes", "--format", "text").output
    monkeypatch.setenv("ST_FILES", "pricebook_images,recordings")
    lines = run("scopes", "--format", "text").output.split()
    assert "tn.pb.images:r" in lines
    assert len(set(lines)) == len(lines)
    assert "files.pricebook_images" in run("scopes").output
    assert "tn.pb.images:r" not in run("scopes", "--select", "crm", "--format", "text").output
    assert run("scopes", "--select", "pricebook.services", "--format", "json").exit_code == 0


def findings() -> list[tuple[str, str]]:
    subject = Subject(environment="production", endpoints=list(load_catalog()))
    return [(finding.status, finding.text) for finding in check_file_storage(subject)]


def test_check_says_whether_files_can_be_stored(
    configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ((status, text),) = findings()
    assert status == "ok"
    assert text == f"recordings, voicemails can be stored in {configured / 'files'}"
    assert stat.S_IMODE((configured / "files").stat().st_mode) == 0o700
    (configured / "files").chmod(0o755)
    assert [status for status, _ in findings()] == ["warning", "ok"]
    monkeypatch.delenv("ST_FILES")
    assert findings() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/proc/files", "cannot be stored in /proc/files"),
        ("nosuchprotocol://bucket/x", "cannot open nosuchprotocol://"),
        ("s3://bucket/x", "pip install 'st_pipelines[files-s3]'"),
        ("s3://user:pw@bucket/x", "user or password"),
    ],
)
def test_check_names_a_storage_that_cannot_be_used(
    configured: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("ST_FILES_URL", url)
    checked = run("check", *IN_PRODUCTION, "--select", "telecom.calls")
    assert checked.exit_code == 1
    assert message in checked.output
    assert "pw@" not in checked.output


def test_check_notices_files_that_are_elsewhere(
    configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with connect("production") as session:
        session.load("telecom.calls", "2024-01-01", "2026-03-10")
    assert run("files", "load", "recordings", *IN_PRODUCTION, "--limit", "3").exit_code == 0
    assert [status for status, _ in findings()] == ["ok"]
    monkeypatch.setenv("ST_FILES_URL", str(tmp_path / "other"))
    ((status, text),) = findings()
    assert status == "warning"
    assert "recordings" in text
