"""Asks for single records by `ids`: are they still there?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.envelope import ParsedPage, opener
from st_pipelines.servicetitan.reading.paging import in_order
from st_pipelines.servicetitan.reading.stats import ReadStats

MOST_IDS = 50
"""The vendor's maximum in one request."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came of some ids.

    Attributes:
        records: JSON arrays of those that are still there, as served.
        gone: ids that ServiceTitan no longer serves.
    """

    records: tuple[bytes, ...]
    gone: frozenset[int]


def look_up(
    client: Client,
    endpoint: Endpoint,
    ids: Sequence[int],
    *,
    control_id: int | None,
    stats: ReadStats,
    concurrency: int = 4,
) -> Iterator[Answered]:
    """Looks for records by their ids, inactive ones included.

    An id counts as gone only if its answer can be trusted: it held no record that was not asked
    for (a server that ignores `ids` would serve some), it said that no more follow, and it held the
    witness.

    Args:
        client: asks.
        endpoint: one that takes `ids`.
        ids: any number.
        witness: id of a record that was served a moment ago, asked for along with each lot; None
            where there is none.
        stats: counts the requests.
        concurrency: requests in flight.

    Yields:
        What came of each lot of ids.

    Raises:
        ServiceTitanError: after the retries that may help.
    """
    own = MOST_IDS - (control_id is not None)
    lots = [ids[at : at + own] for at in range(0, len(ids), own)]
    variants = endpoint.variants or ({},)

    def ask(number: int, cancelled: Cancellation) -> Answered:
        asked = {*lots[number], *([] if control_id is None else [control_id])}
        served = [_ask(client, endpoint, asked, v, stats, cancelled) for v in variants]
        found = set(itertools.chain.from_iterable(answer.keys for answer in served))
        trusted = (
            found <= asked
            and (control_id is None or control_id in found)
            and all(_is_all(endpoint, answer) for answer in served)
        )
        return Answered(
            records=tuple(answer.records for answer in served if answer.count),
            gone=frozenset(asked - found) if trusted else frozenset(),
        )

    with closing(in_order(ask, range(len(lots)), concurrency)) as answers:
        yield from answers


def _is_all(endpoint: Endpoint, answer: ParsedPage) -> bool:
    """Whether nothing follows: a server may put fewer into a page than it was asked for."""
    if answer.has_more is None and endpoint.paged:
        return answer.total == answer.count
    return not answer.has_more


def _ask(
    client: Client,
    endpoint: Endpoint,
    ids: set[int],
    variant: Mapping[str, str],
    stats: ReadStats,
    cancelled: Cancellation,
) -> ParsedPage:
    params = {**endpoint.params, **variant, "ids": ",".join(map(str, sorted(ids)))}
    if endpoint.paged:
        params |= {"page": str(endpoint.first_page), "pageSize": str(MOST_IDS)}
    return client.fetch(
        endpoint.path,
        params,
        opener(endpoint),
        scope=endpoint.scope,
        usage=stats,
        cancelled=cancelled,
    )
