"""GET operations as the OpenAPI documents describe them, before anything is decided about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from st_pipelines.catalog.model import Field, snake_case
from st_pipelines.catalog.schema import fields_of, plain_schema, resolve

Shape: TypeAlias = Literal["page", "export", "array", "data", "object", "binary"]


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
        except ValueError as error:
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
    base = _base_path(document)
    for path, item in document.get("paths", {}).items():
        if not item.get("get"):
            continue
        full = _TENANT.sub("{tenant}", base + path)
        module = full.split("/")[1] if "/" in full else ""
        if not module or module == "tenant" or "{" in module:
            raise ValueError(f"{full} names no module: the document's servers have no path")
        try:
            yield _operation(document, item, full, (api_names or {}).get(module, module))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{full}: the document is malformed at {error}") from None


def _operation(
    document: Mapping[str, Any], item: Mapping[str, Any], path: str, api: str
) -> Operation:
    given = [*item.get("parameters", ()), *item["get"].get("parameters", ())]
    parameters = [resolve(document, parameter) for parameter in given]
    shape, fields = _answer(document, item["get"])
    return Operation(
        api=snake_case(api),
        path=path,
        shape=shape,
        fields=fields,
        query={p["name"]: _parameter(document, p) for p in parameters if p["in"] == "query"},
        parents=tuple(name for name in re.findall(r"{(\w+)}", path) if name != "tenant"),
        scope=_scope(document, item["get"]),
    )


_TENANT = re.compile(r"{tenant_?id}", re.IGNORECASE)


def _base_path(document: Mapping[str, Any]) -> str:
    """The path of the first server, with the defaults of its variables."""
    servers: list[dict[str, Any]] = document.get("servers") or [{"url": ""}]
    url = servers[0].get("url", "")
    for name, variable in (servers[0].get("variables") or {}).items():
        url = url.replace("{" + name + "}", str(variable.get("default", "")))
    return urlsplit(url).path.rstrip("/")


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> dict[str, Any]:
    """The parameter with a plain schema: one type, and what its references say."""
    schema = plain_schema(document, parameter.get("schema") or {})
    return {**parameter, "schema": schema}


def _answer(
    document: Mapping[str, Any], operation: Mapping[str, Any]
) -> tuple[Shape, tuple[Field, ...]]:
    responses = operation.get("responses", {})
    answer = resolve(document, responses.get("200") or responses.get("2XX") or {})
    content = answer.get("content") or {}
    schemas = [c["schema"] for kind, c in content.items() if "json" in kind and "schema" in c]
    if not schemas:
        return "binary", ()
    schema = plain_schema(document, schemas[0])
    if schema.get("type") == "array":
        return "array", fields_of(document, schema.get("items") or {})
    members = schema.get("properties") or {}
    data = plain_schema(document, members.get("data") or {})
    if "items" not in data:
        return "object", ()
    shape: Shape = (
        "export" if "continueFrom" in members else "page" if "hasMore" in members else "data"
    )
    return shape, fields_of(document, data["items"])


def _scope(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    for requirement in operation.get("security") or document.get("security") or ():
        for scopes in requirement.values():
            if scopes:
                return scopes[0]
    return ""
