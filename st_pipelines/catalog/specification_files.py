"""Reads and writes the facts of `specification`: one file per API, read when it is first needed.

A file spells a schema in as few characters as it can:

    "integer:int64"                a type and its format
    "string|null"                  may be null
    "#Job"                         another schema of the same file
    ["#Job"]                       an array of these
    {"object": {"id": "integer"}}  an object; a name that ends with "?" may be missing
    {"map": "string"}              an object with any names
    {"any_of": ["#A", "#B"]}       one of several
    {"type": "string", "enum": ["Open", "Closed"]}, {"type": "string", "maxLength": 9}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from st_pipelines.catalog import files
from st_pipelines.catalog.specification import (
    LIMITS,
    ApiSpecification,
    Parameter,
    ReadOperation,
    Response,
    Schema,
)

FOLDER = Path(__file__).with_name("data") / "specification"


class Specification:
    """The facts of all APIs in a folder.

    Args:
        folder: what `catalog build` wrote; the packaged facts by default.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {file.stem: file for file in sorted(folder.glob("*.json"))}
        self._read: dict[str, ApiSpecification] = {}

    @property
    def apis(self) -> tuple[str, ...]:
        """The names of the APIs, sorted."""
        return tuple(self._files)

    def api(self, name: str) -> ApiSpecification:
        """Returns the facts of an API.

        Raises:
            KeyError: there is no such API.
            ValueError: its file is not one that `catalog build` writes.
        """
        if name not in self._read:
            self._read[name] = read_file(self._files[name])
        return self._read[name]

    def __iter__(self) -> Iterator[ReadOperation]:
        for name in self._files:
            yield from self.api(name).operations

    @cached_property
    def by_path(self) -> dict[str, ReadOperation]:
        """The GET operations, by path."""
        return {o.path: o for o in self if o.method == "GET"}


@lru_cache(maxsize=1)
def packaged_specification() -> Specification:
    """Returns the facts that ship with the package."""
    return Specification()


