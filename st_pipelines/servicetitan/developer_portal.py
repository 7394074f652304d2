"""Downloads ServiceTitan's OpenAPI documents from its developer portal.

A public client describes two addresses: `/api/docs/apis` lists the documents, and
`/api/docs/apis/{id}` serves one of them as JSON. Neither is documented by ServiceTitan, and the
shape of the list is unknown. So every plausible shape is read: ids, objects with an id, either of
them in an object, and a document that stands in a member of the response, as JSON or as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests

from st_pipelines.servicetitan.errors.errors import UnexpectedResponse
from st_pipelines.servicetitan.http.model import Request
from st_pipelines.servicetitan.http.transport import Unsigned, new_http_session, send

PORTAL = "https://developer.servicetitan.io"
"""ServiceTitan's developer portal."""

_TIMEOUT_SECONDS = 60.0
_MAX_MB = 64
_ID_MEMBERS = ("id", "apiId", "slug", "name")
_BY_HAND = (
    "Name another address with --portal, or download the documents from the developer portal by "
    "hand into a folder."
)


def fetch_documents(portal: str = PORTAL) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the file name and the content of every document of the portal, in its order.

    Args:
        portal: the address, without a path. Redirects are not followed.

    Raises:
        Unreachable: no complete response came.
        ResponseTooLarge: a document has more than 64 MB.
        UnexpectedResponse: a status other than 200, or a response without documents.
    """
    base = f"{portal.rstrip('/')}/api/docs/apis"
    with new_http_session() as http:
        ids = list(_find_ids(_read(http, base)))
        if not ids:
            raise _build_error(base, "answered 200 without the id of a document")
        names: set[str] = set()
        for identifier in ids:
            url = f"{base}/{quote(identifier, safe='')}"
            document = _find_document(_read(http, url))
            if document is None:
                raise _build_error(url, "answered 200 without an OpenAPI document")
            name = _name_file(identifier, names)
            names.add(name.lower())
            yield name, document


def _read(http: requests.Session, url: str) -> Any:
    request = Request(method="GET", url=url)
    response = send(http, request, auth=Unsigned(), timeout=_TIMEOUT_SECONDS, max_mb=_MAX_MB)
    if response.status != 200:
        raise _build_error(url, f"answered {response.status}")
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        raise _build_error(url, "answered 200 with something other than JSON") from None


def _find_ids(listed: Any) -> Iterator[str]:
    """Yields the ids of a list, or of the first list that is a member of an object."""
    if isinstance(listed, Mapping):
        listed = next((value for value in listed.values() if isinstance(value, list)), [])
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, Mapping):
            entry = next((entry[name] for name in _ID_MEMBERS if entry.get(name)), None)
        if isinstance(entry, str | int) and not isinstance(entry, bool) and str(entry).strip():
            yield str(entry)


def _find_document(served: Any) -> dict[str, Any] | None:
    """Returns the document: the response itself, or a member of it."""
    candidates = [served, *(served.values() if isinstance(served, dict) else ())]
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.lstrip().startswith("{"):
            try:
                candidate = json.loads(candidate)
            except (ValueError, RecursionError):
                continue
        if isinstance(candidate, dict) and candidate.keys() & {"openapi", "swagger"}:
            return candidate
    return None


def _name_file(identifier: str, taken: set[str]) -> str:
    """Returns a name that is a file's on every system, and that no other document has."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", identifier).strip(".-") or "document"
    name, number = f"{stem}.json", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}.json"
    return name


def _build_error(url: str, what: str) -> UnexpectedResponse:
    return UnexpectedResponse(what, method="GET", url=url, hint=_BY_HAND)
