"""Builds stories for the tables that have none in `stories`.

Such a table has a few dozen rows at the start. They have the catalog's columns and refer to the
company's entities.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from st_pipelines.catalog.model import Catalog, DataType, Endpoint, ListOf, Scalar, StructOf
from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.filler import Picks
from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

ROLES = (
    "createdBy",
    "modifiedBy",
    "updatedBy",
    "assignedTo",
    "assignedBy",
    "reportedBy",
    "soldBy",
    "owner",
    "manager",
    "user",
)
"""Fields that refer to an employee."""

BEFORE = 200 * ticks.DAY
"""The first rows are this much older than the company's history (ticks)."""


class Arrivals:
    """Generates the rows of one table at even intervals, as far as the company is planned."""

    def __init__(self, endpoint: Endpoint, company: Company) -> None:
        span = company.history_days * ticks.DAY + BEFORE
        self._base = compute_first_id(endpoint.table)
        self._gap = span // count_initial_rows(endpoint.table)
        self._rng = random.Random(f"{company.seed}:{endpoint.table}:arrivals")
        self._next = company.start - BEFORE
        self._list: list[Entity] = []

    def __call__(self, company: Company) -> list[Entity]:
        """Return all rows until the last planned day."""
        while self._next <= ticks.from_local_day(company.next_day):
            self._list.append(self._create(len(self._list)))
            self._next += self._gap
        return self._list

    def _create(self, number: int) -> Entity:
        rng = self._rng
        # The first row exists from the start, so that references find one.
        created = self._next + (rng.randrange(self._gap) if number else 0)
        edits = sorted(created + rng.randrange(1, 900 * ticks.DAY) for _ in range(3))
        deactivated = edits[0] if rng.random() < 0.1 else 0
        return Entity(
            id=compute_id(self._base, number),
            moments=(created, *edits),
            deactivated=deactivated,
            draw=number,
        )


def count_initial_rows(table: str) -> int:
    """Return how many rows a table has when the sandbox starts: 10 to 60."""
    return 10 + crc32(table.encode()) % 51


def compute_first_id(table: str) -> int:
    """Return the id of a table's first row."""
    return 2_000_000 + crc32(table.encode()) % 3_000 * 2_000


def build_generic_story(endpoint: Endpoint, company: Company) -> Story:
    """Build a story that sets only the fields that matter: key, cursor and variant."""
    cursor = endpoint.cursor if endpoint.cursor and "." not in endpoint.cursor else None
    own_cursor = cursor if cursor not in (None, "createdOn", "modifiedOn") else None
    label = None if endpoint.has_key or cursor else _find_text_field(endpoint)
    keys = [name for name in endpoint.key if len(endpoint.key) > 1 and _is_number(endpoint, name)]

    def fields(entity: Entity, context: RenderContext) -> Fields:
        values: Fields = dict.fromkeys(keys, entity.id)
        if own_cursor:
            values[own_cursor] = ticks.format_iso(entity.moments[0])
        if label:
            # Without a key, equal records would count as one.
            values[label] = (
                f"{sample_text.CHANNELS[entity.draw % len(sample_text.CHANNELS)]} {entity.draw}"
            )
        if endpoint.variants:
            values.update(endpoint.variants[entity.draw % len(endpoint.variants)])
        return values

    return Story(entities=Arrivals(endpoint, company), fields=fields)


def _find_text_field(endpoint: Endpoint) -> str | None:
    names = (column.name for column in endpoint.columns if column.type == Scalar("VARCHAR"))
    return next(names, None)


def _is_number(endpoint: Endpoint, name: str) -> bool:
    return endpoint.column(name).type == Scalar("BIGINT")


