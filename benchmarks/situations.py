"""Situations in which a load might leave a wrong table, played on real servers and files.

Each plays faults of clocks, hosts, files, settings and responses, and then compares the table with
the sandbox value by value. `faults.py` prints how each ended.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.sync import sync
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines.warehouse.errors import MalformedRecords, WarehouseError
from st_pipelines.windows import Days
from st_pipelines_tests.churn_reader import (
    TIMEZONE,
    build_context,
    build_rows,
    comparable,
    complete_records,
    days,
    table_rows,
)

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
WHOLE = days("2026-03-10", "2026-03-10", open_start=True)
TODAY = days("2026-03-10", "2026-03-10")
TOMORROW = days("2026-03-11", "2026-03-11")
QUICK = RetryPolicy(attempts=2, backoff=0, max_backoff=0, max_retry_after_seconds=0)
ERRORS = (ServiceTitanError, WarehouseError, MalformedRecords)
RIGHT, FAILED, WRONG = "loaded right", "failed and said why", "WRONG"


class Play:
    """A company, a warehouse, and loads between them."""

    def __init__(self, folder: Path, table: str) -> None:
        self.folder, self.table = folder, table
        self.file = folder / "x.duckdb"
        self.endpoint = load_catalog()[table]
        self.sandbox = Sandbox(
            customers=150, now=NOW, requests_per_second=1e9, export_batch=10, simulated_date=True
        ).start()
        self.world = self.sandbox.world
        self.kept_as_text = 0
        self.limit_mb = 256

    def context(self, ahead: timedelta = timedelta(0), **changes: Any) -> SyncContext:
        """A loader of its own, whose clock is ahead of ServiceTitan's by so much."""
        context = build_context(self.sandbox, self.file, page_size=1000, timeout=5)
        connection = dataclasses.replace(context.client.connection, max_response_mb=self.limit_mb)
        # a token of its own, as ServiceTitan's time is remembered with it and the company's jumps
        client = Client(connection, policy=QUICK, tokens=TokenSource(connection))
        return dataclasses.replace(
            context, client=client, clock=lambda: self.world.now + ahead, **changes
        )

    def load(
        self,
        at: Days = WHOLE,
        *,
        ahead: timedelta = timedelta(0),
        endpoint: Endpoint | None = None,
        **changes: Any,
    ) -> Any:
        """Loads days, or a snapshot whole."""
        endpoint = endpoint or self.endpoint
        context = self.context(ahead, **changes)
        return extract_load(context, endpoint, at if endpoint.partitioned else None)

    def reconcile(self) -> Any:
        """Reads and compares everything."""
        return reconcile(self.context(), self.endpoint)

    def change(self, number: int = 0, **values: Any) -> Any:
        """Changes a record, and waits a moment; returns its id."""
        self.world.move(timedelta(minutes=1))
        key = self.world.records(self.table)[number]["id"]
        self.world.change(self.table, key, **(values or {"name": f"At {self.world.now}"}))
        self.world.move(timedelta(seconds=2))
        return key

    def answer(self, body: Callable[[Request], Any]) -> None:
        """Answers each data request by JSON, where `body` returns something."""

        def intercept(request: Request) -> Response | None:
            found = None if "/tenant/" not in request.url.path else body(request)
            return None if found is None else Response(json.dumps(found), 200)

        self.sandbox.interceptors.append(intercept)

    def well_again(self) -> None:
        """Ends all faults."""
        self.sandbox.interceptors.clear()
        self.sandbox.set_faults({})

    def differences(self) -> str:
        """What is wrong with the live rows of the table; empty if nothing is."""
        self.well_again()
        names = [one for one in self.endpoint.row_fields if one.name != "odd"]
        records = complete_records(self.sandbox, self.endpoint)
        there = comparable(build_rows(records, names))
        here = comparable(table_rows(self.file, self.endpoint, "_deleted_at IS NULL", names))
        missing, surplus = [*there], []
        for row in here:
            missing.remove(row) if row in missing else surplus.append(row)
        if len(missing) == len(surplus) <= self.kept_as_text:
            return ""
        return f"{len(missing)} rows missing or old, {len(surplus)} surplus" * bool(
            missing or surplus
        )


