"""Records on their way: pages of JSON bytes become files that `read_json` reads without a loss.

`read_json` with declared columns is fast and careless: it drops unknown members, rounds 1.5 to
2 and reads `true` as 1. So each page is first decoded against the catalogue (msgspec, in C, with
unknown fields forbidden). A page that passes, nearly every one, is written as it came. In another
each record that differs is made to fit by `conform`, and what does not fit rides along in `_extra`.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec

from st_pipelines import json_text as surrogates
from st_pipelines.catalog.additions import EXPORT_ONLY
from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.columns import EXTRA_MEMBER
from st_pipelines.warehouse.errors import FULL, MalformedRecords, WarehouseFull
from st_pipelines.warehouse.staging import json_path
from st_pipelines.warehouse.staging.conform import (
    conform,
    decode_exactly,
    encode,
    encode_exactly,
    exact_number,
    is_date,
)
from st_pipelines.warehouse.staging.precision import PrecisionCheck

_BETWEEN = re.compile(r"[ \t\r\n]*([\[,])[ \t\r\n]*")
_SPLIT = msgspec.json.Decoder(list[msgspec.Raw])


class _Date:
    """A `date` of the API, checked by `is_date` while decoding."""


@dataclass
class Drift:
    """Where records differed from the catalogue: path without indices to count, and an example."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, extra: dict[str, Any]) -> None:
        """Counts what a record could not place."""
        for path, value in extra.items():
            name = json_path.without_indices(path)
            self.counts[name] += 1
            if name not in self.examples:
                self.examples[name] = encode_exactly(value).decode(errors="replace")[:80]

    def __add__(self, later: Drift) -> Drift:
        """The differences of two loads, with the earlier one's example of each."""
        return Drift(self.counts + later.counts, {**later.examples, **self.examples})


class Staging:
    """The files of one load, in a folder of its own that only the user can read.

    Use as a context manager; on leaving, the folder is removed.
    """

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        """Nothing is written before `__enter__`.

        Args:
            endpoint: whose records these are.
            folder: a folder that does not exist yet.
        """
        self.endpoint = endpoint
        self.folder = folder
        self.drift = Drift()
        self.files: list[Path] = []
        self._rows: list[int] = []
        self._decode = _decoder(endpoint.row_fields).decode
        self._may_be_inexact = PrecisionCheck(endpoint.row_fields).may_be_inexact

    def __enter__(self) -> Staging:
        self.folder.mkdir(parents=True, mode=0o700)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def mark(self) -> int:
        """Where `return_to` can go back to."""
        return len(self.files)

    def return_to(self, mark: int) -> None:
        """Forgets all pages since the mark: their reading starts over."""
        for file in self.files[mark:]:
            file.unlink(missing_ok=True)
        del self.files[mark:], self._rows[mark:]
        if not mark:
            self.drift = Drift()

    @property
    def rows(self) -> int:
        """Records staged."""
        return sum(self._rows)

    def add(self, records: bytes, rows: Sequence[msgspec.Raw] | None = None) -> list[Path]:
        """Stages a page.

        Args:
            records: a JSON array of objects, as served.
            rows: its members, where they have been told apart already.

        Returns:
            Its file; nothing for a page without records.

        Raises:
            MalformedRecords: it is something else.
            WarehouseFull: the disk is full.
            OSError: the folder is gone.
        """
        if self.endpoint.explode:
            records, rows = _exploded(records, self.endpoint, self.drift), None
        count = self._count_if_fitting(records, rows)
        if count is None:
            records, count = self._fitted(records)
        if not count:
            return []
        file = self.folder / f"{len(self.files):06}.json"
        _write(file, records)
        self.files.append(file)
        self._rows.append(count)
        return [file]

    def fit_all(self) -> None:
        """Makes every staged record fit the careful way: for what DuckDB refused all the same."""
        self.drift = Drift()
        for file in self.files:
            records, _ = self._fitted(file.read_bytes(), trust=False)
            _write(file, records)

    def _count_if_fitting(
        self, records: bytes, rows: Sequence[msgspec.Raw] | None = None
    ) -> int | None:
        """Number of records if all are as the catalogue says, else None."""
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

    def _fitted(self, records: bytes, trust: bool = True) -> tuple[bytes, int]:
        fitted: list[bytes] = []
        for text in _raw_records(records):
            keep = trust and self._count_if_fitting(b"[" + text + b"]") is not None
            fitted.append(text if keep else self._fit(text))
        return b"[" + b",\n".join(fitted) + b"]", len(fitted)

    def _fit(self, text: bytes) -> bytes:
        try:
            return self._fit_decoded(text)
        except RecursionError:
            raise MalformedRecords(
                f"{self.endpoint.table}: a record is nested too deeply to be kept"
            ) from None

    def _fit_decoded(self, text: bytes) -> bytes:
        record, extra = _decoded(text)
        if not isinstance(record, dict):
            raise MalformedRecords(f"{self.endpoint.table}: a record is no object")
        extra = _set_aside_before(record) | extra
        conformed = conform(record, self.endpoint.row_fields)
        extra |= conformed.extra
        if extra:
            self.drift.add(extra)
            # Equal ones are the same text, and that of the export is the last, as `extra` has it.
            in_order = dict(sorted(extra.items(), key=lambda one: (one[0] == EXPORT_ONLY, one[0])))
            conformed.record[EXTRA_MEMBER] = encode_exactly(in_order).decode()
        return encode(conformed.record)


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


