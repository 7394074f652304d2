"""Makes several endpoints of one operation: by its parameters, or by the arrays of its response.

`curated.yaml` names the tables, in `split` and in `objects`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from st_pipelines.catalog.build.curated import Curated
from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.model import Endpoint, Field, ListOf, Scalar, StructOf


def split_endpoint(endpoint: Endpoint, curated: Curated) -> Iterator[Endpoint]:
    """Yields an endpoint for each table of an operation; most have one.

    Args:
        endpoint: derived from the operation.
        curated: the tables of the operation, if it has several.
    """
    if endpoint.path in curated.objects:
        for name, member in curated.objects[endpoint.path]["tables"].items():
            yield _take_member(endpoint, name, member)
        return
    tables = curated.split.get(endpoint.path, {}).get("tables", {endpoint.name: {}})
    for name, params in tables.items():
        yield dataclasses.replace(endpoint, name=name, params={**endpoint.params, **params})


def find_unserved_members(operation: Operation, curated: Curated) -> list[str]:
    """Returns the members of which tables are made, but that are not arrays of objects."""
    members = curated.objects[operation.path]["tables"].values()
    served = {field.name for field in operation.fields if _item_fields(field)}
    return sorted(member for member in members if member and member not in served)


def _take_member(endpoint: Endpoint, name: str, member: str | None) -> Endpoint:
    """Returns the endpoint of one array of an object, or of the object itself."""
    if member is None:
        return dataclasses.replace(endpoint, name=name)
    columns = _item_fields(endpoint.column(member))
    has_id = any(f.name == "id" and isinstance(f.type, Scalar) for f in columns)
    return dataclasses.replace(
        endpoint,
        name=name,
        envelope="data",
        member=member,
        columns=columns,
        key=("id",) if has_id else (),
    )


def _item_fields(field: Field) -> tuple[Field, ...]:
    """Returns the fields of an array's items; none if they are not objects."""
    match field.type:
        case ListOf(StructOf(fields)):
            return fields
    return ()
