"""Sources on this machine: arguments, environment variables, `.env`, files and folders.

Reading them needs no network, so they make up the settings with which Dagster's definitions load.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import EnvSettingsSource

from st_pipelines.config.environments import PREFIXES
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.paths import ENVIRONMENT_PATHS, PROJECT_PATHS, PathKind, resolve_path
from st_pipelines.config.sources.base import (
    SERVICEPYTAN_PREFIX,
    ExplicitSettings,
    Reading,
    Source,
    clean_value,
    find_near_misses,
    parse_flat_object,
    pick_fields,
    read_text,
)

_PATHS = {
    *PROJECT_PATHS,
    *(prefix + field.upper() for prefix in PREFIXES.values() for field in ENVIRONMENT_PATHS),
}

_DOTENV_WINS = ("DAGSTER_HOME",)
"""`dagster dev` replaces variables by those of `.env` before it reads this one."""


@dataclass(frozen=True, kw_only=True)
class Variables:
    """The process environment and `.env`, both read at one moment.

    Attributes:
        process: names and values of the process environment.
        dotenv: names and values of `.env`; a name without `=` has the value None.
        dotenv_file: the path of `.env`, which need not exist.
        merged: both by name in capitals; the process environment wins.
    """

    process: Mapping[str, str] = field(repr=False)
    dotenv: Mapping[str, str | None] = field(repr=False)
    dotenv_file: Path
    merged: Mapping[str, str | None] = field(repr=False, init=False)

    def __post_init__(self) -> None:
        merged = {**self.dotenv, **self.process}
        merged = {name.upper(): value for name, value in merged.items()}
        object.__setattr__(self, "merged", merged)

    def read(self, name: str, default: str = "") -> str:
        """Returns the value of a name in capitals; an empty one counts as not set."""
        value = self.dotenv.get(name) if name in _DOTENV_WINS else None
        return clean_value(value or self.merged.get(name) or "")[0] or default

    def read_path(self, name: str, default: str = "") -> Path:
        """Returns the path that a setting of the project names, absolute.

        Raises:
            SettingsError: it is not a path that can be used.
        """
        return self.resolve_path(self.read(name, default), name, PROJECT_PATHS[name])

    def resolve_path(self, text: str, setting: str, kind: PathKind) -> Path:
        """Returns the absolute path that the value of a setting means. Raises SettingsError.

        Args:
            text: the value, without surrounding white space and quotes.
        """
        return resolve_path(
            text, setting, kind, base=self.dotenv_file.parent, lookup=self.value_in_path
        )

    def origin(self, name: str) -> str:
        """Returns where the value of a name in capitals comes from, for messages."""
        if not self.read(name):
            return "default"
        in_dotenv = any(given.upper() == name and value for given, value in self.dotenv.items())
        in_process = any(given.upper() == name for given in self.process)
        if in_dotenv and (name in _DOTENV_WINS or not in_process):
            return self.dotenv_file.name
        return "environment variable"

    def value_in_path(self, name: str) -> str:
        """Returns the value of a variable in a path; empty if it has none."""
        in_process = self.process.get(name.upper() if os.name == "nt" else name)
        return in_process or self.dotenv.get(name) or ""


def set_dagster_home(folder: Path) -> None:
    """Sets `DAGSTER_HOME` of this process, which counts for Dagster's own logs.

    They ignore which folder an instance was opened with, and what `.env` says.
    """
    os.environ["DAGSTER_HOME"] = str(folder)


def env_file() -> Path:
    """Returns the path of `.env`: in the working directory.

    Raises:
        SettingsError: somebody has removed the working directory.
    """
    try:
        return Path.cwd() / ".env"
    except OSError as error:
        reason = error.strerror
    raise SettingsError(f"the working directory cannot be used ({reason}): change to another one")


def read_dotenv(file: Path) -> dict[str, str | None]:
    """Parses `.env`; empty if there is none.

    Raises:
        SettingsError: the file cannot be read, or is not UTF-8 text.
    """
    return dotenv_values(stream=StringIO(_read_dotenv_text(file)))


def _read_dotenv_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if not file.is_symlink():
            return ""
        problem = "is a link to a file that does not exist: correct the link or remove it"
    except UnicodeDecodeError:
        problem = (
            "is not UTF-8 text: save it in this encoding (in PowerShell: Set-Content -Encoding utf8"
            ", where '>' writes UTF-16)"
        )
    except IsADirectoryError:
        problem = (
            "is a folder: remove it (Docker creates one where the file to mount is missing), and "
            "write the file"
        )
    except OSError as error:
        problem = f"cannot be read ({error.strerror}): correct its owner or permissions"
    raise SettingsError(f"{file} {problem}")


def read_variables() -> Variables:
    """Reads the process environment and `.env`. Raises SettingsError.

    Variables in the values of `.env` are replaced, except in paths, for which `resolve_path` has
    rules of its own. Dagster adds the replaced values to the environment of its processes.
    """
    file = env_file()
    text = _read_dotenv_text(file)
    replaced = dotenv_values(stream=StringIO(text))
    dotenv, process = dict(replaced), dict(os.environ)
    if "$" in text:
        for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items():
            if name.upper() in _PATHS:
                dotenv[name] = value
                if value and process.get(name) == replaced[name]:
                    process[name] = value
    return Variables(process=process, dotenv=dotenv, dotenv_file=file)


class Arguments(Source):
    """Values given in code, or in the configuration of a Dagster resource."""

    named_by_setting = False

    def __init__(
        self, settings_cls: type[ExplicitSettings], prefix: str, given: Mapping[str, Any]
    ) -> None:
        super().__init__(settings_cls, prefix, "an argument")
        self._given = {n: v for n, v in given.items() if n in settings_cls.model_fields}

    def read(self) -> Reading:
        """Returns the values as they were given."""
        return Reading(values=self._given)


class NamedVariables(Source):
    """Variables by name, in any case: of the process environment, or of `.env`."""

    named_by_setting = False

    def __init__(
        self,
        settings_cls: type[ExplicitSettings],
        prefix: str,
        variables: Mapping[str, str | None],
        file: Path | None = None,
    ) -> None:
        """Takes the variables, and the file that holds them, if any."""
        super().__init__(settings_cls, prefix, file.name if file else "environment variable")
        self._file = file
        self._inner = EnvSettingsSource(settings_cls, env_prefix=prefix)
        self._inner.env_vars = {name.lower(): value for name, value in variables.items()}

    def read(self) -> Reading:
        """Returns the values as pydantic-settings finds them."""
        values = self._inner()
        has_secret = any(values.get(name) for name in self.settings_cls.secret_fields)
        if self._file is None or not has_secret:
            return Reading(values=values)
        return Reading(values=values, warnings=warn_if_open_to_others(self._file))


class ConfigFile(Source):
    """The JSON file that servicepytan takes as its `config_file`, unchanged."""

    def __init__(
        self, settings_cls: type[ExplicitSettings], prefix: str, file: Path, setting: str
    ) -> None:
        """Reads nothing yet. `setting` names the file in messages."""
        super().__init__(settings_cls, prefix, f"config file {file}")
        self._file = file
        self._setting = setting

    def read(self) -> Reading:
        """Returns the values of the file.

        servicepytan keeps a file for each environment and uses the same names in all of them, so
        those are accepted in every environment.

        Raises:
            SettingsError: the file is missing or is not a JSON object.
        """
        mapping = parse_flat_object(read_text(self._file, self._setting), self.title)
        values = pick_fields(mapping, self.fields, self.prefix, other_prefix=SERVICEPYTAN_PREFIX)
        has_secret = any(values.get(name) for name in self.settings_cls.secret_fields)
        hints = find_near_misses(mapping, self.fields, SERVICEPYTAN_PREFIX)
        return Reading(
            values=values,
            warnings=(
                *(warn_if_open_to_others(self._file) if has_secret else ()),
                *(f"{self.title}: {hint}" for hint in hints),
            ),
        )


class Folder(Source):
    """A folder with one file for each setting, as Kubernetes and Docker mount secrets.

    A file has the name of its setting, with or without the prefix, in any case.
    """

    ignore_final_newline = True

    def __init__(
        self, settings_cls: type[ExplicitSettings], prefix: str, folder: Path, setting: str
    ) -> None:
        """Reads nothing yet. `setting` names the folder in messages."""
        super().__init__(settings_cls, prefix, f"folder {folder}")
        self._folder = folder
        self._setting = setting

    def read(self) -> Reading:
        """Returns the contents of the files that are settings.

        Raises:
            SettingsError: the folder or one of the files cannot be read.
        """
        files = self._list_files()
        chosen = pick_fields({file.name: file for file in files}, self.fields, self.prefix)
        near_misses = find_near_misses((file.name for file in files), self.fields, self.prefix)
        warnings = [f"{self.title}: {hint}" for hint in near_misses]
        if not chosen:
            warnings.append(
                f"{self.title} holds no file that is named as a setting, such as "
                f"{self.prefix}CLIENT_ID or client_id"
            )
        for name in self.settings_cls.secret_fields:
            if name in chosen:
                warnings += warn_if_open_to_others(chosen[name], mounted=self._is_mounted)
        values = {name: read_text(file, self._setting) for name, file in chosen.items()}
        return Reading(values=values, warnings=tuple(warnings))

    @property
    def _is_mounted(self) -> bool:
        """Whether Kubernetes or Docker mounted it into a container that no other user shares."""
        return (self._folder / "..data").is_symlink() or self._folder.is_relative_to("/run/secrets")

    def _list_files(self) -> list[Path]:
        # Kubernetes updates a volume by swapping `..data`: resolve it once, to read one version.
        versions = self._folder / "..data"
        try:
            folder = versions.resolve(strict=True) if versions.is_symlink() else self._folder
            return [file for file in sorted(folder.iterdir()) if file.is_file()]
        except OSError as error:
            reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"{self._setting}: {self._folder} cannot be read as a folder ({reason}): "
            "mount the secrets there, or correct or remove the setting"
        )


OPEN_TO_OTHERS = "holds a secret and is open to others"
"""In the warnings of `warn_if_open_to_others`."""


def warn_if_open_to_others(file: Path, *, mounted: bool = False) -> tuple[str, ...]:
    """Returns a warning if other users may read or change a file that holds a secret.

    Args:
        file: links are followed.
        mounted: into a container, where files are readable by all: only writing matters then.
    """
    if os.name == "nt":
        return ()
    try:
        mode = file.stat().st_mode
    except OSError:
        return ()
    forbidden = 0o022 if mounted else 0o066
    if not stat.S_IMODE(mode) & forbidden:
        return ()
    return (
        f"{file} {OPEN_TO_OTHERS} (mode {stat.S_IMODE(mode):04o}): "
        f"chmod {'go-w' if mounted else '600'} {file}",
    )
