"""Keeps the tokens of reports that run at ServiceTitan in files, so that they outlive the process.

Each run takes up a slot of the tenant until it is freed. A process that is killed cannot free it,
and the next load does (`servicetitan.reporting.run.free_leftovers`). A file is locked as long as
its process lives: the kernel releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from st_pipelines.warehouse.store.location import make_folder, open_with_mode

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_DEAD_AFTER_SECONDS = 86_400
"""Where files cannot be locked, a run this old counts as ended."""


class QueryFiles:
    """The tokens of one tenant: a file each in `.report_queries`, which only this user can read."""

    def __init__(self, parent: Path, owner: str) -> None:
        """Creates nothing yet.

        Args:
            parent: the folder of the warehouse.
            owner: environment and tenant.
        """
        self._folder = parent / ".report_queries"
        self._owner = owner
        self._locked: dict[str, int] = {}

    def remember(self, token: str) -> None:
        """Stores a token, and holds a lock on its file. Raises OSError."""
        make_folder(self._folder, 0o700)
        file = open_with_mode(self._file(token), os.O_RDWR | os.O_TRUNC, 0o600)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        os.write(file, token.encode())
        os.fsync(file)
        self._locked[token] = file

    def forget(self, token: str) -> None:
        """Removes the file of a token."""
        self._file(token).unlink(missing_ok=True)
        self.give_up(token)

    def give_up(self, token: str) -> None:
        """Keeps the file of a token, and lets the next reading free its slot."""
        if (file := self._locked.pop(token, None)) is not None:
            os.close(file)

    def leftovers(self) -> Sequence[str]:
        """Returns the tokens of processes that have ended, or that failed to free their slot."""
        files = self._folder.glob(f"{self._owner}-*.token") if self._folder.exists() else ()
        tokens = (self._read_if_dead(file) for file in sorted(files))
        return [token for token in tokens if token]

    def _read_if_dead(self, path: Path) -> str:
        """Returns the token in a file; empty if its process lives, or the file is gone."""
        try:
            with path.open("rb") as file:
                if fcntl is None:
                    is_dead = time.time() - path.stat().st_mtime > _DEAD_AFTER_SECONDS
                else:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_dead = True
                token = file.read().decode() if is_dead else ""
            if is_dead and not token:  # it was killed before it wrote the token
                path.unlink(missing_ok=True)
            return token
        except (OSError, UnicodeDecodeError):
            return ""

    def _file(self, token: str) -> Path:
        digest = hashlib.sha256(token.encode()).hexdigest()[:24]
        return self._folder / f"{self._owner}-{digest}.token"
