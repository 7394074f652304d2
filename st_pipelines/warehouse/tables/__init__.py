"""Rows into tables: everything that happens in the transaction of a load, and reads around it.

Start with `load`: `commit_load` merges records that are staged (`staged_records`) and logs the
load. `table_load.TableLoad` is the argument that all modules share. `table_state` and `compare`
read the tables for `sync`. This package knows no HTTP and no Dagster, and does not decide what is
read or how it merges: that comes with the `LoadSpec`, from `sync.strategies`.
"""
