"""`st-pipelines init`: asks for an environment's credentials and writes them to `.env`.

The file is private from the first byte, and existing values are never overwritten.
`doctor.plausibility` judges the values.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from st_pipelines.cli.console import Environment
from st_pipelines.cli.doctor.plausibility import NAMES, Doubt, doubts
from st_pipelines.config.environments import EnvironmentName, environment_name, setting_name
from st_pipelines.config.errors import SettingsError

_PRIVATE_MODE = 0o600
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
    name = environment_name(environment)
    _refuse_if_taken(name, append=append)
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
    for line in _write_section(name, collect_values(name, options), append=append):
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


def _refuse_if_taken(environment: EnvironmentName, *, append: bool) -> None:
    """Refuses what `_write_section` would refuse, before it prompts for values.

    Raises:
        SettingsError: the file exists and `append` is not set, or it has this environment.
    """
    from st_pipelines.config.sources.local import env_file, read_dotenv

    file = env_file()
    if not os.path.lexists(file):
        return
    if not append:
        raise SettingsError(
            f"{file.name} already exists and was not changed: edit it, or add {environment} to it "
            "with --append"
        )
    fields = ("client_id", "client_secret", "app_key", "tenant_id")
    values = read_dotenv(file)
    names = [name for field in fields if (name := setting_name(environment, field)) in values]
    if names:
        raise SettingsError(
            f"{file.name} already has {environment} ({', '.join(names)}) and was not changed: edit "
            "these lines"
        )


def _write_section(
    environment: EnvironmentName, values: Mapping[str, str], *, append: bool
) -> Iterator[str]:
    """Writes the section of an environment.

    Args:
        values: by field.
        append: add to an existing file, whose content stays as it is, byte by byte.

    Yields:
        A line for each thing that was done.

    Raises:
        SettingsError: as `_refuse_if_taken`, or a value would not read back the same.
        OSError: the file cannot be written.
    """
    from st_pipelines.config.sources.local import env_file

    _refuse_if_taken(environment, append=append)
    file, section = env_file(), _section(environment, values)
    if os.path.lexists(file):
        was_readable = _append(file, section)
        yield f"{environment} was added to {file.name}"
        if was_readable:
            yield f"{file.name} was readable by others, and now is by you alone (mode 0600)"
    else:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_MODE)
        try:
            _write_all(handle, section)
        except OSError:
            file.unlink()
            raise
        yield f"{file.name} was written, readable by you alone (mode 0600)"


def _append(file: Path, section: bytes) -> bool:
    """Adds to the end of the file. Returns whether others could read it before."""
    handle = os.open(file, os.O_RDWR | os.O_APPEND)
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    was_readable = bool(mode & ~_PRIVATE_MODE)
    if was_readable:
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(handle, _PRIVATE_MODE)
    before = file.read_bytes()
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    try:
        _write_all(handle, gap + section)
    except OSError:
        os.truncate(file, len(before))
        raise
    return was_readable


def _write_all(handle: int, content: bytes) -> None:
    try:
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _section(environment: EnvironmentName, values: Mapping[str, str]) -> bytes:
    from dotenv import dotenv_values

    lines = [f"# {environment}"]
    for field, value in values.items():
        name = setting_name(environment, field)
        line = f"{name}={value}"
        if dotenv_values(stream=StringIO(line)) != {name: value}:
            raise SettingsError(
                f"{name} has characters that .env cannot hold: set it as an environment variable"
            )
        lines.append(line)
    return ("\n".join(lines) + "\n").encode()
