"""Where files are put, and what they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from st_pipelines.config.errors import SettingsError
from st_pipelines.sync.content_types import find_extension
from st_pipelines.sync.file_storage import FileStorage, open_storage


@pytest.fixture(params=["folder", "memory", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStorage]:
    """A folder, an object store, and a file system of fsspec that shows files while they grow."""
    urls = {"folder": f"{tmp_path}/storage", "memory": "memory://storage"}
    yield open_storage(urls.get(request.param, f"local://{tmp_path}/storage"))
    fsspec.filesystem("memory").store.clear()


def put(storage: FileStorage, folder: Path, path: str, content: bytes) -> tuple[int, str]:
    staged = folder / "staged"
    staged.write_bytes(content)
    storage.put(staged, path)
    return len(content), hashlib.sha256(content).hexdigest()


def test_a_file_is_put_replaced_and_deleted(storage: FileStorage, tmp_path: Path) -> None:
    storage.check()
    assert not storage.exists("a/b/1.wav")
    first = put(storage, tmp_path, "a/b/1.wav", b"first")
    assert storage.exists("a/b/1.wav")
    assert storage.holds("a/b/1.wav", *first)
    second = put(storage, tmp_path, "a/b/1.wav", b"other")
    assert first[0] == second[0]
    assert storage.holds("a/b/1.wav", *second)
    assert not storage.holds("a/b/1.wav", *first), "the size alone is no proof"
    storage.delete("a/b/1.wav")
    storage.delete("a/b/1.wav")
    assert not storage.exists("a/b/1.wav")
    assert not storage.holds("a/b/1.wav", *second)


def test_only_complete_files_have_names(storage: FileStorage, tmp_path: Path) -> None:
    put(storage, tmp_path, "a/1.wav", b"complete")
    with pytest.raises(OSError, match=r"\w"):
        storage.put(tmp_path / "missing", "a/2.wav")
    assert not storage.exists("a/2.wav")
    folder = tmp_path / "storage" / "a"
    if folder.exists():
        assert [file.name for file in folder.iterdir()] == ["1.wav"]


def test_an_upload_that_breaks_off_leaves_the_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file is seen while it grows, it grows under another name."""
    storage = open_storage(f"local://{tmp_path}/storage")
    first = put(storage, tmp_path, "a/1.wav", b"first")

    def break_off(self: object, local: str, remote: str, **_: object) -> None:
        Path(remote).write_bytes(b"half")
        raise OSError("the connection was lost")

    monkeypatch.setattr(LocalFileSystem, "put_file", break_off)
    with pytest.raises(OSError, match="OSError"):
        put(storage, tmp_path, "a/1.wav", b"second")
    assert storage.holds("a/1.wav", *first)
    assert [file.name for file in (tmp_path / "storage" / "a").iterdir()] == ["1.wav"]


def test_the_words_of_a_library_s_own_errors_are_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may hold a signed request."""

    def refuse(self: object, local: str, remote: str, **_: object) -> None:
        raise RuntimeError("PUT https://bucket/1.wav?X-Amz-Signature=SECRET")

    monkeypatch.setattr(LocalFileSystem, "put_file", refuse)
    with pytest.raises(OSError, match=r"^builtins\.RuntimeError$") as raised:
        put(open_storage(f"local://{tmp_path}/storage"), tmp_path, "a/1.wav", b"first")
    assert raised.value.__suppress_context__


def test_staging_leaves_nothing(storage: FileStorage, tmp_path: Path) -> None:
    with storage.staging(tmp_path) as folder:
        (folder / "1").write_bytes(b"")
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="ST_FILES_URL"):
        open_storage(str(tmp_path / "file" / "folder")).check()


@pytest.mark.parametrize(
    ("media_type", "beginning", "extension"),
    [
        ("audio/mpeg", b"", ".mp3"),
        ("audio/x-wav", b"ID3", ".wav"),
        ("image/jpeg", b"", ".jpg"),
        ("application/octet-stream", b"ID3\x04", ".mp3"),
        ("application/octet-stream", b"\xff\xfb\x90", ".mp3"),
        ("application/octet-stream", b"\xff\xd8\xff\xe0", ".jpg"),
        ("binary/octet-stream", b"RIFF\x00\x00\x00\x00WAVEfmt ", ".wav"),
        ("", b"%PDF-1.7", ".pdf"),
        ("", b"\x00\x00\x00\x18ftypheic", ".heic"),
        ("", b"\x00\x00\x00\x18ftypheix", ".heic"),
        ("", b"\x00\x00\x00\x18ftypM4A ", ".m4a"),
        ("", b"\x00\x00\x00\x14ftypqt  ", ".mov"),
        ("", b"\x00\x00\x00\x18ftypmp42", ".mp4"),
        ("", b"", ".bin"),
        ("", b"whatever", ".bin"),
        ("application/vnd.unheard-of", b"%PDF-1.7", ".bin"),
        ("../../x", b"", ".bin"),
    ],
)
def test_the_type_decides_the_extension_or_else_the_content(
    media_type: str, beginning: bytes, extension: str
) -> None:
    assert find_extension(media_type, beginning) == extension
