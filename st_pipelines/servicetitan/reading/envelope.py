"""Parses the envelope of a page without making an object of any record.

Only the keys become Python values; the records stay the bytes that were served, so that money and
times keep all their digits. Their values are typed in `warehouse.staging`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from st_pipelines import json_text
from st_pipelines.catalog.model import Endpoint

_T = TypeVar("_T")
_KeyPart = int | float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class Records:
    """Some records.

    Attributes:
        rows: the records, each as the bytes that were served.
    """

    rows: list[msgspec.Raw] = field(repr=False)

    @property
    def count(self) -> int:
        """The number of records."""
        return len(self.rows)

    @property
    def records(self) -> bytes:
        """The records as a JSON array."""
        return b"[" + b",".join(self.rows) + b"]"


@dataclass(frozen=True, kw_only=True)
class ParsedPage(Records):
    """One page, parsed.

    Attributes:
        keys: identify the records, in the order served: an integer id itself, otherwise a hash.
        ascending: whether the keys are strictly rising integers; None if they are not integers.
        has_more: as served; None if the page does not say.
        total: `totalCount` as served; None if the page does not say.
        continue_from: token of the next page of an export feed.
    """

    keys: list[int] = field(repr=False)
    ascending: bool | None
    has_more: bool | None
    total: int | None
    continue_from: str | None = field(default=None, repr=False)

    def hash_records(self) -> list[int]:
        """Hash each record as a whole."""
        return _hash_records(self.rows)

    def keep(self, wanted: list[bool]) -> ParsedPage:
        """Return the page with those of its records that are wanted."""
        return dataclasses.replace(
            self,
            rows=list(itertools.compress(self.rows, wanted)),
            keys=list(itertools.compress(self.keys, wanted)),
        )


class _Envelope(msgspec.Struct, rename="camel"):
    """`data` may be null only in `_NULLABLE`; elsewhere null is no proof that there is nothing."""

    data: list[msgspec.Raw] | None
    has_more: bool | None = None
    total_count: int | float | None = None
    continue_from: str | int | float | None = None


_NULLABLE = frozenset({"marketing_reputation.reviews"})
"""The lists whose `data` the specification declares nullable: null is an empty page of these."""

# Not strict: "180" for a number and "true" for a boolean mean the same from any server.
_decode_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def page_parser(endpoint: Endpoint, *, first: bool = True) -> Callable[[bytes], ParsedPage]:
    """Return the function that parses the pages of an endpoint.

    It raises ValueError for a body that the endpoint should not serve, with a message that quotes
    no record.

    Args:
        endpoint: its envelope and key are used.
        first: whether for the first page. Without records, that page must say that there are none;
            a list that serves neither `hasMore` nor `totalCount` ends with a bare empty page.
    """
    # The members of an exploded array become the records later on; here the whole is one.
    key = () if endpoint.explode else endpoint.key
    if endpoint.envelope == "array":
        return functools.partial(_parse_array, key=key)
    must_say_empty = first and endpoint.envelope == "page"
    return functools.partial(
        _parse_object,
        key=key,
        must_say_empty=must_say_empty,
        nullable=endpoint.table in _NULLABLE,
    )


def _parse_array(body: bytes, *, key: tuple[str, ...]) -> ParsedPage:
    try:
        rows, readable = _decode(_decode_array, body)
    except msgspec.DecodeError as error:
        raise ValueError(f"the records are not an array ({error})") from None
    keys, ascending = _read_keys(rows, key)
    rows = _restore_bytes(rows, readable, body)
    return ParsedPage(rows=rows, keys=keys, ascending=ascending, has_more=None, total=None)


def _parse_object(
    body: bytes, *, key: tuple[str, ...], must_say_empty: bool, nullable: bool
) -> ParsedPage:
    try:
        envelope, readable = _decode(_decode_envelope, body)
    except msgspec.DecodeError as error:
        raise ValueError(f"the body is not the expected object ({error})") from None
    rows, total = envelope.data or [], envelope.total_count
    is_bare = envelope.has_more is None and total is None
    if envelope.data is None and (is_bare or not nullable):
        raise ValueError("it holds null instead of records")
    keys, ascending = _read_keys(rows, key)
    token = envelope.continue_from
    if must_say_empty and is_bare and not keys:
        raise ValueError("it holds neither records nor hasMore nor totalCount")
    return ParsedPage(
        rows=_restore_bytes(rows, readable, body),
        keys=keys,
        ascending=ascending,
        has_more=envelope.has_more,
        total=None if total is None or total < 0 else int(total),
        continue_from=None if token is None else str(token),
    )


def _decode(decode: Callable[[bytes], _T], body: bytes) -> tuple[_T, bytes]:
    """Decode a body; return the value and the text that it was decoded from.

    The decoder refuses lone surrogates, so they are replaced where there are any.
    """
    try:
        return decode(body), body
    except msgspec.DecodeError:
        readable = json_text.replace_lone_surrogates(body)
        if readable is body:
            raise
    return decode(readable), readable


def _restore_bytes(rows: list[msgspec.Raw], readable: bytes, body: bytes) -> list[msgspec.Raw]:
    """Return the records as they are in the body; `readable` has the same length."""
    if readable is body:
        return rows
    restored, end = [], 0
    for row in map(bytes, rows):
        start = readable.index(row, end)
        end = start + len(row)
        restored.append(msgspec.Raw(body[start:end]))
    return restored


def _read_keys(rows: list[msgspec.Raw], key: tuple[str, ...]) -> tuple[list[int], bool | None]:
    """Return the keys of records, and whether they ascend."""
    ids = _read_leading_ids(rows, key[0]) if len(key) == 1 else None
    if ids is None:
        try:
            keys = list(map(_key_decoder(key), rows)) if key else []
        except msgspec.DecodeError as error:
            raise ValueError(f"the records are not the expected ones ({error})") from None
        if not key or any(part in (None, msgspec.UNSET) for row in keys for part in row):
            # A record without its key is identified by its whole content.
            return _hash_records(rows), None
        if len(key) > 1 or not all(type(row[0]) is int for row in keys):
            return [hash(row) for row in keys], None
        ids = [row[0] for row in keys]
    return ids, all(map(operator.lt, ids, ids[1:]))


def _read_leading_ids(rows: list[msgspec.Raw], name: str) -> list[int] | None:
    """Read the integer ids of records that all begin with them, as in nearly all lists.

    A key elsewhere can only be found by reading the whole record.
    """
    match, ids = _leading_id(name).match, []
    for row in rows:
        found = match(row)
        if found is None:
            return None
        ids.append(int(found[1]))
    return ids


@functools.lru_cache(maxsize=512)
def _leading_id(name: str) -> re.Pattern[bytes]:
    quoted = re.escape(msgspec.json.encode(name))
    return re.compile(rb"\{\s*" + quoted + rb"\s*:\s*(-?[0-9]{1,18})\s*[,}]")


@functools.lru_cache(maxsize=512)
def _key_decoder(key: tuple[str, ...]) -> Callable[[msgspec.Raw], tuple]:
    names = [f"part{number}" for number in range(len(key))]
    fields = [(name, _KeyPart | msgspec.UnsetType, msgspec.UNSET) for name in names]
    row = msgspec.defstruct(
        "Key", fields, rename=dict(zip(names, key, strict=True)), gc=False, frozen=True
    )
    decode = msgspec.json.Decoder(row).decode
    return lambda record: msgspec.structs.astuple(decode(record))


def _hash_records(rows: list[msgspec.Raw]) -> list[int]:
    if not all(memoryview(row)[:1] == b"{" for row in rows):
        raise ValueError("a record is not an object")
    return [int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big") for row in rows]
