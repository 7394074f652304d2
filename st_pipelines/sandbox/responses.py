"""Builds responses: lists in their envelopes, and errors in ServiceTitan's formats."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from starlette.responses import Response

from st_pipelines.catalog.specification import ApiSpecification, ReadOperation
from st_pipelines.sandbox import records
from st_pipelines.sandbox.collections import derive_envelope
from st_pipelines.sandbox.parameters import BadRequest, find_first_page, read_page

NO_OPERATION = "Unable to match incoming request to an operation."
MIN_GZIP_BYTES = 2048

_PAGE = ("page", "pageSize", "hasMore", "totalCount", "data")

_Row = TypeVar("_Row")


def build_json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Build a response with `body` as JSON. Bytes are sent as they are."""
    content = body if isinstance(body, bytes) else records.encode(body)
    return Response(content, status, headers, media_type="application/json; charset=utf-8")


def compress(response: Response, accepted: str, level: int) -> Response:
    """Compress a response if the client accepts gzip and the body is large. Level 0: never."""
    body = bytes(response.body)
    if not level or len(body) < MIN_GZIP_BYTES or "gzip" not in accepted.lower():
        return response
    compressor = zlib.compressobj(level, wbits=31)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    content = compressor.compress(body) + compressor.flush()
    return Response(content, response.status_code, headers, response.media_type)


def build_problem(status: int, title: str, **more: Any) -> dict[str, Any]:
    """Build the body of an error: ServiceTitan's ApiErrorResponse, which follows RFC 7807."""
    kind = f"https://httpstatuses.com/{status}"
    return {"type": kind, "title": title, "status": status, "traceId": uuid4().hex, **more}


def build_bad_request(error: BadRequest) -> Response:
    """Build a 400 that names the parameter."""
    errors = {error.parameter: [error.reason]}
    body = build_problem(400, "One or more validation errors occurred.", errors=errors, data={})
    return build_json_response(body, 400)


def build_gateway_error(status: int, message: str) -> Response:
    """Build an error in the format of the gateway in front of the API."""
    return build_json_response({"statusCode": status, "message": message}, status)


def build_too_many_requests(seconds: float) -> Response:
    """Build a 429. Header and title say how long to wait, as ServiceTitan's do."""
    wait = max(1, math.ceil(seconds))
    body = build_problem(429, f"Rate limit is exceeded. Try again in {wait} seconds.")
    return build_json_response(body, 429, {"Retry-After": str(wait)})


def build_not_found() -> Response:
    """Build a 404 for a record or file that does not exist."""
    return build_json_response(build_problem(404, "Not Found"), 404)


def build_page(
    rows: Sequence[Any], *, page: int, size: int, with_total: bool, first: int = 1
) -> dict[str, Any]:
    """Build the envelope of a page, with its rows in `data`.

    Args:
        rows: all rows, of which the page shows some.
        page: its number, counted from 0.
        size: how many rows fit into it.
        with_total: whether the response has the number of all rows.
        first: the number of the first page, as clients count.
    """
    return {
        "page": page + first,
        "pageSize": size,
        "hasMore": (page + 1) * size < len(rows),
        "totalCount": len(rows) if with_total else None,
        "data": rows[page * size : (page + 1) * size],
    }


def build_list_body(
    api: ApiSpecification,
    operation: ReadOperation,
    values: Mapping[str, Any],
    selected: Sequence[_Row],
    tenant_id: str,
    render: Callable[[_Row], bytes] = bytes,
) -> bytes:
    """Build the body of a list response.

    Args:
        api: of the operation.
        operation: determines the envelope.
        values: the parameters, see `parameters.read_query`.
        selected: all selected records, in order: their JSON text, or what `render` takes.
        tenant_id: included in the envelope of one list.
        render: returns the JSON text of a record; called for those of the page.

    Raises:
        BadRequest: the page or its size is out of range.
    """
    page, size = 0, max(len(selected), 1)
    if "page" in operation.query:
        page, size = read_page(operation, values)
    assert operation.success
    schema = operation.success.schema
    # Without a declared body, a list is taken for a page.
    envelope = dict.fromkeys(_PAGE) if schema is None else api.resolve(schema).members
    counts = "includeTotal" not in operation.query and "page" not in envelope
    # Without the parameter, a page says "null" if its document allows that.
    count = envelope.get("totalCount")
    must_count = count is not None and not api.resolve(count).nullable
    whole = build_page(
        selected,
        page=page,
        size=size,
        with_total=values.get("includeTotal") is True or counts or must_count,
        first=find_first_page(operation),
    )
    rows = b"[" + b",".join(map(render, whole["data"])) + b"]"
    if schema is not None and derive_envelope(api, operation) == "array":
        return rows
    tenant = {"tenantId": msgspec.Raw(tenant_id.encode()), "tenantName": "Sandbox"}
    members = {**whole, **tenant, "data": msgspec.Raw(rows)}
    return records.encode({name: members[name] for name in envelope})
