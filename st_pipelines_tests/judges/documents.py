"""Reads the vendor's OpenAPI documents, for judges that share no code with the catalog.

The documents lie beside the checkout and are not part of it; without them, the tests that need
them are skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "openapi"
HOST = "https://api.servicetitan.io"
needs_documents = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the vendor's documents are not in ../shared/openapi"
)


@dataclass(frozen=True, eq=False)
class Document:
    """One API's document.

    Attributes:
        name: of its file, such as `jpm-v2`.
        content: parsed.
    """

    name: str
    content: dict[str, Any]

    @cached_property
    def base(self) -> str:
        """The path below the host where its operations begin: `/jpm/v2`."""
        [url] = [s["url"] for s in self.content["servers"] if s["url"].startswith(HOST + "/")]
        return urlsplit(url).path


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a document.

    Attributes:
        document: where it is described.
        method: in capitals.
        path: below the host, with `{tenant}` and other parameters in braces.
        content: its description.
    """

    document: Document
    method: str
    path: str
    content: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the paths of its requests."""
        parts = re.split(r"\{([^}]+)\}", self.path)
        fixed, names = parts[::2], parts[1::2]
        pattern = re.escape(fixed[0])
        for name, text in zip(names, fixed[1:], strict=True):
            pattern += rf"(?P<{re.sub('[^A-Za-z0-9]', '_', name)}>[^/]+){re.escape(text)}"
        return re.compile(pattern)

    @cached_property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """The parameters of its query by name."""
        return {p["name"]: p for p in self.content.get("parameters", ()) if p["in"] == "query"}

    @cached_property
    def scopes(self) -> tuple[str, ...]:
        """The OAuth scopes it needs."""
        return tuple(s for need in self.content.get("security", ()) for s in need.get("oauth", ()))

    @cached_property
    def max_page_size(self) -> int:
        """The largest `pageSize`: what the schema or the description says, or else 5000."""
        parameter = self.parameters.get("pageSize", {})
        stated = re.search(r"Maximum value is (\d+)", parameter.get("description", ""))
        if stated:
            return int(stated.group(1))
        return parameter.get("schema", {}).get("maximum", 5000)

    @cached_property
    def sort_fields(self) -> frozenset[str]:
        """The fields to sort by, in small letters; empty if the description lists none."""
        text = self.parameters.get("sort", {}).get("description", "")
        listed = re.search(r"Available fields are:([^.]*)", text)
        names = re.sub(r"\(.*?\)", "", listed.group(1)).split(",") if listed else ()
        return frozenset(name.strip().lower() for name in names)


@lru_cache(maxsize=1)
def read_documents() -> tuple[Document, ...]:
    """Return all documents."""
    return tuple(
        Document(file.stem, json.loads(file.read_text(encoding="utf-8")))
        for file in sorted(FOLDER.glob("*.json"))
    )


@lru_cache(maxsize=1)
def read_operations() -> tuple[Operation, ...]:
    """Return all operations of all documents, paths without parameters first."""
    found = [*_operations()]
    return tuple(sorted(found, key=lambda operation: operation.path.count("{")))


def find_operation(method: str, path: str) -> Operation | None:
    """Return the operation that a request means, or None."""
    for operation in read_operations():
        if operation.method == method and operation.pattern.fullmatch(path):
            return operation
    return None


def _operations() -> Iterator[Operation]:
    for document in read_documents():
        for path, item in document.content["paths"].items():
            for method, content in item.items():
                if method in ("get", "post", "put", "patch", "delete"):
                    yield Operation(document, method.upper(), document.base + path, content)
