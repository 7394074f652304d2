"""Plays what happens to a company while it is loaded, for the property test and the soak test.

A `Scenario` is one endpoint of a sandbox and its table. After every load that reports success, the
table must be what the documents promise (`promises`); after all days were loaded, and again after
one reconcile, it must equal the source.

The source and the loader have separate clocks. The source's is the world's, and responses carry it
as `Date`; the loader's is off by an offset that every load may change, and that may jump meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import duckdb
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.records import Writer, encode, read_members, to_raw
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sandbox.stories.story import Story
from st_pipelines.sandbox.table import Table
from st_pipelines.sandbox.world import World
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.http.server_clock import ServerClock
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.tables.coverage import read_coverage
from st_pipelines.windows import Coverage, Days, local_day, midnight
from st_pipelines_tests.churn_reader import (
    TIMEZONE,
    build_context,
    build_rows,
    comparable,
    list_records,
)
from st_pipelines_tests.company_changes import (
    Change,
    apply_change,
    find_text_fields,
    only_moving_columns,
    without_column,
)
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.promises import Attempt, Promises, Setup
from st_pipelines_tests.source_history import SourceHistory
from st_pipelines_tests.table_contents import opened, read_run_ids, read_table, read_window_end

EXAMPLES = int(os.environ.get("HISTORIES", "40"))
"""Number of random histories. .ci/run plays 200 with `HISTORIES=200`; fewer will do by hand."""

FIRST_DAY = NOW.date() - timedelta(days=9)
FAILED, CRASHED = 3, 4
"""Exit codes of a process that loads: an error that explains itself, and any other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What happens at a request: changes, then a jump of the clock, then a faulty response.

    Attributes:
        changes: of the company.
        fault: one of `_FAULTS`.
        kill: the loader is killed, if it is a process of its own.
        hide: every n-th record is left out of this many responses: (n, responses).
        jump: the loader's clock is set forward, or back.
    """

    changes: tuple[Change, ...] = ()
    fault: int | None = None
    kill: bool = False
    hide: tuple[int, int] | None = None
    jump: timedelta = timedelta(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """A load of days, or a reconcile.

    Attributes:
        first: the first day, counted back from today by the loader's clock.
        length: how many days follow the first.
        reconcile: everything is read instead.
        older_catalog: the loading process does not know one of the columns.
        offset: the loader's clock is this much ahead of the source's.
        disturbances: what happens at each request, in order.
        second: a load that another host makes meanwhile, after `changes`.
        second_at: right before the warehouse is opened for this time.
        changes: of the company, right before the second load.
    """

    first: int = 0
    length: int = 0
    reconcile: bool = False
    older_catalog: bool = False
    offset: timedelta = timedelta(0)
    disturbances: tuple[Disturbance, ...] = ()
    second: Load | None = None
    second_at: int = 1
    changes: tuple[Change, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WatchedFile(DuckDBFile):
    """A warehouse that says so before it is opened."""

    before_opening: Callable[[], None]

    @contextlib.contextmanager
    def attach(
        self, connection: duckdb.DuckDBPyConnection, purpose: str = "a load"
    ) -> Iterator[None]:
        self.before_opening()
        with super().attach(connection, purpose):
            yield

    @contextlib.contextmanager
    def read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Attaches the file: a DuckDB instance of its own would take a fifth of a history's time.

        Loads in processes of their own open it as usual.
        """
        self.before_opening()
        with opened(self.path) as connection:
            yield connection


class _World(World):
    """A company whose records may have fewer members, and lack no member that identifies them."""

    def __init__(self, endpoint: Endpoint, kept: frozenset[str] | None, **options: Any) -> None:
        self._endpoint, self._kept = endpoint, kept
        super().__init__(**options)

    def build_table(self, collection: Collection, story: Story) -> Table:
        writer = _Writer(
            collection, story, self.build_filler(collection), seed=self.seed, anchor=self._day
        )
        writer.kept = self._kept
        writer.instead_of_null = (
            dict(self._endpoint.variants[-1]) if self._endpoint.variants else {}
        )
        return Table(collection, self._company, story, writer)


class _Writer(Writer):
    kept: frozenset[str] | None = None
    instead_of_null: Mapping[str, Any] = {}

    def write(self, entity: Entity, key: Any, modified: int, now: int) -> bytes:
        members = read_members(super().write(entity, key, modified, now))
        for name, value in {"id": entity.id, **self.instead_of_null}.items():
            if name in members and bytes(members[name]) == b"null":
                members[name] = to_raw(value)
        kept = members.keys() if self.kept is None else self.kept
        return encode({name: value for name, value in members.items() if name in kept})


