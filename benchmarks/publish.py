"""Three ways to make a read copy of a warehouse, and how long each keeps loads waiting.

`copy` is what `st-pipelines publish` does, `blocks` writes the blocks that differ from the last
copy (into a copy of it, as readers have it open), `database` is `COPY FROM DATABASE`.
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
from loading import PATHS, TABLES, history, job
from rich.console import Console
from rich.table import Table
from server import Server

from st_pipelines.catalog.loader import load_catalog
from st_pipelines.extract_load import extract_load
from st_pipelines.warehouse.connect import Warehouse
from st_pipelines.warehouse.publish import publish, read_copy

_BLOCK = 256 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--customers", type=int, default=10_000, help="size of the company")
    parser.add_argument("--runs", type=int, default=5, help="of each; medians are shown")
    options = parser.parse_args()
    with Server(options.customers) as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        server.prepare(PATHS)
        warehouse = Warehouse(uri=str(Path(folder) / "x.duckdb"))
        for table in TABLES:
            extract_load(job(warehouse), load_catalog()[table], history())
        publish(warehouse)
        seconds: dict[str, list[float]] = {"copy": [], "blocks": [], "database": []}
        for number in range(options.runs):
            change(warehouse, number)
            for name, way in (("database", database), ("blocks", blocks), ("copy", copy)):
                seconds[name].append(timed(way, warehouse))
        report(seconds, warehouse.path.stat().st_size)


def change(warehouse: Warehouse, number: int) -> None:
    """What a day of changes does: a row of a hundred gets another version."""
    with duckdb.connect() as connection, warehouse.attached(connection):
        for table in TABLES:
            connection.execute(
                f"UPDATE warehouse.{table} SET modified_on = modified_on + INTERVAL 1 DAY "
                f"WHERE id % 100 = {number}"
            )


def timed(way: Callable[[Warehouse], None], warehouse: Warehouse) -> float:
    started = time.monotonic()
    way(warehouse)
    return time.monotonic() - started


def copy(warehouse: Warehouse) -> None:
    """All that publishing does, syncing and checking included."""
    publish(warehouse)


def blocks(warehouse: Warehouse) -> None:
    last, new = read_copy(warehouse), warehouse.path.with_name("blocks.duckdb")
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


def database(warehouse: Warehouse) -> None:
    new = warehouse.path.with_name("database.duckdb")
    with duckdb.connect() as connection, warehouse.attached(connection):
        connection.execute(f"ATTACH '{new}' AS made")
        connection.execute("COPY FROM DATABASE warehouse TO made")
        connection.execute("DETACH made")
    new.unlink()


def report(seconds: dict[str, list[float]], size: int) -> None:
    """Medians, and how many times as long as the copy each takes."""
    medians = {name: statistics.median(of_one) for name, of_one in seconds.items()}
    table = Table("", "seconds", "of each run", "ratio")
    for name, median in medians.items():
        each = ", ".join(f"{one:.2f}" for one in seconds[name])
        table.add_row(name, f"{median:.2f}", each, f"{median / medians['copy']:.1f}")
    Console().print(table)
    Console().print(f"a file of {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
