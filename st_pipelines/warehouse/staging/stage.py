"""Stages pages of JSON as files that DuckDB's `read_json` reads without loss.

`read_json` with declared columns is fast but lossy: it drops unknown members, rounds 1.5 to 2, and
reads `true` as 1. Each page is therefore first decoded against the catalog (by msgspec, in C, with
unknown fields forbidden). A page that passes, as nearly all do, is written as it came. In any
other page each record that differs is made to fit by `conform`; what does not fit goes into
`_extra` with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from st_pipelines import json_text
from st_pipelines.catalog.model import Endpoint, Field, StructOf
from st_pipelines.warehouse.columns import EXTRA_MEMBER
from st_pipelines.warehouse.errors import FULL, MalformedRecords, WarehouseFull
from st_pipelines.warehouse.staging import grammar, json_path
from st_pipelines.warehouse.staging.conform import (
    conform,
    decode_exactly,
    encode,
    encode_exactly,
    is_ambiguous,
)
from st_pipelines.warehouse.staging.precision import build_precision_check
from st_pipelines.warehouse.staging.records import Decoded, decode_record, split_records
from st_pipelines.warehouse.staging.strict_types import build_decoder

_SPLIT = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass
class Drift:
    """Where records differ from the catalog: counts and one example, by path without indices."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, extra: dict[str, Any], fields: tuple[Field, ...]) -> None:
        """Counts the paths in one record's `_extra`, without values that are known to be served.

        Args:
            extra: by path.
            fields: of the row.
        """
        root = StructOf(fields)
        for path, value in extra.items():
            if grammar.is_known(value, json_path.find_type(root, path)):
                continue
            general = json_path.without_indices(path)
            self.counts[general] += 1
            if general not in self.examples:
                self.examples[general] = encode_exactly(value).decode(errors="replace")[:80]

    def __add__(self, later: Drift) -> Drift:
        """Returns the drift of both loads, with the earlier example of each path."""
        return Drift(self.counts + later.counts, {**later.examples, **self.examples})


@dataclass(frozen=True, kw_only=True)
class FittedPage:
    """A page whose records all fit their columns.

    Attributes:
        records: a JSON array.
        count: the number of records.
        drift: what differed from the catalog.
    """

    records: bytes
    count: int
    drift: Drift