class _SimulatedServerClock(ServerClock):
    """Learns from responses as usual; between them the source's time passes, not the real one."""

    def __init__(self, world: World) -> None:
        super().__init__(elapsed=lambda: (world.now - NOW).total_seconds())
        self.observe({"Date": format_datetime(world.now, usegmt=True)}, 0)

    def observe(self, headers: Any, received_at: float) -> None:
        super().observe(headers, self._elapsed())


@functools.cache
def _start_server() -> Sandbox:
    """One server for all scenarios of the process; each has a world of its own."""
    return Sandbox(
        customers=1,
        history_days=1,
        now=NOW,
        requests_per_second=1e9,
        export_batch=9,
        simulated_date=True,
        defects=("opaque-token",),  # a token with all scopes is slow to redact from errors
    ).start()


class Scenario:
    """One endpoint of a small company, and its table.

    Attributes:
        outcomes: how each load ended.
        wrong: rows that are not as promised.
    """

    def __init__(
        self, table: str, seed: int = 7, customers: int = 6, *, narrow: bool = False
    ) -> None:
        """Replaces the company of the server. `close` removes the files.

        Args:
            table: of the catalog.
            seed: decides what the company has.
            customers: size of the company.
            narrow: with few columns, which is faster.
        """
        endpoint = load_catalog()[table]
        self.endpoint = only_moving_columns(endpoint) if narrow else endpoint
        self._catalog = Catalog({table: self.endpoint})
        self.folder = Path(tempfile.mkdtemp(prefix="scenario-"))
        self.file = self.folder / "warehouse.duckdb"
        self.sandbox = _start_server()
        kept = frozenset(column.name for column in self.endpoint.columns) if narrow else None
        self.world = _World(
            self.endpoint, kept, seed=seed, customers=customers, history_days=20, now=NOW
        )
        self.sandbox.worlds[self.sandbox.tenant_id] = self.world
        self.sandbox.interceptors[:] = [self._disturb_request]
        self.source = SourceHistory(self.world, self.endpoint)
        self.promises = Promises(self.endpoint, self.source)
        self.timezone, self.start = TIMEZONE, FIRST_DAY
        self.outcomes: list[str] = []
        self.wrong: list[str] = []
        self._offset = timedelta(0)
        self._context = build_context(self.sandbox, self.file, NO_WAIT, page_size=7)
        self._context.client.tokens.server_clock = _SimulatedServerClock(self.world)
        self._disturbances: dict[int, Disturbance] = {}
        self._requests = self._openings = self._hidden_until = self._child = 0
        self._hidden: list[int] = []
        self._running: list[Attempt] = []
        self._second_is_running = False

    def close(self) -> None:
        """Removes the files."""
        self._context.client.close()
        self.sandbox.interceptors.clear()
        shutil.rmtree(self.folder)

    def apply(self, change: Change) -> None:
        """Changes the company, a moment after its previous change."""
        with self.world.lock:
            apply_change(self.world, self.endpoint, change, self.timezone)
            self.source.observe()
            self._note_hidden()  # without a key, a changed record is another item

    def load(self, load: Load) -> None:
        """Loads, and checks the table if that succeeded."""
        self._schedule(load.disturbances)
        self._run(load)
        self._schedule(())
        self.check()

    def _schedule(self, disturbances: Sequence[Disturbance]) -> None:
        self._requests = self._openings = 0
        self._disturbances = dict(enumerate(disturbances, start=1))
        self._show_all()

    def _run(self, load: Load) -> None:
        self._offset = load.offset
        attempt = self._begin(load)
        run_id = f"load {attempt.number}"
        self._running.append(attempt)
        try:
            self._extract(self._open(load, run_id), load)
        except (ServiceTitanError, WarehouseError) as error:
            self.outcomes.append(type(error).__name__)
        except ValueError as error:
            if "has not begun" not in str(error):
                raise
            self.outcomes.append("not begun")
        else:
            self._succeed(attempt, run_id)
            self.outcomes.append("loaded")
        finally:
            self._running.remove(attempt)

    def _succeed(self, attempt: Attempt, run_id: str) -> None:
        end = read_window_end(self.file, run_id)
        with self.world.lock:
            self.promises.succeed(attempt, end)

    def _begin(self, load: Load) -> Attempt:
        with self.world.lock:
            days = self._days(load)
            hidden = self._running[-1].hidden if self._running and self._hidden_until else ()
            return self.promises.begin(
                Setup(
                    first=days.first if days else None,
                    last=days.last if days else None,
                    open_start=bool(days and days.open_start),
                    timezone=self.timezone,
                    now=dataclasses.replace(self._context, clock=self._clock).now(),
                    clock=self._clock(),
                    unknown=self._unknown(load),
                ),
                hidden=hidden,
            )

    def _clock(self) -> datetime:
        return self.world.now + self._offset

    def _days(self, load: Load) -> Days | None:
        """The days of a load; the first that is ever loaded has everything older with it."""
        if load.reconcile:
            return None
        today = local_day(self._clock(), self.timezone)
        first = max(today - timedelta(days=load.first), self.start)
        last = max(min(first + timedelta(days=load.length), today), first)
        return Days(first=first, last=last, timezone=self.timezone, open_start=first == self.start)

    def _unknown(self, load: Load) -> str | None:
        """The column that an older catalog lacks: one that changes, and identifies nothing."""
        texts = find_text_fields(self.endpoint)
        return texts[-1] if load.older_catalog and self.endpoint.key and len(texts) > 1 else None

    def _open(self, load: Load, run_id: str) -> SyncContext:
        def before_opening() -> None:
            self._openings += 1
            if load.second and self._openings == load.second_at:
                self._openings += 1000  # the second load and the rest are not interrupted
                for change in load.changes:
                    self.apply(change)
                offset, self._second_is_running = self._offset, True
                self._run(load.second)
                self._offset, self._second_is_running = offset, False

        return dataclasses.replace(
            self._context,
            run_id=run_id,
            clock=self._clock,
            catalog=self._catalog,
            timezone=self.timezone,
            warehouse=_WatchedFile(
                uri=str(self.file), wait_seconds=5, before_opening=before_opening
            ),
        )

    def _extract(self, context: SyncContext, load: Load) -> None:
        endpoint = self.endpoint
        if (unknown := self._unknown(load)) is not None:
            endpoint = without_column(endpoint, unknown)
        if load.reconcile:
            reconcile(context, endpoint)
        else:
            extract_load(context, endpoint, self._days(load) if endpoint.partitioned else None)

    def _disturb_request(self, request: Request) -> Response | None:
        if "/tenant/" not in request.url.path or not (self._running or self._child):
            return None
        if self._second_is_running:
            return None
        self._requests += 1
        if self._hidden_until and self._requests > self._hidden_until:
            self._show_all()
        disturbance = self._disturbances.pop(self._requests, Disturbance())
        for change in disturbance.changes:
            self.apply(change)
        self._offset += disturbance.jump
        if disturbance.hide:
            self._hide(*disturbance.hide)
        if disturbance.kill and self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
        if disturbance.fault is None:
            return None
        return _FAULTS[disturbance.fault % len(_FAULTS)]()

    def _hide(self, share: int, responses: int) -> None:
        table = self.world.table(self.endpoint.table)
        with self.world.lock:
            table.hide(())
            self._hidden = list(table.find_alive())[::share]
            table.hide(self._hidden)
            self._hidden_until = self._requests + responses - 1
            self._note_hidden()

    def _note_hidden(self) -> None:
        for attempt in self._running:
            attempt.hidden |= self.source.find_keys(self._hidden)

    def _show_all(self) -> None:
        with self.world.lock:
            self.world.table(self.endpoint.table).hide(())
        self._hidden_until, self._hidden = 0, []

    def load_in_processes(self, loads: Sequence[Load], kill: int | None = None) -> None:
        """Loads several times at once, each in its own process.

        Args:
            loads: only the first one's disturbances count.
            kill: the last process is killed at this request.
        """
        self._schedule(loads[0].disturbances)
        self._offset = timedelta(0)
        if kill is not None:
            self._disturbances[kill] = Disturbance(kill=True)
        children: dict[int, str] = {}
        self._running = [self._begin(load) for load in loads]
        for number, load in enumerate(loads):
            self._child = self._fork(load, f"{len(self.outcomes)}-{number}")
            children[self._child] = f"{len(self.outcomes)}-{number}"
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        self._child = 0
        self._schedule(())
        assert not {*codes} - {0, FAILED, -signal.SIGKILL}, f"a loader crashed: {codes}"
        committed = read_run_ids(self.file)
        attempts = dict(zip(children.values(), self._running, strict=True))
        for run_id in committed:
            if run_id in attempts:
                self._succeed(attempts[run_id], run_id)
        self._running = []
        self.outcomes.append(f"processes {codes}")
        self.check()

    def _fork(self, load: Load, run_id: str) -> int:
        child = os.fork()
        if child:
            return child
        code = CRASHED
        try:
            context = build_context(self.sandbox, self.file, NO_WAIT, page_size=7)
            tokens = self._context.client.tokens
            context = dataclasses.replace(
                context,
                run_id=run_id,
                client=Client(context.client.connection, policy=NO_WAIT, tokens=tokens),
                clock=self._clock,
                catalog=self._catalog,
                timezone=self.timezone,
            )
            self._extract(context, load)
            code = 0
        except (ServiceTitanError, WarehouseError):
            code = FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def check(self) -> None:
        """Adds the rows that are not as promised to `wrong`."""
        rows, self.promises.log = read_table(self.file, self.endpoint)
        with self.world.lock:
            self.wrong += self.promises.find_wrong_rows(rows)

    def load_remaining_days(self) -> None:
        """Loads, undisturbed, what the warehouse does not cover, as daily loads do, and checks.

        Half an hour after the next midnight, so that no day is left half done.
        """
        self.apply(("midnight", 0, 3))
        for load in self._find_remaining_days():
            self.outcomes.append("last")
            self._run(load)
            if self.outcomes[-1] != "loaded":
                self.wrong.append(f"undisturbed, a load of {load} ended with {self.outcomes[-1]}")
        self.check()
        self.wrong += self.promises.find_broken_rules()

    def _find_remaining_days(self) -> list[Load]:
        today = local_day(self.world.now, self.timezone)
        if not self.endpoint.partitioned:
            return [Load()]
        coverage = self._read_coverage()
        ages, loads = [], list[Load]()
        for age in range((today - self.start).days, -1, -1):
            day = today - timedelta(days=age)
            start = None if day == self.start else midnight(day, self.timezone)
            if age == 0 or not coverage.contains(
                start, midnight(day + timedelta(days=1), self.timezone)
            ):
                ages.append(age)
        for age in ages:
            if loads and loads[-1].first - loads[-1].length == age + 1:
                loads[-1] = dataclasses.replace(loads[-1], length=loads[-1].length + 1)
            else:
                loads.append(Load(first=age))
        return loads

    def _read_coverage(self) -> Coverage:
        """What the product says about the days that it has."""
        if not self._context.warehouse.exists:
            return Coverage()
        connection = self._context.client.connection
        with opened(self.file) as warehouse:
            return read_coverage(
                warehouse,
                [self.endpoint],
                environment=connection.environment,
                tenant_id=connection.tenant_id,
                now=self.world.now,
            )[self.endpoint.table]

    def reconcile(self) -> None:
        """Reconciles, undisturbed; then the table must equal the source."""
        self.apply(("wait", 0, 0))
        self._run(Load(reconcile=True))
        self.check()
        self.wrong += [f"after the reconcile: {text}" for text in self._find_differences()]

    def _find_differences(self) -> list[str]:
        """Compares what the list serves. A feed leaves out what was committed late."""
        added = self.endpoint.export.adds if self.endpoint.export else ()
        fields = [field for field in self.endpoint.row_fields if field.name not in added]
        records = list_records(self.sandbox, self.endpoint)
        expected = comparable(build_rows(records, fields))
        columns = ", ".join(f'"{field.column}"' for field in fields)
        sql = f"SELECT {columns} FROM {self.endpoint.table} WHERE _deleted_at IS NULL"
        with opened(self.file) as connection:
            present = comparable(connection.execute(sql).fetchall())
        missing, surplus = Counter(expected), Counter(present)
        return [
            *(f"{row} is missing" for row in missing - surplus),
            *(f"{row} is surplus" for row in surplus - missing),
        ]


def _html_page() -> Response:
    return Response("<html>try later</html>", 200, media_type="text/html")


def _truncated() -> Response:
    return Response(b'{"page":1,"hasMore":false,"data":[{"id":1', 200)


def _bad_gateway() -> Response:
    return Response("<html>502</html>", 502, media_type="text/html")


def _unauthorized() -> Response:
    return Response(b'{"title":"Unauthorized","status":401}', 401)


_FAULTS: Sequence[Callable[[], Response]] = (_html_page, _truncated, _bad_gateway, _unauthorized)
