"""A document in Swagger 2.0 gives the same catalog as the same document in OpenAPI 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.build.build import build_catalog, read_facts
from st_pipelines_tests.catalog.documents import EMPTY

THING = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "format": "int64"},
        "modifiedOn": {"type": "string", "format": "date-time"},
        "kind": {"$ref": "#/definitions/Kind"},
    },
}
KIND = {"type": "string", "enum": ["A", "B"]}
PAGE = {
    "type": "object",
    "properties": {
        "data": {"type": "array", "items": {"$ref": "#/definitions/Thing"}},
        "page": {"type": "integer"},
        "hasMore": {"type": "boolean"},
    },
}
QUERY: dict[str, dict[str, Any]] = {
    "page": {"type": "integer", "format": "int32"},
    "pageSize": {"type": "integer", "format": "int32", "maximum": 50},
    "modifiedOnOrAfter": {"type": "string", "format": "date-time"},
    "modifiedBefore": {"type": "string", "format": "date-time"},
    "kind": {"type": "string", "enum": ["A", "B"]},
    "colors": {"type": "array", "items": {"type": "string"}},
}
SECURITY = [{"oauth": ["tn.abc.things:r"]}]
TENANT = {"name": "tenant", "in": "path", "required": True}


def swagger2() -> dict[str, Any]:
    parameters = [{"name": n, "in": "query", **schema} for n, schema in QUERY.items()]
    return {
        "swagger": "2.0",
        "host": "api.servicetitan.io",
        "basePath": "/abc/v2",
        "schemes": ["https"],
        "produces": ["application/json"],
        "parameters": {"tenant": {**TENANT, "type": "integer", "format": "int64"}},
        "definitions": {"Thing": THING, "Kind": KIND, "Page": PAGE},
        "paths": {
            "/tenant/{tenant}/things": {
                "parameters": [{"$ref": "#/parameters/tenant"}],
                "get": {
                    "parameters": parameters,
                    "security": SECURITY,
                    "responses": {"200": {"schema": {"$ref": "#/definitions/Page"}}},
                },
            },
            "/tenant/{tenant}/things/{id}/photo": {
                "get": {
                    "produces": ["image/png"],
                    "parameters": [],
                    "responses": {"200": {"schema": {"type": "file"}}},
                },
            },
            "/tenant/{tenant}/free-things": {
                "post": {
                    "security": SECURITY,
                    "parameters": [
                        {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Kind"}}
                    ],
                    "responses": {"200": {"schema": {"$ref": "#/definitions/Page"}}},
                },
            },
        },
    }


def openapi3() -> dict[str, Any]:
    text = json.dumps({"Thing": THING, "Kind": KIND, "Page": PAGE})
    page = {"schema": {"$ref": "#/components/schemas/Page"}}
    tenant = {**TENANT, "schema": {"type": "integer", "format": "int64"}}
    parameters = [{"name": n, "in": "query", "schema": schema} for n, schema in QUERY.items()]
    paged = {"200": {"content": {"application/json": page}}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Kind"}}}}
    return {
        "openapi": "3.1.0",
        "servers": [{"url": "https://api.servicetitan.io/abc/v2"}],
        "components": {"schemas": json.loads(text.replace("definitions", "components/schemas"))},
        "paths": {
            "/tenant/{tenant}/things": {
                "get": {
                    "parameters": [tenant, *parameters],
                    "security": SECURITY,
                    "responses": paged,
                },
            },
            "/tenant/{tenant}/things/{id}/photo": {
                "get": {"responses": {"200": {"content": {"image/png": {}}}}},
            },
            "/tenant/{tenant}/free-things": {
                "post": {"security": SECURITY, "requestBody": body, "responses": paged},
            },
        },
    }


def write(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "abc-v2.json").write_text(json.dumps(document))
    return folder


def test_both_formats_give_the_same_catalog_and_the_same_facts(tmp_path: Path) -> None:
    older, newer = write(tmp_path / "2", swagger2()), write(tmp_path / "3", openapi3())
    catalog = build_catalog(older, EMPTY)
    assert catalog.endpoints == build_catalog(newer, EMPTY).endpoints
    assert catalog.left_out == build_catalog(newer, EMPTY).left_out
    assert read_facts(older, EMPTY) == read_facts(newer, EMPTY)
    things = catalog["abc.things"]
    assert (things.kind, things.scope, things.max_page_size) == ("window", "tn.abc.things:r", 50)
    assert catalog.left_out[0].reason == "binary download"


@pytest.mark.parametrize(
    "paths", [[7], {"/a": {"parameters": 7}}, {"/a": {"get": {"responses": 7}}}]
)
def test_a_malformed_document_is_named(tmp_path: Path, paths: Any) -> None:
    folder = write(tmp_path / "2", {**swagger2(), "paths": paths})
    with pytest.raises(ValueError, match=r"abc-v2\.json: the document is malformed there"):
        build_catalog(folder, EMPTY)
