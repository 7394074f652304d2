"""A load that other loads overtake reads again; after three reads it fails and may be retried."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import MAX_ATTEMPTS, SyncContext, extract_load, reconcile
from st_pipelines.warehouse.errors import Overtaken
from st_pipelines_tests.churn_reader import build_context, days, query

ROLES, JOBS = load_catalog()["settings.user_roles"], load_catalog()["jpm.jobs"]
ALL = days("2026-03-01", "2026-03-10", open_start=True)


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(own_sandbox, tmp_path / "w.duckdb")
    yield context
    context.client.close()


class Rival:
    """Changes a role and loads it while another load has read the roles and not committed."""

    def __init__(self, sandbox: Sandbox, context: SyncContext, times: int) -> None:
        self.sandbox, self.context, self.left = sandbox, context, times
        self.id = sandbox.world.records(ROLES.table)[0]["id"]
        self.names = [f"Name {number}" for number in range(2 * times)]
        self.reads = 0

    def change(self) -> None:
        name = self.names.pop(0)
        self.sandbox.world.change(ROLES.table, self.id, name=name)

    def overtake(self) -> None:
        """Plays what happens between the read of a load and its commit."""
        self.reads += 1
        if self.left:
            self.left -= 1
            self.change()
            extract_load(self.context, ROLES, None)


def overtake_before_commit(monkeypatch: pytest.MonkeyPatch, rival: Rival) -> None:
    from st_pipelines.sync import sync

    commit, nested = sync.commit_load, []

    def commit_later(*args: object, **more: object) -> object:
        if not nested:
            nested.append(True)
            rival.overtake()
            nested.clear()
        return commit(*args, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(sync, "commit_load", commit_later)


def test_an_overtaken_load_reads_again(
    own_sandbox: Sandbox, context: SyncContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_load(context, ROLES, None)
    rival = Rival(own_sandbox, context, times=MAX_ATTEMPTS - 1)
    overtake_before_commit(monkeypatch, rival)
    extract_load(context, ROLES, None)
    assert rival.reads == MAX_ATTEMPTS
    names = f"SELECT name FROM settings.user_roles WHERE id = {rival.id}"
    last = own_sandbox.world.records(ROLES.table)[0]["name"]
    assert query(Path(context.warehouse.name), names) == [(last,)]


def test_a_load_that_is_overtaken_every_time_fails(
    own_sandbox: Sandbox, context: SyncContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_load(context, ROLES, None)
    rival = Rival(own_sandbox, context, times=MAX_ATTEMPTS)
    overtake_before_commit(monkeypatch, rival)
    with pytest.raises(Overtaken):
        extract_load(context, ROLES, None)
    assert rival.reads == MAX_ATTEMPTS


def test_a_record_that_list_and_export_serve_counts_once(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """Updates of the export were counted beside those of the list."""
    extract_load(context, JOBS, ALL)
    total = query(Path(context.warehouse.name), "SELECT count(*) FROM jpm.jobs")[0][0]
    first = reconcile(context, JOBS)  # fills `active`, which only the export serves
    assert first
    counts = first.loaded.counts
    assert counts.inserted + counts.updated + counts.unchanged == total
    own_sandbox.world.move(timedelta(minutes=5))
    id_ = own_sandbox.world.records(JOBS.table)[0]["id"]
    own_sandbox.world.change(JOBS.table, id_, summary="New")
    counts = extract_load(context, JOBS, days("2026-03-10", "2026-03-10")).loaded.counts
    assert (counts.inserted, counts.updated) == (0, 1)


def test_a_load_whose_warehouse_is_restored_meanwhile_reads_what_the_copy_lacks(
    own_sandbox: Sandbox, context: SyncContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bookmark of the lost file skipped what the feed had served between copy and load."""
    from st_pipelines.sync import sync

    file, world = Path(context.warehouse.name), own_sandbox.world
    context = dataclasses.replace(context, clock=lambda: world.now)
    extract_load(context, JOBS, ALL)
    copy = file.with_suffix(".copy")
    shutil.copy(file, copy)
    id_ = next(r["id"] for r in world.export_records(JOBS.table) if r["active"])
    world.move(timedelta(hours=1))
    world.deactivate(JOBS.table, id_)
    world.move(timedelta(minutes=5))
    extract_load(context, JOBS, days("2026-03-10", "2026-03-10"))
    world.move(timedelta(days=3))
    world.create(JOBS.table)
    last, commit, restored = world.now.date().isoformat(), sync.commit_load, []

    def commit_later(*args: object, **more: object) -> object:
        if not restored:
            restored.append(True)
            shutil.copy(copy, file)
        return commit(*args, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(sync, "commit_load", commit_later)
    extract_load(context, JOBS, days(last, last))
    assert query(file, f"SELECT active FROM jpm.jobs WHERE id = {id_}") == [(False,)]
