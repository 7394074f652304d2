"""Loads the three tables with st_pipelines. Run by `load.py`, with the DuckDB file as argument."""

from __future__ import annotations

import sys

from loading import TABLES, history, sync_context

from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile


def main(file: str) -> None:
    context = sync_context(DuckDBFile(uri=file))
    for table in TABLES:
        extract_load(context, context.catalog[table], history())


if __name__ == "__main__":
    main(sys.argv[1])
