"""Reads single records by `ids`, to find out which of them still exist.

That a response lacks a record proves nothing by itself: a server may ignore `ids`, cut them off
without a word, or answer with nothing at all. So ids that are known to be served are requested
along with each batch, one below and one above it. A batch whose controls are not served is halved.
For ids with controls on one side only, the server first shows how many ids of one request it
serves, and batches stay within that.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from bisect import bisect_left, bisect_right
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
MIN_SPLIT = 3  # a batch whose controls are not served is halved, but not into fewer ids


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Ids that are requested along with those in question; their presence makes absence count.

    Attributes:
        known: were served a moment ago.
        unverified: probably exist; looked up first, where the known ones do not suffice.
        others: known ids of the list's other parts, requested with every batch.
    """

    known: tuple[int, ...] = ()
    unverified: tuple[int, ...] = ()
    others: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LookupResult:
    """The outcome for a batch of ids.

    Attributes:
        records: JSON arrays of the records that still exist, as served.
        found: ids that were served, those of controls left out.
        gone: ids that ServiceTitan no longer serves.
    """

    records: tuple[bytes, ...]
    found: frozenset[int]
    gone: frozenset[int]

    def __add__(self, other: LookupResult) -> LookupResult:
        """The outcome for both batches."""
        return LookupResult(
            records=self.records + other.records,
            found=self.found | other.found,
            gone=self.gone | other.gone,
        )


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Ids of one request.

    Attributes:
        ids: those in question.
        controls: must be served, or the absence of others proves nothing.
        provable: whether the controls suffice to prove anything.
    """

    ids: tuple[int, ...]
    controls: frozenset[int]
    provable: bool


def look_up(
    session: Session[Usage],
    endpoint: Endpoint,
    ids: Sequence[int],
    *,
    controls: Controls,
    concurrency: int = 4,
) -> Iterator[LookupResult]:
    """Look up records by their ids, inactive ones included.

    An id counts as gone only if the response can be trusted: it held no record that was not
    requested (a server that ignores `ids` would serve some), it said that no more follow, and it
    held the controls.

    Args:
        endpoint: one that takes `ids`.
        ids: any number.
        controls: without any, no id counts as gone.
        concurrency: requests in flight.

    Yields:
        One result per batch of ids.

    Raises:
        ServiceTitanError: after the retries.
    """

    def look_up_batch(batch: _Batch, worker: Session[Usage]) -> LookupResult:
        requested = {*batch.ids, *batch.controls}
        pages, found, sound = _request(worker, endpoint, requested)
        provable, size = batch.provable and sound, len(batch.ids) // 2
        trusted = provable and batch.controls <= found
        if provable and not trusted and size >= MIN_SPLIT:  # it may look at some of the ids only
            halves = (batch.ids[:size], batch.ids[size:])
            parts = (dataclasses.replace(batch, ids=half) for half in halves)
            return functools.reduce(operator.add, [look_up_batch(part, worker) for part in parts])
        return LookupResult(
            records=tuple(page.records for page in _leave_out(pages, {*batch.ids}) if page.count),
            found=frozenset(found & {*batch.ids}),
            gone=frozenset({*batch.ids} - found) if trusted else frozenset(),
        )

    batches = _plan(session, endpoint, sorted({*ids}), controls)
    with closing(in_order(look_up_batch, batches, session, concurrency)) as results:
        yield from results


def _plan(
    session: Session[Usage], endpoint: Endpoint, ids: Sequence[int], controls: Controls
) -> list[_Batch]:
    """Divides sorted ids into batches with controls, which may have to be looked up first."""
    if not ids:
        return []
    known = sorted({*controls.known} - {*ids})
    if not _surround(known, ids) and controls.unverified:
        candidates = {*controls.unverified[:MAX_IDS]}
        _, found, _ = _request(session, endpoint, candidates)
        known = sorted({*known, *(found & candidates)} - {*ids})
    others = frozenset(controls.others) - {*ids}
    surrounded = [id_ for id_ in ids if _surround(known, [id_])]
    batches = _divide(surrounded, known, others, MAX_IDS)
    if beyond := sorted({*ids} - {*surrounded}):
        batches += _divide(beyond, known, others, _measure_capacity(session, endpoint, known))
    return batches


def _surround(known: Sequence[int], ids: Sequence[int]) -> bool:
    return bool(known) and known[0] < ids[0] and known[-1] > ids[-1]


def _divide(
    ids: Sequence[int], known: Sequence[int], others: frozenset[int], capacity: int
) -> list[_Batch]:
    """Divides sorted ids into batches with controls.

    Args:
        capacity: ids of one request that the server looks at; 0 where that is unknown.
    """
    neighbors = 2 if capacity > 2 else 1
    provable = capacity > neighbors + len(others)
    size = (capacity if provable else MAX_IDS) - neighbors - len(others)
    batches = [tuple(ids[at : at + size]) for at in range(0, len(ids), size)]
    return [
        _Batch(
            ids=batch,
            controls=_choose_controls(known, batch, neighbors) | others,
            provable=provable,
        )
        for batch in batches
    ]


def _measure_capacity(session: Session[Usage], endpoint: Endpoint, known: Sequence[int]) -> int:
    """How many ids of one request are served for certain; 0 where that is unknown."""
    requested = sorted({*known[:MAX_IDS]})
    if not requested:
        return 0
    _, found, sound = _request(session, endpoint, {*requested})
    served = len([*itertools.takewhile(found.__contains__, requested)])
    return served if sound and served == len(found) else 0


def _choose_controls(known: Sequence[int], batch: Sequence[int], number: int) -> frozenset[int]:
    """The nearest known id on each side; on a side that has none, the next of the other."""
    below, above = bisect_left(known, batch[0]), bisect_right(known, batch[-1])
    nearest = [*known[above : above + 1], *known[max(0, below - 1) : below]]
    more = (id_ for id_ in [*known[above + 1 :], *reversed(known)] if id_ not in nearest)
    return frozenset([*nearest, *itertools.islice(more, number)][:number])


def _request(
    session: Session[Usage], endpoint: Endpoint, ids: set[int]
) -> tuple[list[ParsedPage], set[int], bool]:
    """Pages, ids that were served, and whether these are an answer to what was requested."""
    pages = [_fetch(session, endpoint, ids, variant) for variant in endpoint.variants or ({},)]
    found = set(itertools.chain.from_iterable(page.keys for page in pages))
    return pages, found, found <= ids and all(_is_last(endpoint, page) for page in pages)


def _leave_out(pages: Sequence[ParsedPage], wanted: set[int]) -> Iterator[ParsedPage]:
    """The pages without the controls: these were read already, and may have changed since."""
    return (page.keep([key in wanted for key in page.keys]) for page in pages)


def _is_last(endpoint: Endpoint, page: ParsedPage) -> bool:
    """Whether nothing follows: a server may put fewer records into a page than requested."""
    if page.has_more is None and endpoint.paged:
        return page.total == page.count
    return not page.has_more


def _fetch(
    session: Session[Usage], endpoint: Endpoint, ids: set[int], variant: Mapping[str, str]
) -> ParsedPage:
    texts = [*map(str, sorted(ids))]
    params: dict[str, str | Sequence[str]] = {
        **list_params(endpoint, session.client.connection),
        **variant,
        "ids": texts if endpoint.ids_repeated else ",".join(texts),
    }
    if endpoint.paged:
        params |= {"page": str(endpoint.first_page), "pageSize": str(MAX_IDS)}
    if endpoint.includes_total:  # business-units/intacct requires it
        params["includeTotal"] = "true"
    return session.fetch(endpoint.path, params, page_parser(endpoint), scope=endpoint.scope)