Situation = Callable[[Play], None]
SITUATIONS: dict[str, tuple[str, Situation]] = {}
"""By name: the table that is loaded, and what happens. Each ends with the load to judge."""


def situation(name: str, table: str = "crm.customers") -> Callable[[Situation], Situation]:
    def register(play: Situation) -> Situation:
        SITUATIONS[name] = (table, play)
        return play

    return register


def outcome(name: str, folder: Path) -> tuple[str, str]:
    """Plays a situation; returns how it ended, and the message or what is wrong."""
    table, happen = SITUATIONS[name]
    play = Play(folder, table)
    try:
        happen(play)
    except ERRORS as error:
        return FAILED, f"{type(error).__name__}: {error}"
    except AssertionError as error:
        return WRONG, str(error)
    else:
        wrong = play.differences()
        return (WRONG, wrong) if wrong else (RIGHT, "")
    finally:
        play.sandbox.stop()


# --- clocks, hosts and the order of loads


@situation("the loader's clock was a day ahead")
def _(play: Play) -> None:
    play.load(ahead=timedelta(days=1))
    play.change()
    play.load(TODAY)


@situation("the loader's clock was a month ahead, snapshot", "settings.user_roles")
def _(play: Play) -> None:
    play.load(ahead=timedelta(days=30))
    play.change()
    play.load()


@situation("two hosts, ten minutes ahead and ten behind")
def _(play: Play) -> None:
    ten = timedelta(minutes=10)
    play.load(ahead=ten)
    play.change()
    play.load(TODAY, ahead=ten)
    play.change()
    play.world.move(ten)
    play.load(TODAY, ahead=-ten)


@situation("the clock was set back an hour between two loads")
def _(play: Play) -> None:
    play.load(ahead=timedelta(hours=1))
    play.change()
    play.world.move(timedelta(hours=2))
    play.load(TODAY, ahead=timedelta(hours=-1))


@situation("an older read commits last", "jpm.job_types")
def _(play: Play) -> None:
    play.load()
    play.change()
    staged = sync.stage

    def stage_and_be_overtaken(*arguments: Any) -> Any:
        stats = staged(*arguments)
        with mock.patch.object(sync, "stage", staged):
            play.change()
            play.world.delete(play.table, play.world.records(play.table)[3]["id"])
            play.reconcile()
        return stats

    effects = iter([stage_and_be_overtaken])
    with mock.patch.object(sync, "stage", lambda *given: next(effects, staged)(*given)):
        play.reconcile()


@situation("a record is committed after the load of its day")
def _(play: Play) -> None:
    play.world.move(timedelta(hours=12))  # 23:30 in New York
    hidden = play.change()
    play.answer(lambda request: _without(play, request, hidden))
    play.load()
    play.well_again()
    play.world.move(timedelta(hours=9))
    play.load(TOMORROW)


def _without(play: Play, request: Request, hidden: Any) -> Any:
    """The list without one record; a lookup and the export do not serve it either."""
    if "/export/" in request.url.path:
        return {"hasMore": False, "continueFrom": "later", "data": []}
    rows = [row for row in play.world.records(play.table) if row["id"] != hidden]
    return _list(rows)


def _list(rows: list[Any]) -> dict[str, Any]:
    return {"page": 1, "pageSize": 1000, "hasMore": False, "totalCount": len(rows), "data": rows}


@situation("the day was closed by a clock three hours ahead")
def _(play: Play) -> None:
    play.world.move(timedelta(hours=10))  # 21:30 in New York
    play.load(ahead=timedelta(hours=3))
    play.world.move(timedelta(hours=1))
    play.change()
    play.world.move(timedelta(hours=9))
    play.load(TOMORROW)


# --- empty and short responses


@situation("reconcile: an empty list")
def _(play: Play) -> None:
    play.load()
    play.sandbox.set_faults({"empty-list": 1})
    play.reconcile()


