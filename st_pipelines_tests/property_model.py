"""Lives of a company while it is being loaded, for the property test and the soak.

A `Life` is one endpoint of a sandbox and a warehouse. Whatever happens in between, after one
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
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines.windows import Days, local_day
from st_pipelines_tests.churn_reader import (
    TIMEZONE,
    comparable,
    job,
    records_of,
    rows_of,
    table_rows,
)
from st_pipelines_tests.conftest import NOW

PLAYED = int(os.environ.get("HISTORIES", "40"))
"""Of the 200 that .ci/run has played by `HISTORIES=200`; by hand a share of them is enough."""

FIRST = NOW.date() - timedelta(days=9)
REFUSED, BROKEN = 3, 4
"""Exit codes of a loading process: it failed clearly; it failed in another way."""

Change = tuple[str, int, int]
"""What to do (one of `CHANGES`), with which record, and a number that varies it."""

CHANGES = ("create", "change", "tie", "deactivate", "delete", "revive", "wait")


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What happens at a request: the changes, then the death of the loader or a faulty answer."""

    changes: tuple[Change, ...] = ()
    fault: int | None = None
    kill: bool = False


class Life:
    """One endpoint of a small company, and its table."""

    def __init__(self, table: str, seed: int = 7) -> None:
        """Starts the sandbox; `close` stops it."""
        self.endpoint = load_catalog()[table]
        self._catalog = Catalog({table: self.endpoint})
        self.folder = Path(tempfile.mkdtemp(prefix="life-"))
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
        self.sandbox.interceptors.append(self._at_request)

    def close(self) -> None:
        """Stops the sandbox and removes the files."""
        self.sandbox.stop()
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def _job(self) -> Iterator[SyncContext]:
        made = job(self.sandbox, self.file, page_size=7)
        client = Client(made.client.connection, policy=NO_WAIT)
        try:
            yield dataclasses.replace(
                made, client=client, clock=lambda: self.sandbox.world.now, catalog=self._catalog
            )
        finally:
            client.close()

    def apply(self, change: Change) -> None:
        """Lets something happen in the company, a moment after what happened before."""
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
        gone = world.table(endpoint.table).deleted
        table = world.table(endpoint.table)
        there = table.find_position(key) not in gone
        if kind == "delete" and there and endpoint.kind != "feed":
            world.delete(endpoint.table, key)
        elif kind == "revive":
            world.revive(endpoint.table, key)
        elif kind == "deactivate" and there:
            world.deactivate(endpoint.table, key)
        elif kind == "tie" and there and table.find_position(other) not in gone:
            for tied in {key, other}:
                world.change(endpoint.table, tied, **self._fields(number))
        elif kind == "change" and there:
            world.change(endpoint.table, key, **self._fields(number))

    def _fields(self, number: int) -> dict[str, Any]:
        names = {f.name for f in self.endpoint.row_fields}
        found = [n for n in ("name", "memo", "summary", "value", "description") if n in names]
        return {found[0]: f"Version {number}"} if found else {}

    def _at_request(self, request: Request) -> Response | None:
        if "/tenant/" not in request.url.path:
            return None
        self._requests += 1
        what = self._disturbances.pop(self._requests, Disturbance())
        for change in what.changes:
            self.apply(change)
        if what.kill and self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
        return _FAULTS[what.fault % len(_FAULTS)]() if what.fault is not None else None

    def load(
        self, first: int, length: int, open_start: bool, disturbances: Sequence[Disturbance] = ()
    ) -> None:
        """Loads days, counted from the first partition; a snapshot is loaded whole."""
        self._run(lambda made: self._extract(made, first, length, open_start), disturbances)

    def reconcile(self, disturbances: Sequence[Disturbance] = ()) -> None:
        """Compares the whole table."""
        self._run(lambda made: reconcile(made, self.endpoint), disturbances)

    def load_in_processes(
        self, ranges: Sequence[tuple[int, int]], disturbances: Sequence[Disturbance] = ()
    ) -> None:
        """Loads several ranges at once, each in a process; a kill hits the last."""
        self._disturb(disturbances)
        children = []
        for first, length in ranges:
            self._child = self._fork(
                lambda made, f=first, n=length: self._extract(made, f, n, False)
            )
            children.append(self._child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        self._child = 0
        self._disturbances.clear()
        assert not {*codes} - {0, REFUSED, -signal.SIGKILL}, f"a loader broke: {codes}"
        self.outcomes.append(f"processes {codes}")

    def _fork(self, work: Callable[[SyncContext], object]) -> int:
        child = os.fork()
        if child:
            return child
        code = BROKEN
        try:
            with self._job() as made:
                work(made)
            code = 0
        except ServiceTitanError:
            code = REFUSED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _run(
        self, work: Callable[[SyncContext], object], disturbances: Sequence[Disturbance]
    ) -> None:
        self._disturb(disturbances)
        with self._job() as made:
            try:
                work(made)
                self.outcomes.append("loaded")
            except ServiceTitanError as error:
                self.outcomes.append(type(error).__name__)
        self._disturbances.clear()

    def _disturb(self, disturbances: Sequence[Disturbance]) -> None:
        self._requests = 0
        self._disturbances = dict(enumerate(disturbances, start=1))

    def _extract(self, made: SyncContext, first: int, length: int, open_start: bool) -> None:
        if not self.endpoint.partitioned:
            extract_load(made, self.endpoint, None)
            return
        day = FIRST + timedelta(days=first)
        today = local_day(self.sandbox.world.now, TIMEZONE)
        last = min(day + timedelta(days=length), today)
        days = Days(first=min(day, last), last=last, timezone=TIMEZONE, open_start=open_start)
        extract_load(made, self.endpoint, days)

    def catch_up(self) -> None:
        """One undisturbed load of everything, and a comparison of the whole."""
        self._disturbances.clear()
        self.sandbox.world.move(timedelta(seconds=1))
        with self._job() as made:
            if self.endpoint.partitioned:
                self._extract(made, 0, (date.max - FIRST).days - 1, True)
            reconcile(made, self.endpoint)

    def differences(self) -> tuple[list[str], list[str]]:
        """Rows that the source has and the table lacks, and the other way round."""
        records = records_of(self.sandbox, self.endpoint)
        wanted = comparable(rows_of(records, self.endpoint.row_fields))
        present = comparable(table_rows(self.file, self.endpoint, "_deleted_at IS NULL"))
        missing, surplus = list(wanted), []
        for row in present:
            if row in missing:
                missing.remove(row)
            else:
                surplus.append(row)
        return missing, surplus


def _html() -> Response:
    return Response("<html>try later</html>", 200, media_type="text/html")


def _cut() -> Response:
    return Response(b'{"page":1,"hasMore":false,"data":[{"id":1', 200)


def _failing() -> Response:
    return Response("<html>502</html>", 502, media_type="text/html")


def _denied() -> Response:
    return Response(b'{"title":"Unauthorized","status":401}', 401)


_FAULTS: Sequence[Callable[[], Response]] = (_html, _cut, _failing, _denied)
