"""Measures what a command costs: seconds, CPU seconds and memory, as the kernel counts them."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_KIB_A_MB = 1e6 / 1024


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process cost from start to end, including the child processes that it waited for.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: user and system time of all threads.
        peak_mb: largest resident set of any one process, in 10^6 bytes.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(command: Sequence[str], *, environment: Mapping[str, str], folder: str) -> Cost:
    """Runs a command in a new process. Its output is shown only if it fails.

    Args:
        environment: added to this process's own.
        folder: working directory.

    Raises:
        ChildProcessError: the exit code is not 0.
    """
    started = time.monotonic()
    with open(os.path.join(folder, "output.txt"), "w+b") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=folder, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            shown = output.read().decode(errors="replace")
            raise ChildProcessError(f"{' '.join(command)} exited {process.returncode}:\n{shown}")
    return Cost(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss / _KIB_A_MB,  # Linux counts in KiB
    )


def median(costs: Sequence[Cost]) -> Cost:
    """Returns the median of each figure."""
    return Cost(
        seconds=statistics.median(cost.seconds for cost in costs),
        cpu_seconds=statistics.median(cost.cpu_seconds for cost in costs),
        peak_mb=statistics.median(cost.peak_mb for cost in costs),
    )
