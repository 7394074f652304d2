"""Reads single records by `ids`, to find out which of them still exist."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import Usage
from st_pipelines.servicetitan.reading.envelope import ParsedPage, page_parser
from st_pipelines.servicetitan.reading.page_source import list_params
from st_pipelines.servicetitan.reading.paging import in_order

MAX_IDS = 50  # per request, the vendor's maximum


@dataclass(frozen=True, kw_only=True)
class LookupResult:
    """The outcome for a batch of ids.

    Attributes:
        records: JSON arrays of the records that still exist, as served.
        gone: ids that ServiceTitan no longer serves.
    """

    records: tuple[bytes, ...]
    gone: frozenset[int]


def look_up(
    session: Session[Usage],
    endpoint: Endpoint,
    ids: Sequence[int],
    *,
    control_id: int | None,
    concurrency: int = 4,
) -> Iterator[LookupResult]:
    """Look up records by their ids, inactive ones included.

    An id counts as gone only if the response can be trusted: it held no record that was not
    requested (a server that ignores `ids` would serve some), it said that no more follow, and it
    held the control record.

    Args:
        endpoint: one that takes `ids`.
        ids: any number.
        control_id: id of a record that was served a moment ago, requested along with each batch;
            None where there is none.
        concurrency: requests in flight.

    Yields:
        One result per batch of ids.

    Raises:
        ServiceTitanError: after the retries.
    """
    size = MAX_IDS - (control_id is not None)
    batches = [ids[at : at + size] for at in range(0, len(ids), size)]
    variants = endpoint.variants or ({},)

    def look_up_batch(batch: Sequence[int], worker: Session[Usage]) -> LookupResult:
        requested = {*batch, *([] if control_id is None else [control_id])}
        pages = [_fetch(worker, endpoint, requested, variant) for variant in variants]
        found = set(itertools.chain.from_iterable(page.keys for page in pages))
        trusted = (
            found <= requested
            and (control_id is None or control_id in found)
            and all(_is_last(endpoint, page) for page in pages)
        )
        return LookupResult(
            records=tuple(page.records for page in pages if page.count),
            gone=frozenset(requested - found) if trusted else frozenset(),
        )

    with closing(in_order(look_up_batch, batches, session, concurrency)) as results:
        yield from results


def _is_last(endpoint: Endpoint, page: ParsedPage) -> bool:
    """Whether nothing follows: a server may put fewer records into a page than requested."""
    if page.has_more is None and endpoint.paged:
        return page.total == page.count
    return not page.has_more


def _fetch(
    session: Session[Usage], endpoint: Endpoint, ids: set[int], variant: Mapping[str, str]
) -> ParsedPage:
    params = {
        **list_params(endpoint, session.client.connection),
        **variant,
        "ids": ",".join(map(str, sorted(ids))),
    }
    if endpoint.paged:
        params |= {"page": str(endpoint.first_page), "pageSize": str(MAX_IDS)}
    return session.fetch(endpoint.path, params, page_parser(endpoint), scope=endpoint.scope)
