"""Simulates faults that a client may mistake for data.

These are short lists, stale tokens, malformed records and the like. `faults` chooses the
requests that get one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.sandbox import responses

FaultEffect: TypeAlias = Callable[[Request, Response], Response]
"""Returns a broken response, or the original if the fault does not apply to it."""

_MAX_LOOKED_UP = 10
_DATE = re.compile(r"\d{4}-\d\d-\d\d.*")


def change_body(
    change: Callable[[bytes], bytes | str], kind: str = "application/json"
) -> FaultEffect:
    """Replace the body of a successful response."""

    def apply(request: Request, original: Response) -> Response:
        if original.status_code != 200:
            return original
        return Response(change(bytes(original.body)), media_type=kind)

    return apply


def change_envelope(
    change: Callable[[Request, dict[str, Any]], dict[str, Any] | None],
) -> FaultEffect:
    """Change the envelope of a successful response. `change` returns None if it does not apply."""

    def apply(request: Request, original: Response) -> Response:
        envelope = json.loads(bytes(original.body)) if original.status_code == 200 else None
        changed = change(request, envelope) if isinstance(envelope, dict) else None
        return original if changed is None else responses.build_json_response(changed)

    return apply


def _empty_list(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    return None if "continueFrom" in envelope else _with_records(envelope, [])


def _shorten_list(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    if "continueFrom" in envelope or envelope.get("hasMore") or "ids" in request.query_params:
        return None
    return _with_records(envelope, envelope["data"][::2])


def _shorten_lookup(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    requested = request.query_params.get("ids", "").split(",")[:_MAX_LOOKED_UP]
    if requested == [""]:
        return None
    kept = [record for record in envelope["data"] if str(record["id"]) in requested]
    return _with_records(envelope, kept)


def _with_records(envelope: dict[str, Any], records: list[Any]) -> dict[str, Any]:
    total = {"totalCount": len(records)} if envelope.get("totalCount") is not None else {}
    return {**envelope, **total, "hasMore": False, "data": records}


def _forget_token(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    token = request.query_params.get("from", "")
    if "continueFrom" not in envelope or not token or _DATE.fullmatch(token):
        return None
    return {**envelope, "hasMore": False, "continueFrom": None, "data": []}


def _refuse_sort(request: Request, original: Response) -> Response:
    if "sort" not in request.query_params:
        return original
    problem = responses.build_problem(400, "The field 'sort' is invalid.")
    return responses.build_json_response(problem, 400)


def _add_to_last_record(member: bytes) -> Callable[[bytes], bytes]:
    """Put a member, as JSON, before the others of the last record of an envelope."""

    def change(body: bytes) -> bytes:
        records = json.loads(body)
        records = records.get("data") if isinstance(records, dict) else None
        if not records or not isinstance(records[-1], dict):
            return body
        start = body.rindex(b'{"id":') if b'{"id":' in body else body.rindex(b"{")
        return body[: start + 1] + member + b"," + body[start + 1 :]

    return change


def _remove_key(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    records = envelope.get("data")
    if not isinstance(records, list) or not records or "id" not in records[-1]:
        return None
    return {**envelope, "data": [*records[:-1], {**records[-1], "id": None}]}


FALSE_RESPONSES: Mapping[str, FaultEffect] = {
    "empty-list": change_envelope(_empty_list),
    "short-list": change_envelope(_shorten_list),
    "short-lookup": change_envelope(_shorten_lookup),
    "stale-token": change_envelope(_forget_token),
    "sort-refused": _refuse_sort,
    "nan": change_body(_add_to_last_record(b'"odd":NaN')),
    "raw-control": change_body(_add_to_last_record(b'"odd":"a\tb\nc"')),
    "twice": change_body(_add_to_last_record(b'"odd":1,"odd":2')),
    "deep": change_body(_add_to_last_record(b'"odd":' + b"[" * 3000 + b"]" * 3000)),
    "null-key": change_envelope(_remove_key),
}
"""By kind, see `fault_kinds.FALSE_KINDS`."""
