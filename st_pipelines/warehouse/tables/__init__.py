"""Writes rows to tables: what runs in a load's transaction, and the short queries around it.

Start with `load`: `commit_load` merges staged records (`staged_records`) and logs the load. What
runs inside the transaction takes a `table_load.TableLoad`. `table_state`, `compare`, `coverage`,
`identity` and `load_log` also read for `sync`. Strategies decide what is read and how it merges;
that arrives as a `warehouse.load_spec.LoadSpec`. This package knows nothing of HTTP or Dagster. A
table holds the rows of all tenants of an environment, and every statement is limited to the load's
tenant.
"""
