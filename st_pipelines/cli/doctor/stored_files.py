"""The step that checks where files are stored: `ST_FILES_URL`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.sync.explain import Finding
from st_pipelines.sync.file_storage import FileStorage, LocalStorage, open_storage
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines.warehouse.tables.stored_files import FileTable

STEP = "file storage"


def check_file_storage(subject: Subject) -> Iterator[Finding]:
    """Checks that files can be written, that nobody else can open them, and that they are there.

    Yields nothing if `ST_FILES` names no kind.
    """
    kinds = subject.config.file_kinds
    if not kinds:
        return
    storage = open_storage(subject.config.files.url)
    storage.check()
    if isinstance(storage, LocalStorage) and storage.is_exposed():
        yield Finding(
            step=STEP,
            status="warning",
            code="files-open",
            text=f"{storage.url} is open to others: chmod 700 it",
        )
    missing = list(_find_missing(subject, storage))
    if missing:
        yield Finding(
            step=STEP,
            status="warning",
            code="files-gone",
            items=tuple(missing),
            text=f"the file that was stored last is not in {storage.url}: {', '.join(missing)}",
            hint="Set ST_FILES_URL to where the files are, or move them there.",
        )
        return
    names = ", ".join(kind.name for kind in kinds)
    yield Finding(step=STEP, status="ok", text=f"{names} can be stored in {storage.url}")


def _find_missing(subject: Subject, storage: FileStorage) -> Iterator[str]:
    """Yields the kinds of which the file that was stored last is not in the storage."""
    store = subject.config.open_store(wait_seconds=0)
    if not store.exists:
        return
    for kind in subject.config.file_kinds:
        table = FileTable(
            store=store,
            kind=kind,
            catalog=subject.config.catalog,
            environment=subject.environment,
            tenant_id=subject.connection.tenant_id,
        )
        with contextlib.suppress(WarehouseError):  # the step of the warehouse reports it
            for file in table.read(("stored",), limit=1):
                if not storage.exists(str(file.path)):
                    yield kind.name
