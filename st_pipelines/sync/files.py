"""Stores files of one kind: downloads those that are due, and records what became of each.

Files are downloaded several at a time into a staging folder, and stored in small batches. A run
that is killed loses the downloads of its last batch at most: the next run finds in the table which
files were about to be moved, and looks whether they are there.
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
from datetime import date
from functools import partial
from pathlib import Path
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
from st_pipelines.sync.file_storage import FileStorage, not_stored, open_storage
from st_pipelines.sync.sync import SyncContext
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines.warehouse.store.write_queue import Deadline, acquire
from st_pipelines.warehouse.tables.stored_files import DueFiles, FileTable, StoredFile

BATCH_FILES = 25
BATCH_BYTES = 128 << 20
BATCH_SECONDS = 10.0
"""A batch is stored once it has this many files or bytes, or its first file waits that long."""

MAX_FAILURES_IN_A_ROW = 5
"""After this many failures in a row the cause is not the files, and the run ends."""

_OF_ONE_FILE = (BadRequest, ServiceUnavailable, UnexpectedResponse, Unreachable)
"""Errors that may concern a single file. After any other, every further file would fail too."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,6}")


@dataclass(frozen=True, kw_only=True)
class FilesReport:
    """What one run did for one kind of files.

    Attributes:
        due: files that were due when it began.
        stored, bytes: files that it stored, and their size.
        missing: files that ServiceTitan does not have (404).
        empty: files without content.
        too_large: files above `ST_FILES_MAX_MB`.
        failed: files that could not be downloaded; a later run tries again.
        problems: of those that failed, each once.
        elsewhere: references that the operation does not take.
        missing_tables: source tables that were not loaded yet.
        requests: to ServiceTitan and to where it redirected.
        received: bytes of all responses.
        seconds: of the run.
        total: files that are stored now, and `total_bytes` their size.
    """

    kind: FileKind
    due: int = 0
    stored: int = 0
    bytes: int = 0
    missing: int = 0
    empty: int = 0
    too_large: int = 0
    failed: int = 0
    problems: tuple[str, ...] = ()
    elsewhere: int = 0
    missing_tables: tuple[str, ...] = ()
    requests: int = 0
    received: int = 0
    seconds: float = 0.0
    total: int = 0
    total_bytes: int = 0

    @property
    def left(self) -> int:
        """Files that are still due: a later run downloads them."""
        return self.due - self.stored - self.missing - self.empty - self.too_large - self.failed


def open_table(context: SyncContext, kind: FileKind) -> FileTable:
    """Returns the table of a kind in the context's warehouse."""
    return FileTable(
        store=context.warehouse,
        kind=kind,
        catalog=context.catalog,
        environment=context.client.connection.environment,
        tenant_id=context.client.connection.tenant_id,
        run_id=context.run_id,
    )


def find_due(
    context: SyncContext,
    kind: FileKind,
    settings: FileSettings,
    *,
    limit: int | None = None,
    days: tuple[date, date] | None = None,
) -> DueFiles:
    """Decides from the warehouse which files are due, the newest first. Requests nothing.

    Args:
        limit: instead of `ST_FILES_PER_RUN`.
        days: only files of rows of these local days, both included.

    Raises:
        WarehouseError: nothing is loaded yet, or another process holds the warehouse.
    """
    return open_table(context, kind).read_due(
        settings.per_run if limit is None else limit,
        now=context.now(),
        max_bytes=settings.max_bytes,
        days=days,
    )


def describe_cost(kind: FileKind, due: DueFiles, requests_per_second: float) -> str:
    """Says in a sentence what downloading the files will take."""
    number = len(due.files)
    if not number:
        return f"{kind.title}: nothing is due"
    rest = due.count - number
    seconds = number / requests_per_second
    more = f"; {rest:,} more are due and left to later runs" if rest else ""
    return (
        f"{kind.title}: {number:,} to download, with as many requests or more, in {seconds:,.0f} s "
        f"at the earliest{more}"
    )


