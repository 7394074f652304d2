"""Runs eight processes that write one warehouse and four that read its copy, all the time.

The source changes all the time (`changing_source`). Each writer loads days of a table again and
again, and publishes when that is due; some loads pause between reading and writing. After each load
it reads the table, which must have every change that a load has read so far, whichever process made
it. Each reader opens the read copy, runs the same query several times, and opens the copy again.

Reports how long writers waited for the warehouse and readers for a result. Exits with 1 if anything
failed, if an update was lost, if a copy gave two results for one query while it was open, or if the
tables do not equal those of a single load after one last load.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from changing_source import RECORDS, ChangingSource, Promises
from loading import PATHS, TABLES, differences, history, sync_context
from rich.console import Console
from rich.table import Table
from server import Server

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile

_OLDEST = 300  # days ago; older records are loaded first
_PAUSING, _MAX_PAUSE_SECONDS = 0.3, 15  # share of loads, and the longest pause
QUERY = (
    "SELECT count(*), sum(i.total), max(j.modified_on) FROM accounting.invoices i "
    "JOIN jpm.jobs j ON j.invoice_id = i.id JOIN crm.customers c ON c.id = j.customer_id"
)


def main() -> int:
    options = _options()
    if options.child:
        {"write": write, "read": read}[options.child](options)
        return 0
    with Server(options.customers) as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        server.prepare(PATHS)
        file, alone = Path(folder) / "crowd" / "x.duckdb", Path(folder) / "alone" / "x.duckdb"
        load_all(DuckDBFile(uri=str(file)), days_ago=_OLDEST)
        DuckDBFile(uri=str(file)).publish()
        with ChangingSource(server, file.parent, newest_ids(Path(folder) / "ids.duckdb")) as source:
            reports = crowd(options, file)
        reports.append(verify_promises(file))
        load_all(DuckDBFile(uri=str(file)))
        load_all(DuckDBFile(uri=str(alone)))
        different = {t: n for t, n in differences(file, alone).items() if n}
    print(f"{source.changes:,} changes of the source")
    return print_report(reports, different)


def newest_ids(file: Path) -> dict[str, list[int]]:
    """Ids of each table's records that will change."""
    load_all(DuckDBFile(uri=str(file)))
    with duckdb.connect(str(file), read_only=True) as connection:
        sql = "SELECT id FROM {} WHERE _deleted_at IS NULL ORDER BY id DESC LIMIT ?"
        return {
            table: [row[0] for row in connection.execute(sql.format(table), [RECORDS]).fetchall()]
            for table in TABLES
        }


def verify_promises(file: Path) -> dict[str, Any]:
    """Looks for lost updates after all writers have ended."""
    promises, warehouse = Promises(file.parent), DuckDBFile(uri=str(file))
    lost = [text for table in TABLES for text in promises.find_lost(warehouse, table)]
    return {"role": "verify", "failures": lost}


def load_all(warehouse: DuckDBFile, days_ago: int = 0) -> None:
    for table in TABLES:
        extract_load(sync_context(warehouse), load_catalog()[table], history(days_ago=days_ago))


def crowd(options: argparse.Namespace, file: Path) -> list[dict[str, Any]]:
    """Runs all processes; returns the report of each."""
    common = [sys.executable, __file__, "--file", str(file), "--seconds", str(options.seconds)]
    common += ["--publish-seconds", str(options.publish_seconds)]
    roles = ["write"] * options.writers + ["read"] * options.readers
    processes = [
        subprocess.Popen(
            [*common, "--child", role, "--seed", str(number)], stdout=subprocess.PIPE, text=True
        )
        for number, role in enumerate(roles)
    ]
    outputs = [process.communicate()[0] for process in processes]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def write(options: argparse.Namespace) -> None:
    """Loads random days of random tables until the time is up, half of the time all days."""
    rng = random.Random(options.seed)
    waits, promises = _Waits(rng), Promises(Path(options.file).parent)
    warehouse = waits.warehouse(options.file, options.publish_seconds)
    context, failures, copies = sync_context(warehouse, run_id=f"writer {options.seed}"), [], []
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        endpoint = load_catalog()[rng.choice(TABLES)]
        days_ago, began = rng.choice((0, rng.randrange(_OLDEST))), time.time()
        try:
            extract_load(context, endpoint, history(days_ago=days_ago))
            if not days_ago:
                promises.note(endpoint.table, began)
            failures += promises.find_lost(warehouse, endpoint.table)
            if made := warehouse.publish_if_due():
                copies.append(made.seconds)
        except Exception as error:  # any error is what this program looks for
            failures.append(f"{type(error).__name__}: {error}")
    print(
        json.dumps(
            {"role": "write", "waits": waits.seconds, "copies": copies, "failures": failures}
        )
    )


