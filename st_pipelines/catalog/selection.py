"""Naming some of the endpoints: `jpm.jobs`, `jpm.*`, `jpm`."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable

from st_pipelines.catalog.model import Catalog, Endpoint


def select(catalog: Catalog, patterns: Iterable[str]) -> list[Endpoint]:
    """The endpoints whose table matches one of the patterns, in the catalogue's order.

    Args:
        catalog: to choose from.
        patterns: tables, tables with `*`, or APIs; several may be joined by commas. None is all.

    Raises:
        ValueError: a pattern matches no table.
    """
    patterns = list(patterns)
    wanted = [part.strip() for pattern in patterns for part in pattern.split(",") if part.strip()]
    if patterns and not wanted:
        raise ValueError("the selection is empty: name tables, or leave it out for all of them")
    tables = [endpoint.table for endpoint in catalog]
    chosen: set[str] = set()
    for pattern in wanted:
        found = fnmatch.filter(tables, f"{pattern}.*" if pattern in catalog.apis else pattern)
        if not found:
            near = difflib.get_close_matches(pattern, tables, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see st-pipelines endpoints"
            raise ValueError(f"no table {pattern!r}: {hint}")
        chosen.update(found)
    return [e for e in catalog if not wanted or e.table in chosen]
