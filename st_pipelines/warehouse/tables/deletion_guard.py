"""Stops a load that would delete a large part of its table, unless there is evidence for it.

An empty, short or wrong list looks like one from which records were deleted. So a load that would
mark more than `MAX_DELETED_ROWS` rows, and more than `MAX_DELETED_SHARE` of the live rows in its
scope, is rolled back, and `sync.sync` reads a second time. Rows that both reads lack are deleted,
except in three cases in which a second read does not suffice:

- Nothing of the scope is left, as from an empty list or from that of another tenant. If that is no
  more than `MAX_DELETED_ROWS`, a second read is enough; so it is for the children of that many
  parents.
- Nothing of a part is left (`part_of`), as from a server that ignores `active=Any`, unless lookups
  with controls of the same part confirm it.
- The whole table was read and the endpoint takes `ids`: a lookup of a sample must confirm it too.

Keys decide which rows are lost. For rows without a key, and aggregates by day, their content does,
and new rows make up for lost ones, as a changed row looks like both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import fetch_row, literal, quote
from st_pipelines.warehouse.errors import TooManyDeletions
from st_pipelines.warehouse.load_spec import (
    MAX_DELETED_ROWS,
    MAX_DELETED_SHARE,
    MAX_LOOKUPS,
    MergeMode,
)
from st_pipelines.warehouse.tables.merge_keyless import (
    content_digest,
    find_complete,
    has_rows_without_key,
)
from st_pipelines.warehouse.tables.table_load import (
    TableLoad,
    export_only_columns,
    key_columns,
    lacks_key,
    parent_key,
)

INACTIVE = "active = false"
"""The part of the inactive records."""

_SCOPES = {
    MergeMode.UPSERT: "its window",
    MergeMode.REPLACE_SCOPE: "its window",
    MergeMode.REPLACE_DAY: "its day",
    MergeMode.REPLACE_ALL: "the table",
    MergeMode.REPLACE_CHILDREN: "the parents it read",
}


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What permits a load to delete more than the limits.

    Attributes:
        everything: a person has accepted whatever the load deletes.
        missing: digests of the rows that an earlier read lacked; None before a second read.
    """

    everything: bool = False
    missing: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class _Losses:
    """What a load would delete.

    Attributes:
        live: rows of the scope before the load.
        lost: those that it would delete, less the rows without key that replace others.
        unconfirmed: `lost` without the rows that an earlier read lacked too.
        emptied: nothing of the scope is left.
        parts: parts of which nothing is left, with their numbers of lost rows.
        digests: of the lost rows.
    """

    live: int
    lost: int
    unconfirmed: int
    emptied: bool
    parts: tuple[tuple[str, int], ...]
    digests: tuple[int, ...]


def part_of(endpoint: Endpoint, alias: str) -> str | None:
    """SQL that names the part of a list that only a query parameter makes ServiceTitan serve.

    These are the inactive records, and the records of each variant. None if there are none.
    """
    if endpoint.has_active and "active" not in export_only_columns(endpoint):
        return f"CASE WHEN {alias}.active IS FALSE THEN {literal(INACTIVE)} END"
    columns = {field.column for field in endpoint.row_fields}
    names = {name for variant in endpoint.variants for name in variant}
    shown = [
        f"{literal(f'{snake_case(name)} = ')} || {alias}.{quote(snake_case(name))}::VARCHAR"
        for name in sorted(names)
        if snake_case(name) in columns
    ]
    return f"nullif(concat_ws(', ', {', '.join(shown)}), '')" if shown else None


