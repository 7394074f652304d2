"""Which of several documents is to be believed: repeated ones, and versions of one collection."""

from __future__ import annotations

from collections.abc import Iterable

from st_pipelines.catalog.build.openapi import Operation


def without_repetition(found: Iterable[tuple[str, Operation]]) -> list[Operation]:
    """The operations, each path once.

    Args:
        found: file name and operation.

    Raises:
        ValueError: a path is described twice, and not in the same way.
    """
    known: dict[str, tuple[str, Operation]] = {}
    for file, operation in found:
        before, same = known.setdefault(operation.path, (file, operation))
        if same != operation:
            raise ValueError(
                f"{before} and {file} describe {operation.path} in different ways: "
                "remove the older document from the folder"
            )
    return [operation for _, operation in known.values()]


def outdated(found: Iterable[Operation]) -> dict[str, str]:
    """Path to the reason, for each operation that has a later version beside it."""
    versions: dict[str, list[Operation]] = {}
    for operation in found:
        versions.setdefault(operation.unversioned, []).append(operation)
    return {
        older.path: f"older version of {newest.path}"
        for alike in versions.values()
        for newest in (max(alike, key=lambda one: one.version),)
        for older in alike
        if older is not newest
    }