def _decoder(fields: tuple[Field, ...]) -> msgspec.json.Decoder[Any]:
    record = _strict(StructOf(fields), "record")
    return msgspec.json.Decoder(record, dec_hook=_check_date)


def _check_date(type_: type, value: Any) -> Any:
    if is_date(value):
        return _Date()
    raise ValueError("no date")


_BigInt: Any = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_SCALARS: dict[str, Any] = {
    "BIGINT": _BigInt | None,
    "DECIMAL": str | int | float | None,
    "DOUBLE": float | None,
    "BOOLEAN": bool | None,
    "VARCHAR": str | None,
    "TIMESTAMPTZ": datetime.datetime | None,
    "DATE": _Date | None,
    "JSON": msgspec.Raw,
}


def _strict(type_: DataType, name: str) -> Any:
    """The msgspec type that accepts just what `read_json` reads without a loss."""
    match type_:
        case Scalar(scalar):
            return _SCALARS[scalar]
        case ListOf(item):
            return list[_strict(item, name)] | None
        case StructOf(fields):
            members = [_member(f, f"{name}_{i}", i) for i, f in enumerate(fields)]
            rename = {f"m{i}": f.name for i, f in enumerate(fields)}
            struct = msgspec.defstruct(
                name, members, forbid_unknown_fields=True, rename=rename, gc=False
            )
            return struct if name == "record" else struct | None


def _member(field_: Field, name: str, index: int) -> tuple[str, Any, Any]:
    default = msgspec.Raw() if field_.type == Scalar("JSON") else None
    return (f"m{index}", _strict(field_.type, name), default)


def _raw_records(records: bytes) -> Iterator[bytes]:
    """The text of each record.

    Raises:
        MalformedRecords: this is no array.
    """
    try:
        yield from map(bytes, msgspec.json.decode(records, type=list[msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError) as error:
        if surrogates.replace_lone_surrogates(records) is records:
            raise MalformedRecords(f"no array of records: {error}") from None
        yield from _raw_records_with_surrogates(records)


def _raw_records_with_surrogates(records: bytes) -> Iterator[bytes]:
    """The same, by a slower reader that minds no half characters."""
    text = records.decode(errors="surrogateescape")
    read = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
    position, expected = 0, "["
    try:
        while (found := _BETWEEN.match(text, position)) and found[1] == expected:
            _, position = read(text, found.end())
            yield text[found.end() : position].encode(errors="surrogateescape")
            expected = ","
    except (ValueError, RecursionError) as error:
        raise MalformedRecords(f"no array of records: {error}") from None
    if text[position:].strip() != "]":
        raise MalformedRecords(f"no array of records: it breaks off at character {position}")


def _decoded(text: bytes) -> tuple[Any, dict[str, Any]]:
    """A record, with what is no text replaced; then the record as served is in the second."""
    extra: dict[str, Any] = {}
    try:
        readable = text.decode()
    except UnicodeDecodeError:
        extra[json_path.INVALID_TEXT] = text.decode("latin-1")
        readable = text.decode(errors="replace")
    whole = surrogates.replace_lone_surrogates(readable.encode()).decode()
    if whole != readable and not extra:
        extra[json_path.LONE_SURROGATES] = readable
    try:
        return decode_exactly(whole), extra
    except (msgspec.DecodeError, RecursionError) as error:
        reason = error
    try:
        if isinstance(reason, msgspec.ValidationError):  # an integer of thousands of digits
            return json.loads(whole, parse_int=_integer, parse_float=exact_number), extra
    except (ValueError, RecursionError) as error:
        reason = error
    raise MalformedRecords(f"a record is no JSON: {reason}")


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < 4000 else Decimal(text)


def _set_aside_before(record: dict[str, Any]) -> dict[str, Any]:
    """What an earlier step could not place in this record; taken out of it."""
    before = record.get(EXTRA_MEMBER)
    try:
        extra = decode_exactly(before) if isinstance(before, str) else None
    except msgspec.DecodeError:
        extra = None
    if not isinstance(extra, dict):
        return {}
    del record[EXTRA_MEMBER]
    return extra


def _exploded(records: bytes, endpoint: Endpoint, drift: Drift) -> bytes:
    """Each member of the array `endpoint.explode` as a record, with the fields around it.

    Where the array is absent, its name may have changed: then no row can tell of what else the
    record holds, and `drift` does.
    """
    known = {column.name for column in endpoint.columns}
    rows: list[Any] = []
    for text in _raw_records(records):
        record, extra = _decoded(text)
        if not isinstance(record, dict):
            raise MalformedRecords(f"{endpoint.table}: a record is no object")
        name = str(endpoint.explode)
        if name not in record:
            unknown = {
                json_path.append_member("", k): v for k, v in record.items() if k not in known
            }
            drift.add(unknown)
        members = record.pop(name, None)
        if extra:
            record[EXTRA_MEMBER] = encode_exactly(extra).decode()
        # What is no object fits no row of its own, and is kept under the array's name.
        for member in members if isinstance(members, list) else [members]:
            if member is not None:
                rows.append({**record, **(member if isinstance(member, dict) else {name: member})})
    return encode_exactly(rows)