class Staging:
    """The staged files of one load, in a folder of its own that only the user can read."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        """Creates the folder, which must not exist; whoever owns its parent removes it."""
        folder.mkdir(parents=True, mode=0o700)
        self.endpoint = endpoint
        self.folder = folder
        self.files: list[Path] = []
        self._drift: dict[Path, Drift] = {}
        self._lost_in_exploding = Drift()
        self._row_counts: list[int] = []
        self._decode = build_decoder(endpoint.row_fields).decode
        self._precision = build_precision_check(endpoint.row_fields)

    @property
    def drift(self) -> Drift:
        """What differs from the catalog, in all pages."""
        return sum(self._drift.values(), self._lost_in_exploding)

    @property
    def rows(self) -> int:
        """The number of staged records."""
        return sum(self._row_counts)

    def mark(self) -> int:
        """Returns a position for `return_to`."""
        return len(self.files)

    def return_to(self, mark: int) -> None:
        """Discards the pages staged since a mark, before they are read again."""
        for file in self.files[mark:]:
            file.unlink(missing_ok=True)
            self._drift.pop(file, None)
        del self.files[mark:], self._row_counts[mark:]
        if not mark:
            self._lost_in_exploding = Drift()

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
        file = self.folder / f"{len(self.files):06}.json"
        if self.endpoint.explode:
            records, rows = _explode(records, self.endpoint, self._lost_in_exploding), None
        count = self._count_if_fitting(records, rows)
        if count is None:
            page = fit_page(records, self.endpoint, self._fits)
            records, count = page.records, page.count
            self._drift[file] = page.drift
        if not count:
            return []
        write_page(file, records)
        self.files.append(file)
        self._row_counts.append(count)
        return [file]

    def replace_drift(self, file: Path, drift: Drift) -> None:
        """Notes the drift of a page that was made to fit once more."""
        self._drift[file] = drift

    def _fits(self, record: bytes) -> bool:
        return self._count_if_fitting(b"[" + record + b"]") is not None

    def _count_if_fitting(
        self, records: bytes, rows: Sequence[msgspec.Raw] | None = None
    ) -> int | None:
        """Returns the number of records if all match the catalog, otherwise None."""
        if self._precision.may_be_inexact(records) or grammar.NO_TIME in records:
            return None
        try:
            if rows is None:
                rows = _SPLIT.decode(records)
            for row in rows:  # one by one: 5,000 decoded invoices would take 100 MB
                self._decode(row)
            if self._precision.has_json and any(json_text.is_too_deep(bytes(row)) for row in rows):
                return None
            return len(rows)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


def fit_page(
    records: bytes, endpoint: Endpoint, fits: Callable[[bytes], bool] = lambda record: False
) -> FittedPage:
    """Makes the records of a page fit by `conform`, each independently of the others.

    Args:
        records: a JSON array of objects.
        endpoint: whose records.
        fits: whether a record may stay as it is.

    Raises:
        MalformedRecords: the page is not an array of objects.
    """
    drift, fitted = Drift(), []
    for text in split_records(records):
        fitted.append(text if fits(text) else _fit_record(text, endpoint, drift))
    return FittedPage(records=b"[" + b",\n".join(fitted) + b"]", count=len(fitted), drift=drift)


def write_page(file: Path, records: bytes) -> None:
    """Writes the file of a page.

    Raises:
        WarehouseFull: the disk is full.
        OSError: the folder was removed.
    """
    try:
        file.write_bytes(records)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise WarehouseFull(
            f"no space left on the disk of {file.parent}, where pages are staged: nothing was "
            "loaded; free some, or set ST_WAREHOUSE_DIR to a folder on another disk"
        ) from None


def _fit_record(text: bytes, endpoint: Endpoint, drift: Drift) -> bytes:
    try:
        return _conform_record(text, endpoint, drift)
    except RecursionError:
        raise MalformedRecords(
            f"{endpoint.table}: a record is nested too deeply to be stored"
        ) from None


def _conform_record(text: bytes, endpoint: Endpoint, drift: Drift) -> bytes:
    decoded = _decode_object(text, endpoint)
    extra = _take_staged_extra(decoded.record) | decoded.extra
    conformed = conform(decoded.record, endpoint.row_fields)
    extra |= conformed.extra
    _keep_repeated(text, decoded, StructOf(endpoint.row_fields), extra)
    if extra:
        drift.add(extra, endpoint.row_fields)
        conformed.record[EXTRA_MEMBER] = _encode_extra(extra)
    return encode(conformed.record)


def _keep_repeated(
    text: bytes, decoded: Decoded, type_: StructOf | None, extra: dict[str, Any]
) -> None:
    """Adds the record as served to `extra`, if repeated names hide a value."""
    if not decoded.has_repeated_names or json_path.keeps_record(extra):
        return
    if is_ambiguous(decoded.record, type_, extra):
        extra[json_path.MALFORMED] = text.decode()


def _encode_extra(extra: dict[str, Any]) -> str:
    """Returns the same text for equal extras; the export's part is last, as `merge` expects."""
    ordered = sorted(extra.items(), key=lambda item: (item[0] == json_path.EXPORT_ONLY, item[0]))
    return encode_exactly(dict(ordered)).decode()


def _decode_object(text: bytes, endpoint: Endpoint) -> Decoded:
    decoded = decode_record(text)
    if not isinstance(decoded.record, dict):
        raise MalformedRecords(f"{endpoint.table}: a record is not an object")
    return decoded


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
        decoded = _decode_object(text, endpoint)
        record, extra = decoded.record, decoded.extra
        _keep_repeated(text, decoded, None, extra)
        if name not in record:
            unknown = {key: value for key, value in record.items() if key not in known}
            drift.add({json_path.append_member("", key): unknown[key] for key in unknown}, ())
        members = record.pop(name, None)
        if extra:
            record[EXTRA_MEMBER] = encode_exactly(extra).decode()
        # A member that is not an object has no fields of a row, and is kept under the array's name.
        for member in members if isinstance(members, list) else [members]:
            if member is not None:
                rows.append({**record, **(member if isinstance(member, dict) else {name: member})})
    return encode_exactly(rows)
