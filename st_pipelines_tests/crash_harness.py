"""Runs loads in processes that kill themselves at a chosen call, for the tests of crashes.

The processes are forked from a server that has imported everything already, so each starts fast.
"""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from st_pipelines.catalog.file_kinds import FILE_KINDS
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.config.files import FileSettings
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync import children, file_downloads, files
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.errors import WarehouseFull
from st_pipelines.warehouse.store import duckdb_file
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.windows import Days
from st_pipelines_tests.churn_reader import build_context
from st_pipelines_tests.deadlines import DEADLINE

PAGE_SIZE = 50
PARENTS_PER_COMMIT = 5
REPORTED_FULL = 3


@dataclass(frozen=True)
class Server:
    """A sandbox's URL and credentials, which can be passed to another process."""

    url: str
    client_id: str
    client_secret: str
    app_key: str
    tenant_id: str

    @classmethod
    def from_sandbox(cls, sandbox: Sandbox) -> Server:
        return cls(
            sandbox.url,
            sandbox.client_id,
            sandbox.client_secret,
            sandbox.app_key,
            sandbox.tenant_id,
        )


@dataclass(frozen=True)
class CrashPoint:
    """The call of a function before or after which a process kills itself.

    Attributes:
        function: module, colon, and qualified name.
        after: the function has returned.
        call: number of the call, from 1.
    """

    function: str
    after: bool = False
    call: int = 1

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.function.rpartition(':')[2]}"


def load(server: Any, file: Path, table: str, days: Days | None, point: CrashPoint | None) -> None:
    """Loads, and crashes at the point, if there is one."""
    crash_at(point)
    extract_load(build_context(server, file, page_size=PAGE_SIZE), load_catalog()[table], days)


def load_children(server: Any, file: Path, table: str, point: CrashPoint | None) -> None:
    """Loads a child list in small transactions, and crashes at the point, if there is one."""
    children.REQUESTS_PER_COMMIT = PARENTS_PER_COMMIT
    load(server, file, table, None, point)


def load_and_publish(
    server: Any, file: Path, table: str, days: Days | None, point: CrashPoint | None
) -> None:
    context = build_context(server, file, page_size=PAGE_SIZE)
    extract_load(context, load_catalog()[table], days)
    crash_at(point)
    context.warehouse.publish()


def store_files(
    server: Any, file: Path, kind: str, settings: FileSettings, point: CrashPoint | None
) -> None:
    """Stores files in batches of three, and crashes at the point, if there is one."""
    file_downloads.BATCH_FILES = 3
    context = build_context(server, file, page_size=PAGE_SIZE)
    crash_at(point)
    files.load_files(context, FILE_KINDS[kind], settings)


def crash_at(point: CrashPoint | None) -> None:
    """Replaces the function of the point by one that kills this process."""
    if point is None:
        return
    module, _, path = point.function.partition(":")
    class_name, _, name = path.rpartition(".")
    owner: Any = importlib.import_module(module)
    owner = getattr(owner, class_name) if class_name else owner
    original, calls = getattr(owner, name), 0

    def crashing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == point.call and not point.after:
            kill_self()
        result = original(*arguments, **named)
        if calls == point.call:
            kill_self()
        return result

    setattr(owner, name, crashing)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _die_before_detaching(*arguments: Any) -> Any:
    with _attach_file(*arguments):
        yield
        kill_self()


_attach_file = duckdb_file._attach_file


def load_and_die_after_commit(
    server: Any, file: Path, table: str, days: Days | None, checkpoint_threshold: str
) -> None:
    """Loads, and dies between COMMIT and DETACH.

    With a high threshold, the load is in the write-ahead log alone then.
    """
    duckdb_file._CHECKPOINT_THRESHOLD = checkpoint_threshold
    duckdb_file._attach_file = _die_before_detaching
    load(server, file, table, days, None)


def stage_and_wait(parent: Path, name: str) -> None:
    """Holds a staging folder until the process is killed."""
    with staging_folder(parent, name):
        signal.pause()


def load_limited(server: Any, file: Path, table: str, days: Days | None, limit: int) -> None:
    """Loads while no file may exceed `limit` bytes; exits with REPORTED_FULL if it says so."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        load(server, file, table, days, None)
    except (WarehouseFull, OSError) as error:
        if isinstance(error, WarehouseFull) or error.errno == errno.EFBIG:
            sys.exit(REPORTED_FULL)
        raise


def start_process(
    target: Callable[..., None], *arguments: Any
) -> multiprocessing.context.ForkServerProcess:
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def is_killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Runs a process to its end; returns whether SIGKILL ended it."""
    process = start_process(target, *arguments)
    process.join(DEADLINE)
    return process.exitcode == -signal.SIGKILL
