"""Writes rows to tables: what runs in a load's transaction, and the short queries around it.

Start with `load`: `commit_load` merges staged records (`staged_records`) and logs the load. Its
functions share one argument, `table_load.TableLoad`. `table_state` and `compare` read tables for
`sync`. This package knows nothing of HTTP or Dagster. What is read and how it merges is decided in
`sync.strategies` and arrives as a `LoadSpec`. A table holds the rows of all tenants of an
environment, and every statement is limited to the load's tenant.
"""
