"""Plans customers and their locations."""

from __future__ import annotations

import random

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import Customer, Location
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.contracts import Contracts
from st_pipelines.sandbox.schedule import sort_moments


class CustomerBase:
    """Adds customers to a company, with one to three locations each."""

    def __init__(self, company: Books, contracts: Contracts) -> None:
        self._company = company
        self._contracts = contracts

    def add_customer(self, rng: random.Random, created: int) -> None:
        """Add a customer who is created at `created` (ticks)."""
        company = self._company
        commercial = rng.random() < company.profile.commercial
        name = sample_text.draw_name(rng)
        if commercial:
            name = f"{rng.choice(sample_text.LAST)} {rng.choice(sample_text.FIRMS)}"
        city, state, zip_code = rng.choice(company.profile.cities)
        edited = created + rng.randrange(ticks.DAY, 1400 * ticks.DAY)
        deactivated = edited + rng.randrange(900 * ticks.DAY) if rng.random() < 0.06 else 0
        customer = Customer(
            id=company.next_id("customer"),
            moments=sort_moments(created, edited, deactivated),
            deactivated=deactivated,
            name=name,
            commercial=commercial,
            city=city,
            state=state,
            zip=zip_code,
            street=f"{rng.randrange(1, 1999)} {rng.choice(sample_text.STREETS)}",
            draw=rng.getrandbits(24),
        )
        company.customers.append(customer)
        location_count = 1 + (rng.random() < 0.12) + (commercial and rng.random() < 0.5)
        for number in range(location_count):
            self._add_location(rng, customer, number)

    def _add_location(self, rng: random.Random, customer: Customer, number: int) -> None:
        created = customer.moments[0] + (1 + number) * rng.randrange(1, ticks.SECOND)
        edited = created + rng.randrange(ticks.DAY, 1400 * ticks.DAY)
        location = Location(
            id=self._company.next_id("location"),
            moments=sort_moments(created, edited, customer.deactivated),
            deactivated=customer.deactivated,
            customer=customer,
            draw=rng.getrandbits(24),
            street=customer.street if not number else f"{number}{customer.street}",
        )
        self._company.locations.append(location)
        self._contracts.add_first_membership(rng, location)
