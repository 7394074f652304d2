"""Keeps the pages of a report until all of them have come, and turns their rows into records.

Columns and types are known only after the last page, so pages go through a folder first. A record
is a JSON object by column; from here on a report is staged and loaded like any other table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from st_pipelines.catalog.model import Field, Scalar
from st_pipelines.catalog.report import ReportColumn
from st_pipelines.warehouse.columns import EXTRA_MEMBER
from st_pipelines.warehouse.reports.columns import NamedField, identify_fields
from st_pipelines.warehouse.reports.inference import ColumnValues, to_text
from st_pipelines.warehouse.staging.conform import decode_exactly, encode_exactly
from st_pipelines.warehouse.staging.records import decode_record, split_records
from st_pipelines.warehouse.staging.stage import write_page


@dataclass
class KeptPages:
    """The pages of a reading, in a folder of their own.

    Attributes:
        folder: is created; whoever owns its parent removes it.
        served: the label of each field of any page, by identity, in the order of the first page.
        values: what the columns hold, by identity.
        differing_pages: pages whose fields are not those of the first page.
    """

    folder: Path
    served: dict[str, str] = field(default_factory=dict)
    values: dict[str, ColumnValues] = field(default_factory=dict)
    differing_pages: list[int] = field(default_factory=list)
    _files: list[tuple[Path, list[str]]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of pages."""
        return len(self._files)

    def add(self, fields: Sequence[NamedField], rows: Sequence[bytes]) -> None:
        """Adds a page.

        Args:
            fields: name the values of the rows.
            rows: JSON arrays, as served.

        Raises:
            MalformedRecords: a row cannot be read.
            WarehouseFull: the disk is full.
        """
        self.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        identities = identify_fields(fields)
        if self._files and identities != self._files[0][1]:
            self.differing_pages.append(len(self._files) + 1)
        for identity, each in zip(identities, fields, strict=True):
            self.served.setdefault(identity, each.label)
            self.values.setdefault(identity, ColumnValues())
        file = self.folder / f"{len(self._files):06}.json"
        write_page(file, b"[" + b",".join(rows) + b"]")
        self._files.append((file, identities))
        columns = [self.values[identity] for identity in identities]
        for row in rows:
            for values, value in zip(columns, _read_row(row)[0], strict=True):
                values.add(value)

    def clear(self) -> None:
        """Forgets all pages, before they are read again."""
        for file, _ in self._files:
            file.unlink(missing_ok=True)
        self._files.clear()
        self.served.clear()
        self.values.clear()
        self.differing_pages.clear()

    def records(
        self, columns: Sequence[ReportColumn], fields: Sequence[Field]
    ) -> Iterator[list[msgspec.Raw]]:
        """Yields the records of each page, at least one page."""
        names = {column.field: column.column for column in columns}
        texts = {field.name for field in fields if field.type == Scalar("VARCHAR")}
        if not self._files:
            yield []
        for file, identities in self._files:
            targets = [(names[each], names[each] in texts) for each in identities]
            rows = split_records(file.read_bytes())
            yield [_build_record(row, targets) for row in rows]


def _build_record(row: bytes, targets: Sequence[tuple[str, bool]]) -> msgspec.Raw:
    values, extra = _read_row(row)
    record = {
        name: to_text(value) if is_text else value
        for (name, is_text), value in zip(targets, values, strict=True)
    }
    if extra:
        record[EXTRA_MEMBER] = encode_exactly(extra).decode()
    return msgspec.Raw(encode_exactly(record))


def _read_row(row: bytes) -> tuple[list[Any], Mapping[str, Any]]:
    """Returns the values of a row, and the row as served if it is not valid JSON.

    Raises:
        MalformedRecords: the end of the row, or of a string in it, is unknown.
    """
    try:
        return decode_exactly(row.decode()), {}
    except (ValueError, RecursionError, msgspec.DecodeError):
        decoded = decode_record(row)
        return decoded.record, decoded.extra
