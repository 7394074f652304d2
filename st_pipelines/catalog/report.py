"""Defines `Report`: what `st_reports.yaml` says of one report, and the dates that it computes.

A report is an endpoint of the kind `report`: `build_endpoint` makes one. Its columns are not known
until its data is read, so its endpoint has none; a load gives it those of the response.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal, TypeAlias

Contract: TypeAlias = Literal["auto", "async", "sync"]

API = "reports"
"""The schema of the tables, the group of the assets and the name of the job."""

READ_SCOPE = "tn.rpr.reports:r"
CATEGORIES_SCOPE = "tn.rpr.reportcategories:r"
DYNAMIC_SETS_SCOPE = "tn.rpr.dynamicvaluesets:r"
"""The OAuth scopes of ServiceTitan's reporting API (its OpenAPI document)."""

BASE_PATH = "/reporting/v2/tenant/{tenant}"
NO_SCHEDULE = "none"

ANCHORS = ("today", "yesterday", "month_start", "quarter_start", "year_start", "day")
_RELATIVE = re.compile(rf"({'|'.join(ANCHORS)})(?:\s*([+-])\s*(\d{{1,4}})\s*([dwmy]))?")


@dataclass(frozen=True)
class RelativeDate:
    """A date that is computed when a report is read: `today`, `month_start-1m`, `day-30d`.

    Attributes:
        text: an anchor, and optionally a number of days, weeks, months or years to add or take
            away. `day` is the day of the partition that is loaded.
    """

    text: str

    def __post_init__(self) -> None:
        """Raises ValueError if the text is not a relative date."""
        if not _RELATIVE.fullmatch(self.text):
            raise ValueError(
                f"{self.text!r} is not a relative date: give one of {', '.join(ANCHORS)}, "
                "optionally with an offset such as -30d, -2w, -1m or -1y"
            )

    @property
    def needs_day(self) -> bool:
        """Whether only the load of a day can compute it."""
        return self.text.startswith("day")

    def resolve(self, today: date, day: date | None) -> date:
        """Returns the date.

        Args:
            today: the local day of the load.
            day: the day that is loaded; None for a report that is loaded whole.

        Raises:
            ValueError: it depends on the day that is loaded, and there is none; or the date is out
                of the calendar.
        """
        found = _RELATIVE.fullmatch(self.text)
        assert found is not None
        anchor, sign, number, unit = found.groups()
        start = {
            "today": today,
            "yesterday": today - timedelta(days=1),
            "month_start": today.replace(day=1),
            "quarter_start": today.replace(month=today.month - (today.month - 1) % 3, day=1),
            "year_start": today.replace(month=1, day=1),
            "day": day,
        }[anchor]
        if start is None:
            raise ValueError(f"{self.text!r} needs a report that is loaded by days")
        return _shift(start, int(f"{sign}{number}") if sign else 0, unit or "d")


def _shift(start: date, number: int, unit: str) -> date:
    """Adds days, weeks, months or years; the 31st becomes the last day of a shorter month."""
    try:
        if unit in "dw":
            return start + timedelta(days=number * (7 if unit == "w" else 1))
        months = start.year * 12 + start.month - 1 + number * (12 if unit == "y" else 1)
        year, month = months // 12, months % 12 + 1
        return date(year, month, min(start.day, calendar.monthrange(year, month)[1]))
    except (ValueError, OverflowError):
        raise ValueError(f"{start} {number:+}{unit} is out of the calendar") from None


@dataclass(frozen=True, kw_only=True)
class ReportColumn:
    """A column of a report's table, and the field of the report whose values it holds.

    Attributes:
        field: identifies the field in responses: its name, with its label where several fields of
            the report have that name.
        label: what people see; may change.
        column: in the table. It stays the field's, whatever other fields come later.
        position: of the field in the last response, from 0; None if it was not in it.
    """

    field: str
    label: str
    column: str
    position: int | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a user wants of one report.

    Attributes:
        name: of the table and the asset, in snake_case.
        category: id or name of the report's category.
        report: id, or name in the category. Ids are a tenant's own.
        parameters: values by name of the parameter: scalars, lists, or relative dates.
        from_parameter, to_parameter: the date parameters that get the day that is loaded; one of
            them or both. None for a report that is loaded whole.
        look_back_days: days before the latest one that are read along with it.
        schedule: a cron expression; None for the environment's daily one, `NO_SCHEDULE` for none.
        contract: which of ServiceTitan's two ways to run a report to use.
        environments: the environments that have the report; empty for all.
        columns: of the table, once a response has told them.
    """

    name: str
    category: str
    report: int | str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    from_parameter: str | None = None
    to_parameter: str | None = None
    look_back_days: int = 0
    schedule: str | None = None
    contract: Contract = "auto"
    environments: tuple[str, ...] = ()
    columns: tuple[ReportColumn, ...] = ()

    @property
    def by_day(self) -> bool:
        """Whether it is loaded a day at a time."""
        return bool(self.from_parameter or self.to_parameter)

    def parameter_values(self, today: date, day: date | None) -> dict[str, Any]:
        """Returns the values to send, dates as YYYY-MM-DD.

        Args:
            today: the local day of the load.
            day: the day to load; None for a report that is loaded whole.

        Raises:
            ValueError: a relative date cannot be computed; the message names the parameter.
        """
        values: dict[str, Any] = {}
        for name, value in self.parameters.items():
            try:
                values[name] = _resolve(value, today, day)
            except ValueError as error:
                raise ValueError(f"report {self.name}: parameter {name}: {error}") from None
        if self.by_day and day is not None:
            for name in (self.from_parameter, self.to_parameter):
                if name:
                    values[name] = day.isoformat()
        return values


def _resolve(value: Any, today: date, day: date | None) -> Any:
    if isinstance(value, RelativeDate):
        return value.resolve(today, day).isoformat()
    if isinstance(value, tuple):
        return [_resolve(item, today, day) for item in value]
    return value
