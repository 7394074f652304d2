"""Finds where the records of a load differ from the catalog, for the asset check `schema_drift`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from st_pipelines.catalog.model import DataType, StructOf
from st_pipelines.defs.privacy import describe_example, display_path, json_type
from st_pipelines.warehouse.columns import table_type

if TYPE_CHECKING:
    from st_pipelines.sync.sync import LoadReport


@dataclass(frozen=True, kw_only=True)
class PathDrift:
    """A path whose values differ from the catalog.

    Attributes:
        path: as served (`items[].sku`), or a column that has stopped coming.
        records: number of records that differ there.
        found: JSON type of the example; "nothing" for a field that has stopped coming.
        expected: type in the catalog, or "unknown field".
        example: JSON, at most 80 characters, or its type and length.
    """

    path: str
    records: int
    found: str
    expected: str
    example: str = ""

    @property
    def summary(self) -> str:
        """The difference in a few words."""
        shows_type = self.example.startswith(self.found)
        value = self.example if shows_type else f"{self.found} {self.example}".strip()
        return f"{value} in {self.records:,} records, {self.expected}"

    def as_row(self) -> dict[str, str | int]:
        """Returns the row of a table in the UI."""
        return {
            "path": self.path,
            "records": self.records,
            "found": self.found,
            "expected": self.expected,
            "example": self.example,
        }


def find_drift(report: LoadReport, *, full_previews: bool = False) -> list[PathDrift]:
    """Returns the paths that differ, most frequent first, then fields that have stopped coming."""
    from st_pipelines.warehouse.staging.json_path import find_type

    examples = report.drift.examples
    differing = [
        PathDrift(
            path=display_path(path, full=full_previews),
            records=count,
            found=json_type(examples.get(path, "")),
            expected=_expected(find_type(StructOf(report.endpoint.row_fields), path)),
            example=describe_example(examples.get(path, ""), full=full_previews),
        )
        for path, count in report.drift.counts.most_common()
    ]
    return differing + [
        PathDrift(
            path=missing.path,
            records=missing.rows,
            found="nothing",
            expected=f"{missing.share:.0%} of the rows had a value before",
        )
        for missing in report.loaded.missing_fields
    ]


def _expected(type_: DataType | None) -> str:
    return "unknown field" if type_ is None else f"expected {table_type(type_)}"
