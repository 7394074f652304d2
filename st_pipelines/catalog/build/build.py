"""Builds a catalog from OpenAPI documents and `curated.yaml`.

A collection that can be read with nothing but the tenant becomes an endpoint, and so does one that
needs ids which another table has (`children`). Every other GET operation is left out with a reason,
so that the catalog accounts for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from st_pipelines.catalog import files, specification_files
from st_pipelines.catalog.build.children import derive_children
from st_pipelines.catalog.build.curated import Curated, load_curated
from st_pipelines.catalog.build.differences import describe_changes, describe_operations
from st_pipelines.catalog.build.endpoints import (
    derive_endpoints,
    drop_repeated,
    find_outdated,
    table_name_conflict,
)
from st_pipelines.catalog.build.fit import ALWAYS_SENT, Fitted, apply_facts
from st_pipelines.catalog.build.keep import keep_known, keep_scopes
from st_pipelines.catalog.build.openapi import Operation, read_documents, read_operations
from st_pipelines.catalog.build.specification import read_specifications
from st_pipelines.catalog.build.split import find_unserved_members, split_endpoint
from st_pipelines.catalog.model import Catalog, Endpoint, LeftOut
from st_pipelines.catalog.specification import ApiSpecification

SPECIFICATION = "specification"
"""The folder of the specification facts, within the catalog's."""

_COLLECTIONS = ("page", "export", "array", "data")


def rebuild(documents: Path, folder: Path) -> list[str]:
    """Builds the catalog of a folder of documents and writes it, completely or not at all.

    What the documents do not say stays as it is, see `keep`.

    Args:
        documents: folder of OpenAPI documents, of all APIs or of some.
        folder: where to write. A catalog there is replaced; otherwise it must be empty or new.

    Returns:
        One line per change and per curated fact that does not fit the documents.

    Raises:
        ValueError: a document is malformed, or `folder` contains something other than a catalog.
        OSError: a file cannot be written.
    """
    files.list_catalog_files(folder)
    built = _build(documents, folder)
    files.write(built.catalog, folder)
    specification_files.write(built.facts.values(), folder / SPECIFICATION)
    return [*describe_changes(built.before, built.catalog), *built.misfits]


def compare(documents: Path, folder: Path) -> list[str]:
    """Describes what `rebuild` would change, and what changed in operations; writes nothing.

    Returns:
        One line per change: of tables, then of operations.

    Raises:
        ValueError: a document or the catalog in `folder` is malformed.
        OSError: a file cannot be read.
    """
    built = _build(documents, folder)
    changes = [*describe_changes(built.before, built.catalog)]
    with_table = frozenset(path for endpoint in built.catalog for path in _paths(endpoint))
    operations = describe_operations(built.facts_before, built.facts, with_table=with_table)
    return [*changes[:-1], *operations, *changes[-1:], *built.misfits]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Built:
    """A catalog and facts, and what they replace.

    Attributes:
        misfits: one line per curated fact that does not fit the documents.
    """

    before: Catalog
    facts_before: Mapping[str, ApiSpecification]
    catalog: Catalog
    facts: Mapping[str, ApiSpecification]
    misfits: list[str]


def _build(documents: Path, folder: Path) -> _Built:
    before = files.read(folder)
    stored = specification_files.Specification(folder / SPECIFICATION)
    facts_before = {api: stored.api(api) for api in stored.apis}
    misfits: list[str] = []
    catalog = build_catalog(documents, report=misfits.append)
    facts = read_facts(documents)
    posts = {o.path for part in facts.values() for o in part.operations if o.method == "POST"}
    curated = load_curated()
    expected = {path for path in curated.reading_posts if curated.find_api(path) in facts}
    misfits += map(_describe_unknown, sorted(expected - posts))
    return _Built(
        before=before,
        facts_before=facts_before,
        catalog=keep_known(before, catalog, facts),
        facts=keep_scopes(facts_before, facts),
        misfits=misfits,
    )


