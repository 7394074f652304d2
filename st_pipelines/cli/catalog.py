"""The catalogue for people (a table in the terminal) and for programs (JSON)."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from st_pipelines.catalog.files import type_to_json
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.cli.output import counted
from st_pipelines.warehouse.columns import columns_of


def as_json(catalog: Catalog, api: str | None = None) -> str:
    """A JSON array, one object an endpoint."""
    return json.dumps([_facts(e) for e in catalog if api in (None, e.api)], indent=1)


def as_table(catalog: Catalog, api: str | None = None) -> Table:
    """A line an endpoint; of the columns only their number."""
    listed = [e for e in catalog if api in (None, e.api)]
    table = Table(title=counted(len(listed), "endpoint"), title_justify="left")
    for heading in ("table", "asset", "kind", "cursor", "key", "columns", "scope", "path"):
        table.add_column(heading, no_wrap=True)
    for endpoint in listed:
        table.add_row(
            endpoint.table,
            f"<environment>/{endpoint.api}/{endpoint.name}",
            endpoint.kind,
            endpoint.cursor or "",
            ", ".join(endpoint.key) or "(whole record)",
            str(len(endpoint.row_fields)),
            endpoint.scope,
            endpoint.path,
        )
    return table


def left_out_as_json(catalog: Catalog) -> str:
    """A JSON array, one object an operation."""
    return json.dumps(
        [{"api": o.api, "path": o.path, "reason": o.reason} for o in catalog.left_out], indent=1
    )


def left_out_as_table(catalog: Catalog) -> Table:
    """A line an operation."""
    table = Table(title=f"{len(catalog.left_out)} operations left out", title_justify="left")
    table.add_column("path", no_wrap=True)
    table.add_column("reason")
    for operation in catalog.left_out:
        table.add_row(operation.path, operation.reason)
    return table


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    types = columns_of(endpoint)
    return {
        "asset_key": ["<environment>", endpoint.api, endpoint.name],
        "api": endpoint.api,
        "endpoint": endpoint.name,
        "table": endpoint.table,
        "path": endpoint.path,
        "export_path": endpoint.export.path if endpoint.export else None,
        "kind": endpoint.kind,
        "envelope": endpoint.envelope,
        "partitioned": endpoint.partitioned,
        "cursor": endpoint.cursor,
        "filters": _filters(endpoint),
        "key": list(endpoint.key),
        "sort": endpoint.sort,
        "first_page": endpoint.first_page,
        "max_page_size": endpoint.max_page_size,
        "scope": endpoint.scope,
        "columns": [
            {
                "name": field.column,
                "type": types[field.column],
                "field": field.name,
                "field_type": type_to_json(field.type),
            }
            for field in endpoint.row_fields
        ],
    }


def _filters(endpoint: Endpoint) -> dict[str, Any]:
    bounds = endpoint.date_filter
    return {
        "params": dict(endpoint.params),
        "variants": [dict(variant) for variant in endpoint.variants],
        "date": {"lower": bounds.lower, "upper": bounds.upper} if bounds else None,
        "ids": endpoint.ids,
    }
