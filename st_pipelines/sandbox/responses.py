"""Builds responses: lists in their envelopes, and errors in ServiceTitan's formats."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from st_pipelines.catalog.model import Endpoint
from st_pipelines.sandbox import records
from st_pipelines.sandbox.selection import BadRequest

NO_OPERATION = "Unable to match incoming request to an operation."
DEFAULT_PAGE_SIZE = 50
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


def read_page(endpoint: Endpoint, query: Mapping[str, str]) -> tuple[int, int]:
    """Read page number and page size from the query.

    Raises:
        BadRequest: a value is not a number, or not in the endpoint's range.
    """
    page = _read_number(query, "page", endpoint.first_page)
    size = _read_number(query, "pageSize", DEFAULT_PAGE_SIZE)
    if page == 0 and endpoint.first_page == 1:
        # Only the lists of custom fields of jobs and projects are known to reject page 0.
        if endpoint.api == "jpm" and endpoint.name.endswith("custom_fields"):
            raise BadRequest("page", "The value must be at least 1.")
        page = 1
    if page < endpoint.first_page:
        raise BadRequest("page", f"The value must be at least {endpoint.first_page}.")
    if not 1 <= size <= endpoint.max_page_size:
        raise BadRequest("pageSize", f"The value must be from 1 to {endpoint.max_page_size}.")
    return page, size


def _read_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.lstrip("-").isdecimal():
        raise BadRequest(name, f"The value '{text}' is not valid.")
    return int(text)


def build_list_body(
    endpoint: Endpoint, query: Mapping[str, str], records_json: list[bytes], tenant_id: str
) -> bytes:
    """Build the body of a list response.

    Args:
        endpoint: determines the envelope.
        query: the query parameters.
        records_json: all selected records, in order.
        tenant_id: included in the envelope of one endpoint.

    Raises:
        BadRequest: the page or its size is invalid.
    """
    if not endpoint.paged:
        return _wrap(
            endpoint,
            records_json,
            1,
            max(len(records_json), 1),
            len(records_json),
            query,
            tenant_id,
        )
    page, size = read_page(endpoint, query)
    start = (page - endpoint.first_page) * size
    return _wrap(
        endpoint,
        records_json[start : start + size],
        page,
        size,
        len(records_json),
        query,
        tenant_id,
    )


def _wrap(
    endpoint: Endpoint,
    records_json: list[bytes],
    page: int,
    size: int,
    total: int,
    query: Mapping[str, str],
    tenant_id: str,
) -> bytes:
    rows = b"[" + b",".join(records_json) + b"]"
    if endpoint.envelope == "array":
        return rows
    if endpoint.path.endswith("/capacity-warnings"):
        head = b'{"tenantId":%b,"tenantName":"Sandbox","totalCount":%d,"data":'
        return head % (tenant_id.encode(), total) + rows + b"}"
    if endpoint.envelope == "data":
        return b'{"data":' + rows + b"}"
    more = b"true" if (page - endpoint.first_page + 1) * size < total else b"false"
    with_total = endpoint.includes_total and query.get("includeTotal", "").lower() == "true"
    count = b"%d" % total if with_total else b"null"
    head = b'{"page":%d,"pageSize":%d,"hasMore":%b,"totalCount":%b,"data":'
    return head % (page, size, more, count) + rows + b"}"
