"""The `st-pipelines` command line: one module per command, and what the commands share.

Start at `app`, which lists the commands. `doctor` holds the steps of `st-pipelines check`. Modules
of commands import Dagster, DuckDB and requests inside their functions, so that `--help` stays fast.
"""
