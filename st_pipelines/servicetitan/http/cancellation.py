"""Breaking off: what nobody wants any more ends now, and not at its timeout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """Nobody wants the answer any more. Stays inside this package."""


class Cancellation(threading.Event):
    """An event that also breaks off what is blocked and cannot look at it."""

    def __init__(self) -> None:
        """Start unset."""
        super().__init__()
        self._breakers: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        """Set the event and break off everything that is going on under it."""
        with self._guard:
            super().set()
            breakers = list(self._breakers)
        for break_off in breakers:
            break_off()

    @contextmanager
    def breaking(self, break_off: Callable[[], None]) -> Iterator[None]:
        """While it lasts, `set` calls a function.

        Args:
            break_off: called from the thread that sets the event; must not block.

        Raises:
            Cancelled: the event was set already.
        """
        with self._guard:
            if self.is_set():
                raise Cancelled
            self._breakers.append(break_off)
        try:
            yield
        finally:
            with self._guard:
                self._breakers.remove(break_off)
