"""What `st-pipelines init` asks, and what it takes for an answer."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from st_pipelines.cli.doctor.plausibility import NAMES, Doubt, doubts
from st_pipelines.config.environments import EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import load_settings
from st_pipelines.config.sources.values import cleaned
from st_pipelines.sync.explain import diagnosed

_HIDDEN = ("client_secret", "app_key")
_WHERE = {
    "client_id": "begins with cid.",
    "client_secret": "begins with cs, is not shown while you type",
    "app_key": "begins with ak1., is not shown while you type",
    "tenant_id": "a number",
    "timezone": "your company's, such as America/New_York",
}


def answered(environment: EnvironmentName, given: Mapping[str, str | None]) -> dict[str, str]:
    """The values to write: what was given, and answers for what is asked.

    Args:
        environment: whose.
        given: by field; None for what was not given.

    Raises:
        SettingsError: a given value cannot be right.
    """
    values = {field: cleaned(value)[0] for field, value in given.items() if value is not None}
    for field, value in values.items():
        if wrong := objection(environment, field, value):
            raise SettingsError(wrong)
    for field, where in _WHERE.items():
        if field not in values:
            values[field] = _ask(environment, field, where)
    values = {field: values[field] for field in given if values.get(field)}
    for doubt in doubts(values):
        typer.echo(f"Note: {setting_name(environment, doubt.field)} {_told(doubt)}", err=True)
    return values


def objection(environment: EnvironmentName, field: str, value: str) -> str:
    """Why a value cannot be right, without repeating it; "" if it may be."""
    name = setting_name(environment, field)
    if not value and field in _WHERE:
        return f"{name} must not be empty"
    for doubt in doubts({field: value}):
        if doubt.sure:
            return f"{name} {_told(doubt)}"
    if field in NAMES:
        return ""
    try:
        load_settings(environment, **{field: value})
    except SettingsError as error:
        return diagnosed(error).text
    return ""


def _ask(environment: EnvironmentName, field: str, where: str) -> str:
    label = f"{NAMES.get(field, 'time zone').capitalize()} ({where})"
    while True:
        answer = cleaned(typer.prompt(label, hide_input=field in _HIDDEN))[0]
        wrong = objection(environment, field, answer)
        if not wrong:
            return answer
        typer.echo(wrong, err=True)


def _told(doubt: Doubt) -> str:
    return f"{doubt.text}. {doubt.hint}"