@situation("reconcile: half of a list")
def _(play: Play) -> None:
    play.load()
    play.sandbox.set_faults({"short-list": 1})
    play.reconcile()


@situation("reconcile: half of a list, once")
def _(play: Play) -> None:
    play.load()
    _halve_once(play)
    play.reconcile()


def _halve_once(play: Play) -> None:
    """The next list is short; what follows is right."""
    short = iter([1])

    def intercept(request: Request) -> Response | None:
        found = {} if "/tenant/" not in request.url.path else {"short-list": next(short, 0)}
        play.sandbox.set_faults({kind: share for kind, share in found.items() if share})

    play.sandbox.interceptors.append(intercept)


@situation("snapshot: an empty list", "settings.employees")
def _(play: Play) -> None:
    play.load()
    play.sandbox.set_faults({"empty-list": 1})
    play.load()


@situation("without a key: an empty list", "marketing_reputation.reviews")
def _(play: Play) -> None:
    _create(play, 30)
    play.load()
    play.sandbox.set_faults({"empty-list": 1})
    play.load()


def _create(play: Play, number: int) -> None:
    for _ in range(number):
        play.world.create(play.table)
    play.world.move(timedelta(seconds=2))


@situation("without a key: half of a list, once", "marketing_reputation.reviews")
def _(play: Play) -> None:
    _create(play, 30)
    play.load()
    _halve_once(play)
    play.load()


@situation("an aggregate by day: an empty list", "marketing_ads.performance_by_campaign")
def _(play: Play) -> None:
    day = days("2026-03-09", "2026-03-09")
    play.answer(lambda request: _list([{"returnOnInvestment": n} for n in range(40)]))
    play.load(day)
    play.well_again()
    play.sandbox.set_faults({"empty-list": 1})
    play.load(day)
    raise AssertionError("40 rows were deleted")


@situation("data is null")
def _(play: Play) -> None:
    play.load()
    play.answer(lambda request: {**_list([]), "data": None})
    play.reconcile()


@situation("a lookup is cut short silently")
def _(play: Play) -> None:
    play.load()
    for record in play.world.records(play.table)[:12]:
        play.world.delete(play.table, record["id"])
    play.sandbox.set_faults({"short-lookup": 1})
    play.load()


@situation("a lookup is cut short while the list is short", "jpm.projects")
def _(play: Play) -> None:
    play.load()
    play.sandbox.set_faults({"short-list": 1, "short-lookup": 1})
    play.load()


# --- values


def _with_odd_values(kind: str) -> None:
    @situation(f"odd JSON: {kind}", "jpm.job_cancel_reasons")
    def _(play: Play) -> None:
        play.kept_as_text = 1
        play.sandbox.set_faults({kind: 1})
        play.load()


for _kind in ("nan", "raw-control", "twice", "deep"):
    _with_odd_values(_kind)


@situation("0001-01-01 as a time", "jpm.job_cancel_reasons")
def _(play: Play) -> None:
    play.change(createdOn="0001-01-01T00:00:00Z")
    play.load()
    [(found,)] = play_query(
        play, "SELECT count(*) FROM jpm.job_cancel_reasons WHERE created_on IS NULL"
    )
    assert found == 1, "0001-01-01 is a time"
    play.change(createdOn="2026-03-01T00:00:00Z")
    play.load()


@situation("a null key is served, changes, and is served again", "payroll.gross_pay_items")
def _(play: Play) -> None:
    rows = play.world.records(play.table)[:5]
    lost = {**rows[0], "id": None}
    play.answer(
        lambda request: None if "/export/" in request.url.path else _list([lost, *rows[1:]])
    )
    play.load()
    lost["memo"] = "changed"
    play.load()
    [(found,)] = play_query(
        play,
        "SELECT count(*) FROM payroll.gross_pay_items WHERE id IS NULL AND _deleted_at IS NULL",
    )
    assert found == 1, f"{found} rows of one record without id"
    play.well_again()
    play.reconcile()