class References:
    """Picks entities for the references in a row, so that its ids belong together.

    Args:
        catalog: its table names determine what `vendorId` or `projectId` refers to.
        company: the company; only jobs created by `now` (ticks) are picked.
        with_story: the tables that have a story in `stories`.
    """

    def __init__(self, catalog: Catalog, company: Company, now: int, with_story: Mapping[str, Any]):
        self._company = company
        # With later jobs, a table would depend on when it is first requested.
        self._jobs = [job for job in company.jobs if job.moments[0] <= now]
        self._found: dict[str, dict[str, str]] = {}
        self._tables: dict[str, list[Endpoint]] = {}
        for endpoint in catalog:
            if (
                endpoint.table not in with_story
                and endpoint.key == ("id",)
                and not endpoint.is_feed
            ):
                self._tables.setdefault(derive_reference_name(endpoint.name), []).append(endpoint)

    def pick(self, endpoint: Endpoint, rng: random.Random) -> Picks:
        """Pick values by field name, for one row of `endpoint`."""
        references = self._find_references(endpoint).items()
        picks: dict[str, Any] = {name: self._choose_id(table, rng) for name, table in references}
        master_data = self._company.master_data
        clerk = rng.choice(master_data.office)
        picks |= {f"{role}Id": clerk.id for role in ROLES} | _build_reference("employee", clerk)
        sku, tag = rng.choice(master_data.services), rng.choice(master_data.tags)
        unit, technician = rng.choice(master_data.units), rng.choice(master_data.technicians)
        picks |= (
            _build_reference("businessUnit", unit)
            | _build_reference("technician", technician)
            | _build_reference("sku", sku)
        )
        picks |= {"serviceId": sku.id, "tagTypeId": tag.id}
        picks |= _build_reference("campaign", rng.choice(master_data.campaigns))
        picks |= self._pick_from_job(rng)
        return picks

    def _find_references(self, endpoint: Endpoint) -> dict[str, str]:
        """Return, by id field of `endpoint`, the table without a story that it refers to."""
        if endpoint.table not in self._found:
            found: dict[str, str] = {}
            # The order of a set differs between processes and would change the random choices.
            for name in sorted(_collect_field_names(StructOf(endpoint.columns))):
                candidates = self._tables.get(name.removesuffix("s"), [])
                # Several APIs have `categories`. A field refers to that of its own API.
                own = [other for other in candidates if other.api == endpoint.api] or candidates
                if own and own[0].column("id").type == Scalar("BIGINT"):
                    found[name.removesuffix("s")] = own[0].table
            self._found[endpoint.table] = found
        return self._found[endpoint.table]

    @staticmethod
    def _choose_id(table: str, rng: random.Random) -> int:
        return compute_id(compute_first_id(table), rng.randrange(count_initial_rows(table) // 2))

    def _pick_from_job(self, rng: random.Random) -> dict[str, Any]:
        if not self._jobs:
            # A small world may have no jobs yet, but it always has a customer.
            customer, location = self._company.customers[0], self._company.locations[0]
            return {"customerId": customer.id, "locationId": location.id}
        job = rng.choice(self._jobs)
        customer = job.location.customer
        picks = _build_reference("customer", customer) | _build_reference(
            "technician", job.technician
        )
        picks |= _build_reference("jobType", job.kind) | _build_reference(
            "businessUnit", job.kind.unit
        )
        return picks | {
            "job": {"id": job.id, "name": job.number, "number": job.number},
            "jobId": job.id,
            "jobNumber": job.number,
            "appointmentId": job.visit_id,
            "locationId": job.location.id,
            "invoiceId": job.invoice_id,
            "location": {"id": job.location.id, "name": customer.name},
        }


def _collect_field_names(kind: DataType) -> set[str]:
    """Return the names of the fields of `kind`, at any depth."""
    if isinstance(kind, ListOf):
        return _collect_field_names(kind.item)
    if isinstance(kind, Scalar):
        return set()
    inner = (_collect_field_names(field.type) for field in kind.fields)
    return {field.name for field in kind.fields}.union(*inner)


def _build_reference(name: str, entity: Any) -> dict[str, Any]:
    return {name: {"id": entity.id, "name": entity.name}, f"{name}Id": entity.id}


def derive_reference_name(collection: str) -> str:
    """Return the name of fields that refer to a collection: `jobTypeId` for `job_types`."""
    singular = re.sub(r"ies$", "y", collection)
    singular = re.sub(r"(?<=s|x)es$|(?<!s)s$", "", singular)
    head, *rest = singular.split("_")
    return head + "".join(word.title() for word in rest) + "Id"
