"""Chooses values for a list's filters: such as select some of its records, and not all.

Names say what a filter compares: `customerId` is the record's `customerId` or the `id` of its
`customer`, `completedBefore` its `completedOn`; `MEANINGS` has other words for the same. Where a
name says nothing, values of all members of the right type are tried. `REFERENCES` names the lists
of the records that a filter compares instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from st_pipelines_tests.judges.documents import Operation
from st_pipelines_tests.judges.schemas import resolve

NO_FILTERS = frozenset(
    {
        *("page", "pageSize", "includeTotal", "sort", "orderBy", "orderByDirection"),
        # These change what a record shows, or how other parameters are read.
        *("externalDataApplicationGuid", "calculatePrices", "genPermUrl", "includeSubtasks"),
        *("excludeAccountingChangesFromModifiedDateRange", "customField.Operator"),
        "balanceFilter.Comparer",
    }
)
EVERYTHING = {"active": "Any", "activeState": "All", "activeOnly": "false"}
"""Parameters without which a list hides some records."""

MEANINGS: Mapping[str, str] = {
    "appliedToInvoiceIds": "appliedTo.appliedTo",
    "billNumber": "referenceNumber",
    "searchText": "displayName",
    "soldByEmployeeId": "soldBy",
    "soldById": "soldBy",
    "status": "status.name",
    "statuses": "syncStatus",
}
"""Paths of the members that filters compare and are not named after."""

_TENANT = "/v2/tenant/{tenant}/"
REFERENCES: Mapping[str, tuple[str, str]] = {
    name: (f"/{api}{_TENANT}{path}", member)
    for name, api, path, member in (
        ("appointmentId", "jpm", "appointments", "id"),
        ("customerCity", "crm", "customers", "address.city"),
        ("customerState", "crm", "customers", "address.state"),
        ("customerZip", "crm", "customers", "address.zip"),
        ("invoiceId", "accounting", "invoices", "id"),
        ("jobId", "jpm", "jobs", "id"),
        ("phone", "crm", "customers/contacts", "value"),
        ("projectId", "jpm", "projects", "id"),
        ("purchaseOrderNumber", "inventory", "purchase-orders", "number"),
        ("purchaseOrderTypes", "inventory", "purchase-order-types", "id"),
        ("technicianId", "settings", "technicians", "id"),
    )
}
"""Lists with the values of filters that compare other records than the list's own, and where."""

MAX_VALUES = 60
_BOUND = re.compile(r"(OnOrAfter|OnOrBefore|OnAfter|OnBefore|After|Before|From|To)$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|$)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def list_filters(operation: Operation) -> list[str]:
    """Return the names of the parameters that select records."""
    return [name for name in operation.parameters if name not in NO_FILTERS]


def choose_queries(
    operation: Operation, name: str, rows: list[Any], others: list[Any]
) -> Iterator[dict[str, str]]:
    """Yield the parameters of requests to try, the likeliest to split the rows first.

    Args:
        operation: the list.
        name: of the filter.
        rows: the records of the list.
        others: the records of the list that `REFERENCES` names for the filter, if any.
    """
    if operation.parameters[name]["schema"].get("type") == "object":
        # As in the example of the only document that has one.
        for field in (field for row in rows for field in row["customFields"] or ()):
            yield {f"{name}.{field['name']}": field["value"]}
        return
    values = [*choose_values(operation, name, rows)]
    if name in REFERENCES:
        values += [str(v) for row in others for p, v in _walk(row) if p == REFERENCES[name][1]]
    yield from ({name: value} for value in dict.fromkeys(values))


def choose_values(operation: Operation, name: str, rows: list[Any]) -> Iterator[str]:
    """Yield values to try, the likeliest to split the rows first."""
    schema = resolve(operation, operation.parameters[name]["schema"])
    if schema.get("type") == "array":
        schema = resolve(operation, schema["items"])
    if enum := schema.get("enum"):
        yield from map(str, enum)
        return
    if schema.get("type") == "boolean":
        yield from ("true", "false")
        return
    leaves = [leaf for row in rows for leaf in _walk(row)]
    kind = schema.get("format", "")
    if kind in ("date-time", "date"):
        stem = _BOUND.sub("", name)
        yield from _medians(_times(leaves), stem)
    elif schema.get("type") == "number":
        yield from _medians(_numbers(leaves), re.sub(r"Greater$|Less$|^min|^max", "", name))
    else:
        named = (str(value) for path, value in leaves if _names(name, path))
        numeric = schema.get("type") == "integer"
        yield from dict.fromkeys(v for v in named if not numeric or _NUMBER.fullmatch(v))


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of each text, number and boolean, without indices."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _walk(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, path)
    elif value is not None and value != "":
        yield path, value


def _names(name: str, path: str) -> bool:
    """Whether a filter of this name may compare the member at a path."""
    if name in MEANINGS and path == MEANINGS[name]:
        return True
    words = path.lower().replace(".", "")
    singular = re.sub(r"ies$", "y", name.lower())
    options = {name.lower(), singular, re.sub(r"e?s$", "", singular), re.sub(r"s$", "", singular)}
    if name == "ids":
        return path in ("id", "jobId")
    return any(words.endswith(option) for option in options)


def _times(leaves: list[tuple[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, value in leaves:
        if isinstance(value, str) and _TIME.match(value):
            found.setdefault(path, []).append(value)
    return {path: sorted(values) for path, values in found.items()}


def _numbers(leaves: list[tuple[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, value in leaves:
        if not isinstance(value, bool) and _NUMBER.fullmatch(str(value)):
            found.setdefault(path, []).append(str(value))
    return {path: sorted(values, key=float) for path, values in found.items()}


def _medians(found: dict[str, list[str]], stem: str) -> Iterator[str]:
    """Yield a value from the middle of each member, those named like the stem first."""
    like = stem.lower().removesuffix("s")
    for path in sorted(found, key=lambda path: (like not in path.lower().replace(".", ""), path)):
        values = sorted(set(found[path]), key=found[path].index)
        middle = len(values) // 2
        yield from dict.fromkeys((values[middle], values[len(values) // 4]))
