"""Cancels requests at once, instead of at their timeout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """Nobody wants the response any more. Does not leave this package."""


class Cancellation(threading.Event):
    """An event that also aborts calls that are blocked and cannot check it."""

    def __init__(self) -> None:
        super().__init__()
        self._aborts: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        """Set the event, and abort everything in progress under it."""
        with self._guard:
            super().set()
            aborts = list(self._aborts)
        for abort in aborts:
            abort()

    @contextmanager
    def aborting(self, abort: Callable[[], None]) -> Iterator[None]:
        """Call a function if the event is set while the context lasts.

        Args:
            abort: called from the thread that sets the event; must not block.

        Raises:
            Cancelled: the event was set already.
        """
        with self._guard:
            if self.is_set():
                raise Cancelled
            self._aborts.append(abort)
        try:
            yield
        finally:
            with self._guard:
                self._aborts.remove(abort)
