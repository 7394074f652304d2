"""Derives child lists: operations that need ids which the rows of another table have.

Which table that is stands in the section `children` of `curated.yaml`, as the documents do not say
it. The ids become columns, and a part of the key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from st_pipelines.catalog.build.curated import Curated
from st_pipelines.catalog.build.endpoints import derive_endpoint
from st_pipelines.catalog.build.fit import Fitted
from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.files import type_from_json
from st_pipelines.catalog.model import (
    Endpoint,
    Field,
    Parent,
    Scalar,
    drop_conflicting,
)

Facts: TypeAlias = Mapping[str, Any]
IDS = "ids"
"""The query parameter by which some operations take the ids of several parents."""


def derive_children(
    operations: Iterable[Operation], curated: Curated, found: Mapping[str, Endpoint]
) -> Iterator[Fitted]:
    """Yields the child lists, parents before their own children.

    Args:
        operations: those with an entry in `curated.children`.
        found: the other endpoints, by table.

    A child whose parent or ids the documents lack comes with the reason in `unsound`.
    """
    endpoints, waiting = dict(found), list(operations)
    while waiting:
        ready = [o for o in waiting if curated.children[o.path]["parent"] in endpoints]
        for operation in ready:
            fitted = _derive_child(operation, curated, endpoints)
            if fitted.unsound is None:
                endpoints[fitted.endpoint.table] = fitted.endpoint
            yield fitted
        waiting = [operation for operation in waiting if operation not in ready]
        if not ready:
            break
    for operation in waiting:
        parent = curated.children[operation.path]["parent"]
        endpoint = derive_endpoint(operation, curated)
        yield Fitted(
            endpoint=dataclasses.replace(endpoint, name=_name(operation, curated)),
            dropped=(),
            unsound=f"it needs ids of {parent}, and there is no such table",
        )


def _derive_child(
    operation: Operation, curated: Curated, endpoints: Mapping[str, Endpoint]
) -> Fitted:
    facts = curated.children[operation.path]
    parent, ids = endpoints[facts["parent"]], dict(facts["ids"])
    derived = dataclasses.replace(
        derive_endpoint(operation, curated), name=_name(operation, curated)
    )
    served = tuple(Field(n, type_from_json(t)) for n, t in facts.get("columns", {}).items())
    columns = derived.columns or served
    missing = [field for field in ids.values() if not _has_field(parent, field)]
    if missing:
        reason = f"{parent.table} has no {', '.join(missing)}"
        return Fitted(endpoint=derived, dropped=(), unsound=reason)
    names = {column.name for column in columns}
    added = tuple(Field(n, parent.column(f).type) for n, f in ids.items() if n not in names)
    endpoint = dataclasses.replace(
        derived,
        kind="child",
        envelope=facts.get("envelope", derived.envelope),
        columns=drop_conflicting((*added, *columns)),
        key=_key(ids, columns, facts),
        cursor=None,
        date_filter=None,
        ids=False,
        ids_repeated=False,
        parent=Parent(
            table=parent.table,
            ids=ids,
            per_request=facts.get("per_request", 1),
            every_load=facts.get("every_load", False),
        ),
    )
    return Fitted(endpoint=endpoint, dropped=(), unsound=_find_fault(endpoint, operation))


def _key(ids: Mapping[str, str], columns: tuple[Field, ...], facts: Facts) -> tuple[str, ...]:
    """The ids of the parent and what the entry adds; without an entry, `id` where there is one.

    Empty where the records have nothing that identifies them within their parent.
    """
    has_id = any(f.name == "id" and isinstance(f.type, Scalar) for f in columns)
    own = facts.get("key", ["id"] if has_id else None)
    return () if own is None else tuple(dict.fromkeys((*ids, *own)))


def _find_fault(endpoint: Endpoint, operation: Operation) -> str | None:
    """Returns why the child cannot be read; None if it can."""
    parent = endpoint.parent
    assert parent is not None
    if parent.per_request > 1:
        if IDS not in operation.query or len(parent.ids) != 1:
            return f"the operation does not take {IDS}"
    elif len(operation.parents) != len(parent.ids):
        return f"its path has {len(operation.parents)} parameters, and not {len(parent.ids)}"
    names = {field.name for field in endpoint.columns}
    if unknown := [name for name in (*parent.ids, *endpoint.key) if name not in names]:
        return f"its records have no {', '.join(unknown)}"
    supplied = {*endpoint.params, *([IDS] if parent.per_request > 1 else [])}
    if missing := sorted(operation.required - supplied):
        return f"needs the query parameter {', '.join(missing)}"
    return None


def _has_field(parent: Endpoint, name: str) -> bool:
    return any(f.name == name and isinstance(f.type, Scalar) for f in parent.columns)


def _name(operation: Operation, curated: Curated) -> str:
    """The table's name: the path without its parameters, `customers_notes`."""
    given = curated.children[operation.path].get("name")
    return given or re.sub(r"_+", "_", _without_parameters(operation))


def _without_parameters(operation: Operation) -> str:
    bare = dataclasses.replace(operation, path=re.sub(r"/{(?!tenant})[^{}]+}", "", operation.path))
    return bare.name