def read_file(file: Path) -> ApiSpecification:
    """Reads the facts of one API.

    Raises:
        ValueError: it is not a file that `catalog build` writes.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(file.read_bytes())
        return ApiSpecification(
            file.stem,
            tuple(
                _operation_from_json(file.stem, key, entry)
                for key, entry in content["operations"].items()
            ),
            {name: schema_from_json(entry) for name, entry in content["schemas"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{file} is not a file of specification facts: {error!r}") from None


def write(facts: Iterable[ApiSpecification], folder: Path) -> None:
    """Replaces the facts in a folder, and deletes those of APIs that are not among `facts`.

    Raises:
        OSError: a file cannot be written.
    """
    texts = {f"{part.api}.json": render(part) for part in facts}
    files.replace_files(folder, texts)
    for file in folder.glob("*.json"):
        if file.name not in texts:
            file.unlink()


def render(specification: ApiSpecification) -> str:
    """Returns the text of a file. Equal facts give equal text."""
    operations = {f"{o.method} {o.path}": _operation_to_json(o) for o in specification.operations}
    schemas = {
        name: schema_to_json(schema) for name, schema in sorted(specification.schemas.items())
    }
    parts = [
        f' "{title}": {{\n' + ",\n".join(_line(k, v) for k, v in entries.items()) + "\n }"
        for title, entries in (("operations", operations), ("schemas", schemas))
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def schema_to_json(schema: Schema) -> Any:
    """Returns the short spelling of a schema, as the module describes it."""
    name = f"#{schema.name}" if schema.kind == "reference" else schema.kind
    null = "|null" if schema.nullable else ""
    form = f":{schema.format}" if schema.format else ""
    entry: dict[str, Any]
    match schema.kind:
        case "array":
            assert schema.items is not None
            items = schema_to_json(schema.items)
            if not (schema.nullable or schema.limits):
                return [items]
            entry = {"array": items}
        case "object" if schema.members:
            entry = {
                "object": {
                    member + ("?" if member in schema.optional else ""): schema_to_json(inner)
                    for member, inner in schema.members.items()
                }
            }
        case "object" if schema.values is not None:
            entry = {"map": schema_to_json(schema.values)}
        case "any_of":
            entry = {"any_of": [schema_to_json(inner) for inner in schema.alternatives]}
        case _ if schema.enum or schema.limits:
            entry = {"type": name + form}
            if schema.enum:
                entry["enum"] = list(schema.enum)
        case _:
            return name + form + null
    entry |= schema.limits
    return {**entry, "nullable": True} if schema.nullable else entry


def schema_from_json(entry: Any) -> Schema:
    """Inverts `schema_to_json`. Raises KeyError, TypeError or ValueError for another shape."""
    if isinstance(entry, str):
        return _scalar_from_text(entry)
    if isinstance(entry, list):
        return Schema(kind="array", items=schema_from_json(entry[0]))
    limits = {name: entry[name] for name in LIMITS if name in entry}
    nullable = entry.get("nullable", False)
    if "array" in entry:
        items = schema_from_json(entry["array"])
        return Schema(kind="array", items=items, nullable=nullable, limits=limits)
    if "object" in entry:
        names = entry["object"]
        return Schema(
            kind="object",
            members={n.removesuffix("?"): schema_from_json(e) for n, e in names.items()},
            optional=frozenset(n.removesuffix("?") for n in names if n.endswith("?")),
            nullable=nullable,
        )
    if "map" in entry:
        return Schema(kind="object", values=schema_from_json(entry["map"]), nullable=nullable)
    if "any_of" in entry:
        parts = tuple(schema_from_json(part) for part in entry["any_of"])
        return Schema(kind="any_of", alternatives=parts, nullable=nullable)
    plain = _scalar_from_text(entry["type"])
    return Schema(
        kind=plain.kind,
        format=plain.format,
        enum=tuple(entry.get("enum", ())),
        limits=limits,
        nullable=nullable,
    )


def _scalar_from_text(text: str) -> Schema:
    plain, _, null = text.partition("|")
    if plain.startswith("#"):
        return Schema(kind="reference", name=plain[1:], nullable=bool(null))
    kind, _, form = plain.partition(":")
    if kind not in ("string", "integer", "number", "boolean", "object", "any"):
        raise ValueError(f"{kind!r} is not a type")
    return Schema(kind=kind, format=form, nullable=bool(null))  # pyright: ignore[reportArgumentType]


def _operation_to_json(operation: ReadOperation) -> dict[str, Any]:
    entry: dict[str, Any] = {"scope": operation.scope}
    for location in ("path", "query"):
        found = [p for p in operation.parameters if p.location == location]
        if found:
            entry[location] = {p.name: _parameter_to_json(p) for p in found}
    if operation.body is not None:
        entry["body"] = schema_to_json(operation.body)
    entry["responses"] = {
        str(status): [r.media_type, None if r.schema is None else schema_to_json(r.schema)]
        for status, r in operation.responses.items()
    }
    return entry


def _operation_from_json(api: str, key: str, entry: Mapping[str, Any]) -> ReadOperation:
    method, _, path = key.partition(" ")
    parameters = [
        _parameter_from_json(name, location, values)
        for location in ("path", "query")
        for name, values in entry.get(location, {}).items()
    ]
    return ReadOperation(
        api=api,
        method=method,  # pyright: ignore[reportArgumentType]
        path=path,
        scope=entry["scope"],
        parameters=tuple(parameters),
        body=schema_from_json(entry["body"]) if "body" in entry else None,
        responses={
            int(status): Response(
                status=int(status),
                media_type=media_type,
                schema=None if schema is None else schema_from_json(schema),
            )
            for status, (media_type, schema) in entry["responses"].items()
        },
    )


def _parameter_to_json(parameter: Parameter) -> Any:
    schema = schema_to_json(parameter.schema)
    facts: dict[str, Any] = {}
    if parameter.required and parameter.location == "query":
        facts["required"] = True
    if parameter.default is not None:
        facts["default"] = parameter.default
    if parameter.sort_fields:
        facts["sort_fields"] = list(parameter.sort_fields)
    if parameter.max_items is not None:
        facts["max_items"] = parameter.max_items
    return {"schema": schema, **facts} if facts else schema


def _parameter_from_json(name: str, location: Literal["path", "query"], entry: Any) -> Parameter:
    bare = not (isinstance(entry, dict) and "schema" in entry)
    facts: dict[str, Any] = {"schema": entry} if bare else entry
    return Parameter(
        name=name,
        location=location,
        schema=schema_from_json(facts["schema"]),
        required=facts.get("required", location == "path"),
        default=facts.get("default"),
        sort_fields=tuple(facts.get("sort_fields", ())),
        max_items=facts.get("max_items"),
    )


def _line(name: str, entry: Any) -> str:
    return f"  {json.dumps(name)}: {json.dumps(entry)}"
