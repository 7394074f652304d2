"""Computes dispatch capacity: technicians' hours less the hours they are booked.

It is a read, although its method is POST and its scope allows writing. It uses the active
technicians, appointments and assignments that the sandbox serves, and no shifts. ServiceTitan does
not document its time frames; here each business unit has two-hour frames, 8:00 to 18:00 on
weekdays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from starlette.responses import Response

from st_pipelines.sandbox import responses, ticks
from st_pipelines.sandbox.computed import Call, Operation
from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.world import World

SCOPE = "tn.dis.capacity:w"
MAX_DAYS_BACK = 14
"""One client found that ServiceTitan looks no further back. Its answer is not known: here a 400."""

MAX_DAYS = 62
"""The sandbox refuses longer ranges, which would take long to compute."""

FRAME_STARTS = (8, 10, 12, 14, 16)
"""The hours of the day, in local time, at which a time frame of two hours starts."""

IDEAL_BOOKING = 0.8
"""The share of hours that may be booked before a frame exceeds the ideal. A tenant sets its own."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class CapacityRequest:
    """The body of a request, checked. Times are aware; `unit_ids` is None for all."""

    start: datetime
    end: datetime
    unit_ids: frozenset[int] | None
    job_type: int | None
    by_skill: bool


@dataclass(frozen=True, kw_only=True)
class Booking:
    """The time of an appointment of a technician."""

    start: datetime
    end: datetime


def answer_capacity(call: Call) -> Response:
    """Answer `POST …/capacity`.

    Raises:
        BadRequest: the body is not valid.
    """
    request = _read_request(call.read_body(), call.world.now)
    availabilities = list(_compute_availabilities(call.world, request))
    body = {
        "timeStamp": ticks.format_iso(call.world.now_ticks),
        "availabilities": availabilities,
    }
    return responses.build_json_response(body)


OPERATIONS = (
    Operation(
        method="POST",
        path="/dispatch/v2/tenant/{tenant}/capacity",
        scope=SCOPE,
        answer=answer_capacity,
    ),
)


def _read_request(body: Mapping[str, Any], now: datetime) -> CapacityRequest:
    start, end = _read_time(body, "startsOnOrAfter"), _read_time(body, "endsOnOrBefore")
    if start < now - MAX_DAYS_BACK * _DAY:
        raise BadRequest("startsOnOrAfter", f"The last {MAX_DAYS_BACK} days are available.")
    if not start <= end <= start + MAX_DAYS * _DAY:
        raise BadRequest("endsOnOrBefore", f"The range must have 0 to {MAX_DAYS} days.")
    by_skill = _read_switch(body, "skillBasedAvailability")
    units, job_type = body.get("businessUnitIds"), body.get("jobTypeId")
    if units is not None and not (isinstance(units, list) and all(map(_is_id, units))):
        raise BadRequest("businessUnitIds", "The value is not an array of ids.")
    if job_type is not None and not _is_id(job_type):
        raise BadRequest("jobTypeId", "The value is not an id.")
    return CapacityRequest(
        start=start,
        end=end,
        unit_ids=frozenset(units) if units else None,
        job_type=job_type,
        by_skill=by_skill,
    )


def _read_switch(body: Mapping[str, Any], name: str) -> bool:
    """Read a boolean, or its name as text, which a client in use sends."""
    value = body.get(name)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise BadRequest(name, "The field is required and a boolean.")
    return value


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_time(body: Mapping[str, Any], name: str) -> datetime:
    value = body.get(name)
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", value):
        raise BadRequest(name, "The field is required and a date with a time.")
    try:
        return ticks.to_datetime(ticks.parse(value))
    except (ValueError, OverflowError):
        raise BadRequest(name, f"The value '{value}' is not valid.") from None


