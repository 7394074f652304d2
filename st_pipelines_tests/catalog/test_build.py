"""Where `catalog build` writes to: what is its own is replaced, all else is left alone."""

import json
import os
from pathlib import Path

import pytest

from st_pipelines.catalog import files
from st_pipelines.catalog.build.build import rebuild
from st_pipelines_tests.catalog.documents import PAGED, document, operation, record
from st_pipelines_tests.command_line import run

ADDITIONS = '{"zzz.things": {"color": "VARCHAR"}}'


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    write(folder, "things")
    return folder


def write(folder: Path, *names: str) -> None:
    paths = {name: operation(record(), query=PAGED) for name in names}
    (folder / "abc.json").write_text(json.dumps(document(paths)))


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(folder.iterdir()) if file.is_file()}


def test_a_new_and_an_empty_folder_are_filled_and_filled_again(
    tmp_path: Path, documents: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".gitkeep").touch()
    for name in ("empty", "new/deep"):
        rebuild(documents, tmp_path / name)
        assert set(files.read(tmp_path / name).endpoints) == {"abc.things"}
        before = contents(tmp_path / name)
        rebuild(documents, tmp_path / name)
        assert contents(tmp_path / name) == before
    assert (tmp_path / "empty" / ".gitkeep").exists()


def test_other_files_in_the_folder_stay(tmp_path: Path, documents: Path) -> None:
    folder = tmp_path / "catalog"
    rebuild(documents, folder)
    (folder / "README.md").write_text("mine")
    rebuild(documents, folder)
    assert set(contents(folder)) == {"README.md", "abc.json", "left_out.json"}


@pytest.mark.parametrize(
    ("name", "text"), [("st_catalog.json", ADDITIONS), ("empty.json", "{}"), ("notes.txt", "mine")]
)
def test_a_folder_of_something_else_is_named_and_left_as_it_is(
    tmp_path: Path, documents: Path, name: str, text: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=f"mine contains {name} but no catalog: name an empty"):
        rebuild(documents, folder)
    assert contents(folder) == {name: text}


@pytest.mark.parametrize("text", [ADDITIONS, "{}", "[]", "{", '{"a": {"columns": {}}}'])
def test_a_foreign_file_in_a_catalog_is_named_and_nothing_is_touched(
    tmp_path: Path, documents: Path, text: str
) -> None:
    folder = tmp_path / "catalog"
    rebuild(documents, folder)
    (folder / "st_catalog.json").write_text(text)
    before = contents(folder)
    write(documents, "others")
    with pytest.raises(ValueError, match=r"contains st_catalog\.json, which does not belong"):
        rebuild(documents, folder)
    assert contents(folder) == before


def test_the_documents_and_a_file_are_no_folder_for_the_catalog(
    tmp_path: Path, documents: Path
) -> None:
    before = contents(documents)
    with pytest.raises(ValueError, match=r"contains abc\.json but no catalog"):
        rebuild(documents, documents)
    with pytest.raises(ValueError, match="is a file: name a folder"):
        rebuild(documents, documents / "abc.json")
    assert contents(documents) == before


def test_a_build_that_fails_leaves_the_folder_as_it_was(
    tmp_path: Path, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "catalog"
    rebuild(documents, folder)
    before = contents(folder)
    write(documents, "others", "{id}/notes")
    left, sync = [1], os.fsync

    def full(descriptor: int) -> None:
        if not left:
            raise OSError(28, "No space left on device")
        left.pop()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        rebuild(documents, folder)
    assert contents(folder) == before
    (documents / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is not JSON"):
        rebuild(documents, folder)
    assert contents(folder) == before


def test_the_command_tells_in_one_line_and_without_a_traceback(
    tmp_path: Path, documents: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "left_out.json").write_text("[]")
    result = run("catalog", "build", str(documents), "--output", str(folder))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "mine contains left_out.json, which does not belong to its catalog" in result.stderr
