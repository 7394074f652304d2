"""Random histories of a company that is loaded while it lives; in the end nothing may be missing.

Records are created, changed, tied, deactivated, deleted and revived between loads and between the
pages of one; answers are faulty; days are loaded in any order, twice, in ranges, by several
processes at once, and processes are killed. Then one catch-up, and the table equals the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from st_pipelines_tests.property_model import CHANGES, PLAYED, Change, Disturbance, Life

HISTORIES = {
    "jpm.jobs": 50,  # sorted by id, counted, with an export that alone tells of inactive ones
    "crm.customers": 40,  # looked at again some days later
    "crm.locations_contacts": 30,  # neither sorted nor looked up, ids are GUIDs
    "settings.user_roles": 30,  # read whole
    "marketing_ads.attributed_leads": 25,  # nothing identifies a record
    "accounting.invoice_items": 25,  # export only
}

changes = st.tuples(st.sampled_from(CHANGES), st.integers(0, 40), st.integers(0, 40))
disturbances = st.lists(
    st.builds(
        Disturbance,
        changes=st.lists(changes, max_size=2).map(tuple),
        fault=st.none() | st.none() | st.integers(0, 9),
    ),
    max_size=6,
)


class History(RuleBasedStateMachine):
    """One life; `table` is set by the test."""

    table = ""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.table)

    @rule(several=st.lists(changes, min_size=1, max_size=5))
    def something_happens(self, several: Sequence[Change]) -> None:
        for change in several:
            self.life.apply(change)

    @rule(
        first=st.integers(0, 9),
        length=st.integers(0, 12),
        open_start=st.booleans(),
        meanwhile=disturbances,
    )
    def load(
        self, first: int, length: int, open_start: bool, meanwhile: Sequence[Disturbance]
    ) -> None:
        self.life.load(first, length, open_start, meanwhile)

    @rule(meanwhile=disturbances)
    def reconcile(self, meanwhile: Sequence[Disturbance]) -> None:
        self.life.reconcile(meanwhile)

    @rule(
        ranges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=2),
        meanwhile=disturbances,
        kill_at=st.none() | st.integers(0, 4),
    )
    def processes(
        self, ranges: Sequence[tuple[int, int]], meanwhile: list[Disturbance], kill_at: int | None
    ) -> None:
        if kill_at is not None:
            meanwhile = [*meanwhile[:kill_at], Disturbance(kill=True), *meanwhile[kill_at:]]
        self.life.load_in_processes(ranges, meanwhile)

    def teardown(self) -> None:
        try:
            self.life.catch_up()
            missing, surplus = self.life.differences()
            assert not missing, f"not in the table: {missing[:3]} after {self.life.outcomes}"
            assert not surplus, f"not in the source: {surplus[:3]} after {self.life.outcomes}"
        finally:
            self.life.close()


@pytest.mark.parametrize("table", HISTORIES)
def test_after_any_history_one_catch_up_makes_the_table_equal_the_source(table: str) -> None:
    machine = type("HistoryOf", (History,), {"table": table})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=math.ceil(HISTORIES[table] * PLAYED / 200),
            stateful_step_count=3,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
