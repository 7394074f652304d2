"""Finds the operation that a request calls, and the collection that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from st_pipelines.catalog.specification import (
    ApiSpecification,
    ReadOperation,
    packaged_specification,
)
from st_pipelines.sandbox.collections import Collection, load_collections


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a request asks for.

    Attributes:
        operation: the operation.
        api: the specification of its API.
        collection: the collection that it lists or exports.
    """

    operation: ReadOperation
    api: ApiSpecification
    collection: Collection


class Router:
    """Finds operations by method and path."""

    def __init__(self) -> None:
        specification = packaged_specification()
        self._lists = {
            operation.path: Route(
                operation=operation, api=specification.api(operation.api), collection=collection
            )
            for collection in load_collections().values()
            for operation in collection.operations
        }

    def find(self, method: str, path: str) -> Route | None:
        """Find the operation of a request; None if there is none.

        Args:
            method: of HTTP.
            path: with `{tenant}` in place of the tenant's id.
        """
        return self._lists.get(path) if method == "GET" else None
