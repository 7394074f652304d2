"""Reads and writes the catalog's data files: one JSON file per API, plus `left_out.json`.

Equal catalogs give equal bytes. A scalar type is written as DuckDB's name (`"BIGINT"`), a list as
`["BIGINT"]`, an object as an object. `replace_files` writes several files atomically.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    DateFilter,
    Endpoint,
    Export,
    Field,
    Forecast,
    LeftOut,
    ListOf,
    Parent,
    Scalar,
    StructOf,
)

LEFT_OUT = "left_out.json"
"""Every catalog has this file; it tells a catalog's folder from others."""

_ANOTHER_FOLDER = "name an empty or new folder, or one that catalog build has written"
_MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError)
_DEFAULTS: dict[str, Any] = {
    "key": ("id",),
    "cursor": None,
    "date_filter": None,
    "params": {},
    "variants": (),
    "sort": None,
    "paged": True,
    "includes_total": True,
    "ids": False,
    "ids_repeated": False,
    "first_page": 1,
    "max_page_size": 5000,
    "look_back_days": 0,
    "explode": None,
    "by_day": False,
    "export": None,
    "external_data": False,
    "removed": False,
    "member": None,
    "parent": None,
    "forecast": None,
    "each_of": None,
    "opt_in": False,
    "open": False,
    "untyped": False,
}
_PLAIN = ("kind", "path", "envelope", "scope")


def render(catalog: Catalog) -> dict[str, str]:
    """Returns the text of every data file, by file name."""
    files = {
        f"{api}.json": _dump(
            {e.name: endpoint_to_json(e) for e in catalog if e.api == api},
        )
        for api in catalog.apis
    }
    left_out: dict[str, dict[str, str]] = {}
    for entry in catalog.left_out:
        left_out.setdefault(entry.api, {})[entry.path] = entry.reason
    files[LEFT_OUT] = _dump(left_out)
    return files


def write(catalog: Catalog, folder: Path) -> None:
    """Replaces the catalog in a folder, and no other files there.

    Raises:
        ValueError: the folder contains something other than a catalog; nothing was written.
        OSError: a file cannot be written.
    """
    files, before = render(catalog), list_catalog_files(folder)
    # The marker file comes first, so that the folder is a catalog's even if this fails midway.
    replace_files(folder, {LEFT_OUT: files.pop(LEFT_OUT), **files})
    for name in before:
        if name != LEFT_OUT and name not in files:
            (folder / name).unlink()


def list_catalog_files(folder: Path) -> list[str]:
    """Returns the names of a catalog's files; none if the folder is empty or does not exist.

    Raises:
        ValueError: the folder contains other JSON files, which a build would delete or which
            would be read as part of the catalog.
        OSError: the folder cannot be read.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the catalog")
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    if names and LEFT_OUT not in names:
        raise ValueError(f"{folder} contains {names[0]} but no catalog: {_ANOTHER_FOLDER}")
    parts = [name for name in names if name.endswith(".json")]
    for name in parts:
        if not _is_part(folder / name):
            raise ValueError(
                f"{folder} contains {name}, which does not belong to its catalog: "
                f"move that file away, or {_ANOTHER_FOLDER}"
            )
    return parts


def read(folder: Path) -> Catalog:
    """Reads the catalog of a folder. Raises OSError, ValueError."""
    endpoints: dict[str, Endpoint] = {}
    for file in sorted(folder.glob("*.json")):
        if file.name != LEFT_OUT:
            endpoints |= {endpoint.table: endpoint for endpoint in _read_api(file)}
    return Catalog(endpoints, _read_left_out(folder / LEFT_OUT))


def _read_api(file: Path) -> list[Endpoint]:
    try:
        entries = json.loads(file.read_bytes()).items()
        return [endpoint_from_json(file.stem, name, entry) for name, entry in entries]
    except _MALFORMED as error:
        raise ValueError(f"{file} is not a catalog file: {error!r}") from None


def _is_part(file: Path) -> bool:
    try:
        return _read_left_out(file) is not None if file.name == LEFT_OUT else bool(_read_api(file))
    except ValueError:
        return False


def read_text(file: Path) -> str | None:
    """Returns the text of a user's file; None if it does not exist.

    Raises:
        ValueError: the file is not UTF-8 text.
        OSError: the file cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8 text: {error}") from None


