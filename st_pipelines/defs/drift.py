"""Where the records of a load differed from the catalogue, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from st_pipelines.catalog.model import DataType, StructOf
from st_pipelines.warehouse.columns import table_type

if TYPE_CHECKING:
    from st_pipelines.sync.sync import LoadReport

_TYPES = {'"': "string", "{": "object", "[": "array", "t": "boolean", "f": "boolean", "n": "null"}


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """A path whose values are not as the catalogue says.

    Attributes:
        path: as served, `items[].sku`, or a column that has stopped coming.
        records: how many records differ there.
        found: the JSON type of the example; "nothing" for a field that has stopped coming.
        expected: the type by the catalogue; "unknown field" where it knows none.
        example: JSON, at most 80 characters.
    """

    path: str
    records: int
    found: str
    expected: str
    example: str = ""

    @property
    def what(self) -> str:
        """In a few words."""
        told = f"{self.found} {self.example}".strip()
        return f"{told} in {self.records:,} records, {self.expected}"

    def as_row(self) -> dict[str, str | int]:
        """For a table."""
        return {
            "path": self.path,
            "records": self.records,
            "found": self.found,
            "expected": self.expected,
            "example": self.example,
        }


def drifted(report: LoadReport) -> list[Drifted]:
    """What differed, the most frequent first; then the fields that have stopped coming."""
    from st_pipelines.warehouse.staging.json_path import find_type

    examples = report.drift.examples
    differing = [
        Drifted(
            path=path,
            records=count,
            found=_TYPES.get(examples.get(path, "")[:1], "number"),
            expected=_expected(find_type(StructOf(report.endpoint.row_fields), path)),
            example=examples.get(path, ""),
        )
        for path, count in report.drift.counts.most_common()
    ]
    return differing + [
        Drifted(
            path=gone.path,
            records=gone.rows,
            found="nothing",
            expected=f"{gone.share:.0%} of the rows had a value before",
        )
        for gone in report.loaded.missing_fields
    ]


def _expected(type_: DataType | None) -> str:
    return "unknown field" if type_ is None else f"expected {table_type(type_)}"
