"""Takes the facts about reading operations from OpenAPI documents: no description gets through.

Some facts are only written in sentences: the fields that `sort` accepts, how many ids a request may
name, the largest page, and what a filter does when it is missing. The patterns below find them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from st_pipelines.catalog.build.openapi import locating, read_paths, read_scope
from st_pipelines.catalog.build.types import resolve
from st_pipelines.catalog.model import snake_case
from st_pipelines.catalog.specification import (
    LIMITS,
    ApiSpecification,
    Parameter,
    ReadOperation,
    Response,
    Schema,
)

_SORT_FIELDS = re.compile(
    r"(?:fields are|Options|specified field|possible values|Supported fields are|sort by)[: (]+"
    r'((?:"?[A-Za-z]+"?(?: \([^()]*\))?(?:, and |, or |, )?)+)'
)
_MAX_ITEMS = re.compile(r"[Mm]aximum (\d+)\b")
_MAX_PAGE_SIZE = re.compile(r"Maximum value is (\d+)")
_DEFAULT_SIZE = re.compile(r"\((\d+) by default\)")
_DEFAULT_VALUE = re.compile(r"\(defaults to (\w+)\)|Default: null \((\w+)\)")
_DEFAULT_ACTIVE = (
    (re.compile(r"(all|active and inactive) items will be returned by default"), "Any"),
    (re.compile(r"active (items|accounts) will be (returned|retrieved) by default"), "True"),
    (re.compile(r"By default, only active accounts"), "True"),
)
_COMPONENT = "#/components/schemas/"
_METHODS: tuple[Literal["GET", "POST"], ...] = ("GET", "POST")


def read_specifications(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    api_names: Mapping[str, str],
    reading_posts: Collection[str],
) -> dict[str, ApiSpecification]:
    """Returns the facts about reading operations, by API, and the schemas that they use.

    Args:
        documents: file name and OpenAPI 3 document. Several may describe parts of one API.
        api_names: the API's name by first segment of the path, where the two differ.
        reading_posts: paths whose POST reads although it needs a scope for writing.

    Raises:
        ValueError: a document is malformed.
    """
    found: dict[str, ApiSpecification] = {}
    for file, document in documents:
        try:
            facts = _read_document(document, "", api_names, reading_posts)
            for api, known in found.items():
                if api in facts and _differ(known.schemas, facts[api].schemas):
                    prefix = f"{file.removesuffix('.json')}."
                    facts = _read_document(document, prefix, api_names, reading_posts)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        for api, part in facts.items():
            found[api] = _join(found[api], part) if api in found else part
    return found


def _read_document(
    document: Mapping[str, Any],
    prefix: str,
    api_names: Mapping[str, str],
    reading_posts: Collection[str],
) -> dict[str, ApiSpecification]:
    reader = _Reader(document, prefix)
    operations: dict[str, list[ReadOperation]] = {}
    for path, module, item in read_paths(document):
        api = snake_case(api_names.get(module, module))
        for method in _METHODS:
            given = item.get(method.lower())
            if given and (method == "GET" or _reads(document, given, path, reading_posts)):
                with locating(path):
                    operation = reader.read_operation(api, method, path, item, given)
                operations.setdefault(api, []).append(operation)
    with locating("components"):
        schemas = reader.read_schemas()
    return {api: ApiSpecification(api, tuple(o), schemas) for api, o in operations.items()}


def _differ(one: Mapping[str, Schema], other: Mapping[str, Schema]) -> bool:
    return any(one[name] != other[name] for name in one.keys() & other.keys())


def _join(known: ApiSpecification, more: ApiSpecification) -> ApiSpecification:
    seen = {(o.method, o.path) for o in known.operations}
    new = tuple(o for o in more.operations if (o.method, o.path) not in seen)
    return ApiSpecification(known.api, known.operations + new, {**more.schemas, **known.schemas})


def _reads(
    document: Mapping[str, Any], operation: Mapping[str, Any], path: str, posts: Collection[str]
) -> bool:
    return path in posts or read_scope(document, operation).endswith(":r")


class _Reader:
    """Reads one document, and remembers which of its schemas are used.

    Args:
        document: an OpenAPI 3 document.
        prefix: precedes the names of its schemas.
    """

    def __init__(self, document: Mapping[str, Any], prefix: str) -> None:
        self._document = document
        self._prefix = prefix
        self._wanted: list[str] = []

    def read_operation(
        self,
        api: str,
        method: Literal["GET", "POST"],
        path: str,
        item: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> ReadOperation:
        parameters = [*(item.get("parameters") or ()), *(given.get("parameters") or ())]
        body = resolve(self._document, given.get("requestBody")).get("content") or {}
        return ReadOperation(
            api=api,
            method=method,
            path=path,
            scope=read_scope(self._document, given),
            parameters=tuple(self._parameter(resolve(self._document, p)) for p in parameters),
            body=self._schema(next(iter(body.values())).get("schema")) if body else None,
            responses={
                int(status): self._response(int(status), resolve(self._document, response))
                for status, response in (given.get("responses") or {}).items()
                if str(status).isdigit()
            },
        )

    def read_schemas(self) -> dict[str, Schema]:
        """Returns every schema that an operation uses, directly or through another."""
        found: dict[str, Schema] = {}
        while self._wanted:
            name = self._wanted.pop()
            if self._prefix + name not in found:
                target = resolve(self._document, {"$ref": _COMPONENT + name})
                found[self._prefix + name] = self._schema(target)
        return found

    def _parameter(self, given: Mapping[str, Any]) -> Parameter:
        name, schema = given["name"], self._schema(given.get("schema"))
        text = re.sub(r"\s+", " ", (given.get("description") or "").replace("\\", " "))
        sorts = _SORT_FIELDS.search(text) if name.lower() in ("sort", "orderby") else None
        many = _MAX_ITEMS.search(text) if name != "pageSize" else None
        if largest := _MAX_PAGE_SIZE.search(text):
            limits = {"maximum": int(largest[1]), **schema.limits}
            schema = dataclasses.replace(schema, limits=limits)
        return Parameter(
            name=name,
            location=given["in"],
            schema=schema,
            required=bool(given.get("required")),
            default=(given.get("schema") or {}).get("default", _find_default(text)),
            sort_fields=_words(sorts[1]) if sorts else (),
            max_items=int(many[1]) if many else None,
        )

    def _response(self, status: int, given: Mapping[str, Any]) -> Response:
        content = given.get("content") or {}
        for media_type, body in content.items():
            return Response(
                status=status,
                media_type=media_type,
                schema=self._schema((body or {}).get("schema")),
            )
        return Response(status=status)

    def _schema(self, given: Any, *, nullable: bool = False) -> Schema:
        if given is None or isinstance(given, bool):
            return Schema(kind="any", nullable=nullable)
        if (reference := given.get("$ref", "")).startswith(_COMPONENT):
            name = reference.removeprefix(_COMPONENT)
            self._wanted.append(name)
            return Schema(kind="reference", name=self._prefix + name, nullable=nullable)
        given = resolve(self._document, given)
        nullable = nullable or bool(given.get("nullable"))
        parts = given.get("oneOf") or given.get("anyOf") or given.get("allOf")
        if parts:
            return self._any_of(parts, nullable=nullable)
        types = [given["type"]] if isinstance(given.get("type"), str) else given.get("type") or []
        nullable = nullable or "null" in types
        kinds = [kind for kind in types if kind != "null"]
        if len(kinds) != 1:
            kinds = ["object"] if given.get("properties") else ["any"]
        return self._plain(kinds[0], given, nullable)

    def _any_of(self, parts: list[Any], *, nullable: bool) -> Schema:
        real = [part for part in parts if part.get("type") not in ("null", ["null"])]
        nullable = nullable or len(real) < len(parts)
        if len(real) == 1:
            return self._schema(real[0], nullable=nullable)
        alternatives = tuple(self._schema(part) for part in real)
        return Schema(kind="any_of", alternatives=alternatives, nullable=nullable)

    def _plain(self, kind: Any, given: Mapping[str, Any], nullable: bool) -> Schema:
        limits = {name: given[name] for name in LIMITS if name in given}
        if kind == "array":
            items = self._schema(given.get("items"))
            return Schema(kind="array", items=items, nullable=nullable, limits=limits)
        if kind == "object":
            members = given.get("properties") or {}
            values = given.get("additionalProperties")
            return Schema(
                kind="object",
                members={name: self._schema(member) for name, member in members.items()},
                optional=frozenset(members) - frozenset(given.get("required") or ()),
                values=self._schema(values) if isinstance(values, dict) and not members else None,
                nullable=nullable,
            )
        enum = tuple(value for value in given.get("enum") or () if value is not None)
        return Schema(
            kind=kind,
            format=given.get("format") or "",
            enum=enum,
            limits=limits,
            nullable=nullable,
        )


def _find_default(text: str) -> Any:
    """Returns the default that a sentence names; None if it names none."""
    if size := _DEFAULT_SIZE.search(text):
        return int(size[1])
    if value := _DEFAULT_VALUE.search(text):
        return value[1] or value[2]
    return next((value for pattern, value in _DEFAULT_ACTIVE if pattern.search(text)), None)


def _words(text: str) -> tuple[str, ...]:
    bare = re.sub(r"\([^()]*\)", "", text).replace('"', "")
    return tuple(word for word in re.split(r"[^A-Za-z]+", bare) if word not in ("", "and", "or"))
