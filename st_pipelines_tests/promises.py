"""States what the documents promise of a table after the loads that succeeded, and checks it.

For each item (`source_history`) there is one number: the step at which the latest load began that
has promised to read the item. The table must have one of the versions that were in effect at that
step or later. So a table that lacks a row, kept an old value, or undid what a later read had found
is wrong, and one that shows a change before it had to is not.

Which items a load promises to read:

- of everything (a snapshot, a reconcile): all, deleted ones too;
- of a window: those whose versions during the load were all served and lay in the window. It begins
  three hours (or the look-back) before its first midnight, or three hours before earlier loads
  ended if that was less than 36 hours before the midnight, and it ends at its last midnight, or at
  the present by this machine's clock or the server's, whichever is earlier. A
  load that starts over reads up to its new present, as its line of the log says;
- without a key: also rows in the window that are no longer served;
- with lookups: also rows that the table has in the window and that are no longer served, provided
  that it has others of the same part, to tell an honest response from an empty one;
- with a feed: also those that changed since the feed was read last, and what only the feed serves
  of the records that the list served.

What no daily load promises, and only a reconcile finds: changes that do not move the cursor, and
deletions, outside the windows that are loaded afterwards. A response that leaves records out is
believed, so a load promises nothing of the records that were hidden while it ran.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from st_pipelines.catalog.model import Endpoint
from st_pipelines_tests.source_history import Cells, Key, SourceHistory, Version, find_key

EARLIER = timedelta(hours=3)
MAX_HOLE = timedelta(hours=36)
SETTLING = timedelta(hours=1)
"""A record that is committed up to this long after its cursor arrives with the daily loads."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        cells: by position in the endpoint's `row_fields`.
        marked: `_deleted_at` is set.
        day: `_partition_date`.
    """

    cells: Cells
    marked: bool
    day: date | None


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line of `_st.loads`: the window that a load has read, and when."""

    start: datetime | None
    end: datetime | None
    loaded_at: datetime


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a load is told.

    Attributes:
        first, last: local days; None for a reading of everything.
        open_start: with everything older.
        timezone: of the days.
        now: this machine's time or the server's, whichever is earlier.
        clock: this machine's time.
        unknown: name of a column that the loading process does not know.
    """

    first: date | None
    last: date | None
    open_start: bool
    timezone: str
    now: datetime
    clock: datetime
    unknown: str | None = None


@dataclass(kw_only=True, eq=False)
class Attempt:
    """A load that has begun.

    Attributes:
        step: at which it began.
        setup: what it was told.
        everything: it reads everything.
        start, end: the window that it promises to read.
        hidden: items that the source has hidden at some time during the load.
        known: items that an earlier load had promised to read when this one began.
        number: of all loads, in the order in which they began.
    """

    step: int
    setup: Setup
    everything: bool
    start: datetime | None = None
    end: datetime | None = None
    hidden: set[Key] = dataclasses.field(default_factory=set)
    known: frozenset[Key] = frozenset()
    number: int = 0

    def has(self, cursor: datetime | None) -> bool:
        """Whether a record with this cursor belongs to the window."""
        if self.everything:
            return True
        if cursor is None:
            return False
        return (self.start is None or self.start <= cursor) and (
            self.end is None or cursor < self.end
        )


class Promises:
    """The promises of the loads of one table.

    Attributes:
        log: the load log as it is now; set it before `begin`.
    """

    def __init__(self, endpoint: Endpoint, source: SourceHistory) -> None:
        self.log: Sequence[LogLine] = ()
        self._endpoint = endpoint
        self._source = source
        self._since: dict[Key, int] = {}
        self._export_since: dict[Key, int] = {}
        self._hidden_at: dict[Key, int] = {}
        self._begun = 0
        self._may_lack: dict[Key, int] = {}
        """By item, the number of the last load that did not know a column."""
        self._may_be_marked: set[Key] = set()
        self._unknown: set[str] = set()
        self._feed_read_to: datetime | None = None
        self._feed_is_known = False
        self._feed_was_read_whole = False
        added = endpoint.export.adds if endpoint.export else ()
        names = [field.name for field in endpoint.row_fields]
        self._names = names
        self._exported = {names.index(name) for name in added if name in names}

    def begin(self, setup: Setup, *, hidden: Iterable[Key] = ()) -> Attempt:
        """Notes that a load begins now."""
        self._begun += 1
        attempt = Attempt(
            number=self._begun,
            step=self._source.step,
            setup=setup,
            everything=setup.first is None,
            hidden={*hidden},
            known=frozenset(self._since),
        )
        endpoint = self._endpoint
        if endpoint.kind == "snapshot":
            attempt.everything = True
        elif setup.first is None and not endpoint.key:
            attempt.everything, attempt.end = False, setup.now
        elif setup.first is not None and setup.last is not None:
            attempt.start, attempt.end = self._find_window(setup, setup.first, setup.last)
        return attempt

    def _find_window(
        self, setup: Setup, first: date, last: date
    ) -> tuple[datetime | None, datetime | None]:
        end = min(_midnight(last + timedelta(days=1), setup.timezone), setup.now)
        end = end.replace(microsecond=0)
        if setup.open_start:
            start = None
        else:
            midnight = _midnight(first, setup.timezone)
            start = midnight - max(EARLIER, timedelta(days=self._endpoint.look_back_days))
            until = self._find_hole(start, setup.clock)
            if until is not None and midnight - until < MAX_HOLE:
                start = until - EARLIER
        return start, None if self._endpoint.kind == "feed" else end

    def _find_hole(self, moment: datetime, clock: datetime) -> datetime | None:
        """The end of what was read before a moment, if something between them was not."""
        ends = []
        for line in self.log:
            end = line.end or line.loaded_at
            if end > clock or line.loaded_at > clock:
                continue  # made while a clock was ahead
            if line.end is None or line.loaded_at - line.end < timedelta(minutes=1):
                end -= SETTLING
            if line.start is None or line.start < min(moment, end):
                ends.append(end)
        return max(ends) if ends and max(ends) < moment else None

    def succeed(self, attempt: Attempt, end: datetime | None = None) -> None:
        """Notes that a load ends now and reports success.

        Args:
            end: of the window in its line of the log. It may be later than that of `attempt`: a
                load that starts over reads up to the time at which it does.
        """
        if end is not None and attempt.end is not None:
            attempt.end = max(attempt.end, end)
        steady = self._find_steady(attempt)
        feed_from = self._find_feed_start(attempt, steady)
        for key in list(self._source.versions):
            during = self._source.find_during(key, attempt.step)
            if attempt.setup.unknown is not None:
                self._may_lack[key] = max(self._may_lack.get(key, 0), attempt.number)
                self._unknown.add(attempt.setup.unknown)
            if key in attempt.hidden:  # during a part of the load, so it may have been read
                self._may_be_marked.add(key)
                self._hidden_at[key] = self._source.step
                continue
            listed = all(self._is_promised(v, key, attempt, steady) for v in during)
            fed = feed_from is not None and all(
                v.count and v.cursor and v.cursor > feed_from for v in during
            )
            completed = listed and feed_from is not None and self._is_completed(key, during)
            whole = self._reads_whole_feed(attempt) and all(v.count for v in during)
            if fed or completed or whole:
                self._promise(self._export_since, key, attempt)
            if listed or (fed and self._feed_may_unmark(key, during)):
                self._promise(self._since, key, attempt)
                self._may_be_marked.discard(key)
                # A load that began before undoes nothing, and so adds nothing to the same version.
                if attempt.setup.unknown is None and attempt.number > self._may_lack.get(key, 0):
                    self._may_lack.pop(key, None)
        self._note_feed(attempt, steady)

    @staticmethod
    def _promise(since: dict[Key, int], key: Key, attempt: Attempt) -> None:
        since[key] = max(since.get(key, 0), attempt.step)

    def _find_steady(self, attempt: Attempt) -> int:
        """The number of items that the load is sure to have read; 0 if one was deleted meanwhile.

        These are what a lookup needs to tell a deleted record from a response without records.
        """
        steady = 0
        for key, versions in self._source.versions.items():
            during = self._source.find_during(key, attempt.step)
            if any(v.step > attempt.step and not v.count for v in versions):
                return 0
            steady += key not in attempt.hidden and all(
                v.count and attempt.has(v.cursor) for v in during
            )
        return 0 if attempt.hidden else steady

    def _is_promised(self, version: Version, key: Key, attempt: Attempt, steady: int) -> bool:
        if version.count or attempt.everything or not self._endpoint.key:
            return attempt.has(version.cursor)
        if not self._endpoint.can_look_up or not steady or not self._has_controls(key, attempt):
            return False
        # The table has one of these, so that the row's place is in the window.
        present = self._source.find_during(key, self._since.get(key, 0))
        return all(attempt.has(v.cursor) for v in present if v.count)

    def _has_controls(self, missing: Key, attempt: Attempt) -> bool:
        """Whether the table has ids for certain that tell a lookup's silence from an answer.

        One on either side, or as many as show that the server serves several ids of a request,
        besides one of each other part.
        """
        part = self._find_part(missing)
        if part is None:
            return False
        below = above = 0
        for key in attempt.known:
            if key == missing or key in attempt.hidden or key in self._may_be_marked:
                continue
            during = self._source.find_during(key, min(self._since[key], attempt.step))
            in_window = {attempt.has(version.cursor) for version in during}
            if len(in_window) > 1:  # the reading may lack it, so that it is looked up itself
                continue
            if all(v.count for v in during) and self._find_part(key) == part:
                below, above = below + (_id(key) < _id(missing)), above + (_id(key) > _id(missing))
        return bool(below and above) or below + above > 1 + len(self._endpoint.variants)

    def _find_part(self, key: Key) -> Cells | None:
        """What `active=Any` or a variant makes the list serve; None while that may be several."""
        endpoint = self._endpoint
        chosen = {name for variant in endpoint.variants for name in variant}
        if not endpoint.export or "active" not in endpoint.export.adds:
            chosen |= {"active"}
        at = [number for number, name in enumerate(self._names) if name in chosen]
        versions = self._source.find_during(key, self._since.get(key, 0))
        parts = {tuple(version.cells[number] for number in at) for version in versions}
        return parts.pop() if len(parts) == 1 else None

    def _reads_whole_feed(self, attempt: Attempt) -> bool:
        return (
            self._endpoint.export is not None
            and attempt.everything
            and not self._feed_was_read_whole
        )

    def _is_completed(self, key: Key, during: Sequence[Version]) -> bool:
        """Whether the feed must have served what the list did: unless it was hidden from it."""
        hidden_at = self._hidden_at.get(key, 0)
        return all(v.count and v.active and v.step > hidden_at for v in during)

    def _find_feed_start(self, attempt: Attempt, steady: int) -> datetime | None:
        """The feed shows what changed after this; None if the load may not have read it."""
        if self._endpoint.export is None:
            return None
        if self._feed_is_known:
            return self._feed_read_to
        if not steady:
            return None
        start = attempt.setup.now - timedelta(hours=1)
        return max(start, self._feed_read_to) if self._feed_read_to else start

    def _feed_may_unmark(self, key: Key, during: Sequence[Version]) -> bool:
        """Whether the feed decides of the whole row: an inactive record keeps its mark."""
        versions = self._source.find_during(key, self._since.get(key, 0))
        deleted = any(v.step and not v.count for v in versions)
        return all(v.active for v in during) or not deleted

    def _note_feed(self, attempt: Attempt, steady: int) -> None:
        if self._endpoint.export is None:
            return
        self._feed_read_to = self._source.latest_cursor
        self._feed_is_known |= steady > 0 or attempt.everything
        from_beginning = bool(self._endpoint.export.adds) and attempt.start is None
        self._feed_was_read_whole |= attempt.everything or from_beginning

    def find_wrong_rows(self, rows: Iterable[Row]) -> list[str]:
        """Compares all rows of the table, marked ones too, with what was promised."""
        rows = list(rows)
        if not self._endpoint.key:
            return self._find_wrong_counts(rows)
        found: dict[Key, Row] = {}
        wrong = []
        for row in rows:
            key = find_key(self._endpoint, row.cells)
            if key in found:
                wrong.append(f"twice in the table: {key}")
            found[key] = row
        for key in {*self._source.versions, *found}:
            if problem := self._describe_problem(key, found.get(key)):
                wrong.append(f"{key} {problem}")
        return wrong

    def _describe_problem(self, key: Key, row: Row | None) -> str:
        if key not in self._source.versions:
            return f"was never served: {row}"
        allowed = self._source.find_during(key, self._since.get(key, 0))
        if key not in self._since:
            allowed = [*allowed, dataclasses.replace(allowed[0], count=0)]
        cells = row.cells if row and not row.marked else None
        if cells is None and (key in self._may_be_marked or any(not v.count for v in allowed)):
            return ""
        if cells and any(v.count and self._equals(v, cells, key) for v in allowed):
            return ""
        state = "is not in the table" if row is None else "is marked" if row.marked else row.cells
        promised = [(v.step, v.cells if v.count else None) for v in allowed]
        return f"{state}, promised at step {self._since.get(key)} of {promised}"

    def _equals(self, version: Version, cells: Cells, key: Key) -> bool:
        for at, (theirs, ours) in enumerate(zip(version.cells, cells, strict=True)):
            if theirs == ours or at in self._exported:
                continue
            if not (key in self._may_lack and ours == "None" and self._names[at] in self._unknown):
                return False
        return all(self._is_exported(key, at, cells[at]) for at in self._exported)

    def _is_exported(self, key: Key, at: int, cell: str) -> bool:
        since = self._export_since.get(key)
        versions = self._source.find_during(key, since or 0)
        return (since is None and cell == "None") or any(v.cells[at] == cell for v in versions)

    def _find_wrong_counts(self, rows: Sequence[Row]) -> list[str]:
        present = Counter(row.cells for row in rows if not row.marked)
        wrong = []
        for cells in {*self._source.versions, *present}:
            if cells not in self._source.versions:
                wrong.append(f"was never served: {cells}")
                continue
            counts = [v.count for v in self._source.find_during(cells, self._since.get(cells, 0))]
            least = 0 if cells in self._may_be_marked or cells not in self._since else min(counts)
            if not least <= present[cells] <= max(counts):
                wrong.append(f"{present[cells]} times in the table, promised {counts}: {cells}")
        return wrong

    def find_broken_rules(self) -> list[str]:
        """What the loads of all days must have read, and have not promised to read.

        Call it once every day since the beginning has been loaded after its end. Then each record
        that was committed within `SETTLING` of its cursor must have been read since.
        """
        wrong = []
        for key, versions in self._source.versions.items():
            last = versions[-1]
            if not last.count or last.cursor is None or key in self._may_be_marked:
                continue
            same = [v for v in versions if v.cursor == last.cursor and v.count]
            if same[0].served_at - last.cursor > SETTLING:
                continue
            if self._since.get(key, -1) < same[0].step and self._endpoint.kind != "snapshot":
                wrong.append(f"{key} of {last.cursor} was left out by all loads since {same[0]}")
        return wrong


def _id(key: Key) -> int:
    return int(key[0])


def _midnight(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(ZoneInfo("UTC"))
