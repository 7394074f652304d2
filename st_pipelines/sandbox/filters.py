"""Finds the filters of an operation, and interprets `active` and its variants.

`filter_rules` derives what each filter selects by, `selection` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from st_pipelines.catalog.specification import ApiSpecification, Parameter, ReadOperation, Schema
from st_pipelines.sandbox.collections import list_paths
from st_pipelines.sandbox.filter_fields import JOINS
from st_pipelines.sandbox.filter_rules import Filter, derive_joined_rule, derive_rule

NOT_FILTERS = frozenset(
    {
        "page",
        "pagesize",
        "includetotal",
        "sort",
        "sortby",
        "descending",
        "orderby",
        "orderbydirection",
        "externaldataapplicationguid",
        "from",
        "includerecentchanges",
        "includetechnicians",
        "includedurationbilling",
        "includediscounts",
        "includerecurringservices",
        "includetags",
        "includesubtasks",
        "includechildren",
        "calculateprices",
        "genpermurl",
    }
)
"""Parameters that change the order, the page or the content of a response."""

ACTIVE_VALUES: Mapping[str, Mapping[str, bool | None]] = {
    "active": {"true": True, "false": False, "any": None},
    "activestate": {"activeonly": True, "inactiveonly": False, "all": None},
    "activeonly": {"true": True, "false": None},
    "includeinactive": {"true": None, "false": True},
}
"""Values of the four parameters that filter by `active`. None selects both kinds of records."""


def derive_filters(
    api: ApiSpecification, operation: ReadOperation, record: Schema, collection: str = ""
) -> dict[str, Filter]:
    """Derive the filters of an operation, by parameter. Those that no rule explains are left out.

    `active` and its variants are not among them, because their default selects records, too.

    Args:
        api: of the operation.
        operation: its parameters are the filters.
        record: the shape of the records that are filtered.
        collection: the name of their collection; "" for records that are not in one.
    """
    paths = list_paths(api, record)
    found: dict[str, Filter] = {}
    for parameter in operation.query.values():
        if not _is_filter(parameter):
            continue
        join = JOINS.get((collection, parameter.name))
        rule = (
            derive_joined_rule(api, parameter, join) if join else derive_rule(api, parameter, paths)
        )
        if rule is not None:
            found[parameter.name] = rule
    return found


def list_unexplained(
    api: ApiSpecification, operation: ReadOperation, record: Schema, collection: str = ""
) -> tuple[str, ...]:
    """Return the declared filters that no rule explains."""
    explained = derive_filters(api, operation, record, collection)
    return tuple(
        p.name for p in operation.query.values() if _is_filter(p) and p.name not in explained
    )


def select_active(operation: ReadOperation, values: Mapping[str, Any]) -> bool | None:
    """Return which records `active` or one of its variants selects; None for all."""
    for name in operation.query:
        choices = ACTIVE_VALUES.get(name.lower())
        if choices is not None:
            # Most documents state a default. Without one, the list may hide inactive records.
            return choices[str(values[name]).lower()] if name in values else True
    return None


def selects_all(schema: Schema, value: Any) -> bool:
    """Return whether an enum value stands for all records, even those without a value."""
    return bool(schema.enum) and str(value).lower() in ("any", "all")


def _is_filter(parameter: Parameter) -> bool:
    name = parameter.name.lower()
    return name not in NOT_FILTERS and name not in ACTIVE_VALUES
