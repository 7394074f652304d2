"""`dagster dev` in a folder of a user, for the browser's test and a benchmark."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from st_pipelines.cli.processes import child, free_port

_CHECKOUT = Path(__file__).parents[1]


@contextlib.contextmanager
def dagster_dev(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Runs it on the checkout's workspace.yaml; yields its URL. It prints to `dev.log`."""
    shutil.copy(_CHECKOUT / "workspace.yaml", folder)
    port = free_port(0)
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)]
    with (
        (folder / "dev.log").open("w") as log,
        child(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, "dagster dev has ended"
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{url}/server_info", timeout=10).ok:
                    break
            time.sleep(0.2)
        else:
            raise AssertionError("dagster dev does not serve")
        yield url