def _compute_availabilities(world: World, request: CapacityRequest) -> Iterator[dict[str, Any]]:
    units = [unit for unit in world.records("settings.business_units") if unit["active"]]
    crews: dict[int, list[Mapping[str, Any]]] = {}
    for technician in world.records("settings.technicians"):
        if technician["active"]:
            crews.setdefault(technician["businessUnitId"], []).append(technician)
    chosen = _choose_units(world, request, [unit["id"] for unit in units])
    bookings = _read_bookings(world, request)
    skills = _find_skills(world, request)
    for start, end in _list_frames(request):
        for unit in chosen:
            yield _build_availability(start, end, unit, crews.get(unit, []), bookings, skills)


def _choose_units(world: World, request: CapacityRequest, units: Sequence[int]) -> list[int]:
    """Return the business units to show: the requested ones, and those that do the job type."""
    chosen = [unit for unit in units if request.unit_ids is None or unit in request.unit_ids]
    for job_type in world.records("jpm.job_types") if request.job_type else ():
        if job_type["id"] == request.job_type and job_type["businessUnitIds"]:
            return [unit for unit in chosen if unit in job_type["businessUnitIds"]]
    return chosen


def _find_skills(world: World, request: CapacityRequest) -> bool | None:
    """Return whether technicians have the required skills; None if nobody asked.

    The sandbox's technicians have all skills.
    """
    return True if request.by_skill and request.job_type else None


def _read_bookings(world: World, request: CapacityRequest) -> dict[int, list[Booking]]:
    """Return the appointments that are not canceled and touch the range, by technician."""
    times: dict[int, Booking] = {}
    for visit in world.records("jpm.appointments"):
        start, end = (ticks.to_datetime(ticks.parse(visit[name])) for name in ("start", "end"))
        is_planned = visit["active"] and visit["status"] != "Canceled"
        if is_planned and start < request.end and end > request.start:
            times[visit["id"]] = Booking(start=start, end=end)
    bookings: dict[int, list[Booking]] = {}
    for assignment in world.records("dispatch.appointment_assignments"):
        if assignment["active"] and assignment["appointmentId"] in times:
            own = bookings.setdefault(assignment["technicianId"], [])
            own.append(times[assignment["appointmentId"]])
    return bookings


def _list_frames(request: CapacityRequest) -> Iterator[tuple[datetime, datetime]]:
    """List the frames within the range, in local time. Frames that reach over its ends are out."""
    day = request.start.astimezone(ticks.NEW_YORK).date()
    last = request.end.astimezone(ticks.NEW_YORK).date()
    while day <= last:
        for hour in FRAME_STARTS if day.weekday() < 5 else ():
            start, end = _at(day, hour), _at(day, hour + 2)
            if request.start <= start and end <= request.end:
                yield start, end
        day += _DAY


def _at(day: date, hour: int) -> datetime:
    return datetime.combine(day, time(hour), ticks.NEW_YORK)


def _build_availability(
    start: datetime,
    end: datetime,
    unit: int,
    crew: Sequence[Mapping[str, Any]],
    bookings: Mapping[int, Sequence[Booking]],
    skills: bool | None,
) -> dict[str, Any]:
    booked = {each["id"]: _sum_hours(bookings.get(each["id"], ()), start, end) for each in crew}
    hours = (end - start) / timedelta(hours=1)
    total = hours * len(crew)
    taken = sum(booked.values())
    return {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "startUtc": _format_utc(start),
        "endUtc": _format_utc(end),
        "businessUnitIds": [unit],
        "totalAvailability": total,
        "openAvailability": total - taken,
        "technicians": [
            {
                "id": each["id"],
                "name": each["name"],
                "status": "Available" if booked[each["id"]] < hours else "Unavailable",
                "hasRequiredSkills": skills,
            }
            for each in crew
        ],
        "isAvailable": total > taken,
        "isExceedingIdealBookingPercentage": taken > total * IDEAL_BOOKING,
    }


def _sum_hours(bookings: Sequence[Booking], start: datetime, end: datetime) -> float:
    """Return for how many hours of a frame a technician is booked. Overlaps count once."""
    taken, reached = timedelta(0), start
    for booking in sorted(bookings, key=lambda each: each.start):
        begin, until = max(booking.start, reached), min(booking.end, end)
        if until > begin:
            taken += until - begin
            reached = until
    return taken / timedelta(hours=1)


def _format_utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
