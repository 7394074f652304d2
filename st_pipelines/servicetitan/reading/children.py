"""Reads child lists: one request per parent, or one for up to 50 parents by `ids`.

Each list is read and proven complete as any other (`read`). Records get the ids of their parent,
as bytes, without being parsed. A parent that ServiceTitan answers with 404 does not exist any more,
or never had such a list: that is a result, and no error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec

from st_pipelines import json_text
from st_pipelines.catalog.model import Endpoint, Scalar
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ReadingMoved,
    ResponseTooLarge,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    WrongPath,
)
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.envelope import page_parser
from st_pipelines.servicetitan.reading.page_source import list_params
from st_pipelines.servicetitan.reading.paging import in_order
from st_pipelines.servicetitan.reading.read import read_in_session

MANY_IN_FLIGHT, FEW_IN_FLIGHT = 16, 4
"""Lists in flight or waiting to be taken: of a few records each, or of many."""

SERVED = "served_"
"""Prefix of a record's own field, if it has the name of the parent's id and another value."""

_OF_ONE_PARENT = (
    BadRequest,
    ReadingMoved,
    ResponseTooLarge,
    ServiceUnavailable,
    UnexpectedResponse,
)
"""Errors that may concern one parent alone, so that the others are still read."""

_GONE = (404, 410)


@dataclass(frozen=True, kw_only=True)
class Children:
    """What one or several parents have.

    Attributes:
        parents: their positions among those that were read.
        rows: the records as served, with the ids of their parent.
        found: whether ServiceTitan knows the parent.
        error: why they could not be read, or the 404; None if they could.
        stats: of the reading.
    """

    parents: Sequence[int]
    stats: ReadStats
    rows: list[msgspec.Raw] = field(default_factory=list, repr=False)
    found: bool = True
    error: ServiceTitanError | None = None


def read_children(
    session: Session[ReadStats],
    endpoint: Endpoint,
    parents: Sequence[Sequence[str]],
    *,
    concurrency: int = MANY_IN_FLIGHT,
) -> Generator[Children, None, None]:
    """Read the children of parents, several at a time.

    Args:
        session: sends the requests; each result counts its own.
        endpoint: a `child`.
        parents: the ids of each, in the order of `endpoint.parent.ids`.
        concurrency: requests in flight or waiting to be taken.

    Yields:
        The children in the order of the parents. Parents of one request come together.

    Raises:
        ServiceTitanError: nothing can be read, as without permission or connection.
    """
    assert endpoint.parent is not None
    size = endpoint.parent.per_request
    groups = [range(at, min(at + size, len(parents))) for at in range(0, len(parents), size)]
    reader = _ChildReader(endpoint, parents)
    with closing(in_order(reader.read, groups, session, concurrency)) as results:
        yield from results


class _ChildReader:
    """Reads the children of parents by their positions."""

    def __init__(self, endpoint: Endpoint, parents: Sequence[Sequence[str]]) -> None:
        assert endpoint.parent is not None
        names = endpoint.parent.ids
        self._endpoint, self._parents, self._parent = endpoint, parents, endpoint.parent
        types = {column.name: column.type for column in endpoint.columns}
        self._numeric = [types[name] == Scalar("BIGINT") for name in names]
        self._names = [msgspec.json.encode(name) for name in names]
        key = tuple(name for name in endpoint.key if name not in names)
        self._served = dataclasses.replace(endpoint, key=key)

    def read(self, positions: Sequence[int], worker: Session[ReadStats]) -> Children:
        """Reads the children of the parents of one request."""
        stats = ReadStats()
        session = worker.client.session(stats, worker.cancelled)
        try:
            if self._parent.per_request > 1:
                rows = self._read_by_ids(session, positions)
            else:
                rows = self._read_list(session, self._parents[positions[0]])
        except WrongPath as error:
            if error.status not in _GONE:
                raise
            stats.total = 0
            return Children(parents=positions, stats=stats, found=False, error=error)
        except _OF_ONE_PARENT as error:
            return Children(parents=positions, stats=stats, error=error)
        return Children(parents=positions, stats=stats, rows=rows)

    def _read_list(self, session: Session[ReadStats], ids: Sequence[str]) -> list[msgspec.Raw]:
        endpoint = dataclasses.replace(self._served, path=fill_path(self._served, ids))
        if endpoint.envelope == "value":
            rows = self._read_value(session, endpoint)
        else:
            rows = _read_last(read_in_session(session, endpoint, None, concurrency=1))
        members = self._encode(ids)
        return [insert_members(row, members) for row in rows]

    def _read_value(self, session: Session[ReadStats], endpoint: Endpoint) -> list[msgspec.Raw]:
        """Reads the only field of the only record, or null for none."""
        name = endpoint.columns[-1].name
        params = list_params(endpoint, session.client.connection)
        rows = session.fetch(
            endpoint.path, params, lambda body: _parse_value(body, name), scope=endpoint.scope
        )
        session.usage.readings, session.usage.records = 1, len(rows)
        return rows

    def _read_by_ids(
        self, session: Session[ReadStats], positions: Sequence[int]
    ) -> list[msgspec.Raw]:
        """Reads the records of several parents, which name their parent themselves.

        Raises:
            UnexpectedResponse: they are not those that were requested, or more follow.
        """
        [name] = self._parent.ids
        requested = {self._parents[position][0] for position in positions}
        endpoint = dataclasses.replace(self._endpoint, key=(name,))
        params = {
            **list_params(endpoint, session.client.connection),
            "ids": ",".join(sorted(requested)),
        }
        page = session.fetch(endpoint.path, params, page_parser(endpoint), scope=endpoint.scope)
        table = f"{endpoint.table} ({endpoint.path})"
        if page.has_more:
            raise UnexpectedResponse(f"{table}: not all of {len(requested)} ids were served")
        if not {str(key) for key in page.keys} <= requested:
            raise UnexpectedResponse(f"{table}: it serves records that were not requested")
        session.usage.readings, session.usage.records = 1, page.count
        return page.rows

    def _encode(self, ids: Sequence[str]) -> list[tuple[bytes, bytes]]:
        """The members to insert: names and values as JSON."""
        values = (
            value.encode()
            if numeric and value.lstrip("-").isdecimal()
            else msgspec.json.encode(value)
            for value, numeric in zip(ids, self._numeric, strict=True)
        )
        return list(zip(self._names, values, strict=True))


def fill_path(endpoint: Endpoint, ids: Iterable[str]) -> str:
    """Return the path of a child list with the ids of a parent; `{tenant}` stays."""
    head, *rest = endpoint.path.split("{tenant}")
    tail, given = "{tenant}".join(rest), iter(ids)
    parts = tail.split("/")
    filled = [quote(next(given), safe="") if part.startswith("{") else part for part in parts]
    return f"{head}{{tenant}}{'/'.join(filled)}"


def insert_members(row: msgspec.Raw, members: Sequence[tuple[bytes, bytes]]) -> msgspec.Raw:
    """Return a record with more members, at its beginning.

    A member of the same name that the record has already is left out. If it has another value, it
    is kept under the name `SERVED` and its own.

    Args:
        row: a JSON object.
        members: names and values, as JSON.

    Raises:
        ValueError: it is not an object.
    """
    text = bytes(row)
    if any(name in text for name, _ in members):
        text = _drop_members(text, members)
    body = text[1:].lstrip()
    inserted = b",".join(b"%b:%b" % member for member in members)
    separator = b"" if body.startswith(b"}") else b","
    return msgspec.Raw(b"{" + inserted + separator + body)


def _drop_members(text: bytes, members: Sequence[tuple[bytes, bytes]]) -> bytes:
    given = dict(members)
    kept = []
    for name, value in json_text.split_object(text):
        if name not in given:
            kept.append(b"%b:%b" % (name, value))
        elif value.strip(b'"') not in (given[name].strip(b'"'), b"null"):
            kept.append(b'"%b%b:%b' % (SERVED.encode(), name[1:], value))
    return b"{" + b",".join(kept) + b"}"


def _read_last(pages: Generator) -> list[msgspec.Raw]:
    """The records of the last reading."""
    reading, rows = 0, []
    with closing(pages):
        for page in pages:
            if page.reading > reading:
                reading, rows = page.reading, []
            rows += page.rows
    return rows


def _parse_value(body: bytes, name: str) -> list[msgspec.Raw]:
    """Returns the record of a body that is the value of its only field; none for null."""
    text = body.strip()
    if text == b"null":
        return []
    if text[:1] in (b"{", b"["):
        raise ValueError("the body is not a single value")
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        raise ValueError("the body is not JSON") from None
    return [msgspec.Raw(b"{" + msgspec.json.encode(name) + b":" + text + b"}")]
