"""Builds the catalog's data files from ServiceTitan's OpenAPI documents: `catalog build`.

Start with `build`. The steps are in order: `openapi` reads GET operations, `types` maps schemas to
DuckDB types, `endpoints` makes endpoints of operations, `curated` reads `curated.yaml` (facts the
documents lack or get wrong) and `fit` applies those that fit. Nothing outside `catalog build` and
the tests imports this package.
"""
