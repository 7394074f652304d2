"""Answers linked to one another, so that no record can hide between two of them.

The argument that uses it is in `proof`.
"""

from __future__ import annotations

from st_pipelines.servicetitan.reading.envelope import ParsedPage


class Coverage:
    """Covers a list from its beginning, answer by answer.

    Attributes:
        by_id: the list is sorted by an integer id; else only its records' contents can tell that
            two answers touch.
        complete: it reaches from the first record to the last.
        disordered: ids do not rise within an answer, so that the list is not sorted by them.
    """

    def __init__(self, *, by_id: bool) -> None:
        """Start with nothing covered.

        Args:
            by_id: see above.
        """
        self.by_id = by_id
        self.complete = False
        self.disordered = False
        self._highest: int | None = None
        self._last: frozenset[int] = frozenset()

    @property
    def ended(self) -> bool:
        """Whether further answers can add nothing."""
        return self.complete or self.disordered

    def link(self, served: ParsedPage, *, at_start: bool = False) -> ParsedPage | None:
        """Add an answer, if it touches what is covered.

        Args:
            served: a page, not necessarily the next one.
            at_start: it begins at the first position, and so leaves out nothing before it.

        Returns:
            The answer without the records that are covered already; None if it does not touch.
        """
        self.disordered = self.disordered or (self.by_id and served.ascending is not True)
        if self.disordered or not (at_start or self.touches(served)):
            return None
        new = self._extend(served)
        # Once an answer that is linked was the end, a record that stays is covered for good.
        self.complete = self.complete or served.has_more is False
        return served if all(new) else served.only(new)

    def reach(self) -> object:
        """How far it has come; compare with `moved_from`."""
        return self._highest if self.by_id else self._last

    def moved_from(self, reach: object) -> bool:
        """Whether it has come to another place since `reach` was taken."""
        return self.reach() != reach

    def touches(self, served: ParsedPage) -> bool:
        """Whether no record that stays can lie between what is covered and an answer.

        An empty page behind the end tells nothing of what is between here and the end.
        """
        if self.by_id:
            return (
                served.count > 0 and self._highest is not None and served.keys[0] <= self._highest
            )
        return not self._last.isdisjoint(served.contents())

    def _extend(self, served: ParsedPage) -> list[bool]:
        """Cover an answer; returns for each of its records whether it was not covered before."""
        if not self.by_id:
            contents, known = served.contents(), self._last
            self._last = frozenset(contents)
            return [content not in known for content in contents]
        highest = self._highest
        if served.keys:
            last = served.keys[-1]
            self._highest = last if highest is None else max(last, highest)
        return [highest is None or key > highest for key in served.keys]
