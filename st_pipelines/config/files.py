"""The settings of files: which kinds are stored, where, and how many at a time.

Nothing is stored unless `ST_FILES` names a kind. Storages in a cloud take their credentials from
the places that their own tools read, never from these settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from st_pipelines.catalog.file_kinds import FILE_KINDS, FileKind
from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.local import Variables

MAX_CONCURRENCY = 16
_DEFAULT_FOLDER = "files"
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How files are stored.

    Attributes:
        kinds: the kinds to store (`ST_FILES`).
        url: the folder of all files (`ST_FILES_URL`): an absolute path of this machine, or an
            fsspec URL such as `s3://bucket/folder`.
        per_run: the most files that one run downloads of a kind (`ST_FILES_PER_RUN`).
        concurrency: downloads at a time (`ST_FILES_CONCURRENCY`).
        max_bytes: the largest file that is stored (`ST_FILES_MAX_MB`).
    """

    kinds: tuple[FileKind, ...]
    url: str
    per_run: int
    concurrency: int
    max_bytes: int

    @property
    def max_mb(self) -> int:
        """The largest file that is stored, in megabytes."""
        return self.max_bytes >> 20

    def find(self, name: str) -> FileKind:
        """Returns a kind that is stored. Raises ValueError if it is not one."""
        for kind in self.kinds:
            if kind.name == name:
                return kind
        if name in FILE_KINDS:
            raise ValueError(f"{name} are not stored: add them to ST_FILES")
        raise ValueError(f"no kind of file {name!r}: {_hint(name)}")


def read_file_settings(variables: Variables, warehouse_folder: Callable[[], Path]) -> FileSettings:
    """Reads the settings of files.

    Args:
        warehouse_folder: returns the folder of the warehouse, beside which files are by default.

    Raises:
        SettingsError: one of them is wrong.
    """
    return FileSettings(
        kinds=read_kinds(variables.read("ST_FILES")),
        url=_read_url(variables, warehouse_folder),
        per_run=_read_number(variables, "ST_FILES_PER_RUN", 1000, 1_000_000),
        concurrency=_read_number(variables, "ST_FILES_CONCURRENCY", 4, MAX_CONCURRENCY),
        max_bytes=_read_number(variables, "ST_FILES_MAX_MB", 2048, 1_048_576) << 20,
    )


def read_kinds(text: str) -> tuple[FileKind, ...]:
    """Returns the kinds that a text names, in the order of `FILE_KINDS`. Raises SettingsError."""
    names = {name.strip() for name in text.split(",")} - {""}
    for name in sorted(names - FILE_KINDS.keys()):
        raise SettingsError(f"ST_FILES: no kind of file {name!r}: {_hint(name)}")
    return tuple(kind for name, kind in FILE_KINDS.items() if name in names)


def available_kinds(
    kinds: tuple[FileKind, ...], endpoints: Iterable[Endpoint]
) -> tuple[FileKind, ...]:
    """Returns the kinds that have a source table among some endpoints."""
    tables = {endpoint.table for endpoint in endpoints}
    return tuple(kind for kind in kinds if any(s.table in tables for s in kind.sources))


def require_sources(
    kinds: tuple[FileKind, ...], endpoints: Iterable[Endpoint], setting: str
) -> None:
    """Raises SettingsError if the selected tables include no source of a kind.

    Args:
        endpoints: those of the selected tables.
        setting: name of the setting that selects tables.
    """
    available = available_kinds(kinds, endpoints)
    for kind in kinds:
        if kind not in available:
            tables = " or ".join(source.table for source in kind.sources)
            raise SettingsError(
                f"ST_FILES has {kind.name}, whose ids come from {tables}: add it to {setting}, or "
                f"remove {kind.name} from ST_FILES"
            )


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, FILE_KINDS, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(FILE_KINDS)}"


def _read_number(variables: Variables, setting: str, default: int, largest: int) -> int:
    text = variables.read(setting, str(default))
    if not (text.isdecimal() and len(text) < 10 and 1 <= int(text) <= largest):
        raise SettingsError(f"{setting} is {text!r}: give a number from 1 to {largest:,}")
    return int(text)


def _read_url(variables: Variables, warehouse_folder: Callable[[], Path]) -> str:
    text = variables.read("ST_FILES_URL")
    if not text:
        return str(warehouse_folder() / _DEFAULT_FOLDER)
    found = _URL.match(text)
    if found is None or found[1].lower() == "file":
        return str(variables.resolve_path(text, "ST_FILES_URL", "folder"))
    try:
        parts = urlsplit(text)
    except ValueError:
        raise SettingsError(
            "ST_FILES_URL is not a URL: give s3://bucket/folder or a path"
        ) from None
    container_at_account = found[1].lower() in ("abfs", "abfss") and parts.password is None
    if "@" in parts.netloc and not container_at_account:
        raise SettingsError(
            "ST_FILES_URL has a user or password in it: remove it, as the URL is shown; the "
            "storage reads its credentials from its own settings (docs/files.md)"
        )
    if parts.query or parts.fragment:
        raise SettingsError("ST_FILES_URL: give a folder, without ? and #")
    if not parts.netloc:
        raise SettingsError(f"ST_FILES_URL has no bucket or host: give {found[1]}://bucket/folder")
    return text.rstrip("/")
