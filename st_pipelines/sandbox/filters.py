"""Interprets the filters that an operation declares, by the names of its parameters.

The documents say which filters a list takes, and not which field each one means. These rules read
it from the name: `createdOnOrAfter` bounds `createdOn`, `customerId` selects by the customer,
`statuses` by several states. Start at `derive_filters`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from st_pipelines.catalog.specification import ApiSpecification, Parameter, ReadOperation, Schema
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.collections import resolve_members
from st_pipelines.sandbox.filter_fields import CREATED, FIELDS, JOINS, MODIFIED, Join

Test: TypeAlias = Callable[[Any, Any], bool]
"""Tells whether a field's value matches a parameter's value."""

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


@dataclass(frozen=True, kw_only=True)
class Filter:
    """How a parameter selects records.

    Attributes:
        parameter: its name.
        fields: the paths of the fields that it looks at; one match is enough.
        test: compares a field's value with the parameter's value.
        moments: whether the field's values are times, to be compared in ticks.
        join: where the field lies, if in another collection.
    """

    parameter: str
    fields: tuple[str, ...]
    test: Test
    moments: bool = False
    join: Join | None = None


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
        rule = _derive_joined(api, parameter, join) if join else _derive(api, parameter, paths)
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


def list_paths(api: ApiSpecification, record: Schema, depth: int = 3) -> dict[str, Schema]:
    """Return the shapes of a record's values by path: `job.id`, `items[].skuId`."""
    found: dict[str, Schema] = {}
    for name, schema in resolve_members(api, record).items():
        inner = schema
        path = name
        if inner.kind == "array" and inner.items is not None:
            inner, path = api.resolve(inner.items), f"{name}[]"
        found[path] = inner
        if inner.kind == "object" and depth > 1:
            inside = list_paths(api, inner, depth - 1)
            found.update({f"{path}.{deeper}": shape for deeper, shape in inside.items()})
    return found


def _is_filter(parameter: Parameter) -> bool:
    name = parameter.name.lower()
    return name not in NOT_FILTERS and name not in ACTIVE_VALUES


def _derive(
    api: ApiSpecification, parameter: Parameter, paths: Mapping[str, Schema]
) -> Filter | None:
    name = parameter.name
    schema = api.resolve(parameter.schema)
    # A filter compares with a plain value, such as the name inside an object.
    by_lower = {path.lower(): path for path, shape in paths.items() if shape.kind != "object"}
    if name == "empty":
        return _make(name, _find(by_lower, "isEmpty"), _matches_empty)
    if name == "status" and "published" in by_lower:
        return _make(name, by_lower["published"], _is_published)
    if name.endswith(("Filter.Comparer", "Filter.Amount", "Filter.Balance")):
        stem = name.partition("Filter.")[0]
        return _make(name, _find(by_lower, stem), _always if "Comparer" in name else _compares)
    if name == "ids":
        return _make(name, _find(by_lower, "id", "jobId"), _is_among)
    everything = {path.lower(): path for path in paths}
    for rule, known_paths in (
        (_derive_time, by_lower),
        (_derive_range, by_lower),
        (_derive_switch, everything),
    ):
        found = rule(name, schema, known_paths)
        if found is not None:
            return found
    fields = FIELDS.get(name.lower())
    known = tuple(by_lower[f.lower()] for f in fields or () if f.lower() in by_lower)
    known = known or _find_named(name, by_lower)
    if not known:
        return None
    if name.lower().startswith("search") or name.endswith("Contains"):
        return Filter(parameter=name, fields=known, test=_contains)
    is_text = schema.kind == "string"
    if schema.kind == "array" or (is_text and (parameter.max_items or _is_plural(name))):
        return _make(name, known[0], _is_among)
    # `name=Mill` finds "Miller": text filters match parts, as in the user interface.
    is_free = is_text and not schema.enum and schema.format == ""
    return _make(name, known[0], _contains if is_free else _equals)


