"""Assigns ids: ascending with gaps, as in a system that many tenants share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import count
from zlib import crc32

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
    "lead": 340_000_000,
    "booking": 345_000_000,
    "recurring_service": 347_000_000,
    "service_event": 348_500_000,
    "note": 350_000_000,
    "credit_memo": 353_000_000,
    "purchase_order": 355_000_000,
    "receipt": 360_000_000,
    "bill": 365_000_000,
    "vendor_payment": 370_000_000,
    "purchase_line": 375_000_000,
    "line": 400_000_000,
}
"""First id of each kind of entity."""

USER_IDS = 7_000_000
"""An employee's or technician's `userId` is this much larger than the `id`."""

NUMBERS_AS_TEXT = frozenset({"dispatch.technician_skills"})
"""Collections whose ids are numbers that are served as text. Technicians refer to the numbers."""


def compute_id(base: int, number: int) -> int:
    """Return the id of the `number`th entity, counted from 0, after the first id `base`."""
    return base + 3 * number + number % 2


def compute_user_id(person_id: int) -> int:
    """Return the `userId` of an employee or technician, from the `id`."""
    return person_id + USER_IDS


def compute_part_id(record_id: int, path: str, position: int) -> int:
    """Return the id of a record's part: of the item at `position` of the array at `path`."""
    return record_id * 1000 + crc32(path.encode()) % 30 * 30 + position


def count_initial_rows(table: str) -> int:
    """Return how many rows a table without a story has when the sandbox starts: 10 to 60."""
    return 10 + crc32(table.encode()) % 51


def compute_first_id(table: str) -> int:
    """Return the id of the first row of a table without a story."""
    return 2_000_000 + crc32(table.encode()) % 3_000 * 2_000


def generate_ids(base: int) -> Iterator[int]:
    """Generate all ids from `base` on."""
    return (compute_id(base, number) for number in count())


def make_text_key(table: str, number: int, seed: int) -> str:
    """Make the key of a record whose `id` is text: a GUID, or a number."""
    if table in NUMBERS_AS_TEXT:
        return str(5_000_000 + number)
    return sample_text.draw_guid(random.Random(f"{seed}:{table}:{number}"))
