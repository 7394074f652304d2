"""Defines `Endpoint` and `Catalog`: everything the package knows about ServiceTitan's collections.

Plain frozen values without HTTP, DuckDB or Dagster. `catalog.build` derives every fact from
ServiceTitan's OpenAPI documents, or takes it from `curated.yaml`, which gives a reason for each.
What fields and endpoints derive from themselves is computed once, as every load asks for it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from st_pipelines.catalog.report import API, READ_SCOPE, Report

Kind: TypeAlias = Literal["window", "feed", "snapshot", "child", "report", "forecast"]
Envelope: TypeAlias = Literal["page", "export", "array", "data", "object", "value", "any"]
ScalarName: TypeAlias = Literal[
    "BIGINT", "DECIMAL", "DOUBLE", "BOOLEAN", "VARCHAR", "TIMESTAMPTZ", "DATE", "JSON"
]
EXTERNAL_DATA_PARAMETER = "externalDataApplicationGuid"
"""Query parameter that names the application whose `externalData` a list returns (vendor)."""

_UNDECODABLE = re.compile(r'["\\\x00-\x1f]')
"""Characters that msgspec does not accept in field names."""


@dataclass(frozen=True)
class Scalar:
    """A single value. `name` is the DuckDB type; DECIMAL means DECIMAL(38,10)."""

    name: ScalarName


@dataclass(frozen=True)
class ListOf:
    """A JSON array whose items all have the same type."""

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
        name: as served, e.g. `modifiedOn`.
        type: complete, including nested members.
    """

    name: str
    type: DataType

    @cached_property
    def column(self) -> str:
        """The column name in DuckDB: `modified_on` for `modifiedOn`."""
        return snake_case(self.name)


