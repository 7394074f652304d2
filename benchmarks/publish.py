"""Compares three ways to make a read copy of a warehouse in which one row in a hundred has changed.

`bytes` copies the file, as publishing does. `blocks` writes the blocks that differ from the last
copy into a copy of that one, because readers have it open. `database` is `COPY FROM DATABASE`.
Each ends with the new file on disk. `publish` is everything that `st-pipelines publish` does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from st_pipelines.warehouse.store.duckdb_file import DuckDBFile

_BLOCK = 256 * 1024
_ROWS_A_MEGABYTE = 52_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=300, help="approximate size of the file")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; medians are shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warehouse = DuckDBFile(uri=str(Path(folder) / "x.duckdb"))
        fill(warehouse, options.megabytes * _ROWS_A_MEGABYTE)
        ways = {
            "bytes": copy_bytes,
            "blocks": blocks,
            "database": database,
            "publish": DuckDBFile.publish,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        warehouse.publish()
        for number in range(options.runs):
            change(warehouse, number)
            for name, way in ways.items():
                seconds[name].append(timed(way, warehouse))
        report(seconds, warehouse.path.stat().st_size)


def fill(warehouse: DuckDBFile, rows: int) -> None:
    with duckdb.connect() as connection, warehouse.attach(connection):
        connection.execute(
            "CREATE TABLE warehouse.t AS SELECT range AS id, hash(range) AS a, "
            f"hash(range + 1)::VARCHAR AS b FROM range({rows})"
        )


def change(warehouse: DuckDBFile, number: int) -> None:
    with duckdb.connect() as connection, warehouse.attach(connection):
        connection.execute(f"UPDATE warehouse.t SET a = a + 1 WHERE id % 100 = {number}")


def timed(way: Callable[[DuckDBFile], object], warehouse: DuckDBFile) -> float:
    started = time.monotonic()
    way(warehouse)
    return time.monotonic() - started


def copy_bytes(warehouse: DuckDBFile) -> None:
    new = warehouse.path.with_name("bytes.duckdb")
    with warehouse.path.open("rb") as source, new.open("wb") as target:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
        os.fsync(target.fileno())
    new.unlink()


def blocks(warehouse: DuckDBFile) -> None:
    last, new = warehouse.read_copy.path, warehouse.path.with_name("blocks.duckdb")
    shutil.copyfile(last, new)
    with warehouse.path.open("rb") as source, last.open("rb") as before, new.open("r+b") as target:
        while block := source.read(_BLOCK):
            if block != before.read(_BLOCK):
                target.seek(source.tell() - len(block))
                target.write(block)
        target.truncate(source.tell())
        target.flush()
        os.fsync(target.fileno())
    new.unlink()


def database(warehouse: DuckDBFile) -> None:
    new = warehouse.path.with_name("database.duckdb")
    with duckdb.connect() as connection, warehouse.attach(connection):
        connection.execute(f"ATTACH '{new}' AS made")
        connection.execute("COPY FROM DATABASE warehouse TO made")
        connection.execute("DETACH made")
    new.unlink()


def report(seconds: dict[str, list[float]], size: int) -> None:
    """Prints the medians, and their ratios to copying all bytes."""
    medians = {name: statistics.median(of_way) for name, of_way in seconds.items()}
    table = Table("", "seconds", "each run", "ratio")
    for name, median in medians.items():
        each = ", ".join(f"{one:.2f}" for one in seconds[name])
        table.add_row(name, f"{median:.2f}", each, f"{median / medians['bytes']:.1f}")
    Console().print(table)
    Console().print(f"a file of {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
