"""Puts files where `ST_FILES_URL` says: a folder of this machine, or any storage that fsspec knows.

A file is complete before it gets its name. Locally it is written beside its place and moved, in an
object store the upload ends with the object, and elsewhere it is uploaded under another name first.
Local files and folders are their owner's alone; who may read a bucket is set there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from st_pipelines.config.errors import SettingsError
from st_pipelines.warehouse.errors import FULL, FilesNotStored, WarehouseError, WarehouseFull
from st_pipelines.warehouse.store.location import make_folder, set_mode, sync_folder
from st_pipelines.warehouse.store.scratch import staging_folder

_CHUNK_BYTES = 1 << 20
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ATOMIC = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
"""Protocols of object stores: an object appears when its upload is complete."""
_EXTRAS = {
    "s3": "files-s3",
    "s3a": "files-s3",
    "gs": "files-gcs",
    "gcs": "files-gcs",
    "abfs": "files-azure",
    "abfss": "files-azure",
    "az": "files-azure",
}
"""The extra of this package that installs what fsspec needs for a protocol."""


class FileStorage(Protocol):
    """A place for files. Paths in it are relative, with slashes."""

    url: str

    def check(self) -> None:
        """Verifies that a file can be written and deleted here. Raises SettingsError."""
        ...

    def staging(self, scratch: Path) -> Any:
        """Yields a new local folder for files that are not complete yet, and removes it.

        Args:
            scratch: a folder with room, for storages that are elsewhere.
        """
        ...

    def put(self, staged: Path, path: str) -> None:
        """Moves a complete file to its place, replacing what is there. Raises OSError."""
        ...

    def holds(self, path: str, size: int, sha256: str) -> bool:
        """Whether exactly this content is at a path. Raises OSError."""
        ...

    def exists(self, path: str) -> bool:
        """Whether anything is at a path. Raises OSError."""
        ...

    def delete(self, path: str) -> None:
        """Deletes a file; a missing one is not an error. Raises OSError."""
        ...


def not_stored(url: str, error: BaseException | None) -> WarehouseError:
    """Returns the error for what a storage, or the disk, did not take.

    Args:
        error: an OSError.
    """
    code = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if code in FULL:
        return WarehouseFull(f"no space left for files in {url}: the rest is left to a later run")
    return FilesNotStored(
        f"a file could not be stored in {url} ({reason}): it is left to a later run"
    )


def open_storage(url: str) -> FileStorage:
    """Returns the storage of a URL or absolute path; nothing is opened yet."""
    return ObjectStorage(url) if _URL.match(url) else LocalStorage(url)


class LocalStorage:
    """A folder of this machine."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url)

    def check(self) -> None:
        """See the protocol."""
        probe = self._root / f".check-{uuid.uuid4().hex}"
        try:
            make_folder(self._root, 0o700)
            os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            probe.unlink()
        except OSError as error:
            raise SettingsError(
                f"files cannot be stored in {self._root} ({error.strerror}): set ST_FILES_URL to a "
                "folder that you can write to, or fix the permissions"
            ) from None

    @contextmanager
    def staging(self, scratch: Path) -> Iterator[Path]:
        """See the protocol; the folder is on the file system of the files."""
        make_folder(self._root, 0o700)
        with staging_folder(self._root, "files") as folder:
            folder.mkdir(mode=0o700)
            yield folder

    def put(self, staged: Path, path: str) -> None:
        """See the protocol. The file is on the disk before its name is."""
        final = self._root / path
        make_folder(final.parent, 0o700)
        with open(staged, "rb") as file:
            os.fsync(file.fileno())
        set_mode(staged, 0o600)
        os.replace(staged, final)
        if os.name != "nt":  # where folders cannot be opened
            sync_folder(final.parent)

    def holds(self, path: str, size: int, sha256: str) -> bool:
        """See the protocol."""
        final = self._root / path
        if not final.is_file() or final.stat().st_size != size:
            return False
        with open(final, "rb") as file:
            return _digest(file) == sha256

    def exists(self, path: str) -> bool:
        """See the protocol."""
        return (self._root / path).exists()

    def delete(self, path: str) -> None:
        """See the protocol."""
        (self._root / path).unlink(missing_ok=True)

    def is_exposed(self) -> bool:
        """Whether others can open the folder."""
        try:
            return os.name != "nt" and bool(stat.S_IMODE(self._root.stat().st_mode) & 0o077)
        except OSError:
            return False


