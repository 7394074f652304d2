"""Loads three tables by `extract_load`. Run by `load.py`; takes the DuckDB file as argument."""

from __future__ import annotations

import sys

from loading import TABLES, history, job

from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile


def main(file: str) -> None:
    loading = job(DuckDBFile(uri=file))
    for table in TABLES:
        extract_load(loading, loading.catalog[table], history())


if __name__ == "__main__":
    main(sys.argv[1])