def endpoint_to_json(endpoint: Endpoint) -> dict[str, Any]:
    """Returns the JSON form, without api, name and values that equal the default."""
    entry: dict[str, Any] = {name: getattr(endpoint, name) for name in _PLAIN}
    for name, default in _DEFAULTS.items():
        value = getattr(endpoint, name)
        if value != default:
            entry[name] = _value_to_json(value)
    entry["columns"] = {f.name: type_to_json(f.type) for f in endpoint.columns}
    return entry


def endpoint_from_json(api: str, name: str, entry: Mapping[str, Any]) -> Endpoint:
    """Inverts `endpoint_to_json`. Raises KeyError or TypeError for another shape."""
    values = {**_DEFAULTS, **entry}
    if values["date_filter"]:
        values["date_filter"] = DateFilter(**values["date_filter"])
    if values["export"]:
        export = values["export"]
        named = {name: tuple(export.get(name, ())) for name in ("adds", "lacks")}
        values["export"] = Export(**{**export, **named})
    if values["parent"]:
        values["parent"] = Parent(**values["parent"])
    if values["forecast"]:
        values["forecast"] = Forecast(**values["forecast"])
    values["key"] = tuple(values["key"])
    values["variants"] = tuple(values["variants"])
    values["columns"] = tuple(Field(k, type_from_json(v)) for k, v in entry["columns"].items())
    return Endpoint(api=api, name=name, **values)


def type_to_json(type_: DataType) -> Any:
    """Returns the JSON form: `"BIGINT"`, `["BIGINT"]` or `{"id": "BIGINT"}`."""
    match type_:
        case Scalar(name):
            return name
        case ListOf(item):
            return [type_to_json(item)]
        case StructOf(fields):
            return {field.name: type_to_json(field.type) for field in fields}


def type_from_json(value: Any) -> DataType:
    """Inverts `type_to_json`."""
    if isinstance(value, str):
        return Scalar(value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, list):
        return ListOf(type_from_json(value[0]))
    return StructOf(tuple(Field(name, type_from_json(member)) for name, member in value.items()))


def _value_to_json(value: Any) -> Any:
    match value:
        case DateFilter():
            pair: dict[str, Any] = {"lower": value.lower, "upper": value.upper}
            return {**pair, "required": True} if value.required else pair
        case Export():
            names = ("params", "adds", "lacks")
            rest = {n: _value_to_json(v) for n in names if (v := getattr(value, n))}
            return {"path": value.path, **rest}
        case Parent():
            facts: dict[str, Any] = {"table": value.table, "ids": dict(value.ids)}
            facts |= {"per_request": value.per_request} if value.per_request != 1 else {}
            return facts | ({"every_load": True} if value.every_load else {})
        case Forecast():
            return dataclasses.asdict(value)
        case tuple():
            return list(value)
    return value


def _read_left_out(file: Path) -> tuple[LeftOut, ...]:
    if not file.exists():
        return ()
    try:
        return tuple(
            LeftOut(api=api, path=path, reason=reason)
            for api, entries in json.loads(file.read_bytes()).items()
            for path, reason in entries.items()
        )
    except _MALFORMED as error:
        raise ValueError(f"{file} is not a catalog file: {error!r}") from None


def _dump(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def replace_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Replaces files of a folder, in order, after all new texts are safely on disk.

    Args:
        folder: created if it does not exist.
        texts: by file name.

    Raises:
        OSError: a file cannot be written; if the disk is full, all old files are still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    try:
        for name, text in texts.items():
            descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            written[name] = Path(temporary)
            _fill(descriptor, text)
            with contextlib.suppress(OSError):  # a file system without modes
                written[name].chmod(_mode(folder / name))
        for name, temporary in written.items():
            os.replace(temporary, folder / name)
    except BaseException:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
        raise


def _fill(descriptor: int, text: str) -> None:
    with open(descriptor, "w", encoding="utf-8") as temporary:
        temporary.write(text)
        temporary.flush()
        os.fsync(temporary.fileno())


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o777 if file.exists() else 0o644