def build_catalog(
    folder: Path,
    curated: Curated | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> Catalog:
    """Builds the catalog of a folder of OpenAPI documents (3.0 or 3.1).

    Args:
        folder: of the documents.
        curated: the facts to apply; those of the packaged file if None.
        report: called with one line per curated fact that does not fit the documents.

    Raises:
        ValueError: a file is not an OpenAPI 3 document, or two operations would share a table.
    """
    curated = curated or load_curated()
    found = drop_repeated(_operations(folder, curated))
    reasons = {o.path: reason for o in found if (reason := _reason_to_leave_out(o, curated))}
    reasons |= find_outdated(o for o in found if o.path not in reasons)
    kept = [o for o in found if o.path not in reasons]
    fits = _apply_facts([o for o in kept if o.path not in curated.children], curated)
    _add_children([o for o in kept if o.path in curated.children], curated, fits)
    for line in (*_misfits(fits), *_unknown_facts(curated, fits, found)):
        report(line)
    endpoints = {table: fit.endpoint for table, fit in sorted(fits.items()) if not fit.unsound}
    served = {path for endpoint in endpoints.values() for path in _paths(endpoint)}
    for fit in fits.values():
        reasons |= {p: fit.unsound for p in _paths(fit.endpoint) if fit.unsound and p not in served}
    left_out = [
        LeftOut(api=o.api, path=o.path, reason=reasons[o.path]) for o in found if o.path in reasons
    ]
    return Catalog(endpoints, tuple(sorted(left_out, key=lambda e: (e.api, e.path))))


def read_facts(folder: Path, curated: Curated | None = None) -> dict[str, ApiSpecification]:
    """Returns the facts about the reading operations of a folder of documents, by API.

    Raises:
        ValueError: a file is not an OpenAPI 3 document, or is malformed.
    """
    curated = curated or load_curated()
    return read_specifications(
        read_documents(folder), api_names=curated.apis, reading_posts=curated.reading_posts
    )


def _operations(folder: Path, curated: Curated) -> Iterator[tuple[str, Operation]]:
    """Yields file name and operation for every GET operation, and for POSTs that read."""
    for name, document in read_documents(folder):
        try:
            found = read_operations(document, curated.apis, curated.reading_posts)
            yield from ((name, operation) for operation in found)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _paths(endpoint: Endpoint) -> tuple[str, ...]:
    return (endpoint.path, endpoint.export.path) if endpoint.export else (endpoint.path,)


def _misfits(fits: Mapping[str, Fitted]) -> Iterator[str]:
    for table, fit in sorted(fits.items()):
        yield from (f"! curated.yaml: {table}: {sentence}" for sentence in fit.dropped)
        if fit.unsound:
            yield f"! {table} is left out: {fit.unsound}"


def _unknown_facts(
    curated: Curated, fits: Mapping[str, Fitted], found: list[Operation]
) -> Iterator[str]:
    covered = {operation.api for operation in found}
    for name in curated.find_unknown(fits, {operation.path for operation in found}):
        if curated.find_api(name) in covered:
            yield _describe_unknown(name)


def _describe_unknown(name: str) -> str:
    return f"! curated.yaml has facts about {name}, which is not in these documents"


def _reason_to_leave_out(operation: Operation, curated: Curated) -> str | None:
    if operation.path in curated.left_out:
        return curated.left_out[operation.path]
    if operation.path in curated.children:
        return None
    if operation.path in curated.objects:
        if unserved := find_unserved_members(operation, curated):
            return f"is split into tables by {', '.join(unserved)}, but serves no such array"
        return _describe_missing(_missing_parameters(operation, curated))
    if operation.shape == "binary":
        return "binary download"
    if operation.api == "reporting" and operation.parents:
        return f"report: needs {', '.join(operation.parents)}"
    if operation.parents:
        listed = operation.shape in _COLLECTIONS
        return f"{'child' if listed else 'single object'}: needs {', '.join(operation.parents)}"
    if operation.shape == "object":
        return "single object, not a collection"
    if "/export/" in operation.path and operation.shape != "export" and not operation.paged:
        return "an export without a continuation token"
    split = curated.split.get(operation.path, {}).get("tables", {}).values()
    if unknown := sorted({name for params in split for name in params} - operation.query.keys()):
        return f"is split into tables by {', '.join(unknown)}, but does not take that parameter"
    return _describe_missing(_missing_parameters(operation, curated))


def _describe_missing(parameters: list[str]) -> str | None:
    return f"needs the query parameter {', '.join(parameters)}" if parameters else None


def _missing_parameters(operation: Operation, curated: Curated) -> list[str]:
    """Returns required query parameters that neither a rule nor a curated fact supplies."""
    supplied = set(ALWAYS_SENT)
    name = curated.name(operation)
    tables = dict(curated.split.get(operation.path, {}).get("tables", {name: {}}))
    tables |= {table: {} for table in curated.objects.get(operation.path, {}).get("tables", ())}
    for table, params in tables.items():
        facts = curated.endpoints.get(f"{operation.api}.{table}", {})
        bounds = facts.get("date_filter", {})
        supplied |= {*params, *facts.get("params", {}), bounds.get("lower"), bounds.get("upper")}
    return sorted(operation.required - supplied)


def _apply_facts(kept: list[Operation], curated: Curated) -> dict[str, Fitted]:
    """Returns each endpoint, by table, with the curated facts that fit."""
    by_path = {operation.path: operation for operation in kept}
    found: dict[str, Fitted] = {}
    for endpoint in derive_endpoints(kept, curated):
        for part in split_endpoint(endpoint, curated):
            if part.table in found:
                raise ValueError(table_name_conflict(part, found[part.table].endpoint))
            facts = curated.facts(part.table)
            found[part.table] = apply_facts(part, facts, by_path[part.path])
    return found


def _add_children(kept: list[Operation], curated: Curated, found: dict[str, Fitted]) -> None:
    """Adds the child lists to `found`, each with the facts that fit."""
    endpoints = {table: fit.endpoint for table, fit in found.items() if not fit.unsound}
    for child in derive_children(kept, curated, endpoints):
        if child.endpoint.table in found:
            raise ValueError(
                table_name_conflict(child.endpoint, found[child.endpoint.table].endpoint)
            )
        found[child.endpoint.table] = child
