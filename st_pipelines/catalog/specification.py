"""What ServiceTitan's OpenAPI documents say about the operations that read: facts, no sentences.

The sandbox, the data dictionary and the tests use these facts; the pipeline does not, so that
nothing in the catalog can hide an error from them. `specification_files` reads and writes them,
`catalog.build.specification` takes them from the documents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

LIMITS = ("minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems")
"""The keywords of JSON Schema that bound a value."""

Kind: TypeAlias = Literal[
    "string", "integer", "number", "boolean", "array", "object", "any", "any_of", "reference"
]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The shape of a value.

    Attributes:
        kind: its JSON type; `any` if nothing is said about it.
        name: the name of the schema that a reference means.
        format: such as `int64`, `date-time` or `decimal`; "" if none.
        nullable: whether it may be null.
        enum: the allowed values; empty if any value of the type is.
        limits: bounds by keyword, see `LIMITS`.
        items: of an array.
        members: of an object, in the document's order.
        optional: the names of the members that may be missing.
        values: the shape of the values of an object with any names.
        alternatives: of `any_of`.
    """

    kind: Kind
    name: str = ""
    format: str = ""
    nullable: bool = False
    enum: tuple[Any, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    items: Schema | None = None
    members: Mapping[str, Schema] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    values: Schema | None = None
    alternatives: tuple[Schema, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of an operation.

    Attributes:
        name: as it is sent.
        location: `path` or `query`.
        schema: of its value. An array is sent as one parameter per item.
        required: whether a request without it is refused.
        default: the value that holds without it, if the document says so.
        sort_fields: the fields that a `sort` accepts, as the document spells them.
        max_items: how many values fit in a list that is written with commas; None if unknown.
    """

    name: str
    location: Literal["path", "query"]
    schema: Schema
    required: bool = False
    default: Any = None
    sort_fields: tuple[str, ...] = ()
    max_items: int | None = None


@dataclass(frozen=True, kw_only=True)
class Response:
    """A declared response.

    Attributes:
        status: as a number, such as 200.
        media_type: `application/json`, or of a file; "" without a body.
        schema: of the body; None without one.
    """

    status: int
    media_type: str = ""
    schema: Schema | None = None


@dataclass(frozen=True, kw_only=True)
class ReadOperation:
    """An operation that reads: every GET, and the POSTs that change nothing.

    Attributes:
        api: from the first segment of the path: `jpm`.
        method: `GET` or `POST`.
        path: below the host: `/jpm/v2/tenant/{tenant}/jobs`.
        scope: the OAuth scope that it needs; "" if the document names none.
        parameters: of the path and the query.
        body: the shape of a POST's body.
        responses: the declared ones, by status.
    """

    api: str
    method: Literal["GET", "POST"]
    path: str
    scope: str
    parameters: tuple[Parameter, ...]
    body: Schema | None
    responses: Mapping[int, Response]

    @property
    def success(self) -> Response | None:
        """The first response below 400; None if the document declares none."""
        return next((r for s, r in sorted(self.responses.items()) if s < 400), None)

    @property
    def query(self) -> dict[str, Parameter]:
        """The query parameters by name."""
        return {p.name: p for p in self.parameters if p.location == "query"}


@dataclass(frozen=True)
class ApiSpecification:
    """The operations and schemas of one API's document."""

    api: str
    operations: tuple[ReadOperation, ...]
    schemas: Mapping[str, Schema]

    def resolve(self, schema: Schema) -> Schema:
        """Returns the schema that a reference means; it is nullable if either is.

        Raises:
            KeyError: the file has no schema of that name.
        """
        while schema.kind == "reference":
            target = self.schemas[schema.name]
            adds_null = schema.nullable and not target.nullable
            schema = dataclasses.replace(target, nullable=True) if adds_null else target
        return schema

    def find_record(self, operation: ReadOperation) -> Schema | None:
        """Returns the shape of one row of a collection; None if the operation serves none.

        A collection is an array, or an object whose member `data` is an array of objects.
        """
        success = operation.success
        if success is None or success.schema is None:
            return None
        body = self.resolve(success.schema)
        if body.kind == "object" and "data" in body.members:
            body = self.resolve(body.members["data"])
        if body.kind != "array" or body.items is None:
            return None
        return self.resolve(body.items)
