"""Describes reports, and checks the values that a run of a report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.report_definitions import DYNAMIC_SETS, Report, ReportParameter, Values


def list_fields(report: Report) -> list[dict[str, str]]:
    """Return the columns of a report's rows, in order."""
    return [{"name": each.name, "label": each.label} for each in report.fields]


def describe(report: Report) -> dict[str, Any]:
    """Return the description of a report: its parameters and fields."""
    return {
        "id": report.id,
        "name": report.name,
        "description": report.description,
        "modifiedOn": report.modified_on,
        "parameters": [_describe_parameter(each) for each in report.parameters],
        "fields": [
            {"name": each.name, "label": each.label, "dataType": each.data_type}
            for each in report.fields
        ],
    }


def _describe_parameter(parameter: ReportParameter) -> dict[str, Any]:
    accepted = None
    if parameter.dynamic_set:
        header = DYNAMIC_SETS[parameter.dynamic_set].describe()
        accepted = {"fields": header, "dynamicSetId": parameter.dynamic_set, "values": None}
    return {
        "name": parameter.name,
        "label": parameter.label,
        "dataType": parameter.data_type,
        "isArray": parameter.is_array,
        "isRequired": parameter.is_required,
        "acceptValues": accepted,
    }


def read_values(report: Report, body: Mapping[str, Any]) -> Values:
    """Read the values of a report's parameters from the body of a request.

    Only `parameters` is read: page and page size in the body are ignored, as ServiceTitan does.
    Parameters that the report does not have are ignored too, which is not documented.

    Raises:
        BadRequest: the body has another shape, a required value is missing, or one is of a wrong
            type.
    """
    given = body.get("parameters")
    if not isinstance(given, list):
        raise BadRequest("parameters", "The field is required and an array.")
    values: dict[str, Any] = {}
    for each in given:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str) or not each["name"]:
            raise BadRequest("parameters", "A parameter needs a name.")
        values[each["name"]] = each.get("value")
    return {each.name: _read_value(each, values.get(each.name)) for each in report.parameters}


def _read_value(parameter: ReportParameter, value: Any) -> Any:
    if value is None or value == "" or value == []:
        if parameter.is_required:
            raise BadRequest(parameter.name, f"The {parameter.name} parameter is required.")
        return None
    if not parameter.is_array:
        return _read_scalar(parameter, value)
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return [_read_scalar(parameter, each) for each in values]


def _read_scalar(parameter: ReportParameter, value: Any) -> Any:
    """Read a value. Clients send numbers and truth values as text, too."""
    text = str(value).strip()
    try:
        match parameter.data_type:
            case "Date":
                return date.fromisoformat(text[:10])
            case "Number" if not isinstance(value, bool):
                return int(text)
            case "Boolean":
                return {"true": True, "false": False}[text.lower()]
            case "String" | "Time" if isinstance(value, str):
                return text
    except (KeyError, ValueError):
        pass
    raise BadRequest(parameter.name, f"The value '{value}' is not valid.")
