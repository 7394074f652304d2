"""Chooses the records that foreign keys refer to.

Each chosen record exists, and one record's references fit together: its customer is its job's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from st_pipelines.catalog.foreign_keys import ForeignKey
from st_pipelines.sandbox import vocabulary
from st_pipelines.sandbox.collections import Collections
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Account, Entity, Job
from st_pipelines.sandbox.ids import (
    compute_first_id,
    compute_id,
    compute_part_id,
    compute_user_id,
    count_initial_rows,
    make_text_key,
)
from st_pipelines.sandbox.planning.profile import City
from st_pipelines.sandbox.scalars import Draw
from st_pipelines.sandbox.stories.story import Story

OF_A_JOB: Mapping[str, Callable[[Job], Any]] = {
    "jpm.jobs": lambda job: job,
    "crm.customers": lambda job: job.location.customer,
    "crm.locations": lambda job: job.location,
    "crm.customers_contacts": lambda job: job.location.customer,
    "crm.locations_contacts": lambda job: job.location,
    "jpm.job_types": lambda job: job.kind,
    "settings.technicians": lambda job: job.technician,
    "settings.business_units": lambda job: job.unit,
    "marketing.campaigns": lambda job: job.campaign,
}
"""What a record that belongs to a job refers to, by collection."""

KINDS: Mapping[str, str] = {
    "inventory.trucks": "Truck",
    "inventory.warehouses": "Warehouse",
    "pricebook.discounts_and_fees": "Discount",
    "pricebook.equipment": "Equipment",
    "pricebook.materials": "Material",
    "pricebook.services": "Service",
    "settings.employees": "Employee",
    "settings.technicians": "Technician",
}
"""What a field beside a foreign key with several targets calls the kind of the record."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A record that a foreign key refers to.

    Attributes:
        value: of the referenced field, usually the id.
        texts: what the fields beside the foreign key say about the record, by the end of their
            names: `name`, `number`, `code` and `type`.
    """

    value: Any
    texts: Mapping[str, str]


class References:
    """Chooses records of one company.

    Args:
        collections: all collections, by name.
        company: the company; only entities created by `now` (ticks) are chosen. With later ones, a
            record would depend on when its table is first requested.
        now: the start of the simulated day.
        stories: the collections that the company's entities fill.
    """

    def __init__(
        self,
        *,
        collections: Collections,
        company: Company,
        now: int,
        stories: Mapping[str, Story],
    ) -> None:
        self._collections = collections
        self._company = company
        self._now = now
        self._stories = stories
        self._existing: dict[str, Sequence[Entity]] = {}

    @property
    def cities(self) -> Sequence[City]:
        """Where the company works."""
        return self._company.profile.cities

    def choose(self, key: ForeignKey, draw: Draw) -> Reference | None:
        """Choose a record for a foreign key; None if no target has one yet."""
        targets = key.targets if len(key.targets) == 1 else self._order(key, draw)
        for target in targets:
            found = self._choose_in(target, key.field, draw)
            if found is not None:
                return found
        return None

    @staticmethod
    def _order(key: ForeignKey, draw: Draw) -> list[str]:
        """Return the targets of a key, the preferred one first."""
        # People in the office write most of what names a user.
        if key.targets[0] == "settings.employees" and draw.rng.random() < 0.8:
            return list(key.targets)
        return draw.rng.sample(key.targets, len(key.targets))

    def _choose_in(self, target: str, field: str, draw: Draw) -> Reference | None:
        if target not in self._stories:
            return self._choose_generic(target, field, draw)
        entity = self._find_of_job(target, draw) or self._pick(target, draw)
        if entity is None:
            return None
        name = name_entity(entity)
        number = getattr(entity, "number", name)
        texts = {"name": name, "number": number, "code": getattr(entity, "code", number)}
        if isinstance(entity, Account):
            detail = {"detailType": entity.detail, "subtype": entity.detail}
            texts |= {"type": entity.kind, **detail}
        return _build(target, self._read_key(target, field, entity), texts)

    def _find_of_job(self, target: str, draw: Draw) -> Any:
        if target not in OF_A_JOB:
            return None
        if "job" not in draw.chosen:
            draw.chosen["job"] = self._pick("jpm.jobs", draw)
        job = draw.chosen["job"]
        return None if job is None else OF_A_JOB[target](job)

    def _pick(self, target: str, draw: Draw) -> Any:
        entities = self.list_existing(target)
        return draw.rng.choice(entities) if entities else None

    def list_existing(self, target: str) -> Sequence[Entity]:
        """Return the entities of a story that exist at the start of the simulated day.

        Whatever was inactive before the company's history is in none of its records.
        """
        if target not in self._existing:
            start = self._company.start
            self._existing[target] = [
                entity
                for entity in self._stories[target].entities(self._company)
                if entity.moments[0] <= self._now and not 0 < entity.deactivated <= start
            ]
        return self._existing[target]

    def _read_key(self, target: str, field: str, entity: Entity) -> Any:
        if field == "userId":
            return compute_user_id(entity.id)
        if field == "name":
            return name_entity(entity)
        if field == "items[].id":
            return getattr(entity, "first_item_id", entity.id)
        collection = self._collections.get(target)
        if collection is not None and collection.has_text_key:
            return make_text_key(target, entity.draw, self._company.seed)
        return entity.id + self._stories[target].offset

    def _choose_generic(self, target: str, field: str, draw: Draw) -> Reference:
        # The first half of the rows exists at any time.
        number = draw.rng.randrange(max(1, count_initial_rows(target) // 2))
        name = vocabulary.name_record(target, number)
        row_id = compute_id(compute_first_id(target), number)
        collection = self._collections.get(target)
        value: Any = row_id
        if field == "name":
            value = name
        elif "[]" in field:
            value = compute_part_id(row_id, field.rpartition("[]")[0], 0)
        elif collection is not None and collection.has_text_key:
            value = make_text_key(target, number, self._company.seed)
        label = vocabulary.number_record(number)
        return _build(target, value, {"name": name, "number": label, "code": label})


def _build(target: str, value: Any, texts: dict[str, str]) -> Reference:
    return Reference(
        value=value, texts=texts | {"type": KINDS[target]} if target in KINDS else texts
    )


def name_entity(entity: Any) -> str:
    """Return what a record that refers to an entity calls it."""
    for member in ("name", "number"):
        if getattr(entity, member, None):
            return getattr(entity, member)
    for inner in ("customer", "job", "invoice", "sku"):
        if getattr(entity, inner, None) is not None:
            return name_entity(getattr(entity, inner))
    line = getattr(entity, "line", None)
    return str(entity.id) if line is None else name_entity(line.sku)
