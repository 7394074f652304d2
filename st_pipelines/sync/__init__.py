"""The pipeline as plain functions: reads an endpoint completely and commits it to its table.

Start with `sync`: `extract_load` loads a window of days, `reconcile` reads the whole endpoint and
finds deletions that windowed loads cannot see. `strategies` decides for each kind of endpoint what
is read and how it merges. `deletions` looks up what a reading cannot show. `verify` compares tables
with ServiceTitan and writes nothing. `session` opens an environment for scripts and commands.
`explain` words errors. Nothing here imports Dagster, `defs` or `cli`.
"""
