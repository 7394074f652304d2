"""Writes `.env`: private from the first byte, and never over existing values."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from st_pipelines.config.environments import EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import env_file, read_dotenv

PRIVATE = 0o600


def refuse_if_taken(environment: EnvironmentName, *, append: bool) -> None:
    """Refuses what `write` would refuse, before anybody is asked for values.

    Raises:
        SettingsError: the file exists and `append` is not set, or it has this environment.
    """
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


def write(
    environment: EnvironmentName, values: Mapping[str, str], *, append: bool
) -> Iterator[str]:
    """Writes the section of an environment.

    Args:
        values: by field.
        append: add to an existing file, whose content stays as it is, byte by byte.

    Yields:
        A line for each thing that was done.

    Raises:
        SettingsError: as `refuse_if_taken`, or a value would not read back the same.
        OSError: the file cannot be written.
    """
    refuse_if_taken(environment, append=append)
    file, section = env_file(), _section(environment, values)
    if os.path.lexists(file):
        was_readable = _append(file, section)
        yield f"{environment} was added to {file.name}"
        if was_readable:
            yield f"{file.name} was readable by others, and now is by you alone (mode 0600)"
    else:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
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
    was_readable = bool(mode & ~PRIVATE)
    if was_readable:
        os.fchmod(handle, PRIVATE)
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
