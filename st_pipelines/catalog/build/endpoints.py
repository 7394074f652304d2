"""From one GET operation to an endpoint, before the curated file is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from st_pipelines.catalog.build.curated import Curated
from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.model import DataType, DateFilter, Endpoint, Field, Kind, Scalar

TIMES = (Scalar("TIMESTAMPTZ"), Scalar("DATE"))
"""Types of a cursor."""

_MOST = 5000


def derived(operation: Operation, curated: Curated) -> Endpoint:
    """The endpoint of a collection.

    Args:
        operation: a list or an export.
        curated: names the table, and the text that holds decimals.
    """
    query = operation.query
    columns = _timed(curated.retype(operation.api, operation.fields))
    types = {column.name: column.type for column in columns}
    is_timed = types.get("modifiedOn") in TIMES
    date_filter = _date_filter(query) if is_timed else None
    has_cursor = is_timed and (operation.shape == "export" or date_filter is not None)
    return Endpoint(
        api=operation.api,
        name=curated.name(operation),
        kind=_kind(operation, date_filter),
        path=operation.path,
        envelope=operation.shape,  # pyright: ignore[reportArgumentType]
        scope=operation.scope,
        columns=columns,
        key=("id",) if isinstance(types.get("id"), Scalar) else (),
        cursor="modifiedOn" if has_cursor else None,
        date_filter=date_filter,
        params=_params(query),
        sort=_sort(query, types),
        paged=operation.paged,
        includes_total="includeTotal" in query,
        ids="ids" in query,
        first_page=0 if _limit(query, "page", "minimum") == 0 else 1,
        max_page_size=_max_page_size(query),
    )


def _timed(columns: tuple[Field, ...]) -> tuple[Field, ...]:
    """The columns, with `modifiedOn` as a time even where a document calls it a string."""
    text = Field("modifiedOn", Scalar("VARCHAR"))
    time = Field("modifiedOn", Scalar("TIMESTAMPTZ"))
    return tuple(time if column == text else column for column in columns)


def _kind(operation: Operation, date_filter: DateFilter | None) -> Kind:
    if operation.shape == "export":
        return "feed"
    return "window" if date_filter else "snapshot"


def _date_filter(query: Mapping[str, object]) -> DateFilter | None:
    if {"modifiedOnOrAfter", "modifiedBefore"} <= query.keys():
        return DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore")
    return None


def _params(query: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What every request asks for, so that the default filters leave nothing out."""
    params: dict[str, str] = {}
    for name, parameter in query.items():
        schema = parameter["schema"]
        text = f"{parameter['description']} {schema.get('enum', '')}"
        boolean = schema.get("type") == "boolean"
        if name == "active" and not boolean:
            params[name] = "Any"
        elif name == "activeState":
            params[name] = "All" if "All" in text else "Any"
        elif name == "activeOnly":
            params[name] = "false"
        elif boolean and re.match(r"include(?!Total$|RecentChanges$)", name):
            params[name] = "true"
    return params


def fields_to_sort_by(parameter: Mapping[str, Any]) -> str | None:
    """What a document lists for `sort`; None where it lists nothing."""
    if values := parameter["schema"].get("enum"):
        return " ".join(str(value) for value in values)
    listed = re.search(r"(?:fields are|Options|field):([^?]*)$", parameter["description"])
    return listed.group(1) if listed else None


def _sort(query: Mapping[str, Mapping[str, Any]], types: Mapping[str, DataType]) -> str | None:
    """`+Id` where the document offers it: ids are unique and never change."""
    if "sort" not in query or "id" not in types:
        return None
    values = [str(value) for value in query["sort"]["schema"].get("enum") or ()]
    if values:
        return next((value for value in values if value.lower() in ("+id", "id")), None)
    listed = fields_to_sort_by(query["sort"])
    offered = query["sort"]["description"] if listed is None else listed
    return "+Id" if re.search(r"\bid\b", offered, re.IGNORECASE) else None


def _max_page_size(query: Mapping[str, Mapping[str, Any]]) -> int:
    description = query.get("pageSize", {}).get("description", "")
    stated = re.search(r"[Mm]aximum value is (\d+)", description)
    limit = _limit(query, "pageSize", "maximum") or (stated and int(stated.group(1))) or _MOST
    return min(limit, _MOST)


def _limit(query: Mapping[str, Mapping[str, Any]], name: str, bound: str) -> int | None:
    """A bound of a parameter; None where the document gives no number for it."""
    value = query.get(name, {}).get("schema", {}).get(bound)
    return int(value) if isinstance(value, int | float) else None
