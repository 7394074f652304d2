"""Stores one large file, and many small ones, and prints what that takes.

A server in a process of its own stands for ServiceTitan and for the host that it redirects to. The
large file is 700 MB by default; the peak memory of the storing process shows that it is streamed.
"""

from __future__ import annotations

import argparse
import http.server
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from st_pipelines.catalog.file_kinds import FILE_KINDS
from st_pipelines.config.files import FileSettings
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import Connection
from st_pipelines.sync.files import FilesReport, load_files
from st_pipelines.sync.sync import SyncContext
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile

KIND = FILE_KINDS["recordings"]
CHUNK = bytes(1 << 20)
TENANT = "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=700, help="size of the large file")
    parser.add_argument("--files", type=int, default=2000, help="number of small files, 64 KB each")
    options = parser.parse_args()
    table = Table("files", "MB", "seconds", "MB/s", "files/s", "CPU s", "memory before", "peak MB")
    for count, size in ((1, options.megabytes << 20), (options.files, 64 << 10)):
        report, facts = in_process(partial(measure, count, size))
        megabytes = report.bytes / (1 << 20)
        table.add_row(
            f"{report.stored:,}",
            f"{megabytes:,.0f}",
            f"{report.seconds:.1f}",
            f"{megabytes / report.seconds:,.0f}",
            f"{report.stored / report.seconds:,.0f}",
            f"{facts['cpu']:.1f}",
            f"{facts['before']:,.0f}",
            f"{facts['peak']:,.0f}",
        )
        if report.stored != count:
            raise SystemExit(f"{report.stored} of {count} files were stored")
    Console().print(table)


def measure(count: int, size: int) -> tuple[FilesReport, dict[str, float]]:
    """Stores files in this process, which does nothing else."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, size), daemon=True)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            warehouse = DuckDBFile(uri=str(Path(folder) / "x.duckdb"))
            fill(warehouse, count)
            settings = FileSettings(
                kinds=(KIND,),
                url=str(Path(folder) / "files"),
                per_run=count,
                concurrency=4,
                max_bytes=1 << 40,
            )
            with closing(Client(connection(ours.recv()))) as client:
                client.sign_in()
                before = peak_megabytes()
                used = time.process_time()
                sync = SyncContext(
                    client=client, warehouse=warehouse, timezone="UTC", run_id="benchmark"
                )
                report = load_files(sync, KIND, settings)
        facts = {"before": before, "peak": peak_megabytes(), "cpu": time.process_time() - used}
        return report, facts
    finally:
        server.terminate()
        server.join()


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fill(warehouse: DuckDBFile, count: int) -> None:
    """Creates the calls that point to the files."""
    with duckdb.connect() as own, warehouse.attach(own):
        own.execute("CREATE SCHEMA warehouse.telecom")
        own.execute(
            "CREATE TABLE warehouse.telecom.calls AS SELECT range AS id, "
            "{'recording_url': 'r/' || range, 'modified_on': now()} AS lead_call, "
            f"'{TENANT}' AS _tenant_id, now() AS _loaded_at, NULL::TIMESTAMPTZ AS _deleted_at, "
            f"current_date AS _partition_date FROM range({count})"
        )


def connection(url: str) -> Connection:
    return Connection(
        environment="sandbox",
        api_url=url,
        auth_url=url,
        client_id="benchmark",
        client_secret=SecretStr("benchmark"),
        app_key=SecretStr("benchmark"),
        tenant_id=TENANT,
        requests_per_second=1e6,
    )


def serve(pipe: Any, size: int) -> None:
    """Serves tokens, redirects and files, until the process is terminated."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"access_token": "token", "expires_in": 900}'
            self.answer(200, {"Content-Length": str(len(body))})
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path.endswith("/recording"):
                self.answer(302, {"Location": "/storage/file", "Content-Length": "0"})
                return
            self.answer(200, {"Content-Type": "audio/mpeg", "Content-Length": str(size)})
            for begin in range(0, size, len(CHUNK)):
                self.wfile.write(CHUNK[: size - begin])

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Event().wait()


def in_process(work: Callable[[], Any]) -> Any:
    """Runs work in a process of its own, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work).result()


if __name__ == "__main__":
    main()
