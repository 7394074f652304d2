"""Keeps what a catalog already knows and a folder of documents does not say.

A folder may hold the documents of some APIs only, documents may name no scopes, and ServiceTitan
has removed operations from its documents that it went on serving.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.specification import ApiSpecification, ReadOperation


def keep_known(before: Catalog, built: Catalog, facts: Mapping[str, ApiSpecification]) -> Catalog:
    """Completes a catalog that was built from documents.

    Args:
        before: the catalog that it will replace.
        built: from the documents.
        facts: of the same documents, by API.

    Returns:
        Endpoints of APIs without a document stay as they are. An endpoint that is gone from the
        document of its API stays and is marked as removed. Scopes that no document names stay.
    """
    paths = {o.path for part in facts.values() for o in part.operations if o.method == "GET"}
    scopes = {endpoint.path: endpoint.scope for endpoint in before}
    endpoints = {
        table: _with_scope(endpoint, scopes.get(endpoint.path, ""))
        for table, endpoint in built.endpoints.items()
    }
    for endpoint in before:
        if endpoint.api not in facts:
            endpoints[endpoint.table] = endpoint
        elif endpoint.table not in endpoints and endpoint.path not in paths:
            endpoints[endpoint.table] = dataclasses.replace(endpoint, removed=True)
    left_out = [
        *built.left_out,
        *(operation for operation in before.left_out if operation.api not in facts),
    ]
    return Catalog(
        dict(sorted(endpoints.items())),
        tuple(sorted(left_out, key=lambda operation: (operation.api, operation.path))),
    )


def keep_scopes(
    before: Mapping[str, ApiSpecification], facts: Mapping[str, ApiSpecification]
) -> dict[str, ApiSpecification]:
    """Returns facts of documents, with the facts of other APIs and known scopes from `before`."""
    known = {
        (o.method, o.path): o.scope for part in before.values() for o in part.operations if o.scope
    }

    def complete(operation: ReadOperation) -> ReadOperation:
        scope = operation.scope or known.get((operation.method, operation.path), "")
        return dataclasses.replace(operation, scope=scope)

    completed = {
        api: dataclasses.replace(part, operations=tuple(map(complete, part.operations)))
        for api, part in facts.items()
    }
    return dict(sorted({**before, **completed}.items()))


def _with_scope(endpoint: Endpoint, known: str) -> Endpoint:
    return dataclasses.replace(endpoint, scope=endpoint.scope or known)
