"""The packaged catalogue."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from st_pipelines.catalog import files
from st_pipelines.catalog.model import Catalog

DATA = Path(__file__).with_name("data")


@cache
def load_catalog() -> Catalog:
    """All endpoints, read once a process."""
    return files.read(DATA)