class _Waits:
    """Records how long each attaching of a warehouse took, and pauses before some."""

    def __init__(self, rng: random.Random) -> None:
        self.seconds: list[float] = []
        self._rng = rng

    def warehouse(self, file: str, publish_seconds: float) -> DuckDBFile:
        seconds, rng = self.seconds, self._rng

        class Timed(DuckDBFile):
            @contextlib.contextmanager
            def attach(
                self, connection: duckdb.DuckDBPyConnection, purpose: str = "a load"
            ) -> Iterator[None]:
                if ", run " in purpose and rng.random() < _PAUSING:  # it has read, and will write
                    time.sleep(rng.uniform(0, _MAX_PAUSE_SECONDS))
                started = time.monotonic()
                with super().attach(connection, purpose):
                    seconds.append(time.monotonic() - started)
                    yield

        return Timed(uri=file, publish_seconds=publish_seconds)


def read(options: argparse.Namespace) -> None:
    """Opens the copy and queries it a few times, until the time is up."""
    rng, waits, failures, states = random.Random(options.seed), [], [], set()
    copy, end = DuckDBFile(uri=options.file).read_copy.path, time.monotonic() + options.seconds
    while time.monotonic() < end:
        results = set()
        started = time.monotonic()
        try:
            with duckdb.connect(str(copy), read_only=True) as connection:
                for _ in range(rng.randrange(1, 6)):
                    results.add(connection.execute(QUERY).fetchall()[0])
                    waits.append(time.monotonic() - started)
                    time.sleep(rng.uniform(0, 0.5))
                    started = time.monotonic()
            states.add(copy.stat().st_ino)
        except Exception as error:  # as above
            failures.append(f"{type(error).__name__}: {error}")
        if len(results) > 1:
            failures.append(f"one copy gave {len(results)} results")
    print(json.dumps({"role": "read", "waits": waits, "copies": len(states), "failures": failures}))


def print_report(reports: list[dict[str, Any]], different: dict[str, int]) -> int:
    """Prints waits and failures; returns the exit code."""
    console = Console(width=110)
    failures = [failure for one in reports for failure in one["failures"]]
    for failure in failures[:20]:
        console.print(f"[red]{failure}")
    table = Table(
        "", "processes", "times", "median s", "p95 s", "longest s", "fewest to most times"
    )
    for role, title in (("write", "wait to write"), ("read", "query the copy")):
        of_role = [one for one in reports if one["role"] == role]
        waits = sorted(wait for one in of_role for wait in one["waits"]) or [math.nan]
        times = sorted(len(one["waits"]) for one in of_role)
        table.add_row(
            title,
            str(len(of_role)),
            str(len(waits)),
            f"{statistics.median(waits):.3f}",
            f"{waits[int(len(waits) * 0.95)]:.3f}",
            f"{waits[-1]:.3f}",
            f"{times[0]} to {times[-1]}",
        )
    console.print(table)
    copies = [seconds for one in reports if one["role"] == "write" for seconds in one["copies"]]
    seen = max((one["copies"] for one in reports if one["role"] == "read"), default=0)
    console.print(f"{len(copies)} copies published, {seen} seen by one reader")
    console.print(
        f"{len(failures)} failures; rows that differ from a single load: {different or 0}"
    )
    return 1 if failures or different else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--customers", type=int, default=600, help="size of the company")
    parser.add_argument("--publish-seconds", type=float, default=5)
    parser.add_argument("--child", choices=("write", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
