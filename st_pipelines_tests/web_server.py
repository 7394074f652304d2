"""Runs `dagster dev` in a user's folder, for the browser test and a benchmark."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from st_pipelines.cli.processes import child, free_port
from st_pipelines_tests.deadlines import DEADLINE, wait_until

_CHECKOUT = Path(__file__).parents[1]


@contextlib.contextmanager
def dagster_dev(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Runs `dagster dev` on the checkout's workspace.yaml and yields its URL. Logs to `dev.log`."""
    shutil.copy(_CHECKOUT / "workspace.yaml", folder)
    port = free_port(0)
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)]
    with (
        (folder / "dev.log").open("w") as log,
        child(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        url = f"http://127.0.0.1:{port}"

        def serves() -> bool:
            assert process.poll() is None, "dagster dev has ended"
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(f"{url}/server_info", timeout=DEADLINE).ok
            return False

        wait_until(serves, f"server at {url}", interval=0.2)
        yield url