def play_query(play: Play, sql: str) -> list[tuple]:
    with duckdb.connect(str(play.file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


# --- the API's quirks


@situation("a list ignores its date filter", "jpm.job_cancel_reasons")
def _(play: Play) -> None:
    play.load()
    play.change()
    play.answer(lambda request: _list(play.world.records(play.table)))
    play.load(TODAY)


@situation("400 for `sort`")
def _(play: Play) -> None:
    play.sandbox.set_faults({"sort-refused": 1})
    play.load()


@situation("a stored export token is answered by nothing")
def _(play: Play) -> None:
    play.load()
    play.reconcile()
    play.world.move(timedelta(minutes=1))
    play.world.deactivate(play.table, play.world.records(play.table)[0]["id"])
    play.sandbox.set_faults({"stale-token": 1})
    play.load(TODAY)


@situation("a feed's second token is answered by nothing", "jpm.job_notes")
def _(play: Play) -> None:
    play.sandbox.set_faults({"stale-token": 1})
    play.load()


@situation("`active` after a first load", "jpm.jobs")
def _(play: Play) -> None:
    play.load()


@situation("bodies beyond the limit")
def _(play: Play) -> None:
    play.limit_mb = 1
    rows = [{**row, "memo": "x" * 20_000} for row in play.world.records(play.table)]
    play.answer(lambda request: _page(request, rows))
    play.load()
    found = play_query(play, f"SELECT count(*) FROM {play.table}")
    assert found == [(len(rows),)], f"{found} of {len(rows)} rows"


def _page(request: Request, rows: list[Any]) -> Any:
    """A page of rows as the list serves them."""
    if "/export/" in request.url.path:
        return None
    query = request.query_params
    number, size = int(query["page"]), int(query["pageSize"])
    served = rows[(number - 1) * size : number * size]
    return {**_list(served), "hasMore": number * size < len(rows), "totalCount": len(rows)}


# --- settings, catalogs and files


@situation("another time zone", "jpm.job_cancel_reasons")
def _(play: Play) -> None:
    play.load()
    play.change()
    zone = "America/Los_Angeles"
    play.load(dataclasses.replace(TODAY, timezone=zone), timezone=zone)
    [(wrong,)] = play_query(
        play,
        "SELECT count(*) FROM jpm.job_cancel_reasons WHERE _partition_date <> "
        f"CAST(modified_on AT TIME ZONE '{zone}' AS DATE)",
    )
    assert not wrong, f"{wrong} rows have the day of the other zone"


@situation("a former time zone, from a host with old settings", "jpm.job_cancel_reasons")
def _(play: Play) -> None:
    play.load()
    zone = "America/Los_Angeles"
    play.load(dataclasses.replace(TODAY, timezone=zone), timezone=zone)
    play.load(TODAY, timezone=TIMEZONE)


@situation("a host with an older catalog")
def _(play: Play) -> None:
    play.load()
    older = tuple(one for one in play.endpoint.columns if one.name != "type")
    play.change(type="Commercial")
    play.load(TODAY, endpoint=dataclasses.replace(play.endpoint, columns=older))
    play.change()
    play.load(TODAY)
    play.reconcile()


@situation("the warehouse was restored from a backup")
def _(play: Play) -> None:
    play.load()
    backup = play.folder / "backup.duckdb"
    shutil.copy(play.file, backup)
    play.change()
    play.load(TODAY)
    shutil.copy(backup, play.file)
    play.world.move(timedelta(hours=20))
    play.change(1)
    play.load(TOMORROW)


@situation("hard links are refused (EXDEV, EIO, EACCES)")
def _(play: Play) -> None:
    for code in (errno.EXDEV, errno.EIO, errno.EACCES):
        with mock.patch.object(os, "link", _raise(code)):
            play.load()


@situation("the file system has no locks")
def _(play: Play) -> None:
    with _without_locks():
        play.load()


def _raise(code: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return refuse


@contextmanager
def _without_locks() -> Iterator[None]:
    refuse = _raise(errno.ENOLCK)
    with mock.patch.object(fcntl, "flock", refuse), mock.patch.object(fcntl, "lockf", refuse):
        yield
