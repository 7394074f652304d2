"""Reads, validates and extends the user's list of reports, `st_reports.yaml`.

    reports:
      - name: technician_performance        # table reports.technician_performance
        category: technician-dashboard      # id or name
        report: 1482                        # id or name
        parameters:
          BusinessUnitIds: [12, 15]
          AsOf: {date: month_start-1m}      # computed when the report is read
        days: {from: From, to: To}          # the parameters that get the day; none: loaded whole
        look_back_days: 3
        schedule: "30 5 * * *"              # by default the daily schedule's time; none: by hand
        contract: auto                      # or async, sync
        environments: [production]          # by default all

Errors name the file, the entry, and what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml

from st_pipelines.catalog.files import replace_files
from st_pipelines.catalog.report import NO_SCHEDULE, Contract, RelativeDate, Report
from st_pipelines.config.environments import ENVIRONMENTS
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.validators import check_cron

CONTRACTS: tuple[str, ...] = get_args(Contract)
MAX_LOOK_BACK_DAYS = 400
_MEMBERS = (
    "name",
    "category",
    "report",
    "parameters",
    "days",
    "look_back_days",
    "schedule",
    "contract",
    "environments",
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_EMPTY = "# The reports to load, see docs/reports.md.\nreports:\n"


def read_reports(file: Path) -> tuple[Report, ...]:
    """Returns the reports of a file, in its order; none if it does not exist.

    The result is kept per process and version of the file.

    Raises:
        SettingsError: the file is malformed, or cannot be read.
    """
    try:
        stamp = file.stat()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror})") from None
    return _read(file, (stamp.st_mtime_ns, stamp.st_size, stamp.st_ino))


@lru_cache(maxsize=4)
def _read(file: Path, version: tuple[int, ...]) -> tuple[Report, ...]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror})") from None
    return parse_reports(_parse_yaml(text, str(file)), str(file))


def add_report(
    file: Path, entry: Mapping[str, Any], comments: Mapping[str, str] | None = None
) -> Report:
    """Appends a report to the file, which is created if it does not exist.

    What people have written there, comments too, stays as it is.

    Args:
        comments: by member, written behind its value.

    Raises:
        SettingsError: the entry is invalid, has the name of another, or the file is malformed or
            written so that nothing can be appended.
        OSError: the file cannot be written.
    """
    before = read_reports(file)
    text = file.read_text(encoding="utf-8") if file.exists() else _EMPTY
    text = text if text.endswith("\n") else text + "\n"
    added = render_entry(entry, comments or {})
    extended = text + added
    try:
        reports = parse_reports(_parse_yaml(extended, str(file)), str(file))
    except SettingsError:
        report = parse_reports({"reports": [dict(entry)]}, str(file))[0]  # is it the entry?
        _refuse_duplicates([*before, report], str(file))
        reports = before
    if len(reports) != len(before) + 1 or reports[:-1] != before:
        raise SettingsError(
            f"{file}: its list of reports does not end the file, so nothing can be appended: add "
            f"this entry to it yourself:\n{added}"
        )
    replace_files(file.parent, {file.name: extended})
    return reports[-1]


def render_entry(entry: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Returns an entry as lines of YAML, indented for the list of reports."""
    lines = []
    for name, value in entry.items():
        text = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=100)
        if comment := " ".join(comments.get(name, "").split()):
            text = f"{text.rstrip()}  # {comment}\n"
        lines += text.splitlines()
    first, *others = lines
    return "\n".join([f"  - {first}", *(f"    {line}" for line in others)]) + "\n"


def parse_reports(content: Any, source: str) -> tuple[Report, ...]:
    """Validates the content of a file, or a list of entries of a component.

    Args:
        content: as parsed from YAML.
        source: the file, or whatever the user knows the list by; errors begin with it.

    Raises:
        SettingsError: it is malformed.
    """
    if isinstance(content, Mapping):
        if unknown := content.keys() - {"reports"}:
            name = sorted(map(str, unknown))[0]
            raise SettingsError(f"{source}: unknown member {name!r}: it may have `reports` alone")
        content = content.get("reports")
    if content is None:
        return ()
    if not isinstance(content, Sequence) or isinstance(content, str):
        raise SettingsError(f"{source}: expected `reports:` with a list, each item with `- name:`")
    reports = [_parse_entry(entry, _where(entry, n, source)) for n, entry in enumerate(content, 1)]
    _refuse_duplicates(reports, source)
    return tuple(reports)


def _where(entry: Any, number: int, source: str) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f"{source}: report {number}" + (f" ({name})" if isinstance(name, str) else "")


def _refuse_duplicates(reports: Sequence[Report], source: str) -> None:
    for number, report in enumerate(reports):
        for other in reports[:number]:
            apart = other.environments and report.environments
            if other.name == report.name and not (
                apart and not set(other.environments) & set(report.environments)
            ):
                raise SettingsError(
                    f"{source}: two reports are named {report.name!r}: name tables differently, or "
                    "give each its own `environments`"
                )


