"""Stores files of one kind: downloads those that are due, and records what became of each.

Files are downloaded several at a time into a staging folder, and stored in small batches. A run
that is killed loses the downloads of its last batch at most: the next run finds in the table which
files were about to be moved, and looks whether they are there.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from st_pipelines.catalog.file_kinds import FileKind
from st_pipelines.config.files import FileSettings
from st_pipelines.servicetitan.http.model import Usage
from st_pipelines.sync.file_downloads import Downloads
from st_pipelines.sync.file_storage import FileStorage, not_stored, open_storage
from st_pipelines.sync.sync import SyncContext
from st_pipelines.warehouse.store.write_queue import Deadline, acquire
from st_pipelines.warehouse.tables.stored_files import DueFiles, FileTable, StoredFile


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
        rows: of the table, which also has the files that could not be stored.
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
    rows: int = 0

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
    absent = f"; {describe_missing_tables(due)}" if due.missing_tables else ""
    if not number:
        return f"{kind.title}: nothing is due{absent}"
    rest = due.count - number
    seconds = number / requests_per_second
    more = f"; {rest:,} more are due and left to later runs" if rest else ""
    return (
        f"{kind.title}: {number:,} to download, with as many requests or more, in {seconds:,.0f} s "
        f"at the earliest{more}{absent}"
    )


def describe_missing_tables(due: DueFiles) -> str:
    """Says which tables have to be loaded before their files can be due."""
    return f"first load {' and '.join(due.missing_tables)}, whose rows name the files"


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
        downloads = Downloads(
            context=context,
            kind=kind,
            settings=settings,
            storage=storage,
            table=table,
            folder=folder,
            usage=usage,
        )
        downloads.run(due.files)
    states = table.count_states()
    total, total_bytes = states.get("stored", (0, 0))
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
        rows=sum(count for count, _ in states.values()),
        problems=tuple(sorted(downloads.problems)),
        **downloads.counts,
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
        if file.obsolete_path:
            storage.delete(file.obsolete_path)
    except OSError as error:
        raise not_stored(storage.url, error) from None
    return True
