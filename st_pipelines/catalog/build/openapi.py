"""GET operations as the OpenAPI documents describe them, before anything is decided about them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from st_pipelines.catalog.build.types import fields_of, plain_schema, resolve
from st_pipelines.catalog.model import Field, snake_case

Shape: TypeAlias = Literal["page", "export", "array", "data", "object", "binary"]


_TENANT = re.compile(r"/tenant/\{[^{}/]+\}(?=/|$)")
_VERSION = re.compile(r"^(/[^/]+)/v(\d+)(?=/)")
_BROKEN = (ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One GET operation.

    Attributes:
        api: from the first segment of the path: `jpm`.
        path: below the host: `/jpm/v2/tenant/{tenant}/jobs`.
        shape: what a 200 carries.
        fields: the members of a record; empty for `object` and `binary`.
        query: the query parameters by name, with `$ref` resolved.
        parents: path parameters besides the tenant.
        scope: the OAuth scope, "" where the document names none.
    """

    api: str
    path: str
    shape: Shape
    fields: tuple[Field, ...]
    query: Mapping[str, Mapping[str, Any]]
    parents: tuple[str, ...]
    scope: str

    @property
    def name(self) -> str:
        """The collection in snake_case; list and export of one collection share it."""
        below = self.path.split("/tenant/{tenant}/", 1)[-1]
        return snake_case(below.removeprefix("export/"))

    @property
    def version(self) -> int:
        """The version in its path, 2 for `/jpm/v2/`; 0 where the path names none."""
        found = _VERSION.match(self.path)
        return int(found[2]) if found else 0

    @property
    def unversioned(self) -> str:
        """The path without the version: versions of one operation share it."""
        return _VERSION.sub(r"\1", self.path)

    @property
    def paged(self) -> bool:
        """Whether it takes the number of a page."""
        return "page" in self.query

    @property
    def required(self) -> frozenset[str]:
        """Names of the query parameters that a request has to carry."""
        return frozenset(name for name, p in self.query.items() if p.get("required"))


def read_documents(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and document, for every `*.json` of the folder.

    Raises:
        ValueError: a file is no OpenAPI 3 document, or the folder holds none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} holds no *.json: name the folder of the OpenAPI documents")
    for file in files:
        try:
            document = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file.name} is not JSON: {error}") from None
        if not (isinstance(document, dict) and str(document.get("openapi", "")).startswith("3.")):
            raise ValueError(f"{file.name} is no OpenAPI 3 document")
        yield file.name, document


def operations(
    document: Mapping[str, Any], api_names: Mapping[str, str] | None = None
) -> Iterator[Operation]:
    """The GET operations of a document, in its order.

    Args:
        document: an OpenAPI 3 document.
        api_names: first segment of a path to the API's name, where it is not the segment itself.

    Raises:
        ValueError: a path names no module, so that no request could be made of it, or a part of
            the document cannot be read.
    """
    with _place("servers and paths"):
        base, paths = _base_path(document), resolve(document, document.get("paths"))
    for path, given in paths.items():
        full = _TENANT.sub("/tenant/{tenant}", base + path, count=1)
        with _place(full):
            item = {**resolve(document, given), **_own(given)}
        if not item.get("get"):
            continue
        module = full.split("/")[1] if "/" in full else ""
        if not module or module == "tenant" or "{" in module:
            raise ValueError(f"{full} names no module: the document's servers have no path")
        with _place(full):
            operation = _operation(document, item, full, (api_names or {}).get(module, module))
        yield operation


@contextlib.contextmanager
def _place(place: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{place}: the document is malformed there ({what}): mend it or fetch it anew"
        ) from None


def _own(item: Any) -> dict[str, Any]:
    """What a path item says beside its `$ref`."""
    return {key: value for key, value in (item or {}).items() if key != "$ref"}


def _operation(
    document: Mapping[str, Any], item: Mapping[str, Any], path: str, api: str
) -> Operation:
    given = [*(item.get("parameters") or ()), *(item["get"].get("parameters") or ())]
    parameters = [resolve(document, parameter) for parameter in given]
    query = {p["name"]: _parameter(document, p) for p in parameters if p["in"] == "query"}
    shape, fields = _answer(document, item["get"], feeds="/export/" in path or "from" in query)
    return Operation(
        api=snake_case(api),
        path=path,
        shape=shape,
        fields=fields,
        query=query,
        parents=tuple(name for name in re.findall(r"{([^{}]+)}", path) if name != "tenant"),
        scope=_scope(document, item["get"]),
    )


def _base_path(document: Mapping[str, Any]) -> str:
    """The path of the first server, with the defaults of its variables."""
    servers: list[dict[str, Any]] = document.get("servers") or [{"url": ""}]
    url = servers[0].get("url") or ""
    for name, variable in (servers[0].get("variables") or {}).items():
        url = url.replace("{" + name + "}", str(variable.get("default", "")))
    return urlsplit(url).path.rstrip("/")


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> dict[str, Any]:
    """The parameter with a plain schema: one type, and what its references say."""
    schema = plain_schema(document, parameter.get("schema"))
    return {**parameter, "description": parameter.get("description") or "", "schema": schema}


def _answer(
    document: Mapping[str, Any], operation: Mapping[str, Any], *, feeds: bool
) -> tuple[Shape, tuple[Field, ...]]:
    content = resolve(document, _success(operation.get("responses") or {})).get("content") or {}
    schema = _json_schema(document, content)
    if schema is None:
        return "binary", ()
    if schema.get("type") == "array":
        return "array", fields_of(document, schema.get("items"))
    members = schema.get("properties") or {}
    data = plain_schema(document, members.get("data"))
    if "items" not in data:
        return "object", ()
    return _envelope(members, feeds=feeds), fields_of(document, data["items"])


def _envelope(members: Mapping[str, Any], *, feeds: bool) -> Shape:
    """A page may tell a token as well: only what can be asked to go on from one is an export."""
    if "continueFrom" in members and feeds:
        return "export"
    return "page" if "hasMore" in members else "data"


def _success(responses: Mapping[str, Any]) -> Any:
    """The answer to a request that went well; `default` is that of errors where there is one."""
    good = responses.get("200") or responses.get("2XX")
    if good or any(str(status).startswith("2") for status in responses):
        return good
    return responses.get("default")


def _json_schema(document: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plain schema of the JSON in an answer; None where it is of another kind."""
    schemas = {kind: c["schema"] for kind, c in content.items() if c and "schema" in c}
    for kind, schema in schemas.items():
        if "json" in kind:
            return plain_schema(document, schema)
    for kind in ("*/*", "application/*"):
        schema = plain_schema(document, schemas.get(kind))
        if schema.get("type") in ("array", "object") or schema.get("properties"):
            return schema
    return None


def _scope(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    for requirement in operation.get("security") or document.get("security") or ():
        for scopes in requirement.values():
            if scopes:
                return scopes[0]
    return ""
