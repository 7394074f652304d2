"""Random reports in random order: the table ends up as they were served, or the load says why not.

A report changes from load to load: its fields come, go and move, and their values are of any kind.
It has several pages, its rows change between them, it runs for a while, ServiceTitan is in
maintenance, and the process is interrupted at any moment.
"""

from __future__ import annotations

import dataclasses
import tempfile
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st_pipelines.sandbox.report_definitions import PERIOD
from st_pipelines.servicetitan.errors.errors import (
    ReadingMoved,
    ServiceTitanError,
    ServiceUnavailable,
)
from st_pipelines.servicetitan.reporting import reading
from st_pipelines_tests.report_lab import Lab, MovedClock, open_lab, own_report

NAMES = ("Alpha", "beta", "GammaRate", "Δέλτα", "Tech Name", "Total (net)", "rowid", "From", "_Id")
DAYS = ("2026-03-02", "2026-03-03", "2026-03-04")

numbers = st.one_of(
    st.integers(-9, 9),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**27, 10**28, 10**40]),
    st.decimals(-1000, 1000, places=2),
    st.decimals(-1, 1, places=12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([Decimal("0.10"), Decimal("1E-30"), Decimal("12345678901234567.25"), 1 / 3]),
)
texts = st.one_of(
    st.sampled_from(["", "5", "n/a", "2026-03-02", "2026-13-02", "0001-01-01", "true", "a\u0000b"]),
    st.sampled_from(["2026-03-02T15:00:00Z", "2026-03-02T15:00:00.125Z", "2026-03-02T24:00:00Z"]),
    st.sampled_from(["2026-03-02T15:00:00-05:00", "2026-03-02T00:00:00", "0001-01-01T00:00:00Z"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
columns = st.sampled_from(
    [
        st.integers(-5, 5),
        st.booleans(),
        st.decimals(0, 100, places=2),
        st.dates(date(2020, 1, 1)).map(str),
        numbers,
        texts,
        st.one_of(numbers, texts, st.booleans(), st.lists(st.integers(0, 2), max_size=2)),
    ]
)


@dataclasses.dataclass
class Step:
    """One load, and how the report is then."""

    day: str
    fields: list[str]
    rows: list[list[Any]]
    contract: Any
    page_size: int
    running: float
    observed: bool
    maintenance: bool
    row_between_pages: bool
    interrupt_at: int | None


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """A load with values of a kind for each column, some of them null."""
    fields = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    kinds = [st.none() | draw(columns) for _ in fields]
    rows = draw(st.lists(st.tuples(*kinds), max_size=5))
    return Step(
        day=draw(st.sampled_from(DAYS)),
        fields=draw(st.permutations(["Key", *fields])),
        rows=[list(row) for row in rows],
        contract=draw(st.sampled_from(["auto", "sync", "async"])),
        page_size=draw(st.integers(1, 6)),
        running=draw(st.sampled_from([0, 0, 30])),
        observed=draw(st.booleans()),
        maintenance=draw(st.integers(0, 9)) == 0,
        row_between_pages=draw(st.integers(0, 5)) == 0,
        interrupt_at=draw(st.none() | st.integers(1, 4)),
    )


class Interrupting(MovedClock):
    """A clock in whose n-th wait somebody presses Ctrl-C."""

    left: int | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def shared() -> Any:
    """One sandbox for all examples; each has a warehouse of its own."""
    small = {"customers": 2, "history_days": 5}
    with (
        tempfile.TemporaryDirectory() as folder,
        open_lab(Path(folder), clock=Interrupting(), **small) as lab,
    ):
        yield lab


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(steps(), min_size=1, max_size=5))
def test_the_table_ends_up_as_the_report_was_served(
    shared: Lab, monkeypatch: pytest.MonkeyPatch, history: list[Step]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = shared.in_folder(Path(folder))
        expected: dict[str, list[dict[str, Any]]] = {}
        for number, step in enumerate(history):
            monkeypatch.setattr(reading, "MAX_PAGE_SIZE", step.page_size)
            try:
                rows = load_step(lab, number, step)
            except (KeyboardInterrupt, ServiceTitanError) as error:
                assert_explained(step, error)
            else:
                expected[step.day] = rows
            assert not lab.sandbox.reports._queries, "every slot is freed"
            if expected:
                assert_equal(lab, expected)


def load_step(lab: Lab, number: int, step: Step) -> list[dict[str, Any]]:
    """Serves and loads a step; returns the rows that were served at last."""
    clock, served = lab.clock, list[dict[str, Any]]()
    assert isinstance(clock, Interrupting)
    keyed = [[f"{number}.{i}", *row] for i, row in enumerate(step.rows)]
    others = [name for name in step.fields if name != "Key"]
    calls = 0

    def compute(_values: Any) -> list[list[Any]]:
        nonlocal calls
        calls += 1
        extra = [["new", *(None for _ in others)]] if step.row_between_pages and calls > 1 else []
        found = [dict(zip(["Key", *others], row, strict=True)) for row in [*keyed, *extra]]
        served[:] = found
        return [[row[name] for name in step.fields] for row in found]

    lab.serve(step.fields, compute, parameters=PERIOD[:1])
    behavior = lab.sandbox.reports.settings
    behavior.running_seconds, behavior.as_observed = step.running, step.observed
    behavior.maintenance = step.maintenance
    clock.left = step.interrupt_at
    try:
        lab.load(own_report(from_parameter="From", contract=step.contract), step.day)
    finally:
        clock.left, behavior.maintenance = None, False
    return list(served)


def assert_explained(step: Step, error: BaseException) -> None:
    """An error has a reason in the step."""
    match error:
        case KeyboardInterrupt():
            assert step.interrupt_at
        case ServiceUnavailable():
            assert step.maintenance
        case ReadingMoved():
            assert step.row_between_pages
        case _:
            raise error


def assert_equal(lab: Lab, expected: dict[str, list[dict[str, Any]]]) -> None:
    """Every value of every served row is in the table, in the column of its field; nothing else."""
    columns = dict(lab.query("SELECT field, column_name FROM _st.report_fields"))
    assert len(set(columns.values())) == len(columns)
    stored = {row["key"]: row for row in lab.rows()}
    served = [row for rows in expected.values() for row in rows]
    assert len(lab.rows()) == len(served)
    days = dict(lab.query("SELECT key, _partition_date::VARCHAR FROM reports.r"))
    for day, rows in expected.items():
        for row in rows:
            if row["Key"] != "new":
                assert days[row["Key"]] == day
                got = stored[row["Key"]]
                for field, column in columns.items():
                    assert is_same(got[column], row.get(field)), (field, got[column], row)
    assert lab.query("SELECT count(*) FROM reports.r WHERE _extra IS NOT NULL") == [(0,)]


def is_same(stored: Any, served: Any) -> bool:
    """Whether a stored value is the served one: numbers by value, texts by their spelling."""
    match served:
        case None:
            return stored is None
        case bool():
            return stored is served or stored == ("true" if served else "false")
        case int() | float() | Decimal():
            if isinstance(stored, bool | None):
                return False
            return Decimal(str(stored)) == Decimal(str(served))
        case list():
            return stored == str(served).replace(" ", "")
    if isinstance(stored, datetime):
        moment = datetime.fromisoformat(served.replace("Z", "+00:00"))
        return stored.astimezone(timezone.utc) == moment
    return (stored.isoformat() if isinstance(stored, date) else stored) == served
