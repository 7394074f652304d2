"""Downloads files into a staging folder, several at a time, and stores them in small batches.

`files` decides which; this module records what became of each, and moves it to its place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from st_pipelines.catalog.file_kinds import FileKind
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.files import FileSettings
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ResponseTooLarge,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
)
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.download import CannotWrite, FileNotServed, Target, download
from st_pipelines.servicetitan.http.model import Usage
from st_pipelines.servicetitan.http.retry import Cancellation
from st_pipelines.sync.content_types import SIGNATURE_BYTES, find_extension
from st_pipelines.sync.file_storage import FileStorage, not_stored
from st_pipelines.sync.sync import SyncContext
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines.warehouse.tables.stored_files import FileTable, StoredFile

BATCH_FILES = 25
BATCH_BYTES = 128 << 20
BATCH_SECONDS = 10.0
"""A batch is stored once it has this many files or bytes, or its first file waits that long."""

MAX_FAILURES_IN_A_ROW = 5
"""The run ends after this many failures: the cause is unlikely to be the files."""

OF_ONE_FILE = (BadRequest, ServiceUnavailable, UnexpectedResponse, Unreachable)
"""Errors that may concern a single file. After any other, every further file would fail too."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,6}")
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(kw_only=True)
class _Download:
    """A file on its way, and where it is staged if it has content."""

    file: StoredFile
    staged: Path | None = None
    error: ServiceTitanError | None = None


@dataclass(kw_only=True)
class Downloads:
    """The downloads of one run.

    Attributes:
        folder: for files that are not in their place yet.
        problems: of the files that failed, each once.
        counts: files by state, and the bytes of those that were stored.
    """

    context: SyncContext
    kind: FileKind
    settings: FileSettings
    storage: FileStorage
    table: FileTable
    folder: Path
    usage: Usage
    problems: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("stored", "bytes", "missing", "empty", "too_large", "failed"), 0
        )
    )
    _moved: list[StoredFile] = field(default_factory=list)
    _batch: list[_Download] = field(default_factory=list)
    _batch_since: float = 0.0
    _failures_in_a_row: int = 0

    def run(self, files: Sequence[StoredFile]) -> None:
        """Downloads and stores files. See `load_files` for the errors."""
        try:
            with workers(self.context, self.usage, self.settings.concurrency) as (pool, session):
                fetched = in_any_order(
                    pool, partial(self._fetch, session), files, self.settings.concurrency
                )
                for downloaded in fetched:
                    self._take(downloaded)
        except (WarehouseError, SettingsError):
            raise
        except BaseException:
            self._flush(last=True)  # what has arrived completely is worth keeping
            raise
        self._flush(last=True)

    def _fetch(self, session: Session[Usage], number: int, file: StoredFile) -> _Download:
        """Downloads one file, in a thread of the pool. Leaves nothing unless it has content."""
        target = Target(
            path=self.folder / str(number),
            max_bytes=self.settings.max_bytes,
            accepts=self.kind.accepts,
        )
        downloaded = self._download(session, target, file)
        if downloaded.staged is None:
            target.path.unlink(missing_ok=True)
        return downloaded

    def _download(self, session: Session[Usage], target: Target, file: StoredFile) -> _Download:
        path = self.kind.path.replace("{id}", quote(file.key, safe=""))
        params = {} if self.kind.by_id else {"path": file.key}
        file = dataclasses.replace(
            file, checked_at=self.context.now(), problem=None, refused_above=None
        )
        try:
            download(session, path, params, target, scope=self.kind.scope)
        except FileNotServed:
            return _Download(file=dataclasses.replace(file, state="missing", tries=0))
        except ResponseTooLarge:
            limit = self.settings.max_bytes
            refused = dataclasses.replace(file, state="too_large", tries=0, refused_above=limit)
            return _Download(file=refused)
        except OF_ONE_FILE as error:
            failed = dataclasses.replace(
                file, state="failed", tries=file.tries + 1, problem=describe_problem(error)
            )
            return _Download(file=failed, error=error)
        except CannotWrite as error:
            raise not_stored(self.settings.url, error.__cause__) from None
        if not target.received:
            return _Download(file=dataclasses.replace(file, state="empty", tries=0))
        return _Download(file=self._describe(file, target), staged=target.path)

    def _describe(self, file: StoredFile, target: Target) -> StoredFile:
        """Returns the row of a file that has been downloaded."""
        connection = self.context.client.connection
        with open(target.path, "rb") as staged:
            extension = find_extension(target.media_type, staged.read(SIGNATURE_BYTES))
        folder = f"{connection.environment}/{connection.tenant_id}/{self.kind.name}"
        path = f"{folder}/{build_stem(self.kind, file)}{extension}"
        return dataclasses.replace(
            file,
            state="storing",
            path=path,
            bytes=target.received,
            sha256=target.sha256,
            content_type=target.media_type or None,
            stored_at=file.checked_at,
            tries=0,
            replaces=file.path,
        )

    def _take(self, downloaded: _Download) -> None:
        """Adds a file to the batch, and stores the batch if it is large or old enough."""
        if not self._batch:
            self._batch_since = time.monotonic()
        self._batch.append(downloaded)
        state = downloaded.file.state
        self.counts["stored" if state == "storing" else str(state)] += 1
        if downloaded.staged:
            self.counts["bytes"] += downloaded.file.bytes or 0
        if downloaded.error is None:
            self._failures_in_a_row = 0
        else:
            self.problems.add(str(downloaded.file.problem))
            self._failures_in_a_row += _may_be_an_outage(downloaded)
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise downloaded.error
        size = sum(one.file.bytes or 0 for one in self._batch if one.staged)
        if (
            len(self._batch) >= BATCH_FILES
            or size >= BATCH_BYTES
            or time.monotonic() - self._batch_since >= BATCH_SECONDS
        ):
            self._flush()

    def _flush(self, *, last: bool = False) -> None:
        """Records the batch, then moves its files to their places.

        The next call records that they are there; with `last`, this one.
        """
        batch, self._batch = self._batch, []
        self.table.write([*self._moved, *(one.file for one in batch)])
        self._moved = []
        for one in batch:
            if one.staged is not None:
                self._put(one.staged, one.file)
        if last:
            self.table.write(self._moved)
            self._moved = []

    def _put(self, staged: Path, file: StoredFile) -> None:
        try:
            self.storage.put(staged, str(file.path))
            if file.obsolete_path:
                self.storage.delete(file.obsolete_path)
            staged.unlink(missing_ok=True)
        except OSError as error:
            raise not_stored(self.storage.url, error) from None
        self._moved.append(dataclasses.replace(file, state="stored", replaces=None))


