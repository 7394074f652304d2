"""The pipeline as plain functions: read an endpoint completely, follow up, commit it to its table.

Start with `sync` (`extract_load`, `reconcile`). `strategies` decides for each kind of endpoint what
is read and how it merges; `deletions` finds what a reading cannot show; `verify` compares tables
with ServiceTitan; `session` opens an environment for scripts and commands; `explain` puts errors
into words. Nothing here imports Dagster, `defs` or `cli`.
"""
