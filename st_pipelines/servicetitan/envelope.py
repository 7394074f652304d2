"""What surrounds the records in an answer, opened without making an object of any record.

Only the keys become Python values; the records stay the bytes that were served.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from st_pipelines.catalog.model import Endpoint

_KeyPart = int | float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class Served:
    """One answer, opened.

    Attributes:
        records: the JSON array as served.
        keys: what identifies each record, in the order served: an integer id itself, else a hash.
        ascending: whether the keys are integers that only rise; None where that cannot be told.
        has_more: as served; None where the answer does not say.
        total: `totalCount` as served; None where the answer does not say.
        continue_from: token of the next page of an export feed.
    """

    records: bytes = field(repr=False)
    keys: list[int] = field(repr=False)
    ascending: bool | None
    has_more: bool | None
    total: int | None
    continue_from: str | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.keys)

    def contents(self) -> list[int]:
        """A hash of each record as a whole."""
        return _whole_records(self.records)

    def only(self, wanted: list[bool]) -> Served:
        """The same answer with some of its records.

        Args:
            wanted: for each record whether to keep it.
        """
        rows = itertools.compress(_decode_array(self.records), wanted)
        return dataclasses.replace(
            self,
            records=b"[" + b",".join(rows) + b"]",
            keys=list(itertools.compress(self.keys, wanted)),
        )


class _Envelope(msgspec.Struct, rename="camel"):
    """`data` is nullable in one list of the specification: null is an empty page of any list."""

    data: msgspec.Raw
    has_more: bool | None = None
    total_count: int | float | None = None
    continue_from: str | int | float | None = None


# Not strict: "180" for a number and "true" for a boolean mean the same from any server.
_decode_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def opener(endpoint: Endpoint) -> Callable[[bytes], Served]:
    """The function that opens the answers of an endpoint.

    Args:
        endpoint: its envelope and key are used.

    Returns:
        A function from a body to `Served`, which raises ValueError where the body is not what
        the endpoint should answer. Its message quotes no record.
    """
    # The members of an exploded array are the records later on; here the whole is one.
    key = () if endpoint.explode else endpoint.key
    if endpoint.envelope == "array":
        return functools.partial(_open_array, key=key)
    return functools.partial(_open_object, key=key, paged=endpoint.envelope == "page")


def _open_array(body: bytes, *, key: tuple[str, ...]) -> Served:
    keys, ascending = _keys(body, key)
    return Served(records=body, keys=keys, ascending=ascending, has_more=None, total=None)


def _open_object(body: bytes, *, key: tuple[str, ...], paged: bool) -> Served:
    try:
        envelope = _decode_envelope(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"the body is not the expected object ({error})") from None
    records, total = bytes(envelope.data), envelope.total_count
    says_nothing = envelope.has_more is None and total is None
    if says_nothing and records == b"null":
        raise ValueError("it holds null in the place of records, and does not say that it is all")
    if records == b"null":
        records = b"[]"
    keys, ascending = _keys(records, key)
    token = envelope.continue_from
    if paged and says_nothing and not keys:
        raise ValueError("it holds neither records nor hasMore nor totalCount")
    return Served(
        records=records,
        keys=keys,
        ascending=ascending,
        has_more=envelope.has_more,
        total=None if total is None or total < 0 else int(total),
        continue_from=None if token is None else str(token),
    )


def _keys(records: bytes, key: tuple[str, ...]) -> tuple[list[int], bool | None]:
    try:
        rows = _key_decoder(key)(records) if key else []
    except msgspec.DecodeError as error:
        raise ValueError(f"the records are not the expected ones ({error})") from None
    if not key or any(part in (None, msgspec.UNSET) for row in rows for part in row):
        # A record without its key is identified by all that it says.
        return _whole_records(records), None
    if len(key) > 1 or not all(type(row[0]) is int for row in rows):
        return [hash(row) for row in rows], None
    ids: list[int] = [row[0] for row in rows]
    return ids, all(one < other for one, other in itertools.pairwise(ids))


@functools.lru_cache(maxsize=512)
def _key_decoder(key: tuple[str, ...]) -> Callable[[bytes], list[tuple]]:
    names = [f"part{number}" for number in range(len(key))]
    fields = [(name, _KeyPart | msgspec.UnsetType, msgspec.UNSET) for name in names]
    row = msgspec.defstruct(
        "Key", fields, rename=dict(zip(names, key, strict=True)), gc=False, frozen=True
    )
    decode = msgspec.json.Decoder(list[row]).decode
    return lambda records: [msgspec.structs.astuple(one) for one in decode(records)]


def _whole_records(records: bytes) -> list[int]:
    try:
        rows = _decode_array(records)
    except msgspec.DecodeError as error:
        raise ValueError(f"the records are not an array ({error})") from None
    if not all(memoryview(row)[:1] == b"{" for row in rows):
        raise ValueError("a record is not an object")
    return [int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big") for row in rows]