def _may_be_an_outage(failed: _Download) -> bool:
    """Whether a failure may be that of every file, and not of this one.

    Files that have failed before come together, at the end of a run, and must not end every run.
    """
    return failed.file.tries == 1 and not isinstance(failed.error, BadRequest)


def build_stem(kind: FileKind, file: StoredFile) -> str:
    """Returns the name of a file without its extension, made of ids alone.

    References may name customers. So a file that is known by its reference gets the id of the row
    and a part of the reference's digest, because one row may point to several files.
    """
    if kind.by_id:
        return _as_name(file.key)
    return f"{_as_name(file.source_id)}-{_digest(file.key)[:12]}"


def _as_name(id_: str) -> str:
    """Returns an id if it can be a file's name; the digest of any other text."""
    return id_ if _PLAIN_ID.fullmatch(id_) else _digest(id_)[:24]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def workers(
    context: SyncContext, usage: Usage, concurrency: int
) -> Iterator[tuple[ThreadPoolExecutor, Session[Usage]]]:
    """Yields threads and a session for them; on exit, requests in flight are broken off."""
    cancelled = Cancellation()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="files")
    try:
        yield pool, context.client.session(usage, cancelled)
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def in_any_order(
    pool: ThreadPoolExecutor, fetch: Callable[[int, _T], _R], items: Sequence[_T], concurrency: int
) -> Iterator[_R]:
    """Calls `fetch` with the number of each item and the item, and yields the results as they come.

    As many run at a time as there are threads; one large file does not hold up the small ones. An
    error is raised after the results that were there when it came.
    """
    waiting, running = enumerate(items), set[Future[_R]]()
    while True:
        for number, item in itertools.islice(waiting, concurrency - len(running)):
            running.add(pool.submit(fetch, number, item))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda one: one.exception() is not None):
            yield future.result()


def describe_problem(error: ServiceTitanError) -> str:
    """Returns what failed, without an address or the words of a response."""
    return f"{type(error).__name__}" + (f", status {error.status}" if error.status else "")