def _derive_joined(api: ApiSpecification, parameter: Parameter, join: Join) -> Filter:
    schema = api.resolve(parameter.schema)
    if _is_time(schema):
        test = next(t for s, t in _TIME_SUFFIXES if parameter.name.endswith(s))
        return Filter(
            parameter=parameter.name, fields=(join.field,), test=test, moments=True, join=join
        )
    if _is_plural(parameter.name):
        test = _is_among
    else:
        test = _contains if schema.kind == "string" and not schema.enum else _equals
    return Filter(parameter=parameter.name, fields=(join.field,), test=test, join=join)


_TIME_SUFFIXES: tuple[tuple[str, Test], ...] = (
    ("OnOrAfter", operator.ge),
    ("OnOrBefore", operator.le),
    ("OnAfter", operator.ge),
    ("OnBefore", operator.lt),
    ("After", operator.gt),
    ("Before", operator.lt),
    ("From", operator.ge),
    ("To", operator.le),
)
"""Of `createdOnOrAfter` and others; the first that fits counts. `After` and `Before` exclude their
bound."""


def _derive_time(name: str, schema: Schema, paths: Mapping[str, str]) -> Filter | None:
    if not _is_time(schema):
        return None
    if name.lower().startswith(("from", "to")):
        test = operator.ge if name.lower().startswith("from") else operator.lt
        return _make(name, _find_listed(name, paths), test, moments=True)
    test = operator.ge if name.lower().startswith("start") else operator.le
    endings = ((s, t) for s, t in _TIME_SUFFIXES if name.endswith(s))
    suffix, test = next(endings, ("", test))
    field = _find_listed(name, paths) or _find_time(name.removesuffix(suffix), paths)
    return _make(name, field, test, moments=True)


def _find_time(stem: str, paths: Mapping[str, str]) -> str | None:
    singular = stem.removesuffix("s")
    wanted = [
        f"{base}{suffix}"
        for base in (stem, singular)
        for suffix in ("On", "Date", "", "At", "Time")
    ]
    wanted += [f"{stem.removesuffix('Date')}On", "startDate" if singular == "start" else ""]
    wanted += [f"leadCall.{stem}On", "batch.date" if stem == "batched" else ""]
    found = _find(paths, *filter(None, wanted))
    # Some lists select by times that their records do not show.
    return found or {"created": CREATED, "modified": MODIFIED}.get(stem)


def _derive_range(name: str, schema: Schema, paths: Mapping[str, str]) -> Filter | None:
    """Derive `totalGreater`, `minDuration`, `numberFrom`, `fromRating` and their opposites."""
    if schema.kind not in ("integer", "number"):
        return None
    patterns: tuple[tuple[str, Test], ...] = (
        (r"^(.+)Greater$", operator.gt),
        (r"^(.+)Less$", operator.lt),
        (r"^min(.+)$", operator.ge),
        (r"^max(.+)$", operator.le),
        (r"^(.+)From$", operator.ge),
        (r"^(.+)To$", operator.le),
        (r"^from(.+)$", operator.ge),
        (r"^to(.+)$", operator.le),
    )
    for pattern, test in patterns:
        match = re.match(pattern, name)
        if match is None:
            continue
        stem = match.group(1)
        near = (stem, f"leadCall.{stem}", "grossAmount", "amount")
        field = _find_listed(name, paths) or _find(paths, *near)
        if field is not None:
            return _make(name, field, lambda value, bound, test=test: test(_number(value), bound))
    return None


def _derive_switch(name: str, schema: Schema, paths: Mapping[str, str]) -> Filter | None:
    """Derive filters that are true or false: `isClosed`, `hasTriggers`, `withoutCustomer`."""
    if schema.kind != "boolean":
        return None
    field = _find(paths, name, f"is{name}", name.removeprefix("is"))
    if field is not None:
        return _make(name, field, _equals)
    stem = re.sub(r"^(has|without)", "", name)
    if stem != name:
        field = _find(paths, stem, f"{stem}Id", f"{stem.removesuffix('s')}Count", f"{stem}[]")
        wants_none = name.startswith("without")
        return _make(name, field, lambda value, wanted: (not value) is (wanted is wants_none))
    if name.startswith("includeReviewsWithout"):
        field = _find(paths, name.removeprefix("includeReviewsWithout") + "Id")
        return _make(name, field, lambda value, wanted: wanted or value is not None)
    return None


