"""Resolves paths as people write them in `.env`, compose files and shells: `resolve_path`.

Every setting that is a path goes through it, once, when its configuration is read. So all of them
take the same spellings, and nothing depends on where a process is later:

- White space and quotes around the value are removed, and separators at its end.
- `$NAME`, `${NAME}`, `${NAME:-default}` and, on Windows, `%NAME%` are replaced. The process
  environment wins over `.env`. `$$` stands for a dollar sign. A variable without a value is an
  error, because `${DATA}/warehouse` would become `/warehouse`.
- `~` and `~user` at the beginning are home folders, and `file:///folder` is `/folder`.
- A relative path is relative to the folder of `.env`, which is the working directory.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias
from urllib.parse import unquote

from st_pipelines.config.environments import ENVIRONMENTS
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.base import CREDENTIAL

PathKind: TypeAlias = Literal["file", "folder"]

PROJECT_PATHS: Mapping[str, PathKind] = {
    "DAGSTER_HOME": "folder",
    "ST_CATALOG": "file",
    "ST_ENDPOINTS": "file",
    "ST_REPORTS": "file",
    "ST_WAREHOUSE_DIR": "folder",
    **{f"ST_{environment.upper()}_WAREHOUSE": "file" for environment in ENVIRONMENTS},
}
"""Settings of the project that are paths, by name; and the one of Dagster that we read."""
ENVIRONMENT_PATHS: Mapping[str, PathKind] = {
    "config_file": "file",
    "secrets_dir": "folder",
    "vault_kubernetes_token_file": "file",
}
"""Settings of an environment that are paths, by field."""

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|(?P<brace>\{))", re.ASCII)
_IN_BRACES = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<operator>:?-)?", re.ASCII)
_OF_WINDOWS = re.compile(r"%(?P<plain>[^%=]+)%")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def resolve_path(
    text: str,
    setting: str,
    kind: PathKind,
    *,
    base: Path,
    lookup: Callable[[str], str],
    windows: bool = os.name == "nt",
) -> Path:
    """Returns the absolute path that the value of a setting means. Creates nothing.

    Args:
        text: the value, not empty.
        setting: its name, for messages.
        kind: what the path may not be the opposite of, if it exists.
        base: what relative paths are relative to; absolute.
        lookup: returns the value of a variable; empty if it has none.
        windows: whether `%NAME%` is a variable and a backslash is a separator.

    Raises:
        SettingsError: the value cannot be such a path. The message names the setting.
    """

    def refuse(reason: str) -> NoReturn:
        shown = "" if "@" in text or CREDENTIAL.search(text) else f" is {_printable(text)!r}"
        raise SettingsError(f"{setting}{shown}: {reason}")

    def value_of(name: str) -> str:
        return lookup(name) or refuse(
            f"the variable {name} in it has no value: set it, or write ${{{name}:-default}}; "
            "$$ stands for a dollar sign"
        )

    def value_or(name: str, default: str) -> str:
        return lookup(name) or default

    written = _without_scheme(text, windows, refuse)
    if not windows and ("\\" in written or _DRIVE.match(written)):
        refuse("this system separates folders by / and has no drives: write the path with /")
    if windows:
        written = _OF_WINDOWS.sub(lambda found: value_of(found["plain"]), written)
    expanded = _expand(written, value_of, value_or, refuse)
    path = base / _expand_home(expanded, refuse)
    _check(path, kind, refuse)
    return path


def _without_scheme(text: str, windows: bool, refuse: Callable[[str], NoReturn]) -> str:
    """Returns the path of a `file:` URL; any other text unchanged."""
    if text[:5].lower() != "file:":
        if found := _URL.match(text):
            refuse(f"{found['scheme']}:// is not supported: give a path on this machine")
        return text
    path = text[5:]
    if path.startswith("//"):
        path = path[2:].removeprefix("localhost")
    path = unquote(path, errors="surrogateescape")
    if windows:
        return path.removeprefix("/") if _DRIVE.match(path[1:]) else path
    if not path.startswith(("/", "$", "~")):
        refuse("a file: URL needs an absolute path and no host: write file:///folder")
    return path


def _expand(
    text: str,
    value_of: Callable[[str], str],
    value_or: Callable[[str, str], str],
    refuse: Callable[[str], NoReturn],
) -> str:
    """Replaces variables from left to right; values are not searched for further ones."""
    done, at = "", 0
    while found := _VARIABLE.search(text, at):
        done += text[at : found.start()]
        at = found.end()
        if found["dollar"]:
            done += "$"
        elif found["plain"]:
            done += value_of(found["plain"])
        else:
            end = _find_brace(text, at)
            inner = _IN_BRACES.match(text, at, max(end, at))
            if inner is None or (inner.end() != end and not inner["operator"]):
                refuse("write a variable as ${NAME} or ${NAME:-default}")
            if inner["operator"]:
                default = _expand(text[inner.end() : end], value_of, value_or, refuse)
                done += value_or(inner["name"], default)
            else:
                done += value_of(inner["name"])
            at = end + 1
    return done + text[at:]


def _find_brace(text: str, at: int) -> int:
    """Returns where the brace that was opened before a position is closed; -1 if nowhere."""
    depth = 1
    for index in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return index
    return -1


def _expand_home(text: str, refuse: Callable[[str], NoReturn]) -> str:
    if not text.startswith("~"):
        return text
    expanded, user = os.path.expanduser(text), re.split(r"[/\\]", text[1:])[0]
    if user and expanded == text:
        refuse(f"there is no user {user!r} with a home folder: write ./{text} if it is a name")
    if expanded == text or (not user and os.environ.get("HOME") == ""):
        refuse("the home folder of this user is unknown: write the path in full")
    return expanded


def _check(path: Path, kind: PathKind, refuse: Callable[[str], NoReturn]) -> None:
    """Refuses what cannot be opened under any circumstances, and a file in place of a folder."""
    text = str(path)
    if _CONTROL.search(text):
        refuse("it has a control character: remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse("the whole path has to be UTF-8, as DuckDB and Dagster take no other: rename it")
    try:
        is_folder = os.path.isdir(path) if os.stat(path) else False
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            refuse(f"a part of {path} is a file, where a folder is needed: correct the path")
        refuse(f"{path} cannot be reached ({error.strerror}): correct it or its permissions")
    if is_folder and kind == "file":
        refuse(f"{path} is a folder: name a file in it")
    if os.path.isfile(path) and kind == "folder":
        refuse(f"{path} is a file: name a folder")


def _printable(text: str) -> str:
    """Returns the text with bytes that are not UTF-8 written as hexadecimal escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
