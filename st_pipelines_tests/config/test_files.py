"""The settings of files: which kinds, where to, how many."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment


def test_nothing_is_stored_by_default(tmp_path: Path) -> None:
    config = resolve_environment("production")
    assert config.file_kinds == config.files.kinds == ()
    assert config.files.url == str(tmp_path / "data" / "files")


def test_files_are_beside_the_warehouse_or_where_the_url_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_PRODUCTION_WAREHOUSE", str(tmp_path / "elsewhere" / "x.duckdb"))
    assert resolve_environment("production").files.url == str(tmp_path / "elsewhere" / "files")
    accepted = {
        "store": str(tmp_path / "store"),
        f"file://{tmp_path}/store/": str(tmp_path / "store"),
        "s3://bucket/folder/": "s3://bucket/folder",
        "gs://bucket": "gs://bucket",
        "abfs://container@account.dfs.core.windows.net/folder": (
            "abfs://container@account.dfs.core.windows.net/folder"
        ),
    }
    for text, url in accepted.items():
        monkeypatch.setenv("ST_FILES_URL", text)
        assert resolve_environment("production").files.url == url


def test_several_kinds_can_be_named_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_FILES", " voicemails , recordings,")
    config = resolve_environment("production")
    assert [kind.name for kind in config.file_kinds] == ["recordings", "voicemails"]
    assert config.files.find("voicemails").scope == "tn.tlc.calls:r"
    with pytest.raises(ValueError, match="add them to ST_FILES"):
        config.files.find("pricebook_images")
    with pytest.raises(ValueError, match="did you mean recordings"):
        config.files.find("recording")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("ST_FILES", "recording", "did you mean recordings"),
        ("ST_FILES", "faxes", "known are recordings, voicemails"),
        ("ST_FILES_PER_RUN", "0", "give a number from 1 to 1,000,000"),
        ("ST_FILES_PER_RUN", "many", "'many'"),
        ("ST_FILES_CONCURRENCY", "17", "from 1 to 16"),
        ("ST_FILES_MAX_MB", "-1", "from 1 to"),
        ("ST_FILES_URL", "s3://key:secret@bucket/x", "user or password"),
        ("ST_FILES_URL", "abfs://container:secret@account/x", "user or password"),
        ("ST_FILES_URL", "s3://bucket/x?sig=secret", "without"),
        ("ST_FILES_URL", "s3:///folder", "no bucket"),
        ("ST_FILES_URL", "http://[::1", "not a URL"),
        ("ST_FILES_URL", "file://host/folder", "file:///folder"),
    ],
)
def test_a_wrong_setting_is_named_without_a_secret(
    setting: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(SettingsError, match=message) as raised:
        _ = resolve_environment("production").files
    assert setting in str(raised.value)
    assert "secret" not in str(raised.value).replace("user or password", "")


def test_a_misspelled_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_FILES_PR_RUN", "5")
    with pytest.raises(SettingsError, match="did you mean ST_FILES_PER_RUN"):
        _ = resolve_environment("production").settings