def _find_named(name: str, paths: Mapping[str, str]) -> tuple[str, ...]:
    """Find the field that a parameter is named after, in its singular, too."""
    base = name.removesuffix("Contains").replace(".", "")
    stems = [base, *_singulars(base)]
    wanted: list[str] = []
    for stem in stems:
        head = re.sub(r"Ids?$", "", stem)
        wanted += [stem, f"{stem}[]", f"leadCall.{stem}", f"address.{stem}"]
        wanted += [f"{head}.id", f"{head}s[].id", f"{head}Ids[]", f"items[].{stem}"]
        wanted += [f"{stem}.name", f"{stem}.value", f"{re.sub('Name$', '', stem)}.name"]
        wanted += [f"{re.sub('Number$', '', stem)}.number", f"{stem}Number", f"{stem}Id"]
        wanted += [f"{stem.removesuffix('EmployeeId')}", f"{stem}Name", f"{stem}Code"]
    found = _find(paths, *wanted)
    return () if found is None else (found,)


def _singulars(name: str) -> list[str]:
    forms = [(r"Ids$", "Id"), (r"ies$", "y"), (r"(s|x)es$", r"\1"), (r"s$", "")]
    return [re.sub(pattern, form, name) for pattern, form in forms if re.search(pattern, name)]


_PLURAL = re.compile(r"(Ids|IdList)$|(?i:statuses|types|values|numbers|names|priorities)$")


def _is_plural(name: str) -> bool:
    return _PLURAL.search(name) is not None


def _is_time(schema: Schema) -> bool:
    return schema.kind == "string" and schema.format in ("date-time", "date")


def _find_listed(name: str, paths: Mapping[str, str]) -> str | None:
    """Find the field that `FIELDS` lists for a parameter."""
    return _find(paths, *FIELDS.get(name.lower(), ()))


def _find(paths: Mapping[str, str], *names: str) -> str | None:
    return next((paths[name.lower()] for name in names if name.lower() in paths), None)


def _make(name: str, field: str | None, test: Test, *, moments: bool = False) -> Filter | None:
    if field is None:
        return None
    return Filter(parameter=name, fields=(field,), test=test, moments=moments)


def _number(value: Any) -> float:
    """Convert a number, or a duration such as `00:02:08.5`, which counts in seconds."""
    if isinstance(value, str) and ":" in value:
        hours, minutes, seconds = value.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return float(value)


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower()


def _equals(value: Any, wanted: Any) -> bool:
    return _spell(value) == _spell(wanted)


def _is_among(value: Any, wanted: Any) -> bool:
    texts = wanted.split(",") if isinstance(wanted, str) else wanted
    return _spell(value) in {_spell(text).strip() for text in texts}


def _matches_empty(value: Any, wanted: Any) -> bool:
    return wanted != "Exclude" or not value


def _is_published(value: Any, wanted: Any) -> bool:
    return wanted == "Any" or value is (wanted == "Published")


def _always(value: Any, wanted: Any) -> bool:
    return True


def _compares(value: Any, wanted: Any) -> bool:
    """Compare with `wanted`: an amount, or an amount and how to compare with it."""
    amount, comparer = wanted if isinstance(wanted, tuple) else (wanted, "Equals")
    number = _number(value)
    if comparer.startswith(("Equal", "NotEqual")):
        return (number == amount) is comparer.startswith("Equal")
    is_beyond = number > amount if comparer.startswith("Greater") else number < amount
    return is_beyond or (comparer.endswith("Equal") and number == amount)


def _contains(value: Any, wanted: Any) -> bool:
    return _spell(wanted) in _spell(value)


def read_moment(value: Any) -> int | None:
    """Convert a field's value to ticks; None if it holds no time."""
    if not isinstance(value, str):
        return None
    try:
        return ticks.parse(value)
    except ValueError:
        return None


def walk(value: Any, parts: tuple[str, ...]) -> list[Any]:
    """Return the values at a path of a parsed record: several where it passes through an array."""
    if not parts:
        return value if isinstance(value, list) else [value]
    name = parts[0].removesuffix("[]")
    if isinstance(value, list):
        return [found for item in value for found in walk(item, parts)]
    if not isinstance(value, dict):
        return [None]
    return walk(value.get(name), parts[1:])
