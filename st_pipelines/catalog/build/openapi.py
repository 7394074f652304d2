"""Reads the GET operations of OpenAPI documents, and POSTs on request. Decides nothing about them.

`types` maps their schemas, `endpoints` makes endpoints of them.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from st_pipelines.catalog.build.swagger2 import convert, is_swagger2
from st_pipelines.catalog.build.types import plain_schema, read_fields, resolve
from st_pipelines.catalog.model import Field, snake_case

Shape: TypeAlias = Literal["page", "export", "array", "data", "object", "binary"]


_TENANT = re.compile(r"/tenant/\{[^{}/]+\}(?=/|$)")
_VERSION = re.compile(r"^(/[^/]+)/v(\d+)(?=/)")
_BROKEN = (ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation.

    Attributes:
        api: from the first segment of the path: `jpm`.
        path: below the host: `/jpm/v2/tenant/{tenant}/jobs`.
        shape: of a successful response.
        fields: the fields of a record, or of the `object`; empty for `binary`.
        query: the query parameters by name, with `$ref` resolved.
        parents: path parameters other than the tenant.
        scope: the OAuth scope; "" if the document names none.
        body: the members of a POST's body, and whether each is required.
    """

    api: str
    path: str
    shape: Shape
    fields: tuple[Field, ...]
    query: Mapping[str, Mapping[str, Any]]
    parents: tuple[str, ...]
    scope: str
    body: Mapping[str, bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The collection in snake_case, the same for its list and its export."""
        below = self.path.split("/tenant/{tenant}/", 1)[-1]
        return snake_case(below.removeprefix("export/"))

    @property
    def version(self) -> int:
        """The version in the path, 2 for `/jpm/v2/`; 0 if it names none."""
        found = _VERSION.match(self.path)
        return int(found[2]) if found else 0

    @property
    def unversioned(self) -> str:
        """The path without the version, the same for all versions of an operation."""
        return _VERSION.sub(r"\1", self.path)

    @property
    def paged(self) -> bool:
        """Whether it takes a page number."""
        return "page" in self.query

    @property
    def required(self) -> frozenset[str]:
        """The names of the required query parameters."""
        return frozenset(name for name, p in self.query.items() if p.get("required"))


def read_documents(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields file name and document, for every `*.json` of the folder.

    A document in Swagger 2.0 is converted.

    Raises:
        ValueError: a file is neither OpenAPI 3 nor Swagger 2.0, or the folder holds none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} contains no *.json: name the folder of the OpenAPI documents")
    for file in files:
        try:
            document = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file.name} is not JSON: {error}") from None
        if is_swagger2(document):
            with locating(file.name):
                document = convert(document)
        if not (isinstance(document, dict) and str(document.get("openapi", "")).startswith("3.")):
            raise ValueError(f"{file.name} is neither an OpenAPI 3 nor a Swagger 2.0 document")
        yield file.name, document


def read_operations(
    document: Mapping[str, Any],
    api_names: Mapping[str, str] | None = None,
    posts: Collection[str] = (),
) -> Iterator[Operation]:
    """Yields the GET operations of a document, and some POSTs, in its order.

    Args:
        document: an OpenAPI 3 document.
        api_names: the API's name by first segment of the path, where the two differ.
        posts: the paths whose POST is read if they have no GET.

    Raises:
        ValueError: a path has no first segment to request it by, or the document is malformed.
    """
    for path, module, item in read_paths(document):
        given = item.get("get") or (item.get("post") if path in posts else None)
        if given:
            with locating(path):
                name = (api_names or {}).get(module, module)
                operation = _operation(document, item, given, path, name)
            yield operation


def read_paths(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields the full path, its first segment and the path item, for every path of a document.

    Raises:
        ValueError: a path has no first segment to request it by, or the document is malformed.
    """
    with locating("servers and paths"):
        base, paths = _base_path(document), resolve(document, document.get("paths"))
    for path, given in paths.items():
        full = _TENANT.sub("/tenant/{tenant}", base + path, count=1)
        with locating(full):
            item = {**resolve(document, given), **_own_keys(given)}
        if not (item.get("get") or item.get("post")):
            continue
        module = full.split("/")[1] if "/" in full else ""
        if not module or module == "tenant" or "{" in module:
            raise ValueError(f"{full} names no module: the document's servers have no path")
        yield full, module, item


@contextlib.contextmanager
def locating(place: str) -> Iterator[None]:
    """Reports where a document is malformed, as a ValueError."""
    try:
        yield
    except _BROKEN as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{place}: the document is malformed there ({what}): correct it or download it again"
        ) from None


