"""Parses the envelope of a page without making an object of any record.

Only the keys become Python values; the records stay the bytes that were served, so that money and
times keep all their digits. Their values are typed in `warehouse.staging`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from st_pipelines import json_text
from st_pipelines.catalog.model import Endpoint

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
    """`data` may be null only in `_NULLABLE`; elsewhere null does not prove an empty page."""

    data: list[msgspec.Raw] | None
    has_more: bool | None = None
    total_count: int | float | None = None
    continue_from: str | int | float | None = None


_DATA = b'"data"'
_MEMBERS = (b'"hasMore"', b'"totalCount"', b'"continueFrom"')
_ENVELOPE_BYTES = 128
"""An envelope is shorter without its records and the commas between them."""

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
    if endpoint.envelope == "object":
        names = frozenset(msgspec.json.encode(field.name) for field in endpoint.columns)
        return functools.partial(_parse_record, key=key, names=names)
    if endpoint.member is not None:
        return functools.partial(_parse_member, key=key, name=endpoint.member)
    must_say_empty = first and endpoint.envelope in ("page", "any")
    parse_object = functools.partial(
        _parse_object,
        key=key,
        must_say_empty=must_say_empty,
        nullable=endpoint.table in _NULLABLE,
    )
    if endpoint.envelope != "any":
        return parse_object
    parse_array = functools.partial(_parse_array, key=key)
    return lambda body: (parse_array if body.lstrip()[:1] == b"[" else parse_object)(body)


def _parse_array(body: bytes, *, key: tuple[str, ...]) -> ParsedPage:
    try:
        rows, readable = _split_array(body)
    except ValueError as error:
        raise ValueError(f"the records are not an array ({error})") from None
    keys, ascending = _read_keys(rows, readable, key)
    return ParsedPage(rows=rows, keys=keys, ascending=ascending, has_more=None, total=None)


def _parse_record(body: bytes, *, key: tuple[str, ...], names: frozenset[bytes]) -> ParsedPage:
    """Parse a body that is itself the only record.

    Args:
        names: of its fields, as JSON. A body with none of them is something else, such as a notice.
    """
    if names.isdisjoint(name for name, _ in json_text.split_object(body)):
        raise ValueError("the body is not the expected object")
    return _parse_array(b"[%b]" % body, key=key)


def _parse_member(body: bytes, *, key: tuple[str, ...], name: str) -> ParsedPage:
    """Parse an object that holds the records in an array of any name, and does not page."""
    members = json_text.split_object(body)
    found = [value for served, value in members if served == b'"%b"' % name.encode()]
    if len(found) != 1:
        raise ValueError(f"it holds {name} twice" if found else f"it holds no {name}")
    return _parse_array(found[0], key=key)


def _parse_object(
    body: bytes, *, key: tuple[str, ...], must_say_empty: bool, nullable: bool
) -> ParsedPage:
    try:
        envelope, readable = _decode_object(body)
    except ValueError as error:
        raise ValueError(f"the body is not the expected object ({error})") from None
    rows, total = envelope.data or [], envelope.total_count
    is_bare = envelope.has_more is None and total is None
    if envelope.data is None and (is_bare or not nullable):
        raise ValueError("it holds null instead of records")
    keys, ascending = _read_keys(rows, readable, key)
    token = envelope.continue_from
    if total is not None and not math.isfinite(total):  # "Infinity", as text
        raise ValueError("its totalCount is not a number")
    if must_say_empty and is_bare and not keys:
        raise ValueError("it holds neither records nor hasMore nor totalCount")
    return ParsedPage(
        rows=rows,
        keys=keys,
        ascending=ascending,
        has_more=envelope.has_more,
        total=None if total is None or total < 0 else int(total),
        continue_from=None if token is None else str(token),
    )


def _split_array(body: bytes) -> tuple[list[msgspec.Raw], list[msgspec.Raw]]:
    """Return the records as served, and the same as valid JSON.

    Raises:
        ValueError: the body is not an array, or breaks off.
    """
    try:
        rows = _decode_array(body)
    except (msgspec.DecodeError, RecursionError):
        rows = list(map(msgspec.Raw, json_text.split_array(body)))
        return rows, list(map(_make_readable, rows))
    return rows, rows


def _decode_object(body: bytes) -> tuple[_Envelope, list[msgspec.Raw]]:
    """Return the envelope, and its records as valid JSON.

    Raises:
        ValueError: the body is not the expected object, breaks off, or holds `data` twice.
    """
    try:
        envelope = _decode_envelope(body)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = error
    else:
        _refuse_repeated_data(body, envelope.data or [])
        if any(body.count(name) > 1 for name in _MEMBERS):
            _refuse_repeated_members(json_text.split_object(body))
        return envelope, envelope.data or []
    members = json_text.split_object(body)
    _refuse_repeated_members(members)
    data = [value for name, value in members if name == _DATA]
    if len(data) != 1 or not data[0].startswith(b"["):
        raise ValueError("it holds data twice" if len(data) > 1 else str(reason))
    rest = [b"%b:%b" % member for member in members if member[0] != _DATA]
    bare = b"{" + b",".join([*rest, _DATA + b":[]"]) + b"}"
    envelope = _decode_envelope(json_text.replace_lone_surrogates(bare))
    envelope.data, readable = _split_array(data[0])
    return envelope, readable


def _refuse_repeated_data(body: bytes, rows: list[msgspec.Raw]) -> None:
    """Raise where the envelope has two lists, of which the decoder takes the last.

    Only a body with much besides its records is searched.
    """
    besides = len(body) - sum(map(len, rows))
    if besides > _ENVELOPE_BYTES + len(rows) and body.count(_DATA) > 1:
        names = [name for name, _ in json_text.split_object(body)]
        if names.count(_DATA) > 1:
            raise ValueError("it holds data twice")


def _refuse_repeated_members(members: list[tuple[bytes, bytes]]) -> None:
    """Raise where a member that says whether this is all comes twice."""
    names = [name for name, _ in members]
    for name in _MEMBERS:
        if names.count(name) > 1:
            raise ValueError(f"it holds {name.decode()} twice")


def _make_readable(row: msgspec.Raw) -> msgspec.Raw:
    """Return a record as valid JSON. It is only read, and loaded as it was served."""
    try:
        msgspec.json.decode(row, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(json_text.repair(bytes(row)))
    return row


def _read_keys(
    rows: list[msgspec.Raw], readable: list[msgspec.Raw], key: tuple[str, ...]
) -> tuple[list[int], bool | None]:
    """Return the keys of records, and whether they ascend.

    Args:
        rows: as served.
        readable: the same, as valid JSON.
        key: the names of its parts.
    """
    ids = _read_leading_ids(readable, key[0]) if len(key) == 1 else None
    if ids is None:
        keys = list(map(_key_reader(key), readable)) if key else []
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
def _key_reader(key: tuple[str, ...]) -> Callable[[msgspec.Raw], tuple]:
    decode, decode_raw = _key_decoder(key, _KeyPart), _key_decoder(key, msgspec.Raw)

    def read(record: msgspec.Raw) -> tuple:
        try:
            return msgspec.structs.astuple(decode(record))
        except msgspec.DecodeError as error:
            reason = error
        except RecursionError:
            return (None,)
        parts = _read_raw_parts(record, decode_raw) or ()
        if not parts or any(part[:1] in (b"{", b"[") for part in parts):
            raise ValueError(f"the records are not the expected ones ({reason})")
        return (None,)  # a number that no key can be

    return read


def _read_raw_parts(
    record: msgspec.Raw, decode: Callable[[msgspec.Raw], Any]
) -> list[bytes] | None:
    try:
        parts = msgspec.structs.astuple(decode(record))
    except msgspec.DecodeError:
        return None
    return [b"" if part is msgspec.UNSET else bytes(part) for part in parts]


def _key_decoder(key: tuple[str, ...], part: Any) -> Callable[[msgspec.Raw], Any]:
    names = [f"part{number}" for number in range(len(key))]
    fields = [(name, part | msgspec.UnsetType, msgspec.UNSET) for name in names]
    row = msgspec.defstruct(
        "Key", fields, rename=dict(zip(names, key, strict=True)), gc=False, frozen=True
    )
    return msgspec.json.Decoder(row).decode


def _hash_records(rows: list[msgspec.Raw]) -> list[int]:
    if not all(memoryview(row)[:1] == b"{" for row in rows):
        raise ValueError("a record is not an object")
    return [int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big") for row in rows]
