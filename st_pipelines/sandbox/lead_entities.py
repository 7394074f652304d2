"""Defines leads. See `entities`."""

from __future__ import annotations

from st_pipelines.sandbox.entities import Call, Entity, Location, Staff


class Lead(Entity, frozen=True, kw_only=True, gc=False):
    """Somebody who may book a job later. It is open until it is converted or dismissed.

    Attributes:
        known: whether the caller was known as a customer from the beginning.
        converted, dismissed: when; zero if never.
    """

    call: Call
    location: Location
    kind: Staff
    known: bool
    converted: int
    dismissed: int
    follow_up: int
