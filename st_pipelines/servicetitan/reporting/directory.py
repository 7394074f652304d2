"""Finds reports: categories, reports, parameters, the values that they accept, and near matches.

None of these requests runs a report, so the limit of runs does not concern them. Each
tenant has ids of its own for reports, and a report that is moved or created again gets another id;
a name is looked up with each load.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from st_pipelines.catalog.report import (
    BASE_PATH,
    CATEGORIES_SCOPE,
    DYNAMIC_SETS_SCOPE,
    READ_SCOPE,
)
from st_pipelines.servicetitan.errors.errors import (
    PermissionDenied,
    ReportNotFound,
    ServiceTitanError,
    UnexpectedResponse,
    WrongPath,
)
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import Usage
from st_pipelines.servicetitan.reporting.envelope import parse_list, parse_object
from st_pipelines.servicetitan.reporting.run import ReportTarget

PAGE_SIZE = 500
_MAX_PAGES = 1000
_MAX_SUGGESTIONS = 5
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Category:
    """A category of reports."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class ListedReport:
    """A report as its category lists it."""

    category: str
    id: int
    name: str
    description: str = ""

    def __str__(self) -> str:
        """Returns what to write into the file, and the name."""
        return f"category {self.category}, report {self.id} ({self.name})"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a report.

    Attributes:
        data_type: String, Number, Boolean, Date or Time; of an item where `is_array`.
        values: the rows of accepted values, each with its value first; empty if all are accepted,
            or if the values are in a dynamic set.
        dynamic_set: id of the set of accepted values; empty for none.
    """

    name: str
    label: str
    data_type: str
    is_array: bool = False
    is_required: bool = False
    values: tuple[tuple[Any, ...], ...] = ()
    dynamic_set: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportDescription:
    """What a report has: parameters, and the fields of its rows.

    Attributes:
        fields: name, label and declared type, which values do not always match.
    """

    category: str
    id: int
    name: str
    description: str
    modified_on: str
    parameters: tuple[Parameter, ...]
    fields: tuple[tuple[str, str, str], ...]

    @property
    def date_parameters(self) -> tuple[str, ...]:
        """The names of the parameters that take one date."""
        dates = (p for p in self.parameters if p.data_type == "Date" and not p.is_array)
        return tuple(parameter.name for parameter in dates)


def list_categories(session: Session[Usage]) -> list[Category]:
    """Return the categories. Raises ServiceTitanError."""
    rows = _read_list(session, f"{BASE_PATH}/report-categories", CATEGORIES_SCOPE)
    return [Category(id=str(row["id"]), name=str(row.get("name") or "")) for row in rows]


def list_reports(session: Session[Usage], category: str) -> list[ListedReport]:
    """Return the reports of a category, by its id. Raises ServiceTitanError."""
    path = f"{BASE_PATH}/report-category/{quote(category, safe='')}/reports"
    return [
        ListedReport(
            category=category,
            id=int(row["id"]),
            name=str(row.get("name") or ""),
            description=str(row.get("description") or ""),
        )
        for row in _read_list(session, path, READ_SCOPE)
    ]


def describe_report(session: Session[Usage], target: ReportTarget) -> ReportDescription:
    """Return a report's parameters and fields.

    Raises:
        ReportNotFound: there is no such report.
        ServiceTitanError: after the retries.
    """
    try:
        found = session.fetch(target.path, {}, parse_object, scope=READ_SCOPE)
    except WrongPath as error:
        raise explain_not_found(session, error, target) from None
    return ReportDescription(
        category=target.category,
        id=target.report_id,
        name=str(found.get("name") or ""),
        description=str(found.get("description") or ""),
        modified_on=str(found.get("modifiedOn") or ""),
        parameters=tuple(map(_parse_parameter, found.get("parameters") or ())),
        fields=tuple(
            (str(each.get("name")), str(each.get("label") or ""), str(each.get("dataType") or ""))
            for each in found.get("fields") or ()
        ),
    )


def list_dynamic_values(session: Session[Usage], dynamic_set: str) -> list[tuple[Any, ...]]:
    """Return the rows of a set of accepted values, each with its value first."""
    path = f"{BASE_PATH}/dynamic-value-sets/{quote(dynamic_set, safe='')}"
    rows = _read_list(session, path, DYNAMIC_SETS_SCOPE)
    return [tuple(row) if isinstance(row, list) else (row,) for row in rows]


def list_values(session: Session[Usage], parameter: Parameter) -> list[tuple[Any, ...]]:
    """Return the rows of values that a parameter accepts; none if it accepts all."""
    if parameter.dynamic_set:
        return list_dynamic_values(session, parameter.dynamic_set)
    return list(parameter.values)


def resolve_report(session: Session[Usage], category: str, report: int | str) -> ReportTarget:
    """Return the ids of a report. A category or report that is given by its id costs no request.

    Args:
        category: id (a slug such as `operations`) or name.
        report: id, or name in the category, in upper or lower case.

    Raises:
        ReportNotFound: there is none of these names, or several; near matches are named.
        ServiceTitanError: after the retries.
    """
    if not _SLUG.fullmatch(category):
        category = _find_category(session, category)
    if isinstance(report, int):
        return ReportTarget(category=category, report_id=report)
    try:
        listed = list_reports(session, category)
    except WrongPath as error:
        problem = f"there is no report category {category!r}"
        raise _build_not_found(session, problem, error) from None
    found = [each for each in listed if _same(each.name, report)]
    if len(found) == 1:
        return ReportTarget(category=category, report_id=found[0].id)
    if found:
        raise ReportNotFound(
            f"{len(found)} reports in the category {category!r} are named {report!r}",
            hint=f"Give the id of one: {', '.join(str(each.id) for each in found)}.",
        )
    problem = f"there is no report {report!r} in the category {category!r}"
    raise _build_not_found(session, problem, None, name=report)


def explain_not_found(
    session: Session[Usage], error: WrongPath, target: ReportTarget, name: str = ""
) -> WrongPath:
    """Return the error to raise instead of a 404 of a report: it names near matches.

    Args:
        error: the 404; any other error is returned as it is.
        name: what the user calls the report, to find similar names.
    """
    if error.status not in (404, 410):
        return error
    problem = f"there is no report {target.report_id} in the category {target.category!r}"
    return _build_not_found(session, problem, error, name=name, report_id=target.report_id)


def _build_not_found(
    session: Session[Usage],
    problem: str,
    error: WrongPath | None,
    *,
    name: str = "",
    report_id: int | None = None,
) -> ReportNotFound:
    try:
        categories = list_categories(session)
        listed = list(_list_all(session, categories))
    except PermissionDenied:
        suggestion = (
            f"To see near matches here, the app needs the scopes {CATEGORIES_SCOPE} and "
            f"{READ_SCOPE}"
        )
    except ServiceTitanError:
        suggestion = "st-pipelines reports list shows all reports"
    else:
        suggestion = _suggest(listed, name, report_id)
    return ReportNotFound(
        problem,
        method=error.method if error else "",
        url=error.url if error else "",
        status=error.status if error else None,
        trace_id=error.trace_id if error else None,
        hint=f"{suggestion}. A report that is created again gets another id, and other tenants and "
        "environments have other ids.",
    )


def _list_all(session: Session[Usage], categories: Sequence[Category]) -> Iterator[ListedReport]:
    for category in categories:
        try:
            yield from list_reports(session, category.id)
        except WrongPath:  # a category that went away meanwhile
            continue


def _suggest(listed: Sequence[ListedReport], name: str, report_id: int | None) -> str:
    same_id = [each for each in listed if each.id == report_id]
    if same_id:
        return f"It is elsewhere: {'; '.join(map(str, same_id))}"
    near = _find_similar(listed, name)
    if near:
        return f"Similar names have: {'; '.join(map(str, near))}"
    if not listed:
        return "This tenant has no reports that the app may see"
    return f"st-pipelines reports list shows the {len(listed):,} reports of this tenant"


def _find_similar(listed: Sequence[ListedReport], name: str) -> list[ListedReport]:
    """Return the reports whose names resemble one, the most similar first."""
    wanted = _normalize(name)
    if not wanted:
        return []
    names = [_normalize(each.name) for each in listed]
    near = difflib.get_close_matches(wanted, names, n=_MAX_SUGGESTIONS, cutoff=0.5)
    near += [other for other in names if other and (wanted in other or other in wanted)]
    ordered = list(dict.fromkeys(near))[:_MAX_SUGGESTIONS]
    return [
        each for other in ordered for each, own in zip(listed, names, strict=True) if own == other
    ][:_MAX_SUGGESTIONS]


def _normalize(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))


def _find_category(session: Session[Usage], name: str) -> str:
    categories = list_categories(session)
    found = [each.id for each in categories if _same(each.name, name) or each.id == name]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"{each.id} ({each.name})" for each in categories)
    known = f"Known are {shown}." if categories else "The tenant has no categories."
    number = f"{len(found)} report categories are" if found else "no report category is"
    raise ReportNotFound(f"{number} named {name!r}", hint=known)


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _parse_parameter(given: dict[str, Any]) -> Parameter:
    accepted = given.get("acceptValues") or {}
    values = accepted.get("values") or ()
    return Parameter(
        name=str(given.get("name")),
        label=str(given.get("label") or ""),
        data_type=str(given.get("dataType") or ""),
        is_array=bool(given.get("isArray")),
        is_required=bool(given.get("isRequired")),
        values=tuple(tuple(row) if isinstance(row, list) else (row,) for row in values),
        dynamic_set=str(accepted.get("dynamicSetId") or ""),
    )


def _read_list(session: Session[Usage], path: str, scope: str) -> list[Any]:
    """Read all pages of a list. Raises ServiceTitanError."""
    rows: list[Any] = []
    for page in range(1, _MAX_PAGES + 1):
        params = {"page": str(page), "pageSize": str(PAGE_SIZE)}
        items, has_more = session.fetch(path, params, parse_list, scope=scope)
        rows += items
        if not has_more:
            return rows
        if not items:
            break
    raise UnexpectedResponse(f"{path} does not end: a page says that more follow, and none do")
