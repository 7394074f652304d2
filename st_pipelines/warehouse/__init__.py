"""DuckDB: typed rows from JSON, tables, and the warehouse they are in.

A load reads JSON into typed rows (`staging`), merges them into tables (`tables`), and does so in a
warehouse (`store`). `adopt` turns drift into columns later. Start at `tables.load.commit_load`.
Nothing here imports Dagster or the HTTP client; `columns`, `errors` and `load_spec` do not even
import DuckDB, as definitions use them.
"""
