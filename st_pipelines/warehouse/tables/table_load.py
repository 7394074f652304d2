"""The arguments of everything that happens in a load's transaction, and the count of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.tables.row_scope import scope
from st_pipelines.warehouse.tables.schema import qualified


@dataclass(frozen=True)
class TableLoad:
    """Staged rows of an endpoint on their way into its table.

    Attributes:
        connection: an in-memory database that holds `staged`, with the warehouse attached.
        endpoint: whose rows and table these are.
        spec: tenant, window, merge mode and time of the load.
    """

    connection: duckdb.DuckDBPyConnection
    endpoint: Endpoint
    spec: LoadSpec

    @property
    def table(self) -> str:
        """The endpoint's table in the attached warehouse, quoted."""
        return qualified(self.endpoint)

    @property
    def scope(self) -> str:
        """SQL on `t`: the row belongs to what was read."""
        return scope(self.endpoint, self.spec)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of a load by outcome.

    Attributes:
        inserted: were not in the table.
        updated: replaced another version, or came back after they had been marked as deleted.
        unchanged: the table had them already, in the same or a newer version.
        deleted: the table had them and a complete reading did not: marked with `_deleted_at`, or
            replaced in an aggregate by day.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Adds outcome by outcome."""
        return Counts(
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            deleted=self.deleted + other.deleted,
        )
