"""Judges requests by the vendor's documents, with openapi-core.

openapi-core decides whether an operation, its parameters' types, enums and bounds, and its
authorization are as documented. It accepts what a document does not name, so undeclared parameters,
missing scopes, and limits and fields of sort that only descriptions name, are judged here.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from starlette.requests import Request
from starlette.responses import Response
from werkzeug.datastructures import Headers, ImmutableMultiDict

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.judges.documents import HOST, Operation, find_operation

TOKEN_PATH = "/connect/token"
MAX_IDS = 50
"""What the documents say of `ids` in words."""


@dataclass(frozen=True)
class SeenRequest:
    """A request as it was sent; openapi-core reads it as if ServiceTitan had received it.

    Attributes:
        method: in small letters, as in the documents.
        headers: those that authorize, with names in small letters.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes | None = None
    content_type: str = ""
    host_url: str = HOST
    parameters: RequestParameters = field(default=None, compare=False, repr=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        parameters = RequestParameters(
            query=ImmutableMultiDict(self.query), header=Headers(self.headers)
        )
        object.__setattr__(self, "parameters", parameters)

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query)
        return f"{self.method.upper()} {self.path}?{query}"


@dataclass
class RequestLog:
    """The different requests that a sandbox has received.

    Attributes:
        seen: a request to the number of times it was sent.
    """

    seen: dict[SeenRequest, int] = field(default_factory=dict)

    def listen(self, sandbox: Sandbox) -> None:
        """Note every request that the sandbox receives from now on."""
        sandbox.interceptors.insert(0, self._note)

    def _note(self, request: Request) -> Response | None:
        if request.url.path != TOKEN_PATH:
            kept = ("authorization", "st-app-key")
            seen = SeenRequest(
                method=request.method.lower(),
                path=request.url.path,
                query=tuple(parse_qsl(request.url.query, keep_blank_values=True)),
                headers=tuple((n, v) for n, v in request.headers.items() if n in kept),
            )
            self.seen[seen] = self.seen.get(seen, 0) + 1
        return None

    def find_deviations(self) -> list[str]:
        """Describe each deviation of each request from the documents."""
        return [f"{request}: {text}" for request in self.seen for text in judge(request)]


def judge(request: SeenRequest) -> Iterator[str]:
    """Describe how a request deviates from the vendor's documents."""
    operation = find_operation(request.method.upper(), request.path)
    if operation is None:
        yield "no such operation"
        return
    try:
        _open(operation).validate_request(request)
    except OpenAPIError as error:
        yield f"{error} {_explain(error)}".strip()
    yield from _judge_names(request, operation)
    yield from _judge_sizes(request, operation)
    yield from _judge_sort(request, operation)
    yield from _judge_scope(request, operation)


def _judge_names(request: SeenRequest, operation: Operation) -> Iterator[str]:
    names = [name for name, _ in request.query]
    for name in dict.fromkeys(names):
        parameter = operation.parameters.get(name)
        if parameter is None:
            yield f"{name} is not a parameter"
        elif names.count(name) > 1 and parameter["schema"].get("type") != "array":
            yield f"{name} is given {names.count(name)} times"


def _judge_sizes(request: SeenRequest, operation: Operation) -> Iterator[str]:
    query = dict(request.query)
    size = query.get("pageSize", "1")
    if size.isdecimal() and not 1 <= int(size) <= operation.max_page_size:
        yield f"pageSize {size} exceeds {operation.max_page_size}"
    first = operation.parameters.get("page", {}).get("schema", {}).get("minimum", 1)
    page = query.get("page", "1")
    if page.isdecimal() and int(page) < first:
        yield f"page {page} comes before the first, {first}"
    if len(query.get("ids", "").split(",")) > MAX_IDS:
        yield f"more than {MAX_IDS} ids"


def _judge_sort(request: SeenRequest, operation: Operation) -> Iterator[str]:
    sort = dict(request.query).get("sort", "")
    listed = operation.sort_fields
    if sort and listed and not (sort[0] in "+-" and sort[1:].lower() in listed):
        yield f"sort {sort} is not one of {', '.join(sorted(listed))}"


def _judge_scope(request: SeenRequest, operation: Operation) -> Iterator[str]:
    token = dict(request.headers).get("authorization", "").removeprefix("Bearer ")
    granted = read_scopes(token) if token else ()
    for scope in operation.scopes:
        if scope not in granted:
            yield f"the token lacks the scope {scope}"


@lru_cache(maxsize=64)
def read_scopes(token: str) -> frozenset[str]:
    """Return the scopes that an access token grants."""
    _, payload, _ = token.split(".")
    claims: Mapping[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return frozenset(claims["scope"])


@lru_cache(maxsize=1024)
def _open(operation: Operation) -> OpenAPI:
    """Open one operation alone, because openapi-core looks through all paths each time."""
    document = operation.document
    path = operation.path.removeprefix(document.base)
    content = {**document.content, "paths": {path: document.content["paths"][path]}}
    # The documents themselves are not judged.
    return OpenAPI.from_dict(content, config=Config(spec_validator_cls=None))


def _explain(error: BaseException) -> str:
    """Return the reasons that openapi-core has wrapped, without the value's whole schema."""
    causes = []
    cause = error.__cause__
    while cause is not None:
        text = "; ".join(getattr(e, "message", str(e)) for e in getattr(cause, "schema_errors", []))
        causes.append(text or str(cause))
        cause = cause.__cause__
    return re.sub(r"\s+", " ", ": ".join(causes))
