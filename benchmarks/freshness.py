"""Measures what it costs to keep everything fresh when nothing changes, at 100 ms latency.

    python benchmarks/freshness.py

Measures a tick of the sensor `changes` over all endpoints and a run of the job `intraday`, both
after a first load of today. The latency is added before each request. CPU seconds are those of
this process; the sandbox has its own process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import dagster as dg
from server import Server

from st_pipelines.definitions import build_definitions
from st_pipelines.servicetitan.http import client, tokens, transport


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measure what keeping fresh costs.")
    parser.add_argument("--customers", type=int, default=500)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds")
    options = parser.parse_args()
    requests = Requests(options.latency)
    with tempfile.TemporaryDirectory() as folder, Server(options.customers) as server:
        os.environ.update(server.environment)
        os.environ |= {"ST_WAREHOUSE_DIR": folder, "DAGSTER_DISABLE_TELEMETRY": "yes"}
        with dg.DagsterInstance.local_temp(folder) as instance, requests.counted():
            repository = build_definitions("production").get_repository_def()
            job = repository.get_job("intraday")
            today = job.partitions_def.get_last_partition_key()  # pyright: ignore
            silent = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

            def refresh() -> str:
                result = job.execute_in_process(
                    instance=instance, partition_key=today, run_config=silent, raise_on_error=False
                )
                return "done" if result.success else "FAILED"

            cursor = None

            def tick() -> str:
                nonlocal cursor
                with dg.build_sensor_context(
                    instance, cursor=cursor, repository_def=repository, sensor_name="changes"
                ) as context:
                    result = repository.get_sensor_def("changes").evaluate_tick(context)
                cursor = result.cursor
                return f"{len(result.run_requests or ())} runs; {result.skip_message}"

            requests.measure("first load of today", refresh)
            requests.measure("tick that finds the end of the feeds", tick)
            requests.measure("quiet tick of `changes`", tick)
            requests.measure("quiet run of `intraday`", refresh)


class Requests:
    """Counts and delays requests."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.number = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts and delays every request inside the `with` block."""
        send_now = transport.send

        def send(*arguments: Any, **options: Any) -> transport.Response:
            self.number += 1
            time.sleep(self.latency)
            return send_now(*arguments, **options)

        with (
            mock.patch.object(client, "send", send),
            mock.patch.object(tokens, "send", send),
        ):
            yield

    def measure(self, name: str, work: Callable[[], str]) -> None:
        """Does the work, and prints what it cost."""
        before, cpu, started = self.number, time.process_time(), time.monotonic()
        outcome = work()
        print(
            f"{name}: {time.monotonic() - started:.1f} s, {time.process_time() - cpu:.1f} CPU s,"
            f" {self.number - before} requests; {outcome}",
            flush=True,
        )


if __name__ == "__main__":
    main()
