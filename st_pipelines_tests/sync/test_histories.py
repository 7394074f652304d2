"""Whatever happens to a company while it is loaded, one catch-up makes the table equal the source.

Random histories create, change, tie, deactivate, delete and revive records between loads and
between the pages of one load. Responses are faulty. Days are loaded in any order, twice, in ranges,
and by several processes at once, some of which are killed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from st_pipelines_tests.property_model import CHANGES, EXAMPLES, Change, Disturbance, Scenario

HISTORIES = {
    "jpm.jobs": 50,  # sorted by id, with a total; only the export serves inactive records
    "crm.customers": 40,  # with a look-back
    "crm.locations_contacts": 30,  # unsorted, without lookups; ids are GUIDs
    "settings.user_roles": 30,  # a snapshot
    "marketing_ads.attributed_leads": 25,  # without a key
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
    """A random scenario; the test sets `table`."""

    table = ""

    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario(self.table)

    @rule(several=st.lists(changes, min_size=1, max_size=5))
    def change(self, several: Sequence[Change]) -> None:
        for change in several:
            self.scenario.apply(change)

    @rule(
        first=st.integers(0, 9),
        length=st.integers(0, 12),
        open_start=st.booleans(),
        meanwhile=disturbances,
    )
    def load(
        self, first: int, length: int, open_start: bool, meanwhile: Sequence[Disturbance]
    ) -> None:
        self.scenario.load(first, length, open_start, meanwhile)

    @rule(meanwhile=disturbances)
    def reconcile(self, meanwhile: Sequence[Disturbance]) -> None:
        self.scenario.reconcile(meanwhile)

    @rule(
        ranges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=2),
        meanwhile=disturbances,
        kill_at=st.none() | st.integers(0, 4),
    )
    def load_in_processes(
        self, ranges: Sequence[tuple[int, int]], meanwhile: list[Disturbance], kill_at: int | None
    ) -> None:
        if kill_at is not None:
            meanwhile = [*meanwhile[:kill_at], Disturbance(kill=True), *meanwhile[kill_at:]]
        self.scenario.load_in_processes(ranges, meanwhile)

    def teardown(self) -> None:
        try:
            self.scenario.catch_up()
            missing, surplus = self.scenario.differences()
            assert not missing, f"not in the table: {missing[:3]} after {self.scenario.outcomes}"
            assert not surplus, f"not in the source: {surplus[:3]} after {self.scenario.outcomes}"
        finally:
            self.scenario.close()


@pytest.mark.parametrize("table", HISTORIES)
def test_after_any_history_one_catch_up_makes_the_table_equal_the_source(table: str) -> None:
    machine = type("HistoryOf", (History,), {"table": table})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=math.ceil(HISTORIES[table] * EXAMPLES / 200),
            stateful_step_count=3,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
