"""What a warehouse backend does, and which backend a URI selects.

Code outside this package works with a `Store` and with the connection it attaches. It knows no
file, no catalog and no lock. A backend is one module with one class, and one line in `BACKENDS`.
"""

from __future__ import annotations

import importlib
import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from st_pipelines.warehouse.errors import WarehouseUnusable

if TYPE_CHECKING:
    import duckdb

ALIAS = "warehouse"
"""The catalog name under which `attach` attaches a warehouse: `warehouse.jpm.jobs`."""

DEFAULT_WAIT_SECONDS = 120.0

BACKENDS = {"duckdb": "st_pipelines.warehouse.store.duckdb_file:DuckDBFile"}
"""URI scheme to `module:class`, imported on first use. A URI without a scheme is a DuckDB file."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A new state of the warehouse for readers.

    Attributes:
        location: where readers find it, such as the path of the read copy.
        bytes: its size.
        seconds: how long publishing took.
        held_seconds: the part of `seconds` during which loads had to wait.
    """

    location: str
    bytes: int
    seconds: float
    held_seconds: float


class Store(Protocol):
    """A warehouse in one backend. Opening a store touches nothing; its methods do.

    Backends differ in how they wait and commit, so callers keep to one pattern: attach, work in
    one transaction, `commit`, and leave the `with` block.
    """

    @property
    def uri(self) -> str:
        """The URI that `open_store` takes to open this warehouse again."""
        ...

    @property
    def wait_seconds(self) -> float:
        """How long `attach`, `read_only` and `publish` wait for other processes."""
        ...

    @property
    def publish_seconds(self) -> float | None:
        """The least time between two publications after loads; None for none."""
        ...

    @property
    def name(self) -> str:
        """The warehouse in messages, without credentials, such as the path of its file."""
        ...

    @property
    def exists(self) -> bool:
        """Whether a load has created the warehouse."""
        ...

    @property
    def size_bytes(self) -> int:
        """The local disk space the warehouse takes; 0 if it does not exist or lies elsewhere."""
        ...

    @property
    def scratch_folder(self) -> Path:
        """A local folder on a disk with room for staging folders; `check` creates it."""
        ...

    @property
    def read_location(self) -> str:
        """Where readers find what `publish` has published, for messages."""
        ...

    def exposed_files(self) -> list[tuple[Path, int]]:
        """Returns files and folders of this machine that more people can open than should.

        Returns:
            Each with the mode that it should have.
        """
        ...

    def check(self) -> None:
        """Verifies that a load could write here, before it requests anything from the API.

        Raises:
            WarehouseUnusable: it could not, with the setting to change.
        """
        ...

    def attach(
        self, connection: duckdb.DuckDBPyConnection, purpose: str = "a load"
    ) -> AbstractContextManager[None]:
        """Attaches the warehouse to a connection as `ALIAS`, writable, creating it if necessary.

        Waits for the write lock up to `wait_seconds`, in the order of arrival. Detaches on exit,
        and rolls back an open transaction if the block raises.

        Args:
            connection: to an in-memory database.
            purpose: shown to those who wait meanwhile, such as `jpm.jobs, run 1a2b`.

        Raises:
            WarehouseBusy: another process held the warehouse for all of `wait_seconds`.
            WarehouseUnusable, WarehouseFull: see the classes.
        """
        ...

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commits the transaction in the attached warehouse; only leaving `attach` may follow.

        Raises:
            duckdb.Error: nothing was committed.
        """
        ...

    def read_only(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Yields a read-only connection to the warehouse, in UTC; waits as `attach` does.

        Tables have their names there without `ALIAS`: `jpm.jobs`.

        Raises:
            WarehouseError: the warehouse is missing, damaged, or busy.
        """
        ...

    def publish(self) -> Published | None:
        """Publishes the present state to readers.

        Returns:
            None if readers have it already, as always where they read the warehouse itself.

        Raises:
            WarehouseError: it could not be published; readers keep the previous state.
        """
        ...

    def publish_if_due(self) -> Published | None:
        """Publishes after a load if `publish_seconds` have passed since the last time.

        Returns:
            None if publishing is off, not due, or under way in another process.

        Raises:
            WarehouseError: as `publish`.
        """
        ...


def open_store(
    uri: str,
    *,
    wait_seconds: float = DEFAULT_WAIT_SECONDS,
    publish_seconds: float | None = None,
    file_mode: int | None = None,
) -> Store:
    """Returns the store of the backend that the URI's scheme selects; nothing is opened yet.

    Args:
        uri: `duckdb:` and a path, or a path alone.
        file_mode: permissions of local files, such as `0o640`; None for the backend's default.

    Raises:
        WarehouseUnusable: no backend has this scheme.
    """
    scheme, colon, _ = uri.partition(":")
    if not colon or not is_scheme(scheme):
        scheme = "duckdb"
    if scheme not in BACKENDS:  # the rest of the URI may hold a password
        shown = f"the scheme {scheme}:" if _SCHEME.fullmatch(scheme) else "what its URI begins with"
        raise WarehouseUnusable(f"warehouse: {shown} is not supported, set a path of a DuckDB file")
    module, _, name = BACKENDS[scheme].partition(":")
    backend = getattr(importlib.import_module(module), name)
    options = {} if file_mode is None else {"file_mode": file_mode}
    return backend(uri=uri, wait_seconds=wait_seconds, publish_seconds=publish_seconds, **options)


def is_scheme(text: str) -> bool:
    """Whether a text before a colon is a scheme, and not part of a path or a Windows drive."""
    return len(text) > 1 and "/" not in text and "\\" not in text and "$" not in text


def canonical_uri(uri: str) -> str:
    """Returns the same URI for every spelling of a warehouse, for comparing two of them."""
    return f"duckdb:{os.path.realpath(uri.removeprefix('duckdb:'))}"
