"""Child processes that end with their parent, free ports, signals, and permissions."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any


class child:
    """Runs a process until the block ends; ends the processes that it started too.

    It has its own process group, because Dagster's webserver and daemon outlive a `dagster dev`
    that was killed.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self._process = subprocess.Popen(command, start_new_session=True, **options)

    def __enter__(self) -> subprocess.Popen[Any]:
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def free_port(preferred: int) -> int:
    """Returns the preferred port of this machine, or any free one if it is in use."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no port is free on 127.0.0.1")


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Makes SIGTERM and a closed terminal end this process as Ctrl-C does."""
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Makes new files of this process and its children their owner's alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
