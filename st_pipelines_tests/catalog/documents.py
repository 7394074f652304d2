"""Small OpenAPI documents, and the catalogs they give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from st_pipelines.catalog.build.build import build_catalog
from st_pipelines.catalog.build.curated import Curated
from st_pipelines.catalog.model import Catalog

EMPTY = Curated(apis={}, left_out={}, names={}, decimals_as_text={}, split={}, endpoints={})


def operation(record: dict, *, query: list[dict] | None = None, envelope: str = "page") -> dict:
    """A path item whose GET serves such records."""
    members: dict = {"data": {"type": "array", "items": record}}
    if envelope == "page":
        members |= {"page": {"type": "integer"}, "hasMore": {"type": "boolean"}}
    if envelope == "export":
        members |= {"hasMore": {"type": "boolean"}, "continueFrom": {"type": "string"}}
    schema = members["data"] if envelope == "array" else {"type": "object", "properties": members}
    return {
        "get": {
            "parameters": [{"name": "tenant", "in": "path", "required": True}, *(query or [])],
            "security": [{"apiKeyHeader": [], "oauth": ["tn.abc.things:r"]}],
            "responses": {"200": {"content": {"application/json": {"schema": schema}}}},
        }
    }


def parameter(name: str, **schema) -> dict:
    """A query parameter, of strings unless the schema says otherwise."""
    return {"name": name, "in": "query", "schema": schema or {"type": "string"}}


def document(paths: dict, version: str = "3.1.0", **schemas: dict) -> dict:
    """A document of the API abc, version 2, with paths below the tenant."""
    return {
        "openapi": version,
        "servers": [{"url": "https://api.servicetitan.io/abc/v2"}],
        "paths": {f"/tenant/{{tenant}}/{path}": item for path, item in paths.items()},
        "components": {"schemas": schemas},
    }


def build(tmp_path: Path, paths: dict, curated: Curated = EMPTY, **rest) -> Catalog:
    """The catalog of a document with such paths."""
    return build_whole(tmp_path, document(paths, **rest), curated)


def build_whole(tmp_path: Path, whole: Any, curated: Curated = EMPTY) -> Catalog:
    """The catalog of one document."""
    (tmp_path / "abc-v2.json").write_text(json.dumps(whole))
    return build_catalog(tmp_path, curated)


ID = {"type": "integer", "format": "int64"}
TIME = {"type": "string", "format": "date-time"}
MODIFIED = [parameter("modifiedOnOrAfter", type="string"), parameter("modifiedBefore")]
PAGED = [parameter("page", type="integer"), parameter("pageSize", type="integer")]
FROM = [parameter("from")]


def record(**properties: Any) -> dict:
    """A schema of records with an id and a time of modification, and such properties."""
    return {"type": "object", "properties": {"id": ID, "modifiedOn": TIME, **properties}}
