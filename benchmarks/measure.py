"""What a command costs: its seconds, its CPU seconds and its memory, told by the kernel."""

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
    """What a process cost from its start to its end, with the processes that it waited for.

    Attributes:
        seconds: of the clock on the wall.
        cpu_seconds: user and system, of all its threads.
        peak_mb: largest resident set of one process, in 10^6 bytes.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(command: Sequence[str], *, environment: Mapping[str, str], folder: str) -> Cost:
    """Runs a command in a fresh process; its output is shown only if it fails.

    Args:
        command: program and arguments.
        environment: added to this process's own.
        folder: where it runs.

    Raises:
        ChildProcessError: it ended with another exit code than 0.
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
            told = output.read().decode(errors="replace")
            raise ChildProcessError(f"{' '.join(command)} exited {process.returncode}:\n{told}")
    return Cost(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss / _KIB_A_MB,  # Linux counts in KiB
    )


def median(costs: Sequence[Cost]) -> Cost:
    """Each figure's median by itself."""
    return Cost(
        seconds=statistics.median(cost.seconds for cost in costs),
        cpu_seconds=statistics.median(cost.cpu_seconds for cost in costs),
        peak_mb=statistics.median(cost.peak_mb for cost in costs),
    )
