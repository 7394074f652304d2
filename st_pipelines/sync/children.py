"""Decides for which parents a load reads a child list, and loads them batch by batch.

Which parents are due stands in the warehouse (`warehouse.tables.parents`). They are read newest
first, within a limit of requests, and committed in batches: what a load leaves over, because of the
limit or because it was killed, is due for the next one. What it will cost is announced before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.sync.child_lists import MAX_FAILED_PARENTS, ChildList, ParentBatch
from st_pipelines.sync.context import LoadReport, ParentCounts, SyncContext
from st_pipelines.sync.strategy import PlannedRead
from st_pipelines.warehouse.errors import ParentNotLoaded
from st_pipelines.warehouse.tables.parents import (
    DueParents,
    ParentRow,
    find_due_parents,
    find_read_parents,
)

REQUESTS_PER_COMMIT = 500
"""Ten seconds of reading at the rate limit: what a load that is killed may lose."""

PARENTS_TO_VERIFY = 200
"""Parents whose children are compared with ServiceTitan."""


def load_children(
    context: SyncContext,
    strategy: ChildList,
    load: Callable[[SyncContext, ChildList, PlannedRead], LoadReport],
    *,
    everything: bool = False,
) -> LoadReport:
    """Loads the children of the parents that are due.

    Args:
        strategy: of the child list.
        load: reads a batch and commits it.
        everything: all parents are due, those first that were not read for the longest time.

    Returns:
        The reports of all batches as one; at least one is committed, even if it is empty.

    Raises:
        ParentNotLoaded: the parents' table is not in the warehouse.
        ServiceTitanError: the children of some parents could not be read; the others are loaded.
        WarehouseError: it could not be written; earlier batches stay.
    """
    endpoint, limit = strategy.endpoint, context.max_child_requests
    due = _find_due(context, endpoint, everything=everything)
    if due.rows:
        context.announce(describe_cost(context, endpoint, due))
    remaining, spent, report, failures = due.count, 0, None, list[ServiceTitanError]()
    for parents in _cut(due.rows, endpoint):
        if report and spent >= limit:
            break
        batch = ParentBatch(parents=parents, control=due.control)
        one = load(context, strategy.for_batch(batch), _plan(context, strategy))
        remaining -= len(batch.read)
        spent += one.read.requests
        counts = ParentCounts(read=len(batch.read), not_found=batch.not_found, remaining=remaining)
        one = dataclasses.replace(one, parents=counts)
        report = report + one if report else one
        failures += batch.failures
        if batch.ended or len(failures) > MAX_FAILED_PARENTS:
            break
    if failures:
        raise failures[0]
    assert report is not None
    return report


def choose_sample(context: SyncContext, strategy: ChildList) -> tuple[ChildList, int]:
    """Chooses parents to verify, evenly spread over those whose children are up to date.

    Returns:
        The list for these parents, and the number of all live parents.

    Raises:
        ParentNotLoaded: the parents' table is not in the warehouse.
    """
    endpoint = strategy.endpoint
    spec = context.spec(endpoint, _plan(context, strategy), context.now())
    parent = _find_parent(context, endpoint)
    found = find_read_parents(
        context.warehouse,
        endpoint,
        parent,
        spec,
        limit=PARENTS_TO_VERIFY * (endpoint.parent.per_request if endpoint.parent else 1),
    )
    return strategy.for_batch(ParentBatch(parents=found.rows, control=found.control)), found.live


def describe_cost(context: SyncContext, endpoint: Endpoint, due: DueParents) -> str:
    """What a load is about to cost, in a sentence; more where lists have several pages."""
    assert endpoint.parent is not None
    rate = context.client.connection.requests_per_second
    requests = -(-len(due.rows) // endpoint.parent.per_request)
    text = (
        f"{endpoint.table}: {due.count:,} of {due.live:,} rows of {endpoint.parent.table} are due; "
        f"{len(due.rows):,} of them are read now: about {requests:,} requests, "
        f"{requests / rate / 60:.1f} minutes at {rate:g} requests a second"
    )
    if left := due.count - len(due.rows):
        text += f"; {left:,} are left for later loads (ST_MAX_CHILD_REQUESTS)"
    return text


def _find_due(context: SyncContext, endpoint: Endpoint, *, everything: bool) -> DueParents:
    assert endpoint.parent is not None
    strategy = ChildList(endpoint)
    return find_due_parents(
        context.warehouse,
        endpoint,
        _find_parent(context, endpoint),
        context.spec(endpoint, _plan(context, strategy), context.now()),
        limit=context.max_child_requests * endpoint.parent.per_request,
        everything=everything,
    )


def _find_parent(context: SyncContext, endpoint: Endpoint) -> Endpoint:
    assert endpoint.parent is not None
    parent = context.catalog.endpoints.get(endpoint.parent.table)
    if parent is None:
        raise ParentNotLoaded(endpoint.table, endpoint.parent.table)
    return parent


def _plan(context: SyncContext, strategy: ChildList) -> PlannedRead:
    [read] = strategy.plan(None, context.now)
    return read


def _cut(parents: Sequence[ParentRow], endpoint: Endpoint) -> Iterator[Sequence[ParentRow]]:
    """Batches of parents; an empty one if there are none."""
    assert endpoint.parent is not None
    size = REQUESTS_PER_COMMIT * endpoint.parent.per_request
    for start in range(0, max(len(parents), 1), size):
        yield parents[start : start + size]
