"""Converts a Swagger 2.0 document to the parts of OpenAPI 3 that the build reads.

Only what the build reads is converted: servers, parameters, request bodies, responses, schemas and
the scopes of operations. https://swagger.io/specification/v2/ describes the older format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_PLACES = {
    "#/definitions/": "#/components/schemas/",
    "#/parameters/": "#/components/parameters/",
    "#/responses/": "#/components/responses/",
}
_OUTSIDE_SCHEMA = ("name", "in", "description", "required", "$ref", "collectionFormat")


def is_swagger2(document: Any) -> bool:
    """Returns whether a document is written in Swagger 2.0."""
    return isinstance(document, Mapping) and str(document.get("swagger", "")).startswith("2.")


def convert(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a Swagger 2.0 document as OpenAPI 3.0.

    A part that is malformed is copied as it is, so that the build reports where it stands.
    """
    scheme = next(iter(document.get("schemes") or ["https"]))
    server = f"{scheme}://{document.get('host', '')}{document.get('basePath') or ''}"
    produces = document.get("produces") or ["application/json"]
    converted = {
        "openapi": "3.0.0",
        "info": document.get("info", {}),
        "servers": [{"url": server}],
        "paths": {
            path: _convert_path(item, produces)
            for path, item in (document.get("paths") or {}).items()
        },
        "components": {
            "schemas": document.get("definitions") or {},
            "parameters": {
                name: _convert_parameter(parameter)
                for name, parameter in (document.get("parameters") or {}).items()
            },
            "responses": {
                name: _convert_response(response, produces)
                for name, response in (document.get("responses") or {}).items()
            },
        },
    }
    if "security" in document:
        converted["security"] = document["security"]
    return _move_references(converted)


def _convert_path(item: Any, produces: list[str]) -> Any:
    if not isinstance(item, Mapping):
        return item
    converted = {**item}
    if "parameters" in item:
        converted["parameters"] = [_convert_parameter(p) for p in item["parameters"]]
    for method in _METHODS:
        if isinstance(item.get(method), Mapping):
            converted[method] = _convert_operation(item[method], produces)
    return converted


def _convert_operation(operation: Mapping[str, Any], produces: list[str]) -> dict[str, Any]:
    produces = operation.get("produces") or produces
    given = operation.get("parameters") or []
    bodies = [p for p in given if isinstance(p, Mapping) and p.get("in") == "body"]
    forms = [p for p in given if isinstance(p, Mapping) and p.get("in") == "formData"]
    converted = {
        **operation,
        "parameters": [_convert_parameter(p) for p in given if p not in (*bodies, *forms)],
        "responses": {
            status: _convert_response(response, produces)
            for status, response in (operation.get("responses") or {}).items()
        },
    }
    if bodies:
        content = {"application/json": {"schema": bodies[0].get("schema") or {}}}
        converted["requestBody"] = {"content": content}
    return converted


def _convert_parameter(parameter: Any) -> Any:
    """Moves the type of a parameter into its schema. An array is sent as its style says."""
    if not isinstance(parameter, Mapping) or "$ref" in parameter or "schema" in parameter:
        return parameter
    schema = {name: value for name, value in parameter.items() if name not in _OUTSIDE_SCHEMA}
    outside = {n: parameter[n] for n in ("name", "in", "description", "required") if n in parameter}
    if schema.get("type") == "array":
        outside["explode"] = parameter.get("collectionFormat") == "multi"
    return {**outside, "schema": schema}


def _convert_response(response: Any, produces: list[str]) -> Any:
    if not isinstance(response, Mapping) or "schema" not in response:
        return response
    rest = {name: value for name, value in response.items() if name != "schema"}
    schema = response["schema"]
    if isinstance(schema, Mapping) and schema.get("type") == "file":
        return {**rest, "content": {kind: {} for kind in produces}}
    return {**rest, "content": {kind: {"schema": schema} for kind in produces}}


def _move_references(node: Any) -> Any:
    """Points every `$ref` to where OpenAPI 3 keeps its target."""
    if isinstance(node, Mapping):
        return {
            name: _move(value) if name == "$ref" else _move_references(value)
            for name, value in node.items()
        }
    return [_move_references(value) for value in node] if isinstance(node, list) else node


def _move(reference: Any) -> Any:
    for before, after in _PLACES.items():
        if isinstance(reference, str) and reference.startswith(before):
            return after + reference.removeprefix(before)
    return reference
