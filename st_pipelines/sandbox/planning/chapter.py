"""Defines `Chapter`: a part of the company that is planned only when a table needs it."""

from __future__ import annotations

from typing import Protocol

from st_pipelines.sandbox.planning.books import Books


class Chapter(Protocol):
    """Plans what follows from the company's jobs, invoices or days: payroll, journal, deposits.

    `Company.chapter` creates it and calls `extend` whenever the company was planned further. Its
    lists only grow at their ends, and depend on nothing but the company's entities and the seed, so
    it does not matter when it is created.
    """

    def __init__(self, company: Books) -> None: ...

    def extend(self) -> None:
        """Plan what follows from the entities that were added since the last call."""
        ...
