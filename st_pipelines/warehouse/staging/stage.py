"""Stages pages of JSON as files that DuckDB's `read_json` reads without loss.

`read_json` with declared columns is fast but lossy: it drops unknown members, rounds 1.5 to 2, and
reads `true` as 1. Each page is therefore first decoded against the catalog (by msgspec, in C, with
unknown fields forbidden). A page that passes, as nearly all do, is written as it came. In any
other page each record that differs is made to fit by `conform`; what does not fit goes into
`_extra` with it.
"""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.columns import EXTRA_MEMBER
from st_pipelines.warehouse.errors import FULL, MalformedRecords, WarehouseFull
from st_pipelines.warehouse.staging import json_path
from st_pipelines.warehouse.staging.conform import (
    conform,
    decode_exactly,
    encode,
    encode_exactly,
    is_date,
)
from st_pipelines.warehouse.staging.precision import build_precision_check
from st_pipelines.warehouse.staging.records import decode_record, split_records

_SPLIT = msgspec.json.Decoder(list[msgspec.Raw])


class _Date:
    """The msgspec type of a `date` that `is_date` accepts."""


@dataclass
class Drift:
    """Where records differ from the catalog: counts and one example, by path without indices."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, extra: dict[str, Any]) -> None:
        """Counts the paths in one record's `_extra`."""
        for path, value in extra.items():
            general = json_path.without_indices(path)
            self.counts[general] += 1
            if general not in self.examples:
                self.examples[general] = encode_exactly(value).decode(errors="replace")[:80]

    def __add__(self, later: Drift) -> Drift:
        """Returns the drift of both loads, with the earlier example of each path."""
        return Drift(self.counts + later.counts, {**later.examples, **self.examples})


class Staging:
    """The staged files of one load, in a folder of its own that only the user can read."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        """Creates the folder, which must not exist; whoever owns its parent removes it."""
        folder.mkdir(parents=True, mode=0o700)
        self.endpoint = endpoint
        self.folder = folder
        self.drift = Drift()
        self.files: list[Path] = []
        self._row_counts: list[int] = []
        self._decode = _build_decoder(endpoint.row_fields).decode
        self._may_be_inexact = build_precision_check(endpoint.row_fields).may_be_inexact

    def mark(self) -> int:
        """Returns a position for `return_to`."""
        return len(self.files)

    def return_to(self, mark: int) -> None:
        """Discards the pages staged since a mark, before they are read again."""
        for file in self.files[mark:]:
            file.unlink(missing_ok=True)
        del self.files[mark:], self._row_counts[mark:]
        if not mark:
            self.drift = Drift()

    @property
    def rows(self) -> int:
        """The number of staged records."""
        return sum(self._row_counts)

    def add(self, records: bytes, rows: Sequence[msgspec.Raw] | None = None) -> list[Path]:
        """Stages a page.

        Args:
            records: a JSON array of objects, as served.
            rows: the array's members, if the caller has split it already.

        Returns:
            The page's file; an empty list for a page without records.

        Raises:
            MalformedRecords: the page is not an array of objects.
            WarehouseFull: the disk is full.
            OSError: the folder was removed.
        """
        if self.endpoint.explode:
            records, rows = _explode(records, self.endpoint, self.drift), None
        count = self._count_if_fitting(records, rows)
        if count is None:
            records, count = self._fit_page(records)
        if not count:
            return []
        file = self.folder / f"{len(self.files):06}.json"
        _write(file, records)
        self.files.append(file)
        self._row_counts.append(count)
        return [file]

    def fit_all(self) -> None:
        """Makes every staged record fit by `conform`, after DuckDB rejected one that passed."""
        self.drift = Drift()
        for file in self.files:
            records, _ = self._fit_page(file.read_bytes(), trust_decoder=False)
            _write(file, records)

    def _count_if_fitting(
        self, records: bytes, rows: Sequence[msgspec.Raw] | None = None
    ) -> int | None:
        """Returns the number of records if all match the catalog, otherwise None."""
        if self._may_be_inexact(records):
            return None
        try:
            if rows is None:
                rows = _SPLIT.decode(records)
            for row in rows:  # one by one: 5,000 decoded invoices would take 100 MB
                self._decode(row)
            return len(rows)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _fit_page(self, records: bytes, trust_decoder: bool = True) -> tuple[bytes, int]:
        fitted: list[bytes] = []
        for text in split_records(records):
            fits = trust_decoder and self._count_if_fitting(b"[" + text + b"]") is not None
            fitted.append(text if fits else self._fit_record(text))
        return b"[" + b",\n".join(fitted) + b"]", len(fitted)

    def _fit_record(self, text: bytes) -> bytes:
        try:
            return self._conform_record(text)
        except RecursionError:
            raise MalformedRecords(
                f"{self.endpoint.table}: a record is nested too deeply to be stored"
            ) from None

    def _conform_record(self, text: bytes) -> bytes:
        record, extra = _decode_object(text, self.endpoint)
        extra = _take_staged_extra(record) | extra
        conformed = conform(record, self.endpoint.row_fields)
        extra |= conformed.extra
        if extra:
            self.drift.add(extra)
            conformed.record[EXTRA_MEMBER] = _encode_extra(extra)
        return encode(conformed.record)


def _encode_extra(extra: dict[str, Any]) -> str:
    """Returns the same text for equal extras; the export's part is last, as `merge` expects."""
    ordered = sorted(extra.items(), key=lambda item: (item[0] == json_path.EXPORT_ONLY, item[0]))
    return encode_exactly(dict(ordered)).decode()


