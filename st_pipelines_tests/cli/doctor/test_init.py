"""`st-pipelines init` writes a private file, never over another, with plausible values only."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from typer.testing import CliRunner

from st_pipelines.cli.app import app
from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment

FLAGS = [
    *("init", "--client-id", "cid.typed", "--client-secret", "cs1.typed", "--app-key", "ak1.typed"),
    *("--tenant-id", "4711", "--timezone", "America/Denver"),
]
ANSWERS = "cid.typed\ncs1.typed\nak1.typed\n4711\nAmerica/Denver\n"


def run(*arguments: str, answers: str = "") -> str:
    done = CliRunner().invoke(app, list(arguments), input=answers)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_the_answers_are_written_to_a_private_file() -> None:
    output = run("init", "--environment", "production", answers=ANSWERS)
    assert output == (
        "Client id (begins with cid.): cid.typed\n"
        "Client secret (begins with cs, is not shown while you type): \n"
        "App key (begins with ak1., is not shown while you type): \n"
        "Tenant id (a number): 4711\n"
        "Time zone (your company's, such as America/New_York): America/Denver\n"
        ".env was written, readable by you alone (mode 0600)\n"
        "The first partition is 2024-01-01 and holds everything older; SERVICETITAN_START_DATE in "
        ".env sets another.\nNext: st-pipelines check --environment production\n"
    )
    assert Path(".env").read_text() == (
        "# production\n"
        "SERVICETITAN_CLIENT_ID=cid.typed\n"
        "SERVICETITAN_CLIENT_SECRET=cs1.typed\n"
        "SERVICETITAN_APP_KEY=ak1.typed\n"
        "SERVICETITAN_TENANT_ID=4711\n"
        "SERVICETITAN_TIMEZONE=America/Denver\n"
    )
    assert mode(Path(".env")) == 0o600


def test_the_file_is_private_from_its_first_byte(tmp_path: Path) -> None:
    """The umask hides nothing and nothing changes the mode, so the file was created with it."""
    script = (
        "import os, sys\n"
        "from st_pipelines.cli.app import app\n"
        "os.umask(0)\n"
        "sys.addaudithook(lambda event, args: event == 'os.chmod' and print(event, args))\n"
        f"app({[*FLAGS, '--environment', 'production']!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(".env was written")
    assert mode(tmp_path / ".env") == 0o600


def test_an_existing_file_is_refused_before_the_first_prompt() -> None:
    Path(".env").write_text("MINE=1\n")
    with pytest.raises(SettingsError) as refused:
        run(*FLAGS, "--environment", "production")
    assert str(refused.value) == (
        ".env already exists and was not changed: edit it, or add production to it with --append"
    )
    assert Path(".env").read_text() == "MINE=1\n"


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    Path(".env").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="already exists"):
        run(*FLAGS, "--environment", "production")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("before", ["MINE='a # b'  # kept\n\n", "MINE=1", ""])
def test_a_second_environment_is_appended_and_nothing_is_lost(before: str) -> None:
    Path(".env").write_text(before)
    Path(".env").chmod(0o644)
    output = run(*FLAGS, "--environment", "integration", "--append")
    assert output == (
        "integration was added to .env\n"
        ".env was readable by others, and now is by you alone (mode 0600)\n"
        "The first partition is 2024-01-01 and holds everything older; "
        "SERVICETITAN_INTEGRATION_START_DATE in .env sets another.\nNext: st-pipelines check "
        "--environment integration\n"
    )
    assert Path(".env").read_text().startswith(before)
    values = dotenv_values(".env")
    assert values["SERVICETITAN_INTEGRATION_CLIENT_ID"] == "cid.typed"
    assert values.get("MINE") == dotenv_values(stream=StringIO(before)).get("MINE")
    assert mode(Path(".env")) == 0o600


def test_an_environment_is_not_added_twice() -> None:
    run(*FLAGS, "--environment", "production")
    before = Path(".env").read_bytes()
    with pytest.raises(SettingsError) as refused:
        run(*FLAGS, "--environment", "production", "--append")
    assert str(refused.value) == (
        ".env already has production (SERVICETITAN_CLIENT_ID, SERVICETITAN_CLIENT_SECRET, "
        "SERVICETITAN_APP_KEY, SERVICETITAN_TENANT_ID) and was not changed: edit these lines"
    )
    assert Path(".env").read_bytes() == before


def test_an_implausible_answer_is_prompted_for_again_and_never_printed() -> None:
    answers = (
        "your-client-id\ncid.typed\n ak1.pasted \n'cs1.typed'\nak1.typed\nabc\n4711\nDenver\n"
        "America/Denver\n"
    )
    output = run("init", "--environment", "production", answers=answers)
    assert [line for line in output.splitlines() if line.startswith("SERVICETITAN_")] == [
        "SERVICETITAN_CLIENT_ID still holds a placeholder. Replace it with the client id.",
        "SERVICETITAN_CLIENT_SECRET holds what looks like the app key. Replace it with the client "
        "secret, which begins with cs and a number",
        "SERVICETITAN_TENANT_ID is not a number. The tenant id is the number that ServiceTitan "
        "shows under Settings > Integrations > API Application Access.",
        "SERVICETITAN_TIMEZONE is 'Denver': not an IANA time zone: give one such as "
        "America/New_York",
    ]
    assert "pasted" not in output
    assert dotenv_values(".env")["SERVICETITAN_CLIENT_SECRET"] == "cs1.typed"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--client-id", "<id>"), "SERVICETITAN_CLIENT_ID still holds a placeholder"),
        (("--start-date", "soon"), "SERVICETITAN_START_DATE is 'soon': write it as YYYY-MM-DD"),
        (("--api-url", "http://x.test"), "is not https"),
        (("--timezone", "cs1.pasted"), "SERVICETITAN_TIMEZONE: not an IANA"),
        (("--client-id", ""), "SERVICETITAN_CLIENT_ID must not be empty"),
    ],
)
def test_an_implausible_option_is_refused(flags: tuple[str, str], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        run(*FLAGS, *flags, "--environment", "production")
    assert not Path(".env").exists()


def test_a_value_of_an_unusual_form_is_written_with_a_note() -> None:
    output = run(*FLAGS, "--app-key", "typed", "--environment", "production")
    assert output.startswith(
        "Note: SERVICETITAN_APP_KEY does not begin with ak1. as other app keys do. If the token or "
        "the first request is refused, check this value first.\n"
    )


@pytest.mark.parametrize("secret", ["cs1.a#b", "cs1.a'b", "cs1.a\\b", 'cs1.a"b', "cs1.a=b$c"])
def test_unusual_characters_read_back_unchanged(secret: str) -> None:
    run(*FLAGS, "--client-secret", secret, "--environment", "production")
    found = build_connection(resolve_environment("production"))
    assert found.client_secret.get_secret_value() == secret


def test_a_value_that_env_cannot_hold_is_refused() -> None:
    with pytest.raises(SettingsError) as refused:
        run(*FLAGS, "--client-secret", "cs1.a${HOME}b", "--environment", "production")
    assert str(refused.value) == (
        "SERVICETITAN_CLIENT_SECRET has characters that .env cannot hold: set it as an environment "
        "variable"
    )
    assert not os.path.lexists(".env")


@pytest.mark.parametrize("before", [None, "MINE=1\n"])
def test_a_full_disk_leaves_the_previous_content(before: str | None) -> None:
    """A limit on the size of files fails a write as a full disk does."""
    if before is not None:
        Path(".env").write_text(before)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(*FLAGS, "--environment", "production", "--append")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (Path(".env").read_text() if os.path.lexists(".env") else None) == before
