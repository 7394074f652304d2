"""Builds responses: lists in their envelopes, and errors in ServiceTitan's formats."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from st_pipelines.catalog.specification import ApiSpecification, ReadOperation
from st_pipelines.sandbox import records
from st_pipelines.sandbox.collections import derive_envelope
from st_pipelines.sandbox.parameters import BadRequest, find_first_page, read_page

NO_OPERATION = "Unable to match incoming request to an operation."
MIN_GZIP_BYTES = 2048


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


def build_list_body(
    api: ApiSpecification,
    operation: ReadOperation,
    values: Mapping[str, Any],
    records_json: Sequence[bytes],
    tenant_id: str,
) -> bytes:
    """Build the body of a list response.

    Args:
        api: of the operation.
        operation: determines the envelope.
        values: the parameters, see `parameters.read_query`.
        records_json: all selected records, in order.
        tenant_id: included in the envelope of one list.

    Raises:
        BadRequest: the page or its size is out of range.
    """
    total = len(records_json)
    page, size = 0, max(total, 1)
    if "page" in operation.query:
        page, size = read_page(operation, values)
    start = page * size
    rows = b"[" + b",".join(records_json[start : start + size]) + b"]"
    if derive_envelope(api, operation) == "array":
        return rows
    assert operation.success
    assert operation.success.schema
    envelope = api.resolve(operation.success.schema).members
    counts = values.get("includeTotal") is True or "includeTotal" not in operation.query
    # Without the parameter, a list says "null" if its document allows that.
    must_count = "totalCount" in envelope and not api.resolve(envelope["totalCount"]).nullable
    known = must_count or (counts and ("includeTotal" in operation.query or "page" not in envelope))
    members = {
        "tenantId": tenant_id.encode(),
        "tenantName": b'"Sandbox"',
        "page": b"%d" % (page + find_first_page(operation)),
        "pageSize": b"%d" % size,
        "hasMore": b"true" if start + size < total else b"false",
        "totalCount": b"%d" % total if known else b"null",
        "data": rows,
    }
    return b"{" + b",".join(b'"%b":%b' % (n.encode(), members[n]) for n in envelope) + b"}"
