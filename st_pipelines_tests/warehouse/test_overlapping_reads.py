"""Reads of one table that overlap in time, in every order of starting, reading and committing.

After all of them have succeeded, each record of the table must be in a state that the source had
after the last of them started. The clocks of the readers are days ahead or back.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st_pipelines.catalog.model import Endpoint, Export, Field, Scalar
from st_pipelines.warehouse.errors import Overtaken
from st_pipelines.warehouse.load_spec import LoadSpec, MergeMode
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import TypedRows
from st_pipelines.warehouse.tables.load import FollowUp, Loaded, commit_load
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_state import begin_read
from st_pipelines_tests.property_model import EXAMPLES
from st_pipelines_tests.warehouse.factories import COST, Place, catalog_of, endpoint

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
IDS = (1, 2, 3)
LISTED = (
    Field("id", Scalar("BIGINT")),
    Field("name", Scalar("VARCHAR")),
    Field("active", Scalar("BOOLEAN")),
    Field("modifiedOn", Scalar("TIMESTAMPTZ")),
)
WITHOUT_CURSOR: dict[str, Any] = {"cursor": None, "date_filter": None}
WHOLE: dict[str, Any] = {"window_end": None, "mode": MergeMode.REPLACE_ALL}


@dataclass(frozen=True)
class Kind:
    """A kind of table, and the modes that its loads can have."""

    of: Endpoint
    modes: tuple[dict[str, Any], ...]


def build(**changes: Any) -> Endpoint:
    return endpoint(columns=LISTED, **changes)


KINDS = {
    "keyed, with a cursor": Kind(build(), ({"mode": MergeMode.UPSERT}, WHOLE)),
    "keyed, a snapshot": Kind(build(kind="snapshot", **WITHOUT_CURSOR), (WHOLE,)),
    "without a key, by windows": Kind(build(key=()), ({"mode": MergeMode.REPLACE_SCOPE},)),
    "an aggregate by day": Kind(
        build(key=(), by_day=True, **WITHOUT_CURSOR), ({"mode": MergeMode.REPLACE_DAY},)
    ),
    "keyed, with an export": Kind(
        build(export=Export(path="/export", adds=("active",))),
        ({"mode": MergeMode.UPSERT}, WHOLE),
    ),
}
KINDS["records without their id"] = Kind(
    endpoint(columns=(*LISTED, Field("tag", Scalar("BIGINT"))), key=("tag",)),
    ({"mode": MergeMode.UPSERT}, WHOLE),
)


@dataclass
class Source:
    """Records that change; every state that it ever had is kept.

    A state is the text of each live record: its name, which is different after every change. A tie
    changes a record without moving its cursor.
    """

    states: list[dict[int, str]] = field(default_factory=lambda: [{1: "1 v0", 2: "2 v0"}])
    cursors: dict[int, int] = field(default_factory=lambda: dict.fromkeys(IDS, 0))

    def change(self, what: str, id_: int) -> None:
        state = dict(self.states[-1])
        if what == "delete":
            state.pop(id_, None)
        else:
            state[id_] = f"{id_} v{len(self.states)}"
        if what == "change":
            self.cursors[id_] = len(self.states)
        self.states.append(state)

    def serve(self, *, exported: bool) -> list[dict[str, Any]]:
        return [
            {
                "id": id_,
                "name": name,
                "active": int(name.split("v")[1]) % 2 == 0 if exported else None,
                "modifiedOn": (NOON + timedelta(seconds=self.cursors[id_])).isoformat(),
            }
            for id_, name in self.states[-1].items()
        ]


@dataclass
class Reader:
    """One load: `start`, `read`, `commit`. If it is overtaken it does all of it again at once."""

    kind: Kind
    source: Source
    place: Place
    spec: LoadSpec
    began: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)
    exported: list[dict[str, Any]] = field(default_factory=list)
    deleted: frozenset[int] = frozenset()

    def start(self) -> None:
        self.began = len(self.source.states) - 1
        start = begin_read(self.place.warehouse, self.kind.of, self.spec)
        self.spec = dataclasses.replace(self.spec, sequence=start.sequence)

    def read(self) -> None:
        export = self.kind.of.export
        self.listed = self.source.serve(exported=not export)
        self.exported = self.source.serve(exported=True) if export else []
        if self.kind.of.key == ("id",):
            live = self.place.query(
                f"SELECT id FROM {self.kind.of.table} WHERE _deleted_at IS NULL"
            )
            self.deleted = frozenset(id_ for (id_,) in live) - self.source.states[-1].keys()

    def commit(self) -> None:
        try:
            self._commit()
        except Overtaken:
            self.start()
            self.read()
            self._commit()

    def _commit(self) -> Loaded:
        of, spec = self.kind.of, self.spec
        with self.place.staged(of, spec) as (staging, typed):
            typed.add(staging.add(json.dumps(self.listed).encode()))
            staged = StagedRecords(endpoint=of, spec=spec, staging=staging, rows=typed)
            staged.finish()
            folder = staging.folder / "export_rows"
            with TypedRows(of, spec, folder, name="export_rows", beside=typed) as rows:
                feed = StagedRecords(endpoint=of, spec=spec, staging=Staging(of, folder), rows=rows)
                if self.exported:
                    feed.add(json.dumps(self.exported).encode())
                    feed.finish()
                return commit_load(
                    staged,
                    self.place.warehouse,
                    catalog=catalog_of(of),
                    cost=COST,
                    follow_up=FollowUp(
                        export_rows=feed if self.exported else None, deleted_ids=self.deleted
                    ),
                )


def live_rows(place: Place, kind: Kind) -> dict[int, list[str]]:
    rows = place.query(
        f"SELECT id, name, active FROM {kind.of.table} WHERE _deleted_at IS NULL ORDER BY ALL"
    )
    found: dict[int, list[str]] = {}
    for id_, name, active in rows:
        assert active is (int(name.split("v")[1]) % 2 == 0), f"{name}: active of another version"
        found.setdefault(id_, []).append(name)
    return found


def check(place: Place, kind: Kind, source: Source, since: int) -> None:
    """Each record is in a state that the source had since a moment."""
    rows = live_rows(place, kind)
    for id_ in IDS:
        possible = [[state[id_]] if id_ in state else [] for state in source.states[since:]]
        assert rows.get(id_, []) in possible, f"{id_}: {rows.get(id_)} is not one of {possible}"


def list_orders(readers: int) -> list[tuple[int, ...]]:
    """Every order of the steps of some readers, of whom the first starts first.

    Without those in which no read overlaps another.
    """
    orders: list[tuple[int, ...]] = [(0,)]
    for _ in range(3 * readers - 1):
        orders = [(*o, n) for o in orders for n in range(readers) if o.count(n) < 3]
    return [order for order in orders if any(order[i : i + 3].count(order[i]) < 3 for i in (0, 3))]


ORDERS = (*list_orders(2), *list_orders(3)[::7])
"""Every order of two, and enough of the orders of three."""

CHANGES = tuple((what, id_) for id_ in (1, 1, 3) for what in ("change", "tie", "delete"))


@st.composite
def schedules(draw: st.DrawFn, modes: int) -> dict[str, Any]:
    """Two or three readers, their steps in any order, and changes of the source between them."""
    steps = draw(st.sampled_from(ORDERS[:9]) | st.sampled_from(ORDERS[9:]))
    each = {"min_size": max(steps) + 1, "max_size": max(steps) + 1}
    changes = st.lists(st.sampled_from(CHANGES), max_size=1).map(tuple)
    return {
        "modes": draw(st.lists(st.integers(0, modes - 1), **each)),
        "clocks": draw(st.lists(st.integers(-9, 9), **each)),
        "steps": steps,
        "changes": draw(st.tuples(*[changes for _ in steps])),
    }


def play(
    kind: Kind,
    folder: Path,
    *,
    modes: Sequence[int],
    clocks: Sequence[int],
    steps: Sequence[int],
    changes: Sequence[Sequence[tuple[str, int]]],
) -> None:
    source, place = Source(), Place(folder)
    specs: list[LoadSpec] = [
        place.what(
            loaded_at=NOON + timedelta(days=clock),
            default_date=date(2026, 1, 2),
            window_start=None,
            **{"window_end": NOON + timedelta(days=1), **kind.modes[mode]},
        )
        for mode, clock in zip((0, *modes), (0, *clocks), strict=True)
    ]
    first, *readers = [Reader(kind, source, place, spec) for spec in specs]
    first.start()
    first.listed = source.serve(exported=not kind.of.export)
    first.exported = source.serve(exported=True) if kind.of.export else []
    first.commit()
    done = dict.fromkeys(range(len(readers)), 0)
    for number, changed in zip(steps, changes, strict=True):
        for what, id_ in changed:
            source.change(what, id_)
        reader = readers[number]
        actions: list[Callable[[], None]] = [reader.start, reader.read, reader.commit]
        actions[done[number]]()
        done[number] += 1
        finished = [r.began for n, r in enumerate(readers) if done[n] == 3]
        if finished:
            check(place, kind, source, max(finished))


@pytest.mark.parametrize("name", KINDS)
def test_overlapping_reads_leave_a_state_that_the_source_had_after_all_had_started(
    name: str,
) -> None:
    kind = KINDS[name]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(schedule=schedules(len(kind.modes)))
    def run(schedule: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            play(kind, Path(folder), **schedule)

    run()
