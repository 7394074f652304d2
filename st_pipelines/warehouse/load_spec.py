"""What a load is of and how its rows merge: the values that staging and tables share.

Imports no DuckDB, so that code which only plans a load stays cheap to import.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime

MAX_DELETED_ROWS = 20
MAX_DELETED_SHARE = 0.1
"""A load needs evidence to delete more rows than this, and more than this share of its scope."""

MAX_LOOKUPS = 500
"""After a reading of everything, the ids that it lacks are looked up unless there are more of them.
Then a sample of them is, and the reading is repeated unless the sample is gone."""


class MergeMode(enum.Enum):
    """What a load does with rows of the table that its reading lacks.

    Attributes:
        UPSERT: leaves them alone.
        REPLACE_SCOPE: marks those in the window as deleted; for records without a key.
        REPLACE_DAY: deletes those of `LoadSpec.default_date`, or all of them for a load of
            everything: an aggregate that was recomputed has no row less that anybody could miss.
        REPLACE_ALL: marks every one as deleted.
        REPLACE_CHILDREN: marks those of the parents that were read as deleted.
    """

    UPSERT = enum.auto()
    REPLACE_SCOPE = enum.auto()
    REPLACE_DAY = enum.auto()
    REPLACE_ALL = enum.auto()
    REPLACE_CHILDREN = enum.auto()


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """What a load is of.

    Attributes:
        environment: e.g. `production`.
        tenant_id: the tenant whose rows these are.
        window_start, window_end: UTC, half-open; None where open, both None for everything.
        timezone: IANA name by which a cursor becomes a local day.
        default_date: the day of a row without cursor: the last of the window, or the load's.
        loaded_at: moment of the load, aware. It never decides which of two reads is later
            (`sequence` does).
        run_id: Dagster's run id, or any name the caller chooses.
        mode: what happens to rows that the reading lacks.
        sequence: one more than the number of the table's last load when the read started
            (`tables.table_state.begin_read`). Loads of at least this number committed since.
        follows: names the table's last load when the read started; None if it had none, or to
            accept any. What was read, and the export bookmark, build upon that load.
        timezone_is_default: nobody has set the time zone.
        start_date: first day of the environment; None if the caller has none.
        history: whether `history.<table>` keeps every version of a row.
        server_time: ServiceTitan's time when the read started, aware; None if unknown.
    """

    environment: str
    tenant_id: str
    window_start: datetime | None
    window_end: datetime | None
    timezone: str
    default_date: date
    loaded_at: datetime
    run_id: str
    mode: MergeMode = MergeMode.UPSERT
    sequence: int = 1
    follows: str | None = None
    history: bool = False
    timezone_is_default: bool = False
    start_date: date | None = None
    server_time: datetime | None = None
