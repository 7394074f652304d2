"""What surrounds the records in an answer, opened without making an object of any record.

Only the keys become Python values; the records stay the bytes that were served.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from st_pipelines import json_text
from st_pipelines.catalog.model import Endpoint

_T = TypeVar("_T")
_KeyPart = int | float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class ParsedPage:
    """One answer, opened.

    Attributes:
        rows: the records, each the bytes that were served.
        keys: what identifies each record, in the order served: an integer id itself, else a hash.
        ascending: whether the keys are integers that only rise; None where that cannot be told.
        has_more: as served; None where the answer does not say.
        total: `totalCount` as served; None where the answer does not say.
        continue_from: token of the next page of an export feed.
    """

    rows: list[msgspec.Raw] = field(repr=False)
    keys: list[int] = field(repr=False)
    ascending: bool | None
    has_more: bool | None
    total: int | None
    continue_from: str | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.rows)

    @property
    def records(self) -> bytes:
        """A JSON array of the records."""
        return array_of(self.rows)

    def contents(self) -> list[int]:
        """A hash of each record as a whole."""
        return _whole_records(self.rows)

    def only(self, wanted: list[bool]) -> ParsedPage:
        """The same answer with some of its records.

        Args:
            wanted: for each record whether to keep it.
        """
        return dataclasses.replace(
            self,
            rows=list(itertools.compress(self.rows, wanted)),
            keys=list(itertools.compress(self.keys, wanted)),
        )


def array_of(rows: Iterable[msgspec.Raw]) -> bytes:
    """Records as a JSON array."""
    return b"[" + b",".join(rows) + b"]"


class _Envelope(msgspec.Struct, rename="camel"):
    """`data` is nullable in one list of the specification: null is an empty page of any list."""

    data: list[msgspec.Raw] | None
    has_more: bool | None = None
    total_count: int | float | None = None
    continue_from: str | int | float | None = None


# Not strict: "180" for a number and "true" for a boolean mean the same from any server.
_decode_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def opener(endpoint: Endpoint, *, first: bool = True) -> Callable[[bytes], ParsedPage]:
    """The function that opens the answers of an endpoint.

    Args:
        endpoint: its envelope and key are used.
        first: for the first page, which without records has to say that there are none; the
            pages of a list that tells neither `hasMore` nor `totalCount` end with a bare one.

    Returns:
        A function from a body to `Served`, which raises ValueError where the body is not what
        the endpoint should answer. Its message quotes no record.
    """
    # The members of an exploded array are the records later on; here the whole is one.
    key = () if endpoint.explode else endpoint.key
    if endpoint.envelope == "array":
        return functools.partial(_open_array, key=key)
    demanding = first and endpoint.envelope == "page"
    return functools.partial(_open_object, key=key, demanding=demanding)


def _open_array(body: bytes, *, key: tuple[str, ...]) -> ParsedPage:
    try:
        rows, readable = _decoded(_decode_array, body)
    except msgspec.DecodeError as error:
        raise ValueError(f"the records are not an array ({error})") from None
    keys, ascending = _keys(rows, key)
    rows = _as_served(rows, readable, body)
    return ParsedPage(rows=rows, keys=keys, ascending=ascending, has_more=None, total=None)


def _open_object(body: bytes, *, key: tuple[str, ...], demanding: bool) -> ParsedPage:
    try:
        envelope, readable = _decoded(_decode_envelope, body)
    except msgspec.DecodeError as error:
        raise ValueError(f"the body is not the expected object ({error})") from None
    rows, total = envelope.data or [], envelope.total_count
    says_nothing = envelope.has_more is None and total is None
    if says_nothing and envelope.data is None:
        raise ValueError("it holds null in the place of records, and does not say that it is all")
    keys, ascending = _keys(rows, key)
    token = envelope.continue_from
    if demanding and says_nothing and not keys:
        raise ValueError("it holds neither records nor hasMore nor totalCount")
    return ParsedPage(
        rows=_as_served(rows, readable, body),
        keys=keys,
        ascending=ascending,
        has_more=envelope.has_more,
        total=None if total is None or total < 0 else int(total),
        continue_from=None if token is None else str(token),
    )


def _decoded(decode: Callable[[bytes], _T], body: bytes) -> tuple[_T, bytes]:
    """What a body holds, and the text that it was read from: half characters are refused."""
    try:
        return decode(body), body
    except msgspec.DecodeError:
        readable = json_text.replace_lone_surrogates(body)
        if readable is body:
            raise
    return decode(readable), readable


def _as_served(rows: list[msgspec.Raw], readable: bytes, body: bytes) -> list[msgspec.Raw]:
    """The records as they stand in the body; `readable` has the same length."""
    if readable is body:
        return rows
    served, end = [], 0
    for row in map(bytes, rows):
        start = readable.index(row, end)
        end = start + len(row)
        served.append(msgspec.Raw(body[start:end]))
    return served


def _keys(rows: list[msgspec.Raw], key: tuple[str, ...]) -> tuple[list[int], bool | None]:
    ids = _leading_ids(rows, key[0]) if len(key) == 1 else None
    if ids is not None:
        return ids, _rises(ids)
    try:
        keys = list(map(_key_decoder(key), rows)) if key else []
    except msgspec.DecodeError as error:
        raise ValueError(f"the records are not the expected ones ({error})") from None
    if not key or any(part in (None, msgspec.UNSET) for row in keys for part in row):
        # A record without its key is identified by all that it says.
        return _whole_records(rows), None
    if len(key) > 1 or not all(type(row[0]) is int for row in keys):
        return [hash(row) for row in keys], None
    ids = [row[0] for row in keys]
    return ids, _rises(ids)


def _rises(ids: list[int]) -> bool:
    return all(one < other for one, other in itertools.pairwise(ids))


def _leading_ids(rows: list[msgspec.Raw], name: str) -> list[int] | None:
    """The integer ids of records that all begin with them, as nearly all lists serve them.

    To find a key elsewhere the whole record has to be read.
    """
    match, ids = _leading(name).match, []
    for row in rows:
        found = match(row)
        if found is None:
            return None
        ids.append(int(found[1]))
    return ids


@functools.lru_cache(maxsize=512)
def _leading(name: str) -> re.Pattern[bytes]:
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


def _whole_records(rows: list[msgspec.Raw]) -> list[int]:
    if not all(memoryview(row)[:1] == b"{" for row in rows):
        raise ValueError("a record is not an object")
    return [int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big") for row in rows]
