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
from st_pipelines.catalog.schema import fields_of, resolve

Shape: TypeAlias = Literal["page", "export", "array", "data", "object", "binary"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One GET operation.

    Attributes:
        api: from the document's file name, without the version: `jpm`.
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
    """Name of the API and the document, for every `*.json` of the folder.

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
        yield api_name(file.stem), document


def api_name(stem: str) -> str:
    """`equipment-systems-v2` and `tenant-equipment-systems-v2` become `equipment_systems`."""
    return snake_case(re.sub(r"[-_.]?v\d+$", "", stem.removeprefix("tenant-")))


def operations(api: str, document: Mapping[str, Any]) -> Iterator[Operation]:
    """The GET operations of a document, in its order."""
    base = urlsplit((document.get("servers") or [{"url": ""}])[0]["url"]).path.rstrip("/")
    for path, item in document.get("paths", {}).items():
        if "get" not in item:
            continue
        given = [*item.get("parameters", ()), *item["get"].get("parameters", ())]
        parameters = [resolve(document, parameter) for parameter in given]
        shape, fields = _answer(document, item["get"])
        yield Operation(
            api=api,
            path=base + path,
            shape=shape,
            fields=fields,
            query={p["name"]: p for p in parameters if p["in"] == "query"},
            parents=tuple(
                p["name"] for p in parameters if p["in"] == "path" and p["name"] != "tenant"
            ),
            scope=_scope(document, item["get"]),
        )


def _answer(
    document: Mapping[str, Any], operation: Mapping[str, Any]
) -> tuple[Shape, tuple[Field, ...]]:
    answer = resolve(document, operation.get("responses", {}).get("200", {}))
    content = answer.get("content") or {}
    schemas = [c["schema"] for kind, c in content.items() if "json" in kind and "schema" in c]
    if not schemas:
        return "binary", ()
    schema = resolve(document, schemas[0])
    if schema.get("type") == "array":
        return "array", fields_of(document, schema["items"])
    members = schema.get("properties") or {}
    data = resolve(document, members.get("data", {}))
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
