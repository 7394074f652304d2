"""Derives what a filter selects by from the name of its parameter.

The documents say which filters a list takes, and not which field each one means. These rules read
it from the name: `createdOnOrAfter` bounds `createdOn`, `customerId` selects by the customer,
`statuses` by several states. `filter_fields` has what no rule finds.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from st_pipelines.catalog.specification import ApiSpecification, Parameter, Schema
from st_pipelines.sandbox.filter_comparisons import (
    Test,
    always,
    compares,
    contains,
    equals,
    has_custom_fields,
    is_absent,
    is_among,
    is_discrepant,
    is_form,
    is_published,
    matches_empty,
    to_number,
)
from st_pipelines.sandbox.filter_fields import CREATED, FIELDS, MODIFIED, Join


@dataclass(frozen=True, kw_only=True)
class Filter:
    """How a parameter selects records.

    Attributes:
        parameter: its name.
        fields: the paths of the fields that it looks at; one match is enough.
        test: compares a field's value with the parameter's value.
        moments: whether the field's values are times, to be compared in ticks.
        join: where the field lies, if in another collection.
        together: whether the test takes all values of a record at once.
    """

    parameter: str
    fields: tuple[str, ...]
    test: Test
    moments: bool = False
    join: Join | None = None
    together: bool = False


def derive_rule(
    api: ApiSpecification, parameter: Parameter, paths: Mapping[str, Schema]
) -> Filter | None:
    """Derive what a parameter selects by; None if no rule explains it.

    Args:
        api: of the operation.
        parameter: a filter.
        paths: the shapes of a record's values by path, see `collections.list_paths`.
    """
    name = parameter.name
    schema = api.resolve(parameter.schema)
    # A filter compares with a plain value, such as the name inside an object.
    by_lower = {path.lower(): path for path, shape in paths.items() if shape.kind != "object"}
    if name in _WORDS:
        field, test = _WORDS[name]
        return _make(name, _find(by_lower, field), test)
    if name == "status" and "published" in by_lower:
        return _make(name, by_lower["published"], is_published)
    if name.endswith(("Filter.Comparer", "Filter.Amount", "Filter.Balance")):
        stem = name.partition("Filter.")[0]
        return _make(name, _find(by_lower, stem), always if "Comparer" in name else compares)
    if name == "ids":
        return _make(name, _find(by_lower, "id", "jobId"), is_among)
    if name.startswith("customField"):
        return _derive_custom_fields(name, paths)
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
        return Filter(parameter=name, fields=known, test=contains)
    is_text = schema.kind == "string"
    if schema.kind == "array" or (is_text and (parameter.max_items or _is_plural(name))):
        return _make(name, known[0], is_among)
    # `name=Mill` finds "Miller": text filters match parts, as in the user interface.
    is_free = is_text and not schema.enum and schema.format == ""
    return _make(name, known[0], contains if is_free else equals)


def derive_joined_rule(api: ApiSpecification, parameter: Parameter, join: Join) -> Filter:
    """Derive what a parameter selects by whose field lies in another collection."""
    schema = api.resolve(parameter.schema)
    if _is_time(schema):
        test = next(t for s, t in _TIME_SUFFIXES if parameter.name.endswith(s))
        return Filter(
            parameter=parameter.name, fields=(join.field,), test=test, moments=True, join=join
        )
    if parameter.name == "isProspect":
        return Filter(
            parameter=parameter.name, fields=(join.field,), test=is_absent, join=join, together=True
        )
    if parameter.name == "threeWayMatchDiscrepancy":
        test = is_discrepant
    elif _is_plural(parameter.name):
        test = is_among
    else:
        test = contains if schema.kind == "string" and not schema.enum else equals
    return Filter(parameter=parameter.name, fields=(join.field,), test=test, join=join)


_WORDS: Mapping[str, tuple[str, Test]] = {
    "empty": ("isEmpty", matches_empty),
    "isCaptureSourceForm": ("captureSource", is_form),
    "threeWayMatchDiscrepancy": ("status", is_discrepant),
}
"""Filters whose values are others than those of their field, with the field and the comparison."""


def _derive_custom_fields(name: str, paths: Mapping[str, Schema]) -> Filter | None:
    """Derive `customField.Fields`, and `customField.Operator`, which says how these combine."""
    if "customFields[]" not in paths:
        return None
    test = always if name.endswith(".Operator") else has_custom_fields
    return Filter(parameter=name, fields=("customFields",), test=test, together=True)


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
            return _make(name, field, lambda value, bound, test=test: test(to_number(value), bound))
    return None


def _derive_switch(name: str, schema: Schema, paths: Mapping[str, str]) -> Filter | None:
    """Derive filters that are true or false: `isClosed`, `hasTriggers`, `withoutCustomer`."""
    if schema.kind != "boolean":
        return None
    field = _find(paths, name, f"is{name}", name.removeprefix("is"))
    if field is not None:
        return _make(name, field, equals)
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
