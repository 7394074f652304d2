"""Parses what the reporting API answers: pages of rows, tokens of queries, and lists.

Members are accepted in camelCase, as documented, and in PascalCase, as two public clients have seen
from the asynchronous contract. Rows stay the bytes that were served.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from st_pipelines import json_text
from st_pipelines.servicetitan.http.model import Response

_WITH_ROWS = (200, 201, 203)


@dataclass(frozen=True, kw_only=True)
class ServedField:
    """A column of a report's rows, as a response names it."""

    name: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ReportPage:
    """One page of a report's data.

    Attributes:
        number, size: as served; None where the response does not say.
        has_more: whether pages follow; None where the response does not say.
        total: rows of all pages; None where the response does not say.
        fields: name the values of the rows, in order.
        rows: JSON arrays with as many values as there are fields.
        reading: 1, 2, ...; the first page with a higher number makes all earlier ones void.
    """

    number: int | None
    size: int | None
    has_more: bool | None
    total: int | None
    fields: tuple[ServedField, ...]
    rows: list[bytes] = field(repr=False)
    reading: int = 1


@dataclass(frozen=True, kw_only=True)
class PendingQuery:
    """A run that goes on at ServiceTitan. The token reads its result; do not log it."""

    status: str
    token: str = field(repr=False)


def parse_page(response: Response) -> ReportPage:
    """Parse a page of rows. Raise ValueError for anything else; its message quotes no value."""
    if response.status not in _WITH_ROWS:
        raise ValueError("that status has no rows")
    members = _read_members(response.body)
    fields = _parse_fields(members.get("fields"))
    if "data" not in members:
        raise ValueError("it has no data")
    rows = _split_array(members["data"], "data")
    if any(len(_split_array(row, "a row")) != len(fields) for row in rows):
        raise ValueError("a row has another number of values than the report has fields")
    return ReportPage(
        number=_read_count(members, "page"),
        size=_read_count(members, "pageSize"),
        has_more=_decode(members.get("hasMore", b"null"), bool | None, "hasMore"),
        total=_read_count(members, "totalCount"),
        fields=fields,
        rows=rows,
    )


def parse_query(response: Response) -> ReportPage | PendingQuery:
    """Parse a response of the asynchronous contract: rows, or a run that goes on (202)."""
    if response.status != 202:
        return parse_page(response)
    members = _read_members(response.body)
    status = _decode(members.get("status", b'""'), str | int | None, "status")
    token = _decode(members.get("token", b'""'), str | None, "token")
    return PendingQuery(status=str(status or ""), token=token or "")


def parse_nothing(response: Response) -> None:
    """Accept any 2xx."""


def parse_list(body: bytes) -> tuple[list[Any], bool]:
    """Parse a page of a list of the reporting API; return its items and whether more follow.

    Raises:
        ValueError: it is not such a page.
    """
    members = _read_members(body)
    if "data" not in members:
        raise ValueError("it has no data")
    items = _decode(members["data"], list[Any], "data")
    return items, bool(_decode(members.get("hasMore", b"null"), bool | None, "hasMore"))


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse an object. Raise ValueError for anything else."""
    return _decode(body, dict[str, Any], "the body")


def _parse_fields(text: bytes | None) -> tuple[ServedField, ...]:
    if text is None:
        raise ValueError("it has no fields")
    fields = []
    for item in _decode(text, list[dict[str, Any]], "fields"):
        named = {_to_camel(name): value for name, value in item.items()}
        name, label = named.get("name"), named.get("label")
        if not isinstance(name, str):
            raise ValueError("a field has no name")
        fields.append(ServedField(name=name, label=label if isinstance(label, str) else ""))
    return tuple(fields)


def _read_members(body: bytes) -> dict[str, bytes]:
    """Return the members of an object as bytes, by name in camelCase.

    Raises:
        ValueError: it is not an object, breaks off, or has a member twice.
    """
    try:
        named = [
            (name, bytes(value))
            for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()
        ]
        if body.count(b'"data"') + body.count(b'"Data"') > 1:
            raise msgspec.DecodeError
    except (msgspec.DecodeError, RecursionError):
        split = json_text.split_object(body)
        named = [(name.decode(errors="replace").strip('"'), value) for name, value in split]
    members: dict[str, bytes] = {}
    for name, value in named:
        if _to_camel(name) in members:
            raise ValueError(f"it holds {_to_camel(name)} twice")
        members[_to_camel(name)] = value
    return members


def _to_camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _split_array(text: bytes, what: str) -> list[bytes]:
    try:
        return list(map(bytes, msgspec.json.decode(text, type=list[msgspec.Raw])))
    except (msgspec.DecodeError, RecursionError):
        try:
            return json_text.split_array(text)
        except ValueError as error:
            raise ValueError(f"{what} is not an array ({error})") from None


def _decode(text: bytes, type_: Any, what: str) -> Any:
    """Decode JSON. Numbers and truth values may come as text, as they mean the same."""
    try:
        valid = json_text.replace_lone_surrogates(text)
        return msgspec.json.decode(valid, type=type_, strict=False)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ValueError(f"{what} is not what was expected") from None


def _read_count(members: dict[str, bytes], name: str) -> int | None:
    number = _decode(members.get(name, b"null"), int | None, name)
    return None if number is None or number < 0 else number
