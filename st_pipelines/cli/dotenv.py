"""Writing `.env`: private from the first byte, never over what is there."""

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
    """Finds out whether `write` would refuse, before anything is asked.

    Raises:
        SettingsError: there is a file and nothing may be appended, or it has this environment.
    """
    file = env_file()
    if not os.path.lexists(file):
        return
    if not append:
        raise SettingsError(
            f"{file.name} is there already and is left as it is: edit it, or add {environment} to "
            "its end with --append"
        )
    fields = ("client_id", "client_secret", "app_key", "tenant_id")
    there = read_dotenv(file)
    names = [name for field in fields if (name := setting_name(environment, field)) in there]
    if names:
        raise SettingsError(
            f"{file.name} has {environment} already ({', '.join(names)}) and is left as it is: "
            "edit these lines"
        )


def write(
    environment: EnvironmentName, values: Mapping[str, str], *, append: bool
) -> Iterator[str]:
    """Writes the section of an environment.

    Args:
        environment: gives the names their prefix.
        values: by field.
        append: add to a file that is there; what it holds stays, byte by byte.

    Yields:
        What was done, a line each.

    Raises:
        SettingsError: as `refuse_if_taken`, or a value has no spelling that is read back the same.
        OSError: the file cannot be written.
    """
    refuse_if_taken(environment, append=append)
    file, section = env_file(), _section(environment, values)
    if os.path.lexists(file):
        closed = _append(file, section)
        yield f"{environment} was added to {file.name}"
        if closed:
            yield f"{file.name} could be read by others and is now yours alone (mode 0600)"
    else:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        try:
            _write_all(handle, section)
        except OSError:
            file.unlink()
            raise
        yield f"{file.name} was written, for you alone to read (mode 0600)"


def _append(file: Path, section: bytes) -> bool:
    """Adds to the end; whether the file had to be closed to others before."""
    handle = os.open(file, os.O_RDWR | os.O_APPEND)
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    closing = bool(mode & ~PRIVATE)
    if closing:
        os.fchmod(handle, PRIVATE)
    before = file.read_bytes()
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    try:
        _write_all(handle, gap + section)
    except OSError:
        os.truncate(file, len(before))
        raise
    return closing


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