def _parse_entry(entry: Any, where: str) -> Report:
    if not isinstance(entry, Mapping):
        raise SettingsError(f"{where}: expected members such as `name: revenue`")
    _refuse_unknown(entry, _MEMBERS, where)
    for member in ("name", "category", "report"):
        if entry.get(member) in (None, ""):
            raise SettingsError(
                f"{where}: `{member}` is missing: st-pipelines reports list shows categories and "
                "reports"
                if member != "name"
                else f"{where}: `name` is missing: give the table's name, such as revenue"
            )
    name = entry["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{where}: name: {name!r} is not a table's name: use lower case letters, digits and _, "
            "such as technician_performance"
        )
    first, last = _parse_days(entry.get("days"), where)
    parameters = _parse_parameters(entry.get("parameters"), where, (first, last))
    report = Report(
        name=name,
        category=_parse_category(entry["category"], where),
        report=_parse_report(entry["report"], where),
        parameters=parameters,
        from_parameter=first,
        to_parameter=last,
        look_back_days=_parse_look_back(entry.get("look_back_days", 0), where),
        schedule=_parse_schedule(entry.get("schedule"), where),
        contract=_parse_choice(entry.get("contract", "auto"), CONTRACTS, f"{where}: contract"),
        environments=_parse_environments(entry.get("environments"), where),
    )
    _refuse_days_of_whole_reports(report, where)
    return report


def _refuse_unknown(entry: Mapping[Any, Any], known: Collection[str], where: str) -> None:
    for name in entry:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise SettingsError(f"{where}: unknown member {name!r}: {hint}")


def _parse_category(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SettingsError(f"{where}: category: {value!r} is neither an id nor a name")
    return str(value)


def _parse_report(value: Any, where: str) -> int | str:
    is_id = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not (is_id or isinstance(value, str)):
        raise SettingsError(
            f"{where}: report: {value!r} is neither an id such as 1482 nor a report's name"
        )
    return value


def _parse_days(value: Any, where: str) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    if not isinstance(value, Mapping) or not value:
        raise SettingsError(
            f"{where}: days: name the date parameters that get the day, as "
            "`days: {from: From, to: To}`"
        )
    _refuse_unknown(value, ("from", "to"), f"{where}: days")
    for name in value.values():
        if not isinstance(name, str) or not name:
            raise SettingsError(f"{where}: days: {name!r} is not the name of a parameter")
    return value.get("from"), value.get("to")


def _parse_parameters(
    value: Any, where: str, days: tuple[str | None, str | None]
) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{where}: parameters: expected names and values, `From: 2026-01-01`")
    parsed = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise SettingsError(f"{where}: parameters: {name!r} is not a name: put it in quotes")
        if name in days:
            raise SettingsError(
                f"{where}: parameter {name} gets the day, as `days` says: remove it from "
                "`parameters` or from `days`"
            )
        parsed[name] = _parse_value(item, f"{where}: parameter {name}")
    return parsed


def _parse_value(value: Any, where: str) -> Any:
    match value:
        case datetime():
            raise SettingsError(f"{where}: put a time in quotes, so that it is sent as written")
        case date():
            return value.isoformat()
        case bool() | int() | float() | str():
            return value
        case list():
            return tuple(_parse_value(item, where) for item in value)
        case {"date": str(text)} if len(value) == 1:
            try:
                return RelativeDate(text)
            except ValueError as error:
                raise SettingsError(f"{where}: {error}") from None
        case None:
            raise SettingsError(f"{where}: has no value: give one, or remove the parameter")
    raise SettingsError(
        f"{where}: give a value, a list of values, or a date to compute, as {{date: today-30d}}"
    )


def _parse_look_back(value: Any, where: str) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_LOOK_BACK_DAYS:
        raise SettingsError(
            f"{where}: look_back_days: {value!r} is not a number of days from 0 to "
            f"{MAX_LOOK_BACK_DAYS}"
        )
    return value


def _parse_schedule(value: Any, where: str) -> str | None:
    if value is None or value == NO_SCHEDULE:
        return value
    try:
        return check_cron(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise SettingsError(
            f"{where}: schedule: {error}; or {NO_SCHEDULE}, to run it by hand"
        ) from None


def _parse_choice(value: Any, choices: Collection[str], where: str) -> Any:
    if value not in choices:
        raise SettingsError(f"{where}: {value!r}: give one of {', '.join(choices)}")
    return value


def _parse_environments(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise SettingsError(f"{where}: environments: give a list, such as [production]")
    return tuple(_parse_choice(name, ENVIRONMENTS, f"{where}: environments") for name in names)


def _refuse_days_of_whole_reports(report: Report, where: str) -> None:
    if report.by_day:
        return
    if report.look_back_days:
        raise SettingsError(
            f"{where}: look_back_days needs `days`: a report without them is always loaded whole"
        )
    values = [v for value in report.parameters.values() for v in _flatten(value)]
    if any(isinstance(value, RelativeDate) and value.needs_day for value in values):
        raise SettingsError(
            f"{where}: a date from `day` needs `days`, as the report is loaded whole without them: "
            "begin it with today"
        )


def _flatten(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


class _Loader(yaml.SafeLoader):
    """YAML without two of its traps: repeated names, and times that become numbers (12:30)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping. Raises yaml.YAMLError for a name that comes twice."""
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if isinstance(name, str) and names.count(name) > 1:
                problem = f"{name!r} comes twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in zip(
    _NUMBERS, (r"-?(0|[1-9][0-9]*)\Z", r"-?(0|[1-9][0-9]*)\.[0-9]+\Z"), strict=True
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-0123456789"))


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{source}{line}: is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{source}: is not valid YAML: {error}") from None
