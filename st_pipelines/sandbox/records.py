"""Renders entities as JSON bytes, once per change, so that a page is one join of bytes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from st_pipelines.catalog.model import Endpoint, Field, ListOf, StructOf
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.filler import VARIANTS, Filler
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

EXPORT_ONLY_ACTIVE = frozenset(
    {
        "crm.bookings",
        "crm.customers_contacts",
        "crm.leads",
        "crm.locations_contacts",
        "jpm.jobs",
        "jpm.projects",
        "memberships.recurring_service_events",
        "payroll.gross_pay_items",
        "payroll.jobs_splits",
        "service_agreements.service_agreements",
    }
)
"""Tables that have `active` in their export but not in their list."""

Members = dict[str, msgspec.Raw]
"""A record's members as JSON text, so that decimals keep all digits."""

_encoder = msgspec.json.Encoder(decimal_format="number")
_members = msgspec.json.Decoder(Members)


def encode(value: Any) -> bytes:
    """Encode a value as JSON."""
    return _encoder.encode(value)


def read_members(raw: bytes) -> Members:
    """Split a record into its members, each as JSON text."""
    return _members.decode(raw)


def to_raw(value: Any) -> msgspec.Raw:
    """Encode a value as JSON, with times, dates and durations in ServiceTitan's formats."""
    if isinstance(value, datetime):
        value = ticks.format_iso(ticks.from_datetime(value))
    elif isinstance(value, date):
        value = f"{value.isoformat()}T00:00:00"
    elif isinstance(value, timedelta):
        minutes, seconds = divmod(int(value.total_seconds()), 60)
        value = f"PT{minutes}M{seconds}S"
    return msgspec.Raw(encode(value))


class ObjectTemplate:
    """Renders objects of one type: the given fields, then one of a few prepared fillings."""

    def __init__(self, columns: tuple[Field, ...], filler: Filler) -> None:
        self._columns = columns
        self._filler = filler
        self._tails: list[bytes] = []
        self._unknown: frozenset[str] = frozenset()

    def __call__(self, fields: Fields, draw: int) -> msgspec.Raw:
        """Render an object as JSON. Every call must pass the same field names."""
        if not self._tails:
            self._prepare(fields)
        for name in self._unknown:
            del fields[name]
        return msgspec.Raw(_encoder.encode(fields)[:-1] + self._tails[draw % VARIANTS])

    def _prepare(self, fields: Fields) -> None:
        """Prepare fillings for the other fields, and note given fields that the catalog lacks."""
        self._unknown = frozenset(fields) - {column.name for column in self._columns}
        rest = tuple(column for column in self._columns if column.name not in fields)
        comma = b"," if rest and len(fields) > len(self._unknown) else b""
        self._tails = [comma + tail + b"}" for tail in self._filler.render_tails(rest)]


class Writer:
    """Renders the records of one endpoint as its list serves them."""

    def __init__(self, endpoint: Endpoint, story: Story, filler: Filler) -> None:
        self._story = story
        hidden = "active" if endpoint.table in EXPORT_ONLY_ACTIVE else None
        columns = tuple(column for column in endpoint.columns if column.name != hidden)
        self._names = {column.name for column in columns}
        self._has_id = endpoint.key == ("id",) and not endpoint.explode
        self._complete = ObjectTemplate(columns, filler)
        self._parts = {
            column.name: ObjectTemplate(column.type.item.fields, filler)
            for column in columns
            if isinstance(column.type, ListOf) and isinstance(column.type.item, StructOf)
        }

    def write(self, entity: Entity, key: Any, modified: int, now: int) -> bytes:
        """Render `entity` as of `now`, last modified at `modified` (both ticks)."""
        fields = self._render_common_fields(entity, key, modified, now)
        fields.update(self._story.fields(entity, RenderContext(now=now, parts=self._parts)))
        return bytes(self._complete(fields, entity.draw))

    def serves(self, name: str) -> bool:
        """Return whether the list serves a field."""
        return name in self._names

    def _render_common_fields(self, entity: Entity, key: Any, modified: int, now: int) -> Fields:
        fields: Fields = {}
        if self._has_id:
            fields["id"] = key
        if "createdOn" in self._names:
            fields["createdOn"] = ticks.format_iso(entity.moments[0])
        if "modifiedOn" in self._names:
            fields["modifiedOn"] = ticks.format_iso(modified)
        if "active" in self._names:
            fields["active"] = is_active(entity, now)
        return fields


def is_active(entity: Entity, now: int) -> bool:
    """Return whether the entity is active at `now` (ticks)."""
    return not 0 < entity.deactivated <= now


def render_for_export(raw: bytes, collection: str, active: bool) -> bytes:
    """Turn a record of the list into one of the export, which may add `active`."""
    if collection not in EXPORT_ONLY_ACTIVE:
        return raw
    return raw[:-1] + (b',"active":true}' if active else b',"active":false}')
