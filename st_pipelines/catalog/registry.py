"""The catalogue: the packaged one, with the user's own additions."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

from st_pipelines.catalog import additions, files
from st_pipelines.catalog.model import Catalog
from st_pipelines.config import project

DATA = Path(__file__).with_name("data")


@cache
def packaged_catalog() -> Catalog:
    """All endpoints as the package has them, read once a process."""
    return files.read(DATA)


def load_catalog() -> Catalog:
    """All endpoints with the additions, read once a process and version of the additions file.

    Raises:
        ValueError: the additions file is malformed or does not fit the catalogue.
    """
    file = project.additions_file()
    try:
        stamp = file.stat()
    except FileNotFoundError:
        return packaged_catalog()
    return _extended(file.absolute(), (stamp.st_mtime_ns, stamp.st_size, stamp.st_ino))


@lru_cache(maxsize=4)
def _extended(file: Path, version: tuple[int, ...]) -> Catalog:
    return additions.extended(packaged_catalog(), additions.read(file), file)