def _write(file: Path, records: bytes) -> None:
    try:
        file.write_bytes(records)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise WarehouseFull(
            f"no space left on the disk of {file.parent}, where pages are staged: nothing was "
            "loaded; free some, or set ST_WAREHOUSE_DIR to a folder on another disk"
        ) from None


def _decode_object(text: bytes, endpoint: Endpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    record, extra = decode_record(text)
    if not isinstance(record, dict):
        raise MalformedRecords(f"{endpoint.table}: a record is not an object")
    return record, extra


def _take_staged_extra(record: dict[str, Any]) -> dict[str, Any]:
    """Removes and returns the extra that an earlier step stored in the record."""
    text = record.get(EXTRA_MEMBER)
    try:
        extra = decode_exactly(text) if isinstance(text, str) else None
    except msgspec.DecodeError:
        extra = None
    if not isinstance(extra, dict):
        return {}
    del record[EXTRA_MEMBER]
    return extra


def _explode(records: bytes, endpoint: Endpoint, drift: Drift) -> bytes:
    """Makes a record of each member of the array `endpoint.explode`, with the fields around it.

    If the array is missing, the API may have renamed it. No row can then report the record's
    unknown fields, so they are added to `drift` here.
    """
    known = {column.name for column in endpoint.columns}
    name = str(endpoint.explode)
    rows: list[Any] = []
    for text in split_records(records):
        record, extra = _decode_object(text, endpoint)
        if name not in record:
            unknown = {key: value for key, value in record.items() if key not in known}
            drift.add({json_path.append_member("", key): unknown[key] for key in unknown})
        members = record.pop(name, None)
        if extra:
            record[EXTRA_MEMBER] = encode_exactly(extra).decode()
        # A member that is not an object has no fields of a row, and is kept under the array's name.
        for member in members if isinstance(members, list) else [members]:
            if member is not None:
                rows.append({**record, **(member if isinstance(member, dict) else {name: member})})
    return encode_exactly(rows)


@functools.lru_cache(maxsize=1024)
def _build_decoder(fields: tuple[Field, ...]) -> msgspec.json.Decoder[Any]:
    record = _strict_type(StructOf(fields), "record")
    return msgspec.json.Decoder(record, dec_hook=_decode_date)


def _decode_date(type_: type, value: Any) -> Any:
    if is_date(value):
        return _Date()
    raise ValueError("not a date")


_BigInt: Any = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_STRICT_SCALARS: dict[str, Any] = {
    "BIGINT": _BigInt | None,
    "DECIMAL": str | int | float | None,
    "DOUBLE": float | None,
    "BOOLEAN": bool | None,
    "VARCHAR": str | None,
    "TIMESTAMPTZ": datetime.datetime | None,
    "DATE": _Date | None,
    "JSON": msgspec.Raw,
}


def _strict_type(type_: DataType, name: str) -> Any:
    """Returns the msgspec type that accepts exactly what `read_json` reads without loss."""
    match type_:
        case Scalar(scalar):
            return _STRICT_SCALARS[scalar]
        case ListOf(item):
            return list[_strict_type(item, name)] | None
        case StructOf(fields):
            members = [_strict_member(f, f"{name}_{i}", i) for i, f in enumerate(fields)]
            rename = {f"m{i}": f.name for i, f in enumerate(fields)}
            struct = msgspec.defstruct(
                name, members, forbid_unknown_fields=True, rename=rename, gc=False
            )
            return struct if name == "record" else struct | None


def _strict_member(field_: Field, name: str, index: int) -> tuple[str, Any, Any]:
    default = msgspec.Raw() if field_.type == Scalar("JSON") else None
    return (f"m{index}", _strict_type(field_.type, name), default)
