"""Assigns ids: ascending with gaps, as in a system that many tenants share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import count

from st_pipelines.sandbox import sample_text

FIRST_IDS: Mapping[str, int] = {
    "customer": 10_000_000,
    "location": 30_000_000,
    "job": 60_000_000,
    "visit": 90_000_000,
    "invoice": 130_000_000,
    "payment": 180_000_000,
    "estimate": 220_000_000,
    "call": 280_000_000,
    "membership": 330_000_000,
    "note": 350_000_000,
    "line": 400_000_000,
}
"""First id of each kind of entity."""


def compute_id(base: int, number: int) -> int:
    """Return the id of the `number`th entity, counted from 0, after the first id `base`."""
    return base + 3 * number + number % 2


def generate_ids(base: int) -> Iterator[int]:
    """Generate all ids from `base` on."""
    return (compute_id(base, number) for number in count())


def make_text_key(table: str, number: int, seed: int) -> str:
    """Make a GUID for a record of a table whose `id` is text."""
    return sample_text.draw_guid(random.Random(f"{seed}:{table}:{number}"))
