"""Plays what happens to a company while it is loaded, for the property test and the soak test.

A `Scenario` is one endpoint of a sandbox and its table. Whatever happens in it, after one
`catch_up` the table must equal the source, value by value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.model import Catalog
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines.windows import Days, local_day
from st_pipelines_tests.churn_reader import (
    TIMEZONE,
    build_context,
    build_rows,
    comparable,
    complete_records,
    table_rows,
)
from st_pipelines_tests.conftest import NOW

EXAMPLES = int(os.environ.get("HISTORIES", "40"))
"""Number of random histories. .ci/run plays 200 with `HISTORIES=200`; fewer will do by hand."""

FIRST_DAY = NOW.date() - timedelta(days=9)
FAILED, CRASHED = 3, 4
"""Exit codes of a process that loads: a ServiceTitanError, and any other error."""

Change = tuple[str, int, int]
"""A kind (one of `CHANGES`), the index of a record, and a number that varies the change."""

CHANGES = ("create", "change", "tie", "deactivate", "delete", "revive", "wait")


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What happens at a request: changes first, then a kill of the loader or a faulty response."""

    changes: tuple[Change, ...] = ()
    fault: int | None = None
    kill: bool = False


class Scenario:
    """One endpoint of a small company, and its table.

    Attributes:
        outcomes: how each load ended.
    """

    def __init__(self, table: str, seed: int = 7) -> None:
        """Starts the sandbox; `close` stops it."""
        self.endpoint = load_catalog()[table]
        self._catalog = Catalog({table: self.endpoint})
        self.folder = Path(tempfile.mkdtemp(prefix="scenario-"))
        self.file = self.folder / "warehouse.duckdb"
        self.sandbox = Sandbox(
            customers=6,
            history_days=20,
            now=NOW,
            requests_per_second=1e9,
            seed=seed,
            export_batch=9,
        ).start()
        self.outcomes: list[str] = []
        self._disturbances: dict[int, Disturbance] = {}
        self._requests = 0
        self._child = 0
        self.sandbox.interceptors.append(self._disturb_request)

    def close(self) -> None:
        """Stops the sandbox and removes the files."""
        self.sandbox.stop()
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def _open_context(self) -> Iterator[SyncContext]:
        context = build_context(self.sandbox, self.file, NO_WAIT, page_size=7)
        with contextlib.closing(context.client):
            yield dataclasses.replace(
                context, clock=lambda: self.sandbox.world.now, catalog=self._catalog
            )

    def apply(self, change: Change) -> None:
        """Changes the company, a moment after its previous change."""
        kind, which, number = change
        world, table = self.sandbox.world, self.endpoint.table
        with world.lock:
            world.move(timedelta(hours=7 * number) if kind == "wait" else timedelta(seconds=1))
            keys = list(world.table(table).keys)
            if kind == "create":
                world.create(table)
            elif keys and kind != "wait":
                self._change(kind, keys[which % len(keys)], keys[number % len(keys)], number)

    def _change(self, kind: str, key: Any, other: Any, number: int) -> None:
        world, endpoint = self.sandbox.world, self.endpoint
        table = world.table(endpoint.table)
        exists = table.find_position(key) not in table.deleted
        if kind == "delete" and exists and endpoint.kind != "feed":
            world.delete(endpoint.table, key)
        elif kind == "revive":
            world.revive(endpoint.table, key)
        elif kind == "deactivate" and exists:
            world.deactivate(endpoint.table, key)
        elif kind == "tie" and exists and table.find_position(other) not in table.deleted:
            for tied in {key, other}:
                world.change(endpoint.table, tied, **self._fields(number))
        elif kind == "change" and exists:
            world.change(endpoint.table, key, **self._fields(number))

    def _fields(self, number: int) -> dict[str, Any]:
        names = {f.name for f in self.endpoint.row_fields}
        found = [n for n in ("name", "memo", "summary", "value", "description") if n in names]
        return {found[0]: f"Version {number}"} if found else {}

    def _disturb_request(self, request: Request) -> Response | None:
        if "/tenant/" not in request.url.path:
            return None
        self._requests += 1
        disturbance = self._disturbances.pop(self._requests, Disturbance())
        for change in disturbance.changes:
            self.apply(change)
        if disturbance.kill and self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
        if disturbance.fault is None:
            return None
        return _FAULTS[disturbance.fault % len(_FAULTS)]()

    def load(
        self, first: int, length: int, open_start: bool, disturbances: Sequence[Disturbance] = ()
    ) -> None:
        """Loads days, counted from `FIRST_DAY`; a snapshot is loaded whole."""
        self._run(lambda context: self._extract(context, first, length, open_start), disturbances)

    def reconcile(self, disturbances: Sequence[Disturbance] = ()) -> None:
        """Reconciles the whole table."""
        self._run(lambda context: reconcile(context, self.endpoint), disturbances)

    def load_in_processes(
        self, ranges: Sequence[tuple[int, int]], disturbances: Sequence[Disturbance] = ()
    ) -> None:
        """Loads several ranges at once, each in its own process; a kill hits the last one."""
        self._schedule(disturbances)
        children = []
        for first, length in ranges:
            self._child = self._fork(
                lambda context, f=first, n=length: self._extract(context, f, n, False)
            )
            children.append(self._child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        self._child = 0
        self._disturbances.clear()
        assert not {*codes} - {0, FAILED, -signal.SIGKILL}, f"a loader crashed: {codes}"
        self.outcomes.append(f"processes {codes}")

    def _fork(self, work: Callable[[SyncContext], object]) -> int:
        child = os.fork()
        if child:
            return child
        code = CRASHED
        try:
            with self._open_context() as context:
                work(context)
            code = 0
        except ServiceTitanError:
            code = FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _run(
        self, work: Callable[[SyncContext], object], disturbances: Sequence[Disturbance]
    ) -> None:
        self._schedule(disturbances)
        with self._open_context() as context:
            try:
                work(context)
                self.outcomes.append("loaded")
            except ServiceTitanError as error:
                self.outcomes.append(type(error).__name__)
        self._disturbances.clear()

    def _schedule(self, disturbances: Sequence[Disturbance]) -> None:
        self._requests = 0
        self._disturbances = dict(enumerate(disturbances, start=1))

    def _extract(self, context: SyncContext, first: int, length: int, open_start: bool) -> None:
        if not self.endpoint.partitioned:
            extract_load(context, self.endpoint, None)
            return
        day = FIRST_DAY + timedelta(days=first)
        today = local_day(self.sandbox.world.now, TIMEZONE)
        last = min(day + timedelta(days=length), today)
        days = Days(first=min(day, last), last=last, timezone=TIMEZONE, open_start=open_start)
        extract_load(context, self.endpoint, days)

    def catch_up(self) -> None:
        """Loads and reconciles everything, undisturbed."""
        self._disturbances.clear()
        self.sandbox.world.move(timedelta(seconds=1))
        with self._open_context() as context:
            if self.endpoint.partitioned:
                self._extract(context, 0, (date.max - FIRST_DAY).days - 1, True)
            reconcile(context, self.endpoint)

    def differences(self) -> tuple[list[str], list[str]]:
        """Returns rows that the table lacks, and rows that it has beyond the source's."""
        records = complete_records(self.sandbox, self.endpoint)
        expected = comparable(build_rows(records, self.endpoint.row_fields))
        present = comparable(table_rows(self.file, self.endpoint, "_deleted_at IS NULL"))
        missing, surplus = list(expected), []
        for row in present:
            if row in missing:
                missing.remove(row)
            else:
                surplus.append(row)
        return missing, surplus


def _html_page() -> Response:
    return Response("<html>try later</html>", 200, media_type="text/html")


def _truncated() -> Response:
    return Response(b'{"page":1,"hasMore":false,"data":[{"id":1', 200)


def _bad_gateway() -> Response:
    return Response("<html>502</html>", 502, media_type="text/html")


def _unauthorized() -> Response:
    return Response(b'{"title":"Unauthorized","status":401}', 401)


_FAULTS: Sequence[Callable[[], Response]] = (_html_page, _truncated, _bad_gateway, _unauthorized)
