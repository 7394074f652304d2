"""Opening a warehouse: for as short as possible, waiting for whoever holds it.

A DuckDB file belongs to one process at a time, readers included. So a load does its work in an
in-memory database and attaches the file only to merge; attaching waits, bounded, for the lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import tenacity

from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.errors import (
    WarehouseBusy,
    WarehouseError,
    WarehouseFull,
    WarehouseUnusable,
)

ALIAS = "warehouse"
_HELD = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")


@dataclass(frozen=True, kw_only=True)
class Warehouse:
    """A place for tables.

    Attributes:
        uri: a path of a DuckDB file, or `duckdb:` and a path.
        wait: seconds to wait for another process that holds the file.
    """

    uri: str
    wait: float = 120.0

    @property
    def path(self) -> Path:
        """The file. Raises WarehouseUnusable for a URI of another kind."""
        scheme, colon, rest = self.uri.partition(":")
        if not colon or "/" in scheme or len(scheme) == 1:
            return Path(self.uri)
        if scheme == "duckdb":
            return Path(rest)
        raise WarehouseUnusable(
            f"warehouse {self.uri!r}: {scheme}: is not supported, name a path of a DuckDB file"
        )

    @property
    def exists(self) -> bool:
        """Whether there is a file yet."""
        return self.path.exists() and self.path.stat().st_size > 0

    def check(self) -> None:
        """Finds out whether a load could write here, before anything is asked of the API.

        Raises:
            WarehouseUnusable: the folder cannot be written, or the file is no DuckDB database.
        """
        path = self.path
        if path.is_dir():
            raise WarehouseUnusable(f"warehouse {path} is a folder: name a file in it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writable = os.access(path.parent, os.W_OK)
        except OSError as error:
            raise WarehouseUnusable(
                f"warehouse {path}: its folder cannot be made ({error.strerror}): "
                "set ST_WAREHOUSE_DIR to a folder that you can write"
            ) from None
        if not writable or (path.exists() and not os.access(path, os.W_OK)):
            raise WarehouseUnusable(
                f"warehouse {path} cannot be written: set ST_WAREHOUSE_DIR to a folder that you "
                "can write, or mend the permissions"
            )
        _check_magic(path)

    @contextlib.contextmanager
    def attached(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool = False
    ) -> Iterator[None]:
        """The warehouse attached to a connection as `warehouse`, detached on leaving.

        Args:
            connection: to attach it to.
            read_only: for reading; the file must be there.

        Raises:
            WarehouseBusy: another process held it for all of `wait`; names it.
            WarehouseUnusable, WarehouseFull: as the classes say.
        """
        self.check()
        attach = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(WarehouseBusy),
            stop=tenacity.stop_after_delay(self.wait),
            wait=tenacity.wait_random(0.02, 0.25),
            reraise=True,
        )
        attach(self._attach, connection, read_only)
        try:
            yield
        except duckdb.Error as error:
            with contextlib.suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            raise explained(error, self.path) from error
        finally:
            with contextlib.suppress(duckdb.Error):
                connection.execute(f"DETACH {ALIAS}")

    def _attach(self, connection: duckdb.DuckDBPyConnection, read_only: bool) -> None:
        mode = " (READ_ONLY)" if read_only else ""
        try:
            connection.execute(f"ATTACH {literal(str(self.path))} AS {quote(ALIAS)}{mode}")
        except duckdb.Error as error:
            raise explained(error, self.path) from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the file. Raises WarehouseError."""
        _check_magic(self.path)
        try:
            connection = duckdb.connect(str(self.path), read_only=True)
        except duckdb.Error as error:
            raise explained(error, self.path) from None
        with connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection


def explained(error: Exception, path: Path) -> Exception:
    """DuckDB's error as one that says what to do; others as they are."""
    text = str(error)
    if held := _HELD.search(text):
        return WarehouseBusy(
            f"warehouse {path} is held by process {held['pid']} ({held['program']}): close it "
            "there (a DuckDB shell or notebook keeps the file to itself), or wait for its load"
        )
    if "could not set lock on file" in text.lower():
        return WarehouseBusy(f"warehouse {path} is held by another process")
    if "file handle conflict" in text or "already attached" in text:
        return WarehouseBusy(f"warehouse {path} is open in this process: close that connection")
    if "No space left" in text or _is_full(error):
        return WarehouseFull(f"no space left on the disk of warehouse {path}: nothing was written")
    damaged = ("not a valid DuckDB database", "Corrupt database file", "Serialization")
    if any(sign in text for sign in damaged):
        return WarehouseUnusable(
            f"warehouse {path} is no DuckDB database, or a damaged one: {text}"
        )
    if isinstance(error, duckdb.IOException):
        return WarehouseUnusable(f"warehouse {path}: {text}")
    return error


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _check_magic(path: Path) -> None:
    """A file of another program is named before DuckDB touches it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(16)
    if head[8:12] != b"DUCK":
        raise WarehouseUnusable(
            f"warehouse {path} is no DuckDB database: name another file, this one is left as it is"
        )


__all__ = ["ALIAS", "Warehouse", "WarehouseError", "explained"]
