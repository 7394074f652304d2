"""Which fields of ServiceTitan's records refer to other records.

The documents declare no foreign keys. `data/foreign_keys.csv` is curated: names, descriptions and
real records were read for it. The sandbox and the data dictionary share it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("data") / "foreign_keys.csv"


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """A field that refers to another record.

    Attributes:
        source: the collection, such as `jpm.jobs`; or the path of an operation that needs more than
            the tenant's id, such as `/crm/v2/tenant/{tenant}/leads/{id}/notes`.
        path: the field in a record, with `[]` for a member of an array: `items[].sku.id`.
        targets: the collections, or the paths of operations. The value is found in one of them.
        field: the path of the referenced field in a record of the target: usually `id`.
        confidence: how certain it is that the field refers to the targets.
    """

    source: str
    path: str
    targets: tuple[str, ...]
    field: str
    confidence: Literal["high", "medium", "low"]


@lru_cache(maxsize=1)
def load_foreign_keys() -> Mapping[str, Mapping[str, ForeignKey]]:
    """Return the foreign keys, by source and by path.

    Raises:
        OSError: the packaged file cannot be read.
    """
    found: dict[str, dict[str, ForeignKey]] = {}
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            foreign_key = ForeignKey(
                source=row["source"],
                path=row["path"],
                targets=tuple(row["targets"].split("|")),
                field=row["field"],
                confidence=row["confidence"],  # pyright: ignore[reportArgumentType]
            )
            found.setdefault(foreign_key.source, {})[foreign_key.path] = foreign_key
    return found