def load_files(
    context: SyncContext,
    kind: FileKind,
    settings: FileSettings,
    *,
    limit: int | None = None,
    days: tuple[date, date] | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> FilesReport:
    """Downloads the files of a kind that are due, and stores them.

    Args:
        limit, days: as for `find_due`.
        announce: gets the cost in a sentence before anything is requested.

    Raises:
        SettingsError: files cannot be stored where `ST_FILES_URL` says.
        ServiceTitanError: access is refused, or several files failed in a row. What was stored
            before stays.
        WarehouseError: the table cannot be read or written, or another process stores this kind.
    """
    started = time.monotonic()
    storage, table = open_storage(settings.url), open_table(context, kind)
    storage.check()
    context.require_warehouse()
    usage = Usage()
    with _exclusive(context, kind), storage.staging(context.warehouse.scratch_folder) as folder:
        _recover(table, storage)
        due = find_due(context, kind, settings, limit=limit, days=days)
        announce(describe_cost(kind, due, context.client.connection.requests_per_second))
        run = _Run(
            context=context,
            kind=kind,
            settings=settings,
            storage=storage,
            table=table,
            folder=folder,
            usage=usage,
        )
        run.download(due.files)
    total, total_bytes = table.count_states().get("stored", (0, 0))
    return FilesReport(
        kind=kind,
        due=due.count,
        elsewhere=due.elsewhere,
        missing_tables=due.missing_tables,
        requests=usage.requests,
        received=usage.bytes,
        seconds=time.monotonic() - started,
        total=total,
        total_bytes=total_bytes,
        problems=tuple(sorted(run.problems)),
        **run.counts,
    )


@contextmanager
def _exclusive(context: SyncContext, kind: FileKind) -> Iterator[None]:
    """Keeps two processes from downloading the same files of one tenant."""
    connection = context.client.connection
    name = f".{connection.environment}-{connection.tenant_id}-{kind.name}.files"
    deadline = Deadline(context.warehouse.wait_seconds)
    path = context.warehouse.scratch_folder / name
    with acquire(path, deadline, f"{kind.table}, run {context.run_id}"):
        yield


def _recover(table: FileTable, storage: FileStorage) -> None:
    """Decides about files that were being moved when a run ended."""
    decided = []
    for file in table.read(("storing",)):
        if _is_in_place(file, storage):
            decided.append(dataclasses.replace(file, state="stored", replaces=None))
        else:
            decided.append(
                dataclasses.replace(
                    file,
                    state="failed",
                    path=file.replaces,
                    replaces=None,
                    bytes=None,
                    sha256=None,
                    stored_at=None,
                    content_type=None,
                    problem="its run was killed",
                )
            )
    table.write(decided)


def _is_in_place(file: StoredFile, storage: FileStorage) -> bool:
    """Whether a file was moved; then the version that it replaces is deleted."""
    try:
        if not storage.holds(str(file.path), file.bytes or 0, file.sha256 or ""):
            return False
        if file.replaces:
            storage.delete(file.replaces)
    except OSError as error:
        raise not_stored(storage.url, error) from None
    return True


@dataclass(kw_only=True)
class _Download:
    """A file on its way, and where it is staged if it has content."""

    file: StoredFile
    staged: Path | None = None
    error: ServiceTitanError | None = None


@dataclass(kw_only=True)
class _Run:
    """Downloads files and stores them batch by batch."""

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

    def download(self, files: Sequence[StoredFile]) -> None:
        """Downloads and stores files. See `load_files` for the errors."""
        try:
            with _workers(self.context, self.usage, self.settings.concurrency) as (pool, session):
                fetched = _in_any_order(
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
        """Downloads one file, in a thread of the pool."""
        target = Target(
            path=self.folder / str(number),
            max_bytes=self.settings.max_bytes,
            accepts=self.kind.accepts,
        )
        path = self.kind.path.replace("{id}", quote(file.source_id, safe=""))
        params = {} if self.kind.by_id else {"path": file.reference}
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
        except _OF_ONE_FILE as error:
            failed = dataclasses.replace(
                file, state="failed", tries=file.tries + 1, problem=_describe_problem(error)
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
            replaces=file.path if file.path != path else None,
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
            self._failures_in_a_row += 1
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
            if file.replaces:
                self.storage.delete(file.replaces)
            staged.unlink(missing_ok=True)
        except OSError as error:
            raise not_stored(self.storage.url, error) from None
        self._moved.append(dataclasses.replace(file, state="stored", replaces=None))


def build_stem(kind: FileKind, file: StoredFile) -> str:
    """Returns the name of a file without its extension, made of ids alone.

    References may name customers. So a file that is known by its reference gets the id of the row
    and a part of the reference's digest, because one row may point to several files.
    """
    known = _PLAIN_ID.fullmatch(file.source_id)
    stem = file.source_id if known else hashlib.sha256(file.source_id.encode()).hexdigest()[:24]
    if kind.by_id:
        return stem
    return f"{stem}-{hashlib.sha256(file.reference.encode()).hexdigest()[:12]}"


@contextmanager
def _workers(
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


def _in_any_order(
    pool: ThreadPoolExecutor,
    fetch: Callable[[int, StoredFile], _Download],
    files: Sequence[StoredFile],
    concurrency: int,
) -> Iterator[_Download]:
    """Yields downloads as they arrive, as many at a time as there are threads.

    One large file does not hold up the small ones. An error is raised after the downloads that were
    complete when it came.
    """
    waiting, running = enumerate(files), set[Future[_Download]]()
    while True:
        for number, file in itertools.islice(waiting, concurrency - len(running)):
            running.add(pool.submit(fetch, number, file))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda one: one.exception() is not None):
            yield future.result()


def _describe_problem(error: ServiceTitanError) -> str:
    """Returns what failed, without an address or the words of a response."""
    return f"{type(error).__name__}" + (f", status {error.status}" if error.status else "")
