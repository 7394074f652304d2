"""Kills loads (kill -9) at random moments, and checks what is left each time.

Kills three kinds of work: a first load into a new file, a load that merges into existing, partly
older rows, and a small load that publishes a read copy. A third of the moments are drawn from the
whole duration, the others from just after the file was attached. After each kill

- the file opens, and each table is as before or as after a whole load, with each key once and as
  many rows as `_st.loads` says;
- the read copy, if there is one, opens and is whole;
- one more load gives the rows of a load that was not killed, value by value.

Exits with 1 if any of this fails.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
from loading import PATHS, TABLES, differences, history, sync_context
from rich.console import Console
from server import Server

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store import duckdb_file
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile

KINDS = ("first", "merging", "publishing")
_OLDER = (
    "UPDATE warehouse.{table} SET modified_on = modified_on - INTERVAL 9 DAY, "
    "_extra = '{{\"old\":1}}' WHERE id % 3 = 0"
)


def main() -> int:
    options = _options()
    if options.child:
        work(options.child, Path(options.file))
        return 0
    rng, console = random.Random(options.seed), Console()
    with Server(options.customers) as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        server.prepare(PATHS)
        trial = Trial(Path(folder), rng)
        for number in range(options.kills):
            trial.run(KINDS[number % len(KINDS)])
    console.print(f"{options.kills} kills, seed {options.seed}, {trial.rows} rows in three tables")
    for name, count in sorted(trial.seen.items()):
        console.print(f"  {count:4} {name}")
    for problem in trial.problems:
        console.print(f"[red]{problem}")
    console.print(f"{len(trial.problems)} problems; longest recovery {trial.longest_opening:.2f} s")
    return 1 if trial.problems else 0


def work(kind: str, file: Path) -> None:
    """The work that is killed. Prints when it begins and when it attaches a warehouse."""
    attach: Callable[..., None] = duckdb_file._attach

    def report_and_attach(*arguments: object) -> None:
        print("attaching", flush=True)
        attach(*arguments)

    duckdb_file._attach = report_and_attach
    warehouse = DuckDBFile(uri=str(file))
    print("begin", flush=True)
    load(warehouse, TABLES[:1] if kind == "publishing" else TABLES)
    if kind == "publishing":
        warehouse.publish()
    print("end", flush=True)


def load(warehouse: DuckDBFile, tables: tuple[str, ...] = TABLES, days_ago: int = 0) -> None:
    loading = sync_context(warehouse, page_size=500)
    for table in tables:
        extract_load(loading, load_catalog()[table], history(days_ago=days_ago))


class Trial:
    """Kills work, one process after the other, and collects what was found.

    Attributes:
        seen: how often each state was found.
        problems: findings that should not occur.
        longest_opening: seconds until the file could be read after a kill.
        rows: rows of the complete tables.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.seen: Counter[str] = Counter()
        self.problems: list[str] = []
        self.longest_opening = 0.0
        self._folder, self._rng, self._number = folder, rng, 0
        self._complete = folder / "complete" / "x.duckdb"
        self._partial = folder / "partial" / "x.duckdb"
        load(DuckDBFile(uri=str(self._complete)))
        self._prepare_partial()
        with duckdb.connect(str(self._complete), read_only=True) as connection:
            self.rows = sum(_one(connection, f"SELECT count(*) FROM {t}") for t in TABLES)
        self._timings = {kind: self._timed(kind) for kind in KINDS}

    def _prepare_partial(self) -> None:
        warehouse = DuckDBFile(uri=str(self._partial))
        load(warehouse, days_ago=120)
        with duckdb.connect() as connection, warehouse.attach(connection):
            for table in TABLES:
                connection.execute(_OLDER.format(table=table))

    def _prepare(self, kind: str) -> Path:
        """Creates a folder for one kill, with the state before it; returns the warehouse file."""
        self._number += 1
        file = self._folder / f"{self._number}" / "x.duckdb"
        file.parent.mkdir()
        if kind != "first":
            shutil.copyfile(self._partial, file)
        if kind == "publishing":
            load(DuckDBFile(uri=str(file)), TABLES[1:])
            DuckDBFile(uri=str(file)).publish()
        return file

    def _timed(self, kind: str) -> tuple[float, int, float]:
        """Seconds of the work, how often it attaches, and the shortest time after attaching."""
        process = _started(kind, self._prepare(kind))
        assert process.stdout
        times = [time.monotonic() for _ in process.stdout]
        process.wait()
        attaching = times[1:-1]
        gaps = [after - before for before, after in zip(attaching, times[2:], strict=True)]
        return times[-1] - times[0], len(attaching), min(gaps)

    def run(self, kind: str) -> None:
        """Kills once, and checks what is left."""
        file = self._prepare(kind)
        moment = self._kill(kind, file)
        name = f"{kind} killed {moment}"
        try:
            self._check(kind, file, name)
            load(DuckDBFile(uri=str(file), wait_seconds=20))
        except Exception as error:  # any error is what this program looks for
            self.problems.append(f"{name}: {type(error).__name__}: {error}")
            return
        if any(different := differences(file, self._complete).values()):
            self.problems.append(f"{name}: differs after the next load: {list(different)}")
        left = [p.name for p in (file.parent / ".staging").iterdir() if p.is_dir()]
        if left:
            self.problems.append(f"{name}: left {left}")
        shutil.rmtree(file.parent)

    def _kill(self, kind: str, file: Path) -> str:
        whole, attachings, critical = self._timings[kind]
        wanted = self._rng.randint(0, attachings) if self._rng.random() < 2 / 3 else 0
        delay = self._rng.uniform(0, critical if wanted else whole)
        process = _started(kind, file)
        assert process.stdout
        attaching = -1
        while attaching < wanted:
            if not process.stdout.readline():
                break
            attaching += 1
        time.sleep(delay)
        process.kill()
        code = process.wait()
        if code == 0:
            self.seen[f"{kind}: finished first"] += 1
        place = f"{delay * 1000:.0f} ms after attaching {wanted}" if wanted else f"at {delay:.2f} s"
        return place

    def _check(self, kind: str, file: Path, name: str) -> None:
        log = file.with_name(file.name + ".wal")
        if log.exists():
            self.seen[f"{kind}: a log was left"] += 1
        if any(p.is_dir() for p in (file.parent / ".staging").glob("*")):
            self.seen[f"{kind}: a staging folder was left"] += 1
        if not file.exists():
            self.seen[f"{kind}: no file yet"] += 1
            return
        started = time.monotonic()
        with DuckDBFile(uri=str(file), wait_seconds=20).read_only() as connection:
            self.longest_opening = max(self.longest_opening, time.monotonic() - started)
            done = sum(self._is_loaded(connection, table, name) for table in TABLES)
        self.seen[f"{kind}: {done} of 3 tables complete"] += 1
        copy = DuckDBFile(uri=str(file)).read_copy.path
        if copy.exists():
            with duckdb.connect(str(copy), read_only=True) as connection:
                for table in TABLES:
                    self._is_loaded(connection, table, f"{name}: read copy")

    def _is_loaded(self, connection: duckdb.DuckDBPyConnection, table: str, name: str) -> bool:
        """Whether a table is as after its load; otherwise it must be as before, row by row."""
        tables = "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        if not _one(connection, f"{tables} AND schema_name || '.' || table_name = '{table}'"):
            return False
        logged = (
            f"SELECT sum(rows_inserted) FROM _st.loads WHERE api || '.' || endpoint = '{table}'"
        )
        rows, keys, logged_rows = (
            _one(connection, sql)
            for sql in (
                f"SELECT count(*) FROM {table}",
                f"SELECT count(DISTINCT id) FROM {table}",
                logged,
            )
        )
        if not rows == keys == logged_rows:
            self.problems.append(
                f"{name}: {table} has {rows} rows, {keys} keys, the log says {logged_rows}"
            )
        states = {}
        for state, reference in (("after", self._complete), ("before", self._partial)):
            connection.execute(f"ATTACH '{reference}' AS reference (READ_ONLY)")
            states[state] = not _differing(connection, table)
            connection.execute("DETACH reference")
        if not any(states.values()):
            self.problems.append(f"{name}: {table} is neither as before nor as after the load")
        return states["after"]


def _differing(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    columns = "SELECT * EXCLUDE (_loaded_at, _run_id, _partition_date) FROM"
    here, there = f"{columns} {table}", f"{columns} reference.{table}"
    return _one(
        connection,
        f"SELECT (SELECT count(*) FROM ({here} EXCEPT ALL {there})) "
        f"+ (SELECT count(*) FROM ({there} EXCEPT ALL {here}))",
    )


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return connection.execute(sql).fetchall()[0][0]


def _started(kind: str, file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", kind, "--file", str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--customers", type=int, default=600, help="size of the company")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
