"""Loads in processes of their own that die at a named point, for the tests of crashes.

A process is forked from a server that has imported all it needs, so that a death costs little.
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

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.errors import WarehouseFull
from st_pipelines.warehouse.store import duckdb_file
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.windows import Days
from st_pipelines_tests.churn_reader import job
from st_pipelines_tests.deadlines import DEADLINE

PAGE_SIZE = 50
TOLD_FULL = 3


@dataclass(frozen=True)
class Server:
    """Where a sandbox is and how to be let in: what can be handed to another process."""

    url: str
    client_id: str
    client_secret: str
    app_key: str
    tenant_id: str

    @classmethod
    def of(cls, sandbox: Sandbox) -> Server:
        return cls(
            sandbox.url,
            sandbox.client_id,
            sandbox.client_secret,
            sandbox.app_key,
            sandbox.tenant_id,
        )


@dataclass(frozen=True)
class Point:
    """Where a process dies: at the n-th call of a function, before or after it."""

    function: str
    after: bool = False
    call: int = 1

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.function.rpartition(':')[2]}"


def load(server: Any, file: Path, table: str, days: Days | None, point: Point | None) -> None:
    """Loads and dies; without a point it lives."""
    arm(point)
    extract_load(job(server, file, page_size=PAGE_SIZE), load_catalog()[table], days)


def load_and_publish(
    server: Any, file: Path, table: str, days: Days | None, point: Point | None
) -> None:
    loading = job(server, file, page_size=PAGE_SIZE)
    extract_load(loading, load_catalog()[table], days)
    arm(point)
    loading.warehouse.publish()


def arm(point: Point | None) -> None:
    if point is None:
        return
    module, _, path = point.function.partition(":")
    owner, _, name = path.rpartition(".")
    holder: Any = importlib.import_module(module)
    holder = getattr(holder, owner) if owner else holder
    original, calls = getattr(holder, name), 0

    def mortal(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == point.call and not point.after:
            die()
        result = original(*arguments, **named)
        if calls == point.call:
            die()
        return result

    setattr(holder, name, mortal)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _dying_before_the_detaching(*arguments: Any) -> Any:
    with _attach_file(*arguments):
        yield
        die()


_attach_file = duckdb_file._attach_file


def load_and_die_committed(
    server: Any, file: Path, table: str, days: Days | None, longest_log: str
) -> None:
    """Dies between COMMIT and DETACH: with a long log, the load is in that alone."""
    duckdb_file._CHECKPOINT_THRESHOLD = longest_log
    duckdb_file._attach_file = _dying_before_the_detaching
    load(server, file, table, days, None)


def stage_and_wait(parent: Path, name: str) -> None:
    """Has a staging folder until it is killed."""
    with staging_folder(parent, name):
        signal.pause()


def load_limited(server: Any, file: Path, table: str, days: Days | None, limit: int) -> None:
    """Loads where no file may grow beyond so many bytes. Exits TOLD_FULL if that is told."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        load(server, file, table, days, None)
    except (WarehouseFull, OSError) as error:
        if isinstance(error, WarehouseFull) or error.errno == errno.EFBIG:
            sys.exit(TOLD_FULL)
        raise


def started(
    target: Callable[..., None], *arguments: Any
) -> multiprocessing.context.ForkServerProcess:
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Runs it to its end. Whether that was by SIGKILL."""
    process = started(target, *arguments)
    process.join(DEADLINE)
    return process.exitcode == -signal.SIGKILL