class ObjectStorage:
    """A storage behind fsspec."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._protocol = url.partition("://")[0].lower()

    def check(self) -> None:
        """See the protocol."""
        probe = f".check-{uuid.uuid4().hex}"
        try:
            with self._errors():
                file_system, root = self._open()
                self._make_folder(file_system, root)
                file_system.pipe_file(f"{root}/{probe}", b"")
                file_system.rm_file(f"{root}/{probe}")
        except OSError as error:
            raise SettingsError(
                f"files cannot be stored in {self.url} ({error}): correct ST_FILES_URL, or the "
                "storage's own settings and permissions (docs/files.md)"
            ) from None

    @contextmanager
    def staging(self, scratch: Path) -> Iterator[Path]:
        """See the protocol."""
        with staging_folder(scratch, "files") as folder:
            folder.mkdir(mode=0o700)
            yield folder

    def put(self, staged: Path, path: str) -> None:
        """See the protocol."""
        with self._errors():
            file_system, root = self._open()
            final = f"{root}/{path}"
            self._make_folder(file_system, final.rpartition("/")[0])
            if self._protocol in _ATOMIC:
                file_system.put_file(str(staged), final)
                return
            partial = f"{final}.{uuid.uuid4().hex}.partial"
            try:
                file_system.put_file(str(staged), partial)
                file_system.mv(partial, final)
            except BaseException:
                with contextlib.suppress(Exception):
                    file_system.rm_file(partial)
                raise

    def holds(self, path: str, size: int, sha256: str) -> bool:
        """See the protocol."""
        with self._errors():
            file_system, root = self._open()
            file_system.invalidate_cache()
            try:
                if file_system.info(f"{root}/{path}")["size"] != size:
                    return False
            except FileNotFoundError:
                return False
            with file_system.open(f"{root}/{path}", "rb") as file:
                return _digest(file) == sha256

    def exists(self, path: str) -> bool:
        """See the protocol."""
        with self._errors():
            file_system, root = self._open()
            return bool(file_system.exists(f"{root}/{path}"))

    def delete(self, path: str) -> None:
        """See the protocol."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            file_system, root = self._open()
            file_system.rm_file(f"{root}/{path}")

    def _open(self) -> tuple[Any, str]:
        """Returns the file system and the root's path in it. Raises SettingsError."""
        import fsspec

        try:
            file_system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(self._protocol)
            if extra is None or not isinstance(error, ImportError):
                raise SettingsError(
                    f"ST_FILES_URL: fsspec cannot open {self._protocol}:// ({error})"
                ) from None
            raise SettingsError(
                f"ST_FILES_URL is in {self._protocol}://, for which a package is missing: "
                f"pip install 'st_pipelines[{extra}]'"
            ) from None
        return file_system, root.rstrip("/")

    def _make_folder(self, file_system: Any, folder: str) -> None:
        """Creates a folder where there are any: s3fs would create a bucket that is misspelled."""
        if self._protocol not in _ATOMIC:
            file_system.makedirs(folder, exist_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises OSError for the errors of every cloud's own library; quotes no more than needed.

        Their messages may hold a signed request, so of unknown ones only the type is kept.
        """
        try:
            yield
        except (SettingsError, FileNotFoundError):
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror or type(error).__name__) from None
        except Exception as error:
            raise OSError(f"{type(error).__module__}.{type(error).__name__}") from None


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
