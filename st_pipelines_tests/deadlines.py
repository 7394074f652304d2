"""How long tests wait for another process, thread or server.

Only a hang reaches these limits: tests that wait end as soon as what they wait for happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 600.0
"""Seconds. Over five times what the slowest wait needs on two cores, and below pytest's timeout of
one test (pyproject.toml), so that a wait in vain ends with its own message."""


def wait_until(condition: Callable[[], T | None], what: str, *, interval: float = 0.01) -> T:
    """Returns the condition's first true value.

    Args:
        what: completes the message "no ... within 600 s".
        interval: seconds between two evaluations.
    """
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {DEADLINE:.0f} s")
        time.sleep(interval)
    return value
