"""Changes records of a sandbox all the time, so that an update which a warehouse loses shows.

Each change writes a larger number into a text field. `log` has a line per change: the time, table,
id and number. A load that succeeds promises every change up to a moment before it began, which it
notes in `promised`. Whoever reads the warehouse afterwards must find those numbers, or larger ones.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from pathlib import Path

from server import Server

from st_pipelines.warehouse.store.duckdb_file import DuckDBFile

FIELDS = {"crm.customers": "name", "jpm.jobs": "summary", "accounting.invoices": "summary"}
RECORDS = 20  # of each table that change
_PAUSE_SECONDS = 0.05
_SETTLING_SECONDS = 2.0
"""A window ends at a whole second of the earlier of two clocks, one of which shows seconds only."""


class ChangingSource:
    """Changes records in a thread inside the `with` block.

    Attributes:
        changes: their number so far.
    """

    def __init__(self, server: Server, folder: Path, ids: dict[str, list[int]]) -> None:
        """Starts nothing yet.

        Args:
            server: whose records change.
            folder: for the two logs.
            ids: of each table's records that change.
        """
        self.changes = 0
        self._server, self._ids = server, ids
        self._log = folder / "changes.log"
        self._log.touch()
        (folder / "promised.log").touch()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._change_records)

    def __enter__(self) -> ChangingSource:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _change_records(self) -> None:
        rng = random.Random(1)
        with self._log.open("a", buffering=1) as log:
            while not self._done.wait(_PAUSE_SECONDS):
                table, self.changes = rng.choice([*FIELDS]), self.changes + 1
                id_ = rng.choice(self._ids[table])
                self._server.change(table, id_, {FIELDS[table]: f"crowd {self.changes}"})
                log.write(f"{time.time()} {table} {id_} {self.changes}\n")


class Promises:
    """What one process has to find in the warehouse, from what all have promised."""

    def __init__(self, folder: Path) -> None:
        """Reads the logs in this folder."""
        self._changes, self._promised = folder / "changes.log", folder / "promised.log"

    def note(self, table: str, began: float) -> None:
        """Notes that a load of everything which began at this time has succeeded."""
        with self._promised.open("a") as promised:
            promised.write(f"{began - _SETTLING_SECONDS} {table}\n")

    def find_lost(self, warehouse: DuckDBFile, table: str) -> list[str]:
        """Compares a table with what had been promised before it is read."""
        until = max(
            (float(moment) for moment, of in _read_lines(self._promised) if of == table), default=0
        )
        promised: dict[int, int] = defaultdict(int)
        for moment, of, id_, number in _read_lines(self._changes):
            if of == table and float(moment) <= until:
                promised[int(id_)] = int(number)
        if not promised:
            return []
        with warehouse.read_only() as connection:
            sql = f"SELECT id, {FIELDS[table]} FROM {table} WHERE {FIELDS[table]} LIKE 'crowd %'"
            found = {id_: int(text.split()[1]) for id_, text in connection.execute(sql).fetchall()}
        return [
            f"{table} {id_} has change {found.get(id_)}, and a load had read {number}"
            for id_, number in promised.items()
            if found.get(id_, 0) < number
        ]


def _read_lines(file: Path) -> list[list[str]]:
    """The complete lines of a log, each split into its words."""
    text = file.read_text()
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
