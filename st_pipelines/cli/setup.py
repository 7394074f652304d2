"""`st-pipelines init`: asks for an environment's credentials and writes them to `.env`.

`dotenv` writes the file; `doctor.plausibility` judges the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from st_pipelines.cli.doctor.plausibility import NAMES, Doubt, doubts
from st_pipelines.cli.options import Environment
from st_pipelines.config.environments import EnvironmentName, environment_name, setting_name
from st_pipelines.config.errors import SettingsError

_HIDDEN = ("client_secret", "app_key")
_PROMPTS = {
    "client_id": "begins with cid.",
    "client_secret": "begins with cs, is not shown while you type",
    "app_key": "begins with ak1., is not shown while you type",
    "tenant_id": "a number",
    "timezone": "your company's, such as America/New_York",
}
"""Fields `init` asks for unless an option gives them, with what the prompt says of each."""


def init(
    environment: Environment,
    client_id: Annotated[str | None, typer.Option(help="Begins with cid.")] = None,
    client_secret: Annotated[
        str | None, typer.Option(help="Better entered at the prompt: shells record commands.")
    ] = None,
    app_key: Annotated[str | None, typer.Option(help="Like the client secret.")] = None,
    tenant_id: Annotated[str | None, typer.Option(help="A number.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Such as America/New_York.")] = None,
    start_date: Annotated[
        str | None, typer.Option(help="First day with a partition, YYYY-MM-DD.")
    ] = None,
    api_url: Annotated[
        str | None, typer.Option(help="Another server, such as the sandbox.")
    ] = None,
    auth_url: Annotated[str | None, typer.Option(help="The same, for tokens.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add this environment to an existing .env.")
    ] = False,
) -> None:
    """Ask for an environment's credentials and write them to .env, readable by you alone."""
    from st_pipelines.cli import dotenv

    name = environment_name(environment)
    dotenv.refuse_if_taken(name, append=append)
    options = {
        "client_id": client_id,
        "client_secret": client_secret,
        "app_key": app_key,
        "tenant_id": tenant_id,
        "timezone": timezone,
        "start_date": start_date,
        "api_url": api_url,
        "auth_url": auth_url,
    }
    for line in dotenv.write(name, collect_values(name, options), append=append):
        typer.echo(line)
    if start_date is None:
        typer.echo(_default_start_date(name))
    typer.echo(f"Next: st-pipelines check --environment {name}")


def collect_values(
    environment: EnvironmentName, options: Mapping[str, str | None]
) -> dict[str, str]:
    """Returns the values to write: the options that were given, and answers to prompts.

    Args:
        options: value by field; None if the option was not given.

    Raises:
        SettingsError: the value of an option cannot be right.
    """
    from st_pipelines.config.sources.base import clean_value

    values = {field: clean_value(value)[0] for field, value in options.items() if value is not None}
    for field, value in values.items():
        if objection := find_objection(environment, field, value):
            raise SettingsError(objection)
    for field, hint in _PROMPTS.items():
        if field not in values:
            values[field] = _prompt(environment, field, hint)
    values = {field: values[field] for field in options if values.get(field)}
    for doubt in doubts(values):
        typer.echo(f"Note: {setting_name(environment, doubt.field)} {_describe(doubt)}", err=True)
    return values


def find_objection(environment: EnvironmentName, field: str, value: str) -> str:
    """Says why a value cannot be right, without repeating it; "" if it may be right."""
    from st_pipelines.config.settings import load_settings
    from st_pipelines.sync.explain import diagnose

    name = setting_name(environment, field)
    if not value and field in _PROMPTS:
        return f"{name} must not be empty"
    for doubt in doubts({field: value}):
        if doubt.sure:
            return f"{name} {_describe(doubt)}"
    if field in NAMES:
        return ""
    try:
        load_settings(environment, **{field: value})
    except SettingsError as error:
        return diagnose(error).text
    return ""


def _prompt(environment: EnvironmentName, field: str, hint: str) -> str:
    from st_pipelines.config.sources.base import clean_value

    label = f"{NAMES.get(field, 'time zone').capitalize()} ({hint})"
    while True:
        answer = clean_value(typer.prompt(label, hide_input=field in _HIDDEN))[0]
        objection = find_objection(environment, field, answer)
        if not objection:
            return answer
        typer.echo(objection, err=True)


def _describe(doubt: Doubt) -> str:
    return f"{doubt.text}. {doubt.hint}"


def _default_start_date(environment: EnvironmentName) -> str:
    from st_pipelines.config.settings import EnvironmentSettings

    default = EnvironmentSettings.model_fields["start_date"].default
    return (
        f"The first partition is {default} and holds everything older; "
        f"{setting_name(environment, 'start_date')} in .env sets another."
    )