@dataclass(frozen=True, kw_only=True)
class DateFilter:
    """The two query parameters that limit a list to a time range. Both take UTC times.

    Attributes:
        lower: the parameter for the inclusive lower bound, e.g. `modifiedOnOrAfter`.
        upper: the parameter for the exclusive upper bound, e.g. `modifiedBefore`.
        required: the endpoint requires `lower`; a window without a start sends 1970-01-01.
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
        adds: fields that only the export serves.
        lacks: fields that only the list serves, or serves filled (`externalData`).
    """

    path: str
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    adds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Where the ids come from that a child list needs, and when it has to be read again.

    Attributes:
        table: whose rows are the parents, e.g. `crm.customers`.
        ids: the child's field that holds an id of the parent, and the parent's field that it comes
            from, in the order of the path's parameters: `{"customerId": "id"}`.
        per_request: parents of one request: 1 where their id is in the path, up to 50 where the
            operation takes `ids`.
        every_load: the parent's time of change does not show whether its children changed, and
            there are few parents: all are read again after each load of their table.
    """

    table: str
    ids: Mapping[str, str] = field(hash=False)
    per_request: int = 1
    every_load: bool = False


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How figures of days before and after today are requested: by POST; every load replaces them.

    Attributes:
        lower: member of the request's body for the earliest start of a row, UTC.
        upper: member for the latest end of a row.
        start: served name of the UTC time that decides a row's day.
        body: the other members.
        days_back: how many days before today a load reads.
        days_ahead: how many days after today.
    """

    lower: str
    upper: str
    start: str
    body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    days_back: int = 1
    days_ahead: int = 14


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A ServiceTitan collection: one asset and one table.

    Attributes:
        api: API name in snake_case (`jpm`); DuckDB schema and Dagster group.
        name: collection name in snake_case (`job_types`); DuckDB table.
        kind: `window` (list with a date filter), `feed` (export only), `snapshot` (no filter: read
            completely every time), `child` (needs the ids of a parent), `forecast` (figures of the
            days around today) or `report` (configured by the user, see `report`).
        path: below the host, with `{tenant}`; the list's path, or the export's for a `feed`. That
            of a `child` has a parameter for each id of its parent.
        envelope: the JSON around the records in a response. The body of an `object` is itself the
            only record; that of a `value` is the last field of the only record, or null for none;
            `any` is a page or an array, where no document says which.
        member: served name of the array that holds the records, where it is not `data`.
        forecast: how a `forecast` is requested; None for other kinds.
        open: its columns are those of the records that loads have seen (`sync.open_columns`).
        untyped: it is open, and no load has seen records, so that the types of the key and of the
            cursor are provisional.
        each_of: the table of the list whose ids stand for `{id}` in the path: there is an object of
            each of its records.
        opt_in: only selected by its own name, never as one of all tables or of its API's.
        scope: OAuth scope that a read needs, e.g. `tn.jpm.jobs:r`.
        columns: the fields that list and export serve, in the list's order.
        key: served names of the fields that identify a row. Empty if only the whole row does.
        cursor: served name (dotted if nested) of the time that decides a record's day.
        date_filter: the parameters that limit `cursor`. None for feeds and snapshots.
        params: query parameters that every request carries (such as `active=Any`).
        variants: additional parameters, one set per read. Where the API has no value for "all",
            the collection is read once with each set, and the table is the union.
        sort: value of `sort` that gives a stable order (`+Id`), if the endpoint takes one.
        paged: takes `page` and `pageSize`.
        includes_total: takes `includeTotal`.
        ids: takes `ids` (at most 50 per request).
        ids_repeated: takes one `ids` for each id, instead of one with commas.
        first_page: number of the first page, nearly always 1.
        max_page_size: largest accepted `pageSize`.
        look_back_days: days before a window that are read along with it, because records are known
            to change without moving their cursor.
        explode: served name of an array whose members become the rows (`history`).
        by_day: the response aggregates the window and names no day. Each day is requested
            separately and replaces that day's rows.
        export: the collection's export feed, if it has one.
        external_data: takes `EXTERNAL_DATA_PARAMETER`, without which `externalData` stays empty.
        removed: ServiceTitan's documents no longer have it, but it may still be served.
        parent: whose ids a `child` needs; None for other kinds.
        report: what the user's file says of a report; None for ServiceTitan's collections.
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
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    variants: tuple[Mapping[str, str], ...] = field(default=(), hash=False)
    sort: str | None = None
    paged: bool = True
    includes_total: bool = True
    ids: bool = False
    ids_repeated: bool = False
    first_page: int = 1
    max_page_size: int = 5000
    look_back_days: int = 0
    explode: str | None = None
    by_day: bool = False
    export: Export | None = None
    external_data: bool = False
    removed: bool = False
    member: str | None = None
    parent: Parent | None = None
    report: Report | None = None
    forecast: Forecast | None = None
    each_of: str | None = None
    opt_in: bool = False
    open: bool = False
    untyped: bool = False

    @cached_property
    def table(self) -> str:
        """The qualified table name in DuckDB, e.g. `jpm.job_types`."""
        return f"{self.api}.{self.name}"

    @cached_property
    def flat_name(self) -> str:
        """The table name for places that allow no dot, e.g. `jpm_job_types`."""
        return f"{self.api}_{self.name}"

    @cached_property
    def row_fields(self) -> tuple[Field, ...]:
        """The fields of a row: a record's, or with `explode` its members' and the record's others.

        Raises:
            TypeError: the field to explode is not an array of objects.
        """
        if self.explode is None:
            return self.columns
        members = self.column(self.explode).type
        if not (isinstance(members, ListOf) and isinstance(members.item, StructOf)):
            raise TypeError(f"{self.table}: {self.explode} is not an array of objects")
        inner = {field.column for field in members.item.fields}
        outer = tuple(f for f in self.columns if f.name != self.explode and f.column not in inner)
        return (*outer, *members.item.fields)

    @cached_property
    def has_key(self) -> bool:
        """Whether fields identify a row. Without a key, only the whole row does."""
        return bool(self.key)

    @cached_property
    def record_key(self) -> tuple[str, ...]:
        """Names of the fields that identify a record as served, before `explode`; may be empty."""
        return () if self.explode else self.key

    @cached_property
    def is_feed(self) -> bool:
        """Whether only the export feed serves the collection: there is no list to compare with."""
        return self.kind == "feed"

    @cached_property
    def has_active(self) -> bool:
        """Whether the list or the export serves a boolean `active`."""
        return any(f == Field("active", Scalar("BOOLEAN")) for f in self.row_fields)

    @cached_property
    def partitioned(self) -> bool:
        """Whether rows belong to days (windows and feeds) rather than to the latest load."""
        return self.report.by_day if self.report else self.kind in ("window", "feed")

    @cached_property
    def can_look_up(self) -> bool:
        """Whether single records can be read by their `id`."""
        return self.ids and self.key == ("id",) and self.column("id").type == Scalar("BIGINT")

    def column(self, name: str) -> Field:
        """Returns the top-level field with that served name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def build_report_endpoint(report: Report) -> Endpoint:
    """Returns the endpoint of a report, without columns, which only its data tells."""
    return Endpoint(
        api=API,
        name=report.name,
        kind="report",
        path="/reporting/v2/tenant/{tenant}/report-category/{category}/reports/{report}/data",
        envelope="page",
        scope=READ_SCOPE,
        columns=(),
        key=(),
        max_page_size=25_000,
        by_day=report.by_day,
        look_back_days=report.look_back_days,
        report=report,
    )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A GET operation without a table, and the reason."""

    api: str
    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Catalog:
    """All endpoints by table (`api.name`), in alphabetical order, and the operations left out."""

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
        """The API names, in order."""
        return tuple(dict.fromkeys(endpoint.api for endpoint in self))


@functools.cache
def snake_case(name: str) -> str:
    """Converts a ServiceTitan name (`jobTypeIds`, `job-types`, `averageCPC`, `a.B`)."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words)
    return re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower()


def find_column_conflict(name: str, siblings: tuple[Field, ...]) -> str | None:
    """Returns why a field cannot have a column next to its siblings; None if it can."""
    if not snake_case(name):
        return "its name contains no letter or digit to make a column name of"
    if snake_case(name) == "rowid":
        return "rowid is reserved by DuckDB"
    if _UNDECODABLE.search(name):
        return "its name contains a quote, a backslash or a control character"
    for other in siblings:
        same = other.column == snake_case(name) or other.name.lower() == name.lower()
        if same and other.name != name:
            return f"its column name is already taken by {other.name}"
    return None


def drop_conflicting(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Drops fields that cannot have a column. Of fields with one column name, the first stays.

    Values of dropped fields end up in the table's `_extra` column.

    Args:
        fields: with unique names.
    """
    kept: tuple[Field, ...] = ()
    for candidate in fields:
        if find_column_conflict(candidate.name, kept) is None:
            kept = (*kept, candidate)
    return kept
