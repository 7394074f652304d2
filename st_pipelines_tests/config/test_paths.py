"""Every setting that is a path takes the same spellings, and means the same from any folder."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import pytest
from dotenv import dotenv_values

from st_pipelines.config.environments import PROJECT_SETTINGS
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.paths import ENVIRONMENT_PATHS, PROJECT_PATHS, resolve_path
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.config.sources.places import AllPlaces
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile

SETTINGS = {
    **PROJECT_PATHS,
    **{f"SERVICETITAN_{field.upper()}": kind for field, kind in ENVIRONMENT_PATHS.items()},
}
ME = pwd.getpwuid(os.getuid())
VARIABLES = {"DATA": "/srv/data", "EMPTY": "", "LITERAL": "/srv/$HOME"}


def resolve(text: str, *, variables: Mapping[str, str] = VARIABLES, windows: bool = False) -> str:
    """The path that a setting of a file means in the folder `/work`."""

    def lookup(name: str) -> str:
        return variables.get(name, "")

    found = resolve_path(text, "ST_X", "file", base=Path("/work"), lookup=lookup, windows=windows)
    return str(found)


def resolved(setting: str) -> Path:
    """The path of a setting, read as a run reads it."""
    config = resolve_environment("production")
    match setting:
        case "ST_CATALOG":
            return config.additions_file
        case "ST_ENDPOINTS":
            return config.endpoints_file
        case "ST_REPORTS":
            return config.reports_file
        case "DAGSTER_HOME":
            assert config.dagster_home
            return config.dagster_home
        case "ST_WAREHOUSE_DIR":
            return config.warehouse_folder
        case name if name.startswith("SERVICETITAN_"):
            field = setting.removeprefix("SERVICETITAN_").lower()
            return Path(getattr(config.settings.places, field))
        case _:
            name = setting.split("_")[1].lower()
            store = resolve_environment(name).open_store()  # pyright: ignore[reportArgumentType]
            assert isinstance(store, DuckDBFile)
            return store.path


def make(path: Path, kind: str) -> None:
    """Creates what the settings that are read with it expect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    else:
        path.write_text(json.dumps({}))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("x", "/work/x"),
        ("./x/../y/", "/work/x/../y"),
        ("/srv//x///", "/srv/x"),
        ("$DATA/x", "/srv/data/x"),
        ("${DATA}/x", "/srv/data/x"),
        ("${DATA:-/other}/x", "/srv/data/x"),
        ("${EMPTY:-/other}/x", "/other/x"),
        ("${UNSET-/other}/x", "/other/x"),
        ("${UNSET:-${DATA}}/x", "/srv/data/x"),
        ("${UNSET:-}x", "/work/x"),
        ("$$DATA/$$$$", "/work/$DATA/$$"),
        ("a$/100%/%DATA%", "/work/a$/100%/%DATA%"),
        ("$LITERAL", "/srv/$HOME"),
        ("file:///srv/my%20data/x", "/srv/my data/x"),
        ("file://localhost/srv/x", "/srv/x"),
        ("file:/srv/x", "/srv/x"),
        ("FILE://$DATA/x", "/srv/data/x"),
        (f"~{ME.pw_name}/x", f"{ME.pw_dir}/x"),
        ("./~x", "/work/~x"),
    ],
)
def test_a_path_is_resolved_as_people_write_it(text: str, path: str) -> None:
    assert resolve(text) == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$UNSET/x", "the variable UNSET in it has no value"),
        ("${EMPTY}/x", "the variable EMPTY in it has no value"),
        ("${UNSET", "write a variable as"),
        ("${}", "write a variable as"),
        ("${UNSET?}", "write a variable as"),
        ("~no-such-user/x", "there is no user 'no-such-user'"),
        ("C:\\data\\x", "has no drives"),
        ("C:/data/x", "has no drives"),
        (".\\data\\x", "write the path with /"),
        ("my\\ data", "write the path with /"),
        ("file://server/x", "needs an absolute path and no host"),
        ("file:x", "needs an absolute path and no host"),
        ("s3://bucket/x", "s3:// is not supported"),
        ("a\x00b", "has a control character"),
        ("a\nb", "has a control character"),
        ("caf\udce9/x", "has to be UTF-8"),
        ("file:///caf%E9", "has to be UTF-8"),
        ("/dev/null/x", "is a file, where a folder is needed"),
        ("x" * 300, "cannot be reached (File name too long)"),
        ("/", "/ is a folder: name a file in it"),
    ],
)
def test_what_cannot_be_a_path_is_refused_with_its_setting(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        resolve(text)
    assert str(refused.value).startswith("ST_X is ")
    assert reason in str(refused.value)
    str(refused.value).encode()


@pytest.mark.parametrize(
    ("text", "path"),
    [("%DATA%\\x", "/srv/data\\x"), ("file:///C:/data/x", "/work/C:/data/x"), (".\\x", ".\\x")],
)
def test_windows_has_variables_and_separators_of_its_own(text: str, path: str) -> None:
    assert resolve(text, windows=True).endswith(path)


@pytest.mark.parametrize("text", ["file://user:hunter2@host/x", "cs1.hunter2hunter2\\x"])
def test_a_secret_that_was_pasted_for_a_path_is_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        resolve(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("home", ["", None])
def test_a_home_folder_that_is_unknown_is_not_taken_for_the_root(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's user without an entry in passwd, or with an empty HOME, loaded into `/data`."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(SettingsError, match="the home folder of this user is unknown"):
        resolve("~/data/x")


def test_every_setting_that_is_a_path_is_known() -> None:
    """A new setting that is a path has to get the same treatment."""
    names = {*PROJECT_SETTINGS}
    fields = {*EnvironmentSettings.model_fields, *AllPlaces.model_fields}
    known = names | {f"SERVICETITAN_{field.upper()}" for field in fields} | {"DAGSTER_HOME"}
    assert SETTINGS.keys() <= known
    for name in names | fields:
        if name.lower().endswith(("_dir", "_file", "_warehouse", "_folder", "_catalog", "_home")):
            assert name in PROJECT_PATHS or name in ENVIRONMENT_PATHS


@pytest.mark.parametrize("source", ["environment", "dotenv", "dagster"])
@pytest.mark.parametrize(
    "written", ["~/p/x", "'$HOME/p/x/'", " ${HOME}/p/x ", "file://$HOME/p/x", "p/x"]
)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_path_setting_takes_the_same_spellings(
    setting: str, written: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only two of seven knew `~`; a variable was a folder named `$HOME`, or vanished."""
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "p" / "x", SETTINGS[setting])
    if source == "environment":
        monkeypatch.setenv(setting, written)
    else:
        Path(".env").write_text(f"{setting}={written}\n")
    if source == "dagster":  # adds what `.env` holds to the environment
        monkeypatch.setenv(setting, dotenv_values(".env")[setting] or "")
    assert resolved(setting) == tmp_path / "p" / "x"


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_variable_without_value_is_an_error_in_every_path_setting(
    setting: str, in_process: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.env` turned it into nothing, so that `$DATA/warehouse` was `/warehouse`.

    Dagster puts what `.env` comes to into the environment of its processes.
    """
    Path(".env").write_text(f"{setting}=${{NOWHERE}}/x\n")
    if in_process:
        monkeypatch.setenv(setting, "/x")
    with pytest.raises(SettingsError, match=rf"{setting} is .*the variable NOWHERE"):
        resolved(setting)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_file_for_a_folder_and_a_folder_for_a_file_are_refused_everywhere(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SETTINGS[setting]
    make(tmp_path / "x", "file" if kind == "folder" else "folder")
    monkeypatch.setenv(setting, "x")
    with pytest.raises(SettingsError, match=rf"{setting} is 'x': {tmp_path}/x is a"):
        resolved(setting)


def test_a_path_stays_the_same_when_the_process_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_environment("production")
    monkeypatch.chdir("/")
    assert config.warehouse_uri == str(tmp_path / "data" / "production.duckdb")
    assert config.additions_file == tmp_path / "st_catalog.json"


def test_the_uri_of_a_resource_is_resolved_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = resolve_environment("production")
    assert config.open_store("duckdb:~/x.duckdb").uri == str(tmp_path / "x.duckdb")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("folder", "is a folder: remove it (Docker creates one"),
        ("link", "is a link to a file that does not exist"),
        (b"SERVICETITAN_APP_KEY=\xe9", "is not UTF-8 text"),
    ],
)
def test_a_dotenv_that_cannot_be_read_is_reported(content: str | bytes, expected: str) -> None:
    """A folder counted as "no .env", and the message named missing credentials."""
    file = Path(".env")
    if content == "folder":
        file.mkdir()
    elif content == "link":
        file.symlink_to("gone")
    else:
        assert isinstance(content, bytes)
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=str(file.absolute())) as refused:
        resolve_environment("production")
    assert expected in str(refused.value)


def test_a_dotenv_may_begin_with_a_byte_order_mark() -> None:
    Path(".env").write_text("ST_UI_URL=http://host\n", encoding="utf-8-sig")
    assert resolve_environment("production").ui_url == "http://host"


def test_quotes_around_a_setting_of_the_project_are_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Docker's env files pass them on."""
    monkeypatch.setenv("ST_FILE_MODE", '"0640"')
    assert resolve_environment("production").file_mode == 0o640
