"""Knows ServiceTitan's collections: path, scope, columns, key, cursor and paging of each.

Start with `model` (what an endpoint is) and `registry` (how to get one). The facts are JSON files
in `data`, written by `catalog.build` from ServiceTitan's OpenAPI documents; `additions` applies the
user's own. Imports nothing of the package but `json_text` and `windows`, and neither HTTP nor
DuckDB nor Dagster.
"""
