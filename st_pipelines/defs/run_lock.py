"""Tells a run that is being executed from one whose process is gone, by a lock of the kernel.

Dagster learns of a run's end from its process. After a power cut nobody reports it, and the run
stays STARTED. The process of a run therefore holds a lock on a file in Dagster's home folder,
`st_pipelines/runs/<run id>`. The kernel releases the lock when the process ends, however it ends.
The file says on which machine the process was, and whether the lock was to be held for the whole
run: the processes of Dagster's multiprocess executor hold it only while one of them runs a step.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dagster as dg

from st_pipelines.warehouse.store.location import (
    PRIVATE,
    make_folder,
    open_with_mode,
    sync_folder,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ProcessState: TypeAlias = Literal["alive", "gone", "unknown", "no lock"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere the host's name has to do
_PRIVATE_FOLDER = 0o700
_KEPT_SECONDS = 14 * 86400.0
"""Files of ended runs are removed after that long; until then a machine may be down."""
_MAX_LINGERING = 16

_lingering: list[int] = []


@contextlib.contextmanager
def held(instance: dg.DagsterInstance, run_id: str, *, whole_run: bool = True) -> Iterator[None]:
    """Holds the lock of a run in the block. Without a place for it, the block runs all the same.

    Args:
        instance: that records the run.
        whole_run: the block begins before Dagster calls the run STARTED, or right after, and ends
            with the run. Otherwise it is a part of the run, beside which others may run.
    """
    lock = _acquire(_folder(instance), run_id, whole_run=whole_run)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def find_process(instance: dg.DagsterInstance, run_id: str) -> ProcessState:
    """Returns whether a process executes the run.

    Returns:
        "unknown" if the run is, or was, on another machine, or between two steps; "no lock" if
        no process has ever held the run's lock here.
    """
    try:
        file = os.open(_folder(instance) / run_id, os.O_RDWR)
    except FileNotFoundError:
        return "no lock"
    except OSError:
        return "unknown"
    try:
        if fcntl is None:
            return "unknown"
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder = json.loads(os.read(file, 4096))
    except BlockingIOError:
        return "alive"
    except (OSError, ValueError):  # no locks here, or a power cut before the text was on the disk
        return "unknown"
    finally:
        os.close(file)
    return _judge_released(holder)


def _judge_released(holder: dict[str, Any]) -> ProcessState:
    """Returns what a lock means that nobody holds, given what its last holder wrote."""
    here = _this_machine()
    same_boot = bool(here["boot"]) and holder.get("boot") == here["boot"]
    if not holder.get("locked") or not (same_boot or holder.get("host") == here["host"]):
        return "unknown"
    return "gone" if holder.get("whole_run") or not same_boot else "unknown"


_CONFIG_SCHEMA: Any = dg.in_process_executor.config_schema


@dg.executor(name="in_process", config_schema=_CONFIG_SCHEMA)
def in_process_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Dagster's `in_process_executor`, whose process holds the lock of its run."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return _LockingExecutor(create(context))


class _LockingExecutor(dg.Executor):
    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        folder, run_id = _folder(plan_context.instance), plan_context.run_id
        lock = _acquire(folder, run_id, whole_run=True)
        try:
            yield from self._inner.execute(plan_context, execution_plan)
        finally:
            _linger(lock)


def _linger(lock: int | None) -> None:
    """Keeps a lock beyond the last step, because Dagster records the end of the run after it.

    The process usually ends then. A process that executes many runs releases the oldest locks.
    """
    if lock is not None:
        _lingering.append(lock)
    while len(_lingering) > _MAX_LINGERING:
        os.close(_lingering.pop(0))


def _folder(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "st_pipelines" / "runs"


def _acquire(folder: Path, run_id: str, *, whole_run: bool) -> int | None:
    """Locks the file of a run, shared with other processes of the run; None if it cannot."""
    file = None
    try:
        make_folder(folder, _PRIVATE_FOLDER)
        _remove_old(folder)
        file = open_with_mode(folder / run_id, os.O_RDWR, PRIVATE)
        locked = _lock_shared(file)
        if not os.fstat(file).st_size or whole_run:
            text = json.dumps({**_this_machine(), "whole_run": whole_run, "locked": locked})
            os.ftruncate(file, os.pwrite(file, text.encode(), 0))
            os.fsync(file)
            sync_folder(folder)  # or the file has no name after the power cut that it is for
    except OSError:  # whatever is wrong with the folder, Dagster reports for its own files
        if file is not None:
            os.close(file)
        return None
    return file


def _lock_shared(file: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:  # this file system has no locks
        return False
    return fcntl is not None


def _remove_old(folder: Path) -> None:
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another process removes it
            if time.time() - file.stat().st_mtime > _KEPT_SECONDS and not _is_held(file):
                file.unlink()


def _is_held(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDWR)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _this_machine() -> dict[str, str]:
    """Returns the host's name, and the id that the kernel draws at each start.

    Containers of one machine have the same boot id, and names of their own.
    """
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot}
