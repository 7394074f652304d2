"""Builds an entry of `st_reports.yaml` from options, and asks for what they lack in a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from st_pipelines.catalog.model import snake_case
from st_pipelines.catalog.report import RelativeDate

if TYPE_CHECKING:
    from st_pipelines.config.project import EnvironmentConfig
    from st_pipelines.servicetitan.http.client import Session
    from st_pipelines.servicetitan.http.model import ReadStats
    from st_pipelines.servicetitan.reporting.directory import Parameter, ReportDescription

MAX_SHOWN_VALUES = 20

_FROM = re.compile(r"from|start|begin|after", re.IGNORECASE)
_TO = re.compile(r"to$|end|until|before|thru|through", re.IGNORECASE)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the options say; None for what they leave open."""

    category: str | None = None
    report: str | None = None
    name: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    from_parameter: str | None = None
    to_parameter: str | None = None
    whole: bool = False
    look_back_days: int | None = None
    schedule: str | None = None
    contract: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Asks people, if there is a terminal."""

    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty()

    def ask(self, text: str, option: str, default: str | None = None) -> str:
        """Returns an answer; the default without a terminal.

        Raises:
            ValueError: there is neither a terminal nor a default.
        """
        if self.is_terminal():
            return typer.prompt(text, default=default, show_default=bool(default))
        if default is None:
            raise ValueError(f"{option} is missing: give it, or run this in a terminal")
        return default

    def confirm(self, text: str) -> bool:
        """Returns whether people agree; true without a terminal."""
        return typer.confirm(text, default=True) if self.is_terminal() else True


def build_entry(
    session: Session[ReadStats], config: EnvironmentConfig, answers: Answers, questions: Questions
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns an entry, and comments by member.

    Raises:
        ValueError: something is missing or wrong, and nobody can be asked.
        ServiceTitanError: the report cannot be read.
    """
    description = _find(session, answers, questions)
    first, last = _choose_days(description, answers, questions)
    unknown = answers.parameters.keys() - {each.name for each in description.parameters}
    if unknown:
        known = ", ".join(each.name for each in description.parameters) or "none"
        raise ValueError(f"the report has no parameter {sorted(unknown)[0]!r}: it has {known}")
    parameters = {
        each.name: value
        for each in description.parameters
        if each.name not in (first, last)
        and (value := _choose_value(session, each, answers, questions)) is not None
    }
    suggested = snake_case(description.name)
    entry: dict[str, Any] = {
        "name": answers.name or questions.ask("Name of the table", "--name", suggested),
        "category": description.category,
        "report": description.id,
    }
    if parameters:
        entry["parameters"] = parameters
    if first or last:
        entry["days"] = {k: v for k, v in (("from", first), ("to", last)) if v}
        look_back = answers.look_back_days
        if look_back is None:
            look_back = _as_count(questions.ask("Look-back days", "--look-back-days", "0"))
        if look_back:
            entry["look_back_days"] = look_back
    if answers.schedule:
        entry["schedule"] = answers.schedule
    if answers.contract != "auto":
        entry["contract"] = answers.contract
    entry["environments"] = [config.environment]  # ids are a tenant's own
    return entry, {"report": description.name}


def _find(session: Session[ReadStats], answers: Answers, questions: Questions) -> ReportDescription:
    from st_pipelines.servicetitan.reporting import directory

    category = answers.category
    if category is None:
        listed = directory.list_categories(session)
        _print_choices([(each.id, each.name) for each in listed], questions)
        category = questions.ask("Category", "--category")
    report = answers.report
    if report is None:
        found = directory.list_reports(session, category)
        _print_choices([(str(each.id), each.name) for each in found], questions)
        report = questions.ask("Report", "--report")
    target = directory.resolve_report(session, category, as_report(report))
    return directory.describe_report(session, target)


def _print_choices(choices: Sequence[tuple[str, str]], questions: Questions) -> None:
    if questions.is_terminal():
        for identity, name in choices:
            typer.echo(f"  {identity}  {name}")


def _choose_days(
    description: ReportDescription, answers: Answers, questions: Questions
) -> tuple[str | None, str | None]:
    """Returns the date parameters that get the day."""
    dates = description.date_parameters
    for name in (answers.from_parameter, answers.to_parameter):
        if name and name not in dates:
            known = ", ".join(dates) or "none"
            raise ValueError(f"{name!r} is not a date parameter of the report: it has {known}")
    if answers.from_parameter or answers.to_parameter:
        return answers.from_parameter, answers.to_parameter
    free = [name for name in dates if name not in answers.parameters]
    first = next((name for name in free if _FROM.search(name)), None)
    last = next((name for name in free if _TO.search(name) and name != first), None)
    if answers.whole or not (first and last):
        return None, None
    question = f"Load it by days, with {first} and {last} as the day?"
    return (first, last) if questions.confirm(question) else (None, None)


def _choose_value(
    session: Session[ReadStats], parameter: Parameter, answers: Answers, questions: Questions
) -> Any:
    """Returns a parameter's value for the file; None to leave it out."""
    from st_pipelines.servicetitan.reporting.directory import list_values

    text = answers.parameters.get(parameter.name)
    accepted: list[tuple[Any, ...]] | None = None
    if text is None:
        if not (parameter.is_required or questions.is_terminal()):
            return None
        accepted = list_values(session, parameter)
        if accepted and questions.is_terminal():
            typer.echo(f"  {parameter.name} accepts {describe_values(accepted)}")
        default = None if parameter.is_required else ""
        option = f"--parameter {parameter.name}=..."
        text = questions.ask(f"{parameter.name} ({parameter.label})", option, default)
    if not text:
        return None
    if accepted is None:
        accepted = list_values(session, parameter)
    parts = [part.strip() for part in text.split(",")] if parameter.is_array else [text.strip()]
    values = [_convert(parameter, part, accepted) for part in parts]
    return values if parameter.is_array else values[0]


def _convert(parameter: Parameter, text: str, accepted: Sequence[tuple[Any, ...]]) -> Any:
    """Returns a value as the file has it. Accepted values may be given by their names.

    Raises:
        ValueError: it is none of the parameter's type, or not among the accepted ones.
    """
    if accepted:
        for row in accepted:
            if text in [str(cell) for cell in row[:2]]:
                return row[0]
        raise ValueError(
            f"{parameter.name} does not accept {text!r}: it accepts "
            f"{describe_values(list(accepted))}"
        )
    match parameter.data_type:
        case "Number":
            return _as_number(parameter.name, text)
        case "Boolean":
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{parameter.name}: {text!r} is neither true nor false")
            return text.lower() == "true"
        case "Date":
            return text if _DAY.fullmatch(text) else {"date": RelativeDate(text).text}
    return text


def _as_number(name: str, text: str) -> int | float:
    try:
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is not a number") from None


def _as_count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a number of days")
    return int(text)


def as_report(text: str) -> int | str:
    """Returns the id or name of a report that was given on the command line."""
    return int(text) if text.isascii() and text.isdigit() else text


def describe_values(rows: list[tuple[Any, ...]]) -> str:
    """Returns the accepted values, each with its name, as far as there is room."""
    shown = [" ".join(map(str, row[:2])) for row in rows[:MAX_SHOWN_VALUES]]
    more = len(rows) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
