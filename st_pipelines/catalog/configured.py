"""Reads endpoints that the user's YAML file adds to the catalog.

ServiceTitan serves collections that its documents do not have, or no longer have. The file is
`st_endpoints.yaml` in the working directory, or the file that `ST_ENDPOINTS` names:

    salestech.opportunities:
      path: /sales/v2/tenant/{tenant}/opportunities
      scope: tn.sal.opportunities:r
      cursor: modifiedOn
      date_filter: {lower: modifiedOnOrAfter, upper: modifiedBefore}

Without `columns`, an endpoint is open: a load gives it columns for what is served, and writes them
to the additions file (`additions`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from st_pipelines.catalog import additions, model
from st_pipelines.catalog.files import read_text, type_from_json
from st_pipelines.catalog.model import Catalog, DateFilter, Endpoint, Export, Scalar, StructOf

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PATH = re.compile(r"/[\w.-]+(?:/[\w.-]+)*/tenant/\{tenant\}(?:/[\w.-]+)+")
_RESERVED = frozenset(
    {"files", "history", "information_schema", "main", "pg_catalog", "reports", "temp"}
)
_MAX_PAGE_SIZE = 5000
_SCALAR = {True: "true", False: "false"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _DateFilter(_Strict):
    lower: str = Field(min_length=1)
    upper: str = Field(min_length=1)
    required: bool = False


class _Export(_Strict):
    path: str
    params: dict[str, str | int | bool] = {}

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        return _require_path(path)


class _Configured(_Strict):
    """An entry of the file. The names are those of `model.Endpoint`, which explains them."""

    path: str
    scope: str = Field(min_length=1)
    envelope: Literal["page", "export", "array", "data", "object"] = "page"
    member: str | None = Field(default=None, min_length=1)
    key: list[str] = ["id"]
    cursor: str | None = Field(default=None, pattern=r"^\w+(\.\w+)*$")
    date_filter: _DateFilter | None = None
    params: dict[str, str | int | bool] = {}
    variants: list[dict[str, str | int | bool]] = []
    sort: str | None = Field(default=None, min_length=1)
    paged: bool | None = None
    includes_total: bool | None = None
    ids: bool = False
    first_page: int = Field(default=1, ge=0, le=1)
    max_page_size: int = Field(default=_MAX_PAGE_SIZE, ge=1, le=_MAX_PAGE_SIZE)
    look_back_days: int = Field(default=0, ge=0, le=366)
    export: _Export | None = None
    columns: dict[str, Any] | None = Field(default=None, min_length=1)

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        return _require_path(path)

    @model_validator(mode="after")
    def _check_together(self) -> _Configured:
        if self.envelope == "export":
            refused = [n for n in ("date_filter", "export", "member") if getattr(self, n)]
            if refused:
                raise ValueError(f"{refused[0]} does not go with the envelope export: leave it out")
            if not self.cursor or not self.key:
                raise ValueError("an export needs a key and a cursor, such as modifiedOn")
            return self
        if (self.cursor is None) != (self.date_filter is None):
            raise ValueError(
                "cursor and date_filter belong together: give both to load by days, or neither to "
                "read the collection whole with every load"
            )
        if self.member and self.envelope != "data":
            raise ValueError("member goes with the envelope data")
        if self.look_back_days and not self.cursor:
            raise ValueError("look_back_days needs a cursor and a date_filter")
        return self


def read(file: Path) -> dict[str, Endpoint]:
    """Reads the endpoints of a file, by table; none if it does not exist.

    Raises:
        ValueError: the file is malformed; the message says where, and what is expected there.
        OSError: the file cannot be read.
    """
    text = read_text(file)
    if text is None:
        return {}
    try:
        entries = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from None
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        raise ValueError(f"{file}: expected tables, such as 'salestech.opportunities: {{...}}'")
    return {table: _build(table, entry, f"{file}: {table}") for table, entry in entries.items()}


def add_endpoints(catalog: Catalog, added: Mapping[str, Endpoint], file: Path) -> Catalog:
    """Returns the catalog with the endpoints of a file, in alphabetical order.

    Raises:
        ValueError: the catalog has one of the tables already, or reads one of the paths.
    """
    paths = {endpoint.path: endpoint.table for endpoint in catalog}
    paths |= {endpoint.export.path: endpoint.table for endpoint in catalog if endpoint.export}
    for table, endpoint in added.items():
        if table in catalog.endpoints:
            raise ValueError(
                f"{file}: {table}: the catalog has this table already: choose another name, or "
                "remove the entry"
            )
        for path in filter(None, (endpoint.path, endpoint.export and endpoint.export.path)):
            if path in paths:
                raise ValueError(
                    f"{file}: {table}: {path} is read into {paths[path]} already: remove the entry"
                )
            paths[path] = table
    return Catalog(dict(sorted({**catalog.endpoints, **added}.items())), catalog.left_out)


def _build(table: Any, entry: Any, where: str) -> Endpoint:
    api, name = _split_table(table, where)
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected path, scope and the like")
    try:
        given = _Configured.model_validate(entry)
    except ValidationError as error:
        raise ValueError(_describe(error, where)) from None
    columns = _read_columns(given, where)
    endpoint = Endpoint(
        api=api,
        name=name,
        kind=_kind(given),
        path=given.path,
        envelope=given.envelope,
        scope=given.scope,
        columns=columns.fields,
        key=tuple(given.key),
        cursor=given.cursor,
        date_filter=DateFilter(**given.date_filter.model_dump()) if given.date_filter else None,
        params=_texts(given.params),
        variants=tuple(map(_texts, given.variants)),
        sort=given.sort,
        paged=given.envelope == "page" if given.paged is None else given.paged,
        includes_total=(
            given.envelope == "page" if given.includes_total is None else given.includes_total
        ),
        ids=given.ids,
        first_page=given.first_page,
        max_page_size=given.max_page_size,
        look_back_days=given.look_back_days,
        export=Export(path=given.export.path, params=_texts(given.export.params))
        if given.export
        else None,
        member=given.member,
        open=given.columns is None,
        untyped=given.columns is None,
    )
    _check_columns(endpoint, where)
    return endpoint


def _split_table(table: Any, where: str) -> tuple[str, str]:
    api, _, name = str(table).partition(".")
    if not (_NAME.fullmatch(api) and _NAME.fullmatch(name)):
        raise ValueError(
            f"{where}: name a table as <api>.<name> in lower case, such as salestech.opportunities"
        )
    if api in _RESERVED:
        raise ValueError(f"{where}: {api} is a schema with another purpose: choose another name")
    return api, name


def _kind(given: _Configured) -> model.Kind:
    if given.envelope == "export":
        return "feed"
    return "window" if given.date_filter else "snapshot"


def _read_columns(given: _Configured, where: str) -> StructOf:
    """Returns the columns; of an open endpoint, provisional ones for the key and the cursor."""
    if given.columns is not None:
        additions.check_type(given.columns, f"{where}: columns")
        found = type_from_json(given.columns)
        assert isinstance(found, StructOf)
        return found
    columns = StructOf(tuple(model.Field(name, Scalar("BIGINT")) for name in given.key))
    if given.cursor:
        nested: Any = "TIMESTAMPTZ"
        for name in reversed(given.cursor.split(".")):
            nested = {name: nested}
        merged = additions.merge_types(columns, type_from_json(nested))
        assert isinstance(merged, StructOf)
        return merged
    return columns


def _check_columns(endpoint: Endpoint, where: str) -> None:
    names = {field.name: field.type for field in endpoint.columns}
    for name in endpoint.key:
        if name not in names:
            raise ValueError(f"{where}: key: columns lacks {name}")
        if not isinstance(names[name], Scalar):
            raise ValueError(f"{where}: key: {name} is not a single value in columns")
    if endpoint.cursor and additions.type_at(endpoint.columns, endpoint.cursor.split(".")) not in (
        Scalar("TIMESTAMPTZ"),
        Scalar("DATE"),
    ):
        raise ValueError(
            f"{where}: cursor: columns must have {endpoint.cursor} as TIMESTAMPTZ or DATE"
        )
    for number, field in enumerate(endpoint.columns):
        if conflict := model.find_column_conflict(field.name, endpoint.columns[:number]):
            raise ValueError(f"{where}: columns: {field.name!r} can be no column: {conflict}")


def _require_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(
            "give the path below the host, with {tenant} and no other parameter, such as "
            "/sales/v2/tenant/{tenant}/opportunities"
        )
    return path


def _texts(params: Mapping[str, str | int | bool]) -> dict[str, str]:
    """Returns the values as they are sent: YAML reads `true` as a boolean."""
    return {n: _SCALAR[v] if isinstance(v, bool) else str(v) for n, v in params.items()}


def _describe(error: ValidationError, where: str) -> str:
    """Returns the first fault, with the setting that has it."""
    first = error.errors()[0]
    place = ": ".join(str(step) for step in first["loc"])
    where = f"{where}: {place}" if place else where
    match first["type"]:
        case "extra_forbidden":
            name, names = str(first["loc"][-1]), list(_Configured.model_fields)
            near = difflib.get_close_matches(name, names, n=1)
            return f"{where}: is not a setting: " + (
                f"did you mean {near[0]}?" if near else f"give {', '.join(names)}"
            )
        case "missing":
            return f"{where}: is missing"
        case "value_error":
            return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    return f"{where}: {first['input']!r} is wrong: {first['msg'].lower()}"


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has a name twice, of which YAML would take the last.

    Only `true` and `false` are booleans, as in YAML 1.2: a field may be named `on`.
    """


def _construct_unique(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    names = [loader.construct_object(key) for key, _ in node.value]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise yaml.constructor.ConstructorError(
                None, None, f"duplicate name {name!r}", node.value[number][0].start_mark
            )
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_BOOLEAN = "tag:yaml.org,2002:bool"
_UniqueKeys.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != _BOOLEAN]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_UniqueKeys.add_implicit_resolver(_BOOLEAN, re.compile("true|false"), list("tf"))
_UniqueKeys.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
    _construct_unique,
)
