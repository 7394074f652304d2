"""Whatever changes and fails during a reading, it is complete or raises an error.

A complete reading has every record that existed unchanged from its start to its end. Each record in
it is as the source had it at some moment of the reading.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sandbox.world import World
from st_pipelines.servicetitan.errors.errors import ReadingMoved, ServiceTitanError
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines.servicetitan.reading.page_source import Page
from st_pipelines.servicetitan.reading.read import read
from st_pipelines.windows import Window
from st_pipelines_tests.churn_reader import build_context
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.property_model import EXAMPLES

FORMS = {
    "sorted window": "dispatch.zones",
    "sorted window of many pages": "inventory.adjustments",
    "sorted by a guid": "accounting.journal_entries",
    "sorted snapshot": "marketing.costs",
    "unsorted window": "jpm.job_types",
    "unsorted snapshot": "settings.user_roles",
    "unsorted, without a total": "pricebook.materialsmarkup",
    "paged, without hasMore": "jpm.work_breakdown_structure_segments",
    "composite key": "customer_interactions.technician_ratings",
    "keyless window": "marketing_reputation.reviews",
    "keyless snapshot": "payroll.locations_rates",
    "feed": "memberships.invoice_templates",
    "feed of many changes": "telecom.calls_export",
}
QUICK_FAULTS = (
    "500",
    "html",
    "truncated",
    "wrapped",
    "data-object",
    "reset",
    "empty-page",
    "endless",
    "repeated-token",
    "gzip-cut",
    "429-bare",
)
_records = msgspec.json.Decoder(list[msgspec.Raw]).decode


@pytest.fixture(scope="module")
def churning_sandbox() -> Iterator[Sandbox]:
    with Sandbox(
        customers=10, history_days=30, now=NOW, requests_per_second=1e9, export_batch=7
    ) as running:
        yield running


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """How records change and requests fail while an endpoint is read.

    Attributes:
        churn: the share of requests that change records.
        ahead: the client's clock is a day ahead.
        totals: the list serves `totalCount`, if it ever does.
    """

    form: str
    seed: int
    churn: float
    fault: str | None
    page_size: int
    concurrency: int
    ahead: bool
    totals: bool

    @property
    def endpoint(self) -> Endpoint:
        endpoint = load_catalog()[FORMS[self.form]]
        return endpoint if self.totals else dataclasses.replace(endpoint, includes_total=False)

    @property
    def window(self) -> Window:
        """Ends now, or a day later for a client whose clock is ahead."""
        return Window(start=None, end=NOW + timedelta(days=1) * self.ahead)


histories = st.builds(
    History,
    form=st.sampled_from(list(FORMS)),
    seed=st.integers(0, 1_000_000),
    churn=st.sampled_from([0.05, 0.2, 0.5, 1.0]),
    fault=st.sampled_from([None, None, *QUICK_FAULTS]),
    page_size=st.sampled_from([3, 7, 8, 10, 12, 15, 20, 30]),
    concurrency=st.integers(1, 4),
    ahead=st.booleans(),
    totals=st.sampled_from([True, True, True, False]),
)


def raw_records(world: World, endpoint: Endpoint) -> list[bytes]:
    feed = endpoint.kind == "feed"
    return world.export_raw(endpoint.table) if feed else world.raw(endpoint.table)


def changes(world: World, endpoint: Endpoint) -> dict[int, tuple[int, bytes]]:
    """Returns the number of the last change and the text of each existing record, by position."""
    table = world.table(endpoint.table)
    positions = zip(table.find_alive(), raw_records(world, endpoint), strict=True)
    return {at: (table.stamps[at], text) for at, text in positions}


def pages_of(client: Client, history: History) -> Iterator[Page]:
    stats, window = ReadStats(), history.window
    if history.endpoint.is_feed:
        start = window.start if window else None
        return read_feed(client.session(stats), history.endpoint, start)
    return read(client, history.endpoint, window, stats=stats, concurrency=history.concurrency)


def play(sandbox: Sandbox, history: History) -> str:
    """Reads under a history and returns the outcome; asserts that a complete reading is correct."""
    endpoint = history.endpoint
    world = World(seed=history.seed % 5, customers=10, history_days=30, now=NOW)
    sandbox.worlds[sandbox.tenant_id] = world
    before, true = changes(world, endpoint), set(raw_records(world, endpoint))
    sandbox.interceptors[:] = [lambda request: true.update(raw_records(world, endpoint))]
    sandbox.set_churn(history.churn, history.seed)
    sandbox.set_faults({history.fault: 0.1} if history.fault else {})
    client = build_context(sandbox, Path("unused"), NO_WAIT, page_size=history.page_size).client
    records_by_reading: dict[int, list[bytes]] = {}
    try:
        for page in pages_of(client, history):
            records_by_reading.setdefault(page.reading, []).extend(
                map(bytes, _records(page.records))
            )
    except ReadingMoved:
        return "moved"
    except ServiceTitanError:
        if history.fault:
            return "failed"
        raise
    finally:
        client.close()
        sandbox.set_churn(0, 0)
        sandbox.set_faults({})
        sandbox.interceptors.clear()
    last, after = set(records_by_reading[max(records_by_reading)]), changes(world, endpoint)
    stayed = {text for at, (stamp, text) in before.items() if after.get(at) == (stamp, text)}
    assert stayed <= last, f"{len(stayed - last)} of {len(stayed)} unchanged records are missing"
    assert last <= true | set(raw_records(world, endpoint)), "a record never looked like this"
    return "correct"


def test_a_reading_under_churn_has_every_record_that_stayed_or_fails(churning_sandbox):
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def every_history(history: History) -> None:
        outcomes[play(churning_sandbox, history)] += 1

    every_history()
    assert outcomes.total() >= EXAMPLES
    assert outcomes["correct"] > outcomes.total() / 2, f"too few readings succeeded: {outcomes}"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_list_can_be_read_while_it_changes_a_little(churning_sandbox, form):
    outcomes = [
        play(
            churning_sandbox,
            History(
                form=form,
                seed=seed,
                churn=0.05,
                fault=None,
                page_size=12,
                concurrency=2,
                ahead=False,
                totals=True,
            ),
        )
        for seed in range(2)
    ]
    assert "correct" in outcomes
