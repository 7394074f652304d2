"""Loads the catalog of endpoints, and selects some of them by name (`jpm.jobs`, `jpm.*`, `jpm`).

The catalog is the packaged data, plus the user's endpoints and additions. Start here;
`catalog.build` makes the data and is not needed to use it.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from st_pipelines.catalog import additions, files
from st_pipelines.catalog.model import Catalog, Endpoint, build_report_endpoint
from st_pipelines.catalog.report import Report

DATA = Path(__file__).with_name("data")


@cache
def packaged_catalog() -> Catalog:
    """Returns the endpoints that ship with the package; read once per process."""
    return files.read(DATA)


def load_catalog(additions_file: Path | None = None, endpoints_file: Path | None = None) -> Catalog:
    """Returns all endpoints, with the user's endpoints and additions if the files exist.

    The result is cached per process and version of the files. `config.project.load_catalog` passes
    the files that the user configured.

    Raises:
        ValueError: a file is malformed or does not fit the catalog.
    """
    base = load_base_catalog(endpoints_file)
    version = _read_version(additions_file)
    if additions_file is None or version is None:
        return base
    own = endpoints_file.absolute() if endpoints_file else None
    return _load_extended(additions_file.absolute(), version, own, _read_version(endpoints_file))


def load_base_catalog(endpoints_file: Path | None) -> Catalog:
    """Returns all endpoints without additions: the packaged ones, and the user's.

    Raises:
        ValueError: the file is malformed or does not fit the catalog.
    """
    version = _read_version(endpoints_file)
    if endpoints_file is None or version is None:
        return packaged_catalog()
    return _load_base(endpoints_file.absolute(), version)


def _read_version(file: Path | None) -> tuple[int, ...] | None:
    """Returns what changes with each version of a file; None if there is no file."""
    try:
        stamp = file.stat() if file else None
    except FileNotFoundError:
        return None
    return (stamp.st_mtime_ns, stamp.st_size, stamp.st_ino) if stamp else None


@lru_cache(maxsize=4)
def _load_base(file: Path, version: tuple[int, ...]) -> Catalog:
    from st_pipelines.catalog import configured

    return configured.add_endpoints(packaged_catalog(), configured.read(file), file)


@lru_cache(maxsize=4)
def _load_extended(
    file: Path,
    version: tuple[int, ...],
    endpoints_file: Path | None,
    endpoints_version: tuple[int, ...] | None,
) -> Catalog:
    base = load_base_catalog(endpoints_file)
    return additions.extend_catalog(base, additions.read(file), file)


@lru_cache(maxsize=16)
def add_reports(catalog: Catalog, reports: tuple[Report, ...]) -> Catalog:
    """Returns the catalog with the endpoints of reports, `reports.<name>`, after the others."""
    if not reports:
        return catalog
    endpoints = {e.table: e for e in map(build_report_endpoint, reports)}
    return Catalog({**catalog.endpoints, **endpoints}, catalog.left_out)


def select(catalog: Catalog, patterns: Iterable[str]) -> list[Endpoint]:
    """Returns the endpoints whose table matches one of the patterns, in the catalog's order.

    Args:
        catalog: the endpoints to select from.
        patterns: tables, tables with `*`, or APIs; one string may hold several, separated by
            commas. Without patterns, everything is selected that is not `opt_in`. Only its own
            name selects an `opt_in` endpoint.

    Raises:
        ValueError: a pattern matches no table.
    """
    patterns = list(patterns)
    wanted = [part.strip() for pattern in patterns for part in pattern.split(",") if part.strip()]
    if patterns and not wanted:
        raise ValueError("the selection is empty: name tables, or omit it to select all")
    tables = [endpoint.table for endpoint in catalog]
    chosen: set[str] = set()
    for pattern in wanted:
        found = fnmatch.filter(tables, f"{pattern}.*" if pattern in catalog.apis else pattern)
        if not found:
            near = difflib.get_close_matches(pattern, tables, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see st-pipelines endpoints"
            raise ValueError(f"no table {pattern!r}: {hint}")
        chosen.update(t for t in found if t == pattern or not catalog[t].opt_in)
    if not wanted:
        return [endpoint for endpoint in catalog if not endpoint.opt_in]
    return [endpoint for endpoint in catalog if endpoint.table in chosen]
