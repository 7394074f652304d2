"""The trades of a company: which job types they do, what these cost, and how long they take.

`price_book` turns the prices into services, materials and equipment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRADES: tuple[str, ...] = ("HVAC", "Plumbing", "Electrical", "Drains", "Install")
"""Each has a business unit."""

SHARED = frozenset({"Recall", "Warranty", "Membership Visit"})
"""Job types of all business units. The job that leads to the visit says which one does it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of a job type.

    Attributes:
        trade: which trade does it.
        dollars: what its services cost, from the cheapest to the dearest.
        hours: how long it takes, from the shortest to the longest.
        sells: the job types whose work the technician offers; its own if empty.
    """

    trade: str
    dollars: tuple[int, int] = (0, 0)
    hours: tuple[float, float] = (1, 3)
    sells: tuple[str, ...] = ()

    @property
    def is_install(self) -> bool:
        """Whether a piece of equipment is installed."""
        return self.dollars[1] >= 2000


_COOLING = ("AC Install", "Heat Pump Install")
_HEATING = ("Furnace Install", "Heat Pump Install")

WORK: Mapping[str, Work] = {
    "No Cool": Work(trade="HVAC", dollars=(320, 780), sells=_COOLING),
    "No Heat": Work(trade="HVAC", dollars=(300, 760), sells=_HEATING),
    "AC Tune-Up": Work(trade="HVAC", dollars=(119, 159), hours=(0.75, 1.5)),
    "Furnace Tune-Up": Work(trade="HVAC", dollars=(119, 169), hours=(0.75, 1.5)),
    "Drain Cleaning": Work(trade="Drains", dollars=(189, 420), hours=(1, 2.5)),
    "Water Heater Repair": Work(trade="Plumbing", dollars=(280, 720)),
    "Leak Search": Work(trade="Plumbing", dollars=(240, 560)),
    "Panel Upgrade": Work(trade="Electrical", dollars=(2200, 3600), hours=(5, 8)),
    "Outlet Repair": Work(trade="Electrical", dollars=(160, 340), hours=(0.75, 2)),
    "Estimate HVAC": Work(trade="HVAC", hours=(0.75, 1.5), sells=(*_COOLING, *_HEATING)),
    "Estimate Plumbing": Work(
        trade="Plumbing", hours=(0.75, 1.5), sells=("Water Softener", "Gas Line", "Faucet Install")
    ),
    "Recall": Work(trade="HVAC"),
    "Thermostat Swap": Work(trade="HVAC", dollars=(210, 390), hours=(0.75, 1.5)),
    "Sewer Camera": Work(trade="Drains", dollars=(240, 450), hours=(1, 2)),
    "EV Charger": Work(trade="Electrical", dollars=(850, 1700), hours=(2.5, 5)),
    "Duct Cleaning": Work(trade="HVAC", dollars=(390, 720), hours=(2, 4.5)),
    "Boiler Service": Work(trade="HVAC", dollars=(260, 540), hours=(1.5, 3)),
    "Warranty": Work(trade="HVAC"),
    "Heat Pump Install": Work(trade="Install", dollars=(3600, 5800), hours=(6, 9.5)),
    "AC Install": Work(trade="Install", dollars=(2800, 4600), hours=(6, 9)),
    "Furnace Install": Work(trade="Install", dollars=(2400, 4200), hours=(5, 8)),
    "Toilet Repair": Work(trade="Plumbing", dollars=(170, 360), hours=(0.75, 2)),
    "Faucet Install": Work(trade="Plumbing", dollars=(220, 420), hours=(0.75, 2)),
    "Sump Pump": Work(trade="Drains", dollars=(480, 950), hours=(1.5, 3.5)),
    "Generator Service": Work(trade="Electrical", dollars=(220, 480), hours=(1, 2.5)),
    "Lighting": Work(trade="Electrical", dollars=(240, 650), hours=(1, 3)),
    "Gas Line": Work(trade="Plumbing", dollars=(520, 1250), hours=(2, 4.5)),
    "Backflow Test": Work(trade="Plumbing", dollars=(110, 190), hours=(0.5, 1)),
    "Water Softener": Work(trade="Plumbing", dollars=(1100, 1950), hours=(2.5, 4.5)),
    "Mini Split Service": Work(trade="HVAC", dollars=(180, 390), hours=(1, 2)),
    "Membership Visit": Work(trade="HVAC", hours=(0.75, 1.5), sells=("Thermostat Swap", *_COOLING)),
}
"""The work of each job type, in the order of their ids. Estimates and recalls cost nothing."""

VARIANTS = ("Basic", "Standard", "Plus", "Complete")
"""The services of a job type, from the cheapest to the dearest."""

MATERIALS: Mapping[str, tuple[str, ...]] = {
    "HVAC": ("Capacitor", "Contactor", "Air Filter", "Igniter", "Blower Belt", "Refrigerant"),
    "Plumbing": ("Shutoff Valve", "Supply Line", "Wax Ring", "Copper Pipe", "PEX Fitting"),
    "Electrical": ("Breaker", "GFCI Outlet", "Dimmer", "Wire", "Junction Box"),
    "Drains": ("Cleanout Plug", "Check Valve", "PVC Elbow", "Trap", "Float Switch"),
    "Install": ("Line Set", "Condensate Pump", "Pad", "Duct Board", "Disconnect"),
}
"""What technicians use up, by trade."""

EQUIPMENT: Mapping[str, tuple[str, ...]] = {
    "HVAC": ("Thermostat", "Air Cleaner"),
    "Plumbing": ("Water Heater", "Water Softener"),
    "Electrical": ("Panel", "EV Charger"),
    "Drains": ("Sump Pump", "Ejector Pump"),
    "Install": ("Air Conditioner", "Furnace", "Heat Pump"),
}
"""What the price book holds that has a serial number, by trade."""

EQUIPMENT_DOLLARS: Mapping[str, tuple[int, int]] = {
    "HVAC": (120, 380),
    "Plumbing": (650, 1600),
    "Electrical": (350, 1100),
    "Drains": (180, 620),
    "Install": (1900, 4200),
}


def find_estimate_type(trade: str) -> str:
    """Return the job type in which a trade's work is offered."""
    return "Estimate Plumbing" if trade in ("Plumbing", "Drains") else "Estimate HVAC"
