"""Staging folders: those of the dead are removed by the next load, those of the living never."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from st_pipelines.warehouse.store import scratch as module
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines_tests import crash_harness as dying


def folders(root: Path) -> set[str]:
    return {folder.name.rpartition("-")[0] for folder in root.iterdir() if folder.is_dir()}


def test_dead_ones_are_removed_and_living_ones_stay(tmp_path: Path) -> None:
    file, root = tmp_path / "x.duckdb", tmp_path / ".staging"
    process = dying.started(dying.stage_and_wait, file, "of another process")
    dying.until(lambda: root.exists() and folders(root) == {"of another process"})
    with staging_folder(file, "of this process") as path:
        path.mkdir()
        with staging_folder(file, "later"):
            assert folders(root) == {"of another process", "of this process", "later"}
        process.kill()
        process.join()
        assert folders(root) == {"of another process", "of this process"}
        with staging_folder(file, "latest"):
            assert folders(root) == {"of this process", "latest"}
    assert folders(root) == set()


def test_only_its_user_can_look_into_it(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "x.duckdb", "a") as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_locks_only_the_load_itself_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    with staging_folder(tmp_path / "x.duckdb", "a"):
        with staging_folder(tmp_path / "x.duckdb", "b"):
            assert folders(tmp_path / ".staging") == {"a", "b"}
        assert folders(tmp_path / ".staging") == {"a"}
    assert folders(tmp_path / ".staging") == set()
