"""What the catalogue says of an endpoint: plain frozen values, no HTTP, no DuckDB, no Dagster.

Every fact here was derived from ServiceTitan's OpenAPI documents by `generate`, or stands in
`curated.yaml` with its reason.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["window", "feed", "snapshot"]
Envelope: TypeAlias = Literal["page", "export", "array", "data"]
ScalarName: TypeAlias = Literal[
    "BIGINT", "DECIMAL", "DOUBLE", "BOOLEAN", "VARCHAR", "TIMESTAMPTZ", "DATE", "JSON"
]


@dataclass(frozen=True)
class Scalar:
    """A single value. `name` is DuckDB's type; DECIMAL stands for DECIMAL(38,10)."""

    name: ScalarName


@dataclass(frozen=True)
class ListOf:
    """A JSON array whose members all have one type."""

    item: DataType


@dataclass(frozen=True)
class StructOf:
    """A JSON object with known members."""

    fields: tuple[Field, ...]


DataType: TypeAlias = Scalar | ListOf | StructOf


@dataclass(frozen=True)
class Field:
    """A member of a record.

    Attributes:
        name: as the API serves it, e.g. `modifiedOn`.
        type: its type at every depth.
    """

    name: str
    type: DataType

    @property
    def column(self) -> str:
        """The name in DuckDB: `modifiedOn` becomes `modified_on`."""
        return snake_case(self.name)


@dataclass(frozen=True, kw_only=True)
class DateFilter:
    """A pair of query parameters that bound a time, both in UTC.

    Attributes:
        lower: parameter for the inclusive lower bound, e.g. `modifiedOnOrAfter`.
        upper: parameter for the exclusive upper bound, e.g. `modifiedBefore`.
        required: the endpoint insists on `lower`, so that an open window sends the epoch.
    """

    lower: str
    upper: str
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Export:
    """The export feed of a collection (`from`, `includeRecentChanges`, `continueFrom`).

    Attributes:
        path: below the host, with `{tenant}`.
        params: query parameters that every request carries.
        adds: served names of the fields that only the export has.
        lacks: served names of the fields that only the list has.
    """

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    adds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One ServiceTitan collection, which becomes one asset and one table.

    Attributes:
        api: the module in snake_case (`jpm`); DuckDB schema and Dagster group.
        name: the collection in snake_case (`job_types`); DuckDB table.
        kind: `window` (list with a date filter), `feed` (export only) or `snapshot` (read whole).
        path: below the host, with `{tenant}`; of the list, or of the export where `kind` is `feed`.
        envelope: what surrounds the records in an answer.
        scope: the OAuth scope that a read needs, e.g. `tn.jpm.jobs:r`.
        columns: the union of the fields of list and export, in the list's order, as served.
        key: served names of the fields that identify a record. Empty: the whole record does.
        cursor: served name (dotted for a nested one) of the time that gives a record its day.
        date_filter: the parameters that bound `cursor`. None for feeds and snapshots.
        params: query parameters that every request carries (`active=Any` and the like).
        variants: where the API has no value for "all", the collection is read once with each of
            these additional parameters, and their union is the table.
        sort: value of `sort` that gives a stable order (`+Id`), where the endpoint takes one.
        paged: takes `page` and `pageSize`.
        includes_total: takes `includeTotal`.
        ids: takes `ids` (at most 50 in a request).
        first_page: number of the first page, 1 nearly everywhere.
        max_page_size: largest accepted `pageSize`.
        look_back_days: days before a window that are read along with it, where records are known
            to change without moving their cursor.
        explode: served name of an array whose members are the records (`history`).
        by_day: the answer is an aggregate over the window and carries no day of its own,
            so that each day is a request of its own and replaces that day's rows.
        export: the export feed of the same collection, where it has one.
    """

    api: str
    name: str
    kind: Kind
    path: str
    envelope: Envelope
    scope: str
    columns: tuple[Field, ...]
    key: tuple[str, ...] = ("id",)
    cursor: str | None = None
    date_filter: DateFilter | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[Mapping[str, str], ...] = ()
    sort: str | None = None
    paged: bool = True
    includes_total: bool = True
    ids: bool = False
    first_page: int = 1
    max_page_size: int = 5000
    look_back_days: int = 0
    explode: str | None = None
    by_day: bool = False
    export: Export | None = None

    @property
    def table(self) -> str:
        """Qualified table name in DuckDB, e.g. `jpm.job_types`."""
        return f"{self.api}.{self.name}"

    @property
    def flat_name(self) -> str:
        """The table's name where no point may be in it, e.g. `jpm_job_types`."""
        return f"{self.api}_{self.name}"

    @property
    def row_fields(self) -> tuple[Field, ...]:
        """The fields of a row: those of a record, or with `explode` those of its members."""
        if self.explode is None:
            return self.columns
        members = self.column(self.explode).type
        if not (isinstance(members, ListOf) and isinstance(members.item, StructOf)):
            raise TypeError(f"{self.table}: {self.explode} is no array of objects")
        inner = {field.column for field in members.item.fields}
        around = tuple(f for f in self.columns if f.name != self.explode and f.column not in inner)
        return (*around, *members.item.fields)

    @property
    def has_key(self) -> bool:
        """Whether fields identify a row. Without a key, only the whole row does."""
        return bool(self.key)

    @property
    def record_key(self) -> tuple[str, ...]:
        """Names of the fields that identify a record as served, before `explode`; may be empty."""
        return () if self.explode else self.key

    @property
    def is_feed(self) -> bool:
        """Whether only the export feed serves the collection: there is no list to compare with."""
        return self.kind == "feed"

    @property
    def has_active(self) -> bool:
        """Whether records tell, in the list or in the export, that they are inactive."""
        return any(f == Field("active", Scalar("BOOLEAN")) for f in self.row_fields)

    @property
    def partitioned(self) -> bool:
        """Whether its rows belong to days (windows and feeds), or to the moment of the load."""
        return self.kind != "snapshot"

    @property
    def can_look_up(self) -> bool:
        """Whether single records can be read by their `id`."""
        return self.ids and self.key == ("id",) and self.column("id").type == Scalar("BIGINT")

    def column(self, name: str) -> Field:
        """The top-level field with that served name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A GET operation that has no table, and why."""

    api: str
    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Catalog:
    """All endpoints, by `api.name`, in alphabetical order."""

    endpoints: Mapping[str, Endpoint]
    left_out: tuple[LeftOut, ...] = ()

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints.values())

    def __len__(self) -> int:
        return len(self.endpoints)

    def __getitem__(self, table: str) -> Endpoint:
        return self.endpoints[table]

    @property
    def apis(self) -> tuple[str, ...]:
        """Names of the APIs, in order."""
        return tuple(dict.fromkeys(endpoint.api for endpoint in self))


@functools.cache
def snake_case(name: str) -> str:
    """ServiceTitan's name in snake_case: `jobTypeIds`, `job-types`, `averageCPC`, `a.B`."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words)
    return re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower()
