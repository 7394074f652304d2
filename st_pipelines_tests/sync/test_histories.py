"""Whatever happens to a company while it is loaded, the table is what the documents promise.

Random histories create, change, tie, deactivate, delete and revive records between loads and
between the pages of one load. Some changes are committed late, some leave the time of modification
as it is. Responses are faulty, or leave records out for a while. The clocks of source and loader
differ and jump. Days are loaded in any order, twice, in ranges, by a second host meanwhile, by an
older catalog, and by several processes at once, some of which are killed.

The table is compared after every load that reports success, after the remaining days were loaded,
and after one reconcile.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from st_pipelines_tests.company_changes import CHANGES, Change
from st_pipelines_tests.property_model import EXAMPLES, Disturbance, Load, Scenario

HISTORIES = {
    "jpm.jobs": 50,  # sorted by id, with a total; only the export serves inactive records
    "crm.customers": 40,  # with a look-back
    "crm.locations_contacts": 30,  # unsorted, without lookups; ids are GUIDs
    "settings.user_roles": 30,  # a snapshot
    "marketing_ads.attributed_leads": 20,  # without a key, and records never change
    "marketing_reputation.reviews": 25,  # without a key
    "accounting.ap_bills": 25,  # read in variants, without an export
    "accounting.invoice_items": 25,  # export only
}

changes = st.tuples(st.sampled_from(CHANGES), st.integers(0, 40), st.integers(0, 40))
_T = TypeVar("_T")


def seldom(strategy: st.SearchStrategy[_T]) -> st.SearchStrategy[_T | None]:
    return st.sampled_from(range(9)).flatmap(lambda n: st.none() if n else strategy)


clock_errors = st.sampled_from((0, 0, 3, -3, 90, -90, 1500, -1500)).map(
    lambda minutes: timedelta(minutes=minutes)
)
disturbances = st.lists(
    st.builds(
        Disturbance,
        changes=st.lists(changes, max_size=2).map(tuple),
        fault=seldom(st.integers(0, 9)),
        hide=seldom(st.tuples(st.integers(1, 3), st.integers(1, 4))),
        jump=st.just(timedelta()) | clock_errors,
    ),
    max_size=6,
).map(tuple)
undisturbed = st.builds(
    Load,
    first=st.integers(0, 9),
    length=st.integers(0, 12),
    reconcile=st.sampled_from((False, False, False, True)),
    older_catalog=st.sampled_from((False, False, False, True)),
    offset=clock_errors,
)
loads = st.builds(
    dataclasses.replace,
    undisturbed,
    disturbances=disturbances,
    second=st.none() | undisturbed,
    second_at=st.integers(1, 4),
    changes=st.lists(changes, max_size=2).map(tuple),
)


class History(RuleBasedStateMachine):
    """A random scenario; the test sets `table`."""

    table = ""

    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario(self.table)
        self.forked = False

    @rule(several=st.lists(changes, min_size=1, max_size=5))
    def change(self, several: Sequence[Change]) -> None:
        for change in several:
            self.scenario.apply(change)

    @rule(load=loads)
    def load(self, load: Load) -> None:
        self.scenario.load(load)
        self.require_right_rows()

    @precondition(lambda self: not self.forked)
    @rule(several=st.lists(undisturbed, min_size=1, max_size=2), kill_at=st.integers(0, 6))
    def load_in_processes(self, several: Sequence[Load], kill_at: int) -> None:
        self.forked = True
        self.scenario.load_in_processes(several, kill=kill_at)
        self.require_right_rows()

    def require_right_rows(self) -> None:
        wrong = self.scenario.wrong
        assert not wrong, f"{wrong[:3]} after {self.scenario.outcomes}"

    def teardown(self) -> None:
        try:
            if not self.scenario.wrong:
                self.scenario.load_remaining_days()
                self.require_right_rows()
                self.scenario.reconcile()
                self.require_right_rows()
        finally:
            self.scenario.close()


@pytest.mark.parametrize("table", HISTORIES)
def test_after_every_load_the_table_is_what_the_documents_promise(table: str) -> None:
    machine = type("HistoryOf", (History,), {"table": table})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=math.ceil(HISTORIES[table] * EXAMPLES / 400),
            stateful_step_count=4,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