class DeletionGuard:
    """Notes the live rows of a load's scope before the merge, and counts the lost ones after it."""

    def __init__(self, load: TableLoad, deleted_ids: Collection[int]) -> None:
        """Fills `live_before`; call it when the table exists and before anything is merged.

        Args:
            load: whose rows are staged.
            deleted_ids: ids that the load will mark.
        """
        self._load, self._ids = load, sorted(deleted_ids)
        self._watches = self._can_delete()
        if self._watches:
            load.connection.execute(
                f"CREATE OR REPLACE TEMP TABLE live_before AS {self._select_live()}",
                self._parameters,
            )

    def check(self, deleted: int, rows_read: int, approval: Approval, *, sample_gone: bool) -> None:
        """Checks what the load has done so far.

        Args:
            deleted: rows that it has marked or deleted, those that it has inserted included.
            rows_read: for the message.
            approval: what permits more than the limits.
            sample_gone: a sample of the missing rows was looked up and is no longer served.

        Raises:
            TooManyDeletions: it deletes too much.
        """
        if not self._watches or not deleted or approval.everything:
            return
        losses = self._measure(approval.missing or ())
        much = exceeds_limits(losses.lost, losses.live) or losses.parts
        much = much or (self._lookups_were_sampled(losses) and not sample_gone)
        if not much and not (losses.emptied and approval.missing is None):
            return
        if reason := self._object(losses, approval, sample_gone):
            counts = (
                f"{self._load.endpoint.table}: this load would mark {losses.lost:,} of "
                f"{losses.live:,} live rows of {_SCOPES[self._load.spec.mode]} as deleted. It read "
                f"{rows_read:,} records."
            )
            raise TooManyDeletions(counts, reason, losses.digests)

    def _lookups_were_sampled(self, losses: _Losses) -> bool:
        """Whether a reading of everything lacks more rows than are looked up one by one."""
        load = self._load
        whole = load.spec.mode is MergeMode.REPLACE_ALL and not load.endpoint.variants
        return whole and load.endpoint.can_look_up and losses.lost > MAX_LOOKUPS

    def _object(self, losses: _Losses, approval: Approval, sample_gone: bool) -> str:
        """Why the losses are not accepted; empty if they are."""
        endpoint, whole = self._load.endpoint, self._load.spec.mode is MergeMode.REPLACE_ALL
        if approval.missing is None:
            return "It has not been read a second time."
        if losses.emptied and not self._is_of_few_parents():
            return "Nothing of it would be left, and two such reads prove nothing."
        looked_up = endpoint.can_look_up and sample_gone
        if losses.parts and not looked_up:
            part, rows = losses.parts[0]
            return (
                f"All {rows:,} rows with {part} would be among them, as if ServiceTitan had "
                "ignored the parameter that asks for them."
            )
        if exceeds_limits(losses.unconfirmed, losses.live):
            return f"A first read still had {losses.unconfirmed:,} of them."
        if whole and endpoint.can_look_up and not looked_up:
            return "Two reads agree, but lookups by id did not confirm it."
        return ""

    def _is_of_few_parents(self) -> bool:
        """Whether the deleted rows are children of few parents, which may well have none."""
        load = self._load
        if load.spec.mode is not MergeMode.REPLACE_CHILDREN:
            return False
        parents = fetch_row(
            load.connection,
            f"SELECT count(DISTINCT {parent_key(load.endpoint, 't')}) FROM {load.table} t "
            f"WHERE t._tenant_id = ? AND t._deleted_at IS NOT NULL AND {load.scope} "
            f"AND t._read_sequence = {load.number}",
            [load.spec.tenant_id],
        )
        return parents[0] <= MAX_DELETED_ROWS

    def _can_delete(self) -> bool:
        """Whether the load marks rows that its reading lacks."""
        if self._load.spec.mode is not MergeMode.UPSERT or self._ids:
            return True
        return has_rows_without_key(self._load)

    @property
    def _parameters(self) -> dict[str, object]:
        ids = {"ids": self._ids} if self._ids else {}
        return {"tenant": self._load.spec.tenant_id, **ids}

    def _select_live(self) -> str:
        """SQL for digest and part of the live rows in scope, and whether they have a key."""
        endpoint, scope = self._load.endpoint, f"coalesce({find_complete(self._load)}, false)"
        if self._ids:
            scope = f"({scope} OR t.id IN (SELECT unnest($ids::BIGINT[])))"
        keys = ", ".join(f"t.{key}" for key in key_columns(endpoint))
        digest = f"hash({content_digest(endpoint, 't')})"
        keyed = f"NOT ({lacks_key(endpoint, 't')})" if keys else "false"
        if keys:
            digest = f"CASE WHEN {keyed} THEN hash({keys}) ELSE {digest} END"
        return (
            f"SELECT {digest} AS digest, {part_of(endpoint, 't') or 'NULL'} AS part, "
            f"{keyed} AS keyed FROM {self._load.table} t "
            f"WHERE t._tenant_id = $tenant AND t._deleted_at IS NULL AND {scope}"
        )

    def _measure(self, known: Collection[int]) -> _Losses:
        connection, keys = self._load.connection, key_columns(self._load.endpoint)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE live_after AS {self._select_live()}", self._parameters
        )
        moved = "SELECT 0::UBIGINT AS digest WHERE false"
        if keys:  # a row of which a newer version was read may have left the window
            moved = (
                f"SELECT hash({', '.join(f't.{key}' for key in keys)}) AS digest "
                f"FROM {self._load.table} t WHERE t._tenant_id = $tenant "
                f"AND t._deleted_at IS NULL AND NOT ({lacks_key(self._load.endpoint, 't')})"
            )
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE lost AS "
            f"SELECT * FROM live_before b WHERE keyed AND digest NOT IN ({moved}) "
            "UNION ALL (FROM live_before WHERE NOT keyed EXCEPT ALL FROM live_after)",
            {"tenant": self._load.spec.tenant_id} if keys else None,
        )
        live, before = self._count("live_before")
        keyed, unkeyed = self._count("lost")
        after = self._count("live_after")[1]
        inserted = after - (before - unkeyed)
        digests = connection.execute("SELECT digest FROM lost").fetchall()
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE unconfirmed AS SELECT digest, keyed FROM lost "
            "EXCEPT ALL SELECT d.digest, l.keyed FROM (SELECT unnest(?::UBIGINT[]) AS digest) d "
            "JOIN (SELECT DISTINCT digest, keyed FROM lost) l USING (digest)",
            [list(known)],
        )
        new_keyed, new_unkeyed = self._count("unconfirmed")
        replaces = self._load.spec.mode is not MergeMode.UPSERT
        staged = fetch_row(connection, "SELECT count(*) FROM staged")[0]
        return _Losses(
            live=live + before,
            lost=keyed + max(0, unkeyed - inserted),
            unconfirmed=new_keyed + max(0, new_unkeyed - inserted),
            emptied=not after and (keyed == live if replaces else bool(unkeyed and not staged)),
            parts=self._find_gone_parts(),
            digests=tuple(row[0] for row in digests),
        )

    def _count(self, table: str) -> tuple[int, int]:
        """Rows with and without key."""
        keyed, unkeyed = fetch_row(
            self._load.connection,
            f"SELECT count(*) FILTER (keyed), count(*) FILTER (NOT keyed) FROM {table}",
        )
        return keyed, unkeyed

    def _find_gone_parts(self) -> tuple[tuple[str, int], ...]:
        """Parts with more lost rows than the limit of which the read served nothing."""
        part = part_of(self._load.endpoint, "s")
        if part is None:
            return ()
        found = self._load.connection.execute(
            "SELECT part, count(*) FROM lost WHERE part IS NOT NULL "
            f"AND part NOT IN (SELECT part FROM (SELECT {part} AS part FROM staged s) "
            "WHERE part IS NOT NULL) GROUP BY 1 HAVING count(*) > ? ORDER BY 1",
            [MAX_DELETED_ROWS],
        ).fetchall()
        return tuple(found)


def exceeds_limits(lost: int, live: int) -> bool:
    """Whether a load needs evidence to delete so many of so many rows."""
    return lost > MAX_DELETED_ROWS and lost > MAX_DELETED_SHARE * live