def _own_keys(item: Any) -> dict[str, Any]:
    """Returns what a path item contains besides its `$ref`."""
    return {key: value for key, value in (item or {}).items() if key != "$ref"}


def _operation(
    document: Mapping[str, Any],
    item: Mapping[str, Any],
    given: Mapping[str, Any],
    path: str,
    api: str,
) -> Operation:
    declared = [*(item.get("parameters") or ()), *(given.get("parameters") or ())]
    parameters = [resolve(document, parameter) for parameter in declared]
    query = {p["name"]: _parameter(document, p) for p in parameters if p["in"] == "query"}
    shape, fields = _response(document, given, feeds="/export/" in path or "from" in query)
    return Operation(
        api=snake_case(api),
        path=path,
        shape=shape,
        fields=fields,
        query=query,
        parents=tuple(name for name in re.findall(r"{([^{}]+)}", path) if name != "tenant"),
        scope=read_scope(document, given),
        body=_body(document, given),
    )


def _body(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, bool]:
    """Returns the members of a request's body, and whether each is required."""
    content = resolve(document, given.get("requestBody")).get("content") or {}
    schema = _json_schema(document, content) or {}
    required = schema.get("required") or ()
    return {name: name in required for name in schema.get("properties") or {}}


def _base_path(document: Mapping[str, Any]) -> str:
    """Returns the path of the first server, with the defaults of its variables."""
    servers: list[dict[str, Any]] = document.get("servers") or [{"url": ""}]
    url = servers[0].get("url") or ""
    for name, variable in (servers[0].get("variables") or {}).items():
        url = url.replace("{" + name + "}", str(variable.get("default", "")))
    return urlsplit(url).path.rstrip("/")


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameter with a plain schema: one type, references resolved."""
    schema = plain_schema(document, parameter.get("schema"))
    return {**parameter, "description": parameter.get("description") or "", "schema": schema}


def _response(
    document: Mapping[str, Any], operation: Mapping[str, Any], *, feeds: bool
) -> tuple[Shape, tuple[Field, ...]]:
    content = resolve(document, _success(operation.get("responses") or {})).get("content") or {}
    schema = _json_schema(document, content)
    if schema is None:
        return "binary", ()
    if schema.get("type") == "array":
        return "array", read_fields(document, schema.get("items"))
    members = schema.get("properties") or {}
    data = plain_schema(document, members.get("data"))
    if "items" not in data:
        return "object", read_fields(document, schema)
    return _envelope(members, feeds=feeds), read_fields(document, data["items"])


def _envelope(members: Mapping[str, Any], *, feeds: bool) -> Shape:
    """Tells pages and exports apart.

    A page can contain a token, too. It is an export only if the operation accepts one.
    """
    if "continueFrom" in members and feeds:
        return "export"
    return "page" if "hasMore" in members else "data"


def _success(responses: Mapping[str, Any]) -> Any:
    """Returns the successful response; `default` counts if the document declares no 2xx."""
    good = responses.get("200") or responses.get("2XX")
    if good or any(str(status).startswith("2") for status in responses):
        return good
    return responses.get("default")


def _json_schema(document: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the plain schema of a JSON response; None for other media types."""
    schemas = {kind: c["schema"] for kind, c in content.items() if c and "schema" in c}
    for kind, schema in schemas.items():
        if "json" in kind:
            return plain_schema(document, schema)
    for kind in ("*/*", "application/*"):
        schema = plain_schema(document, schemas.get(kind))
        if schema.get("type") in ("array", "object") or schema.get("properties"):
            return schema
    return None


def read_scope(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    """Returns the OAuth scope of an operation; "" if the document names none."""
    for requirement in operation.get("security") or document.get("security") or ():
        for scopes in requirement.values():
            if scopes:
                return scopes[0]
    return ""
