"""Writes what a customer asks for when work is booked: the summary of a job, a lead or a booking.

What the office or a technician notes about a visit is in `sample_text`.
"""

from __future__ import annotations

from collections.abc import Mapping

from st_pipelines.sandbox.sample_text import LOCATION_NOTES

REQUESTS: Mapping[str, tuple[str, ...]] = {
    "No Cool": (
        "AC runs but blows warm air.",
        "No cooling upstairs since yesterday.",
        "Outdoor unit hums and does not start.",
    ),
    "No Heat": (
        "Furnace does not ignite.",
        "No heat, thermostat is blank.",
        "Heat goes off after a few minutes.",
    ),
    "AC Tune-Up": ("Tune-up before summer.", "AC check, filter is a 16x25x1."),
    "Furnace Tune-Up": ("Furnace check before winter.", "Tune-up, smells dusty at the start."),
    "Drain Cleaning": (
        "Kitchen sink drains slowly.",
        "Main line backs up into the basement.",
        "Tub is clogged, snaked it twice.",
    ),
    "Water Heater Repair": (
        "No hot water since this morning.",
        "Water heater leaks at the bottom.",
        "Pilot does not stay lit.",
    ),
    "Leak Search": (
        "Stain on the dining room ceiling.",
        "Water bill doubled, no leak in sight.",
        "Damp wall behind the shower.",
    ),
    "Panel Upgrade": ("Wants 200 A instead of 100 A.", "Insurer asks to replace the old panel."),
    "Outlet Repair": ("Two outlets in the bedroom are dead.", "GFCI in the kitchen trips."),
    "Estimate HVAC": (
        "Wants a price for a new system, the old one is 18 years old.",
        "Quote for a heat pump, asked about the rebate.",
    ),
    "Estimate Plumbing": ("Quote for a bathroom remodel.", "Wants prices for softeners."),
    "Recall": ("Same problem as at the last visit.", "Part that was replaced is noisy."),
    "Thermostat Swap": ("Bought a smart thermostat, needs a C wire.", "Thermostat lost its Wi-Fi."),
    "Sewer Camera": ("Camera check before closing on the house.", "Roots in the line last year."),
    "EV Charger": ("Charger in the garage, 48 A.", "Has the charger, needs the circuit."),
    "Duct Cleaning": ("Dust at the registers after the remodel.", "Ducts were never cleaned."),
    "Boiler Service": ("Boiler loses pressure.", "Yearly service, two zones."),
    "Warranty": ("Part failed within its warranty.", "Manufacturer approved the replacement."),
    "Heat Pump Install": ("Install of the heat pump as quoted.", "Replace the oil furnace."),
    "AC Install": ("Install of the AC as quoted.", "Replace the condenser and the coil."),
    "Furnace Install": ("Install of the furnace as quoted.", "Replace the furnace, same closet."),
    "Toilet Repair": ("Toilet runs all night.", "Toilet rocks and leaks at the base."),
    "Faucet Install": ("New kitchen faucet is on site.", "Replace both bathroom faucets."),
    "Sump Pump": ("Sump pump does not start.", "Wants a battery backup for the pump."),
    "Generator Service": ("Generator fails its weekly test.", "Yearly service of the generator."),
    "Lighting": ("Six can lights in the den.", "Porch light flickers."),
    "Gas Line": ("Gas line for a new range.", "Move the line for the dryer."),
    "Backflow Test": ("Yearly backflow test for the town.", "Test and send the form."),
    "Water Softener": ("Hard water, wants a softener.", "Replace the softener, tank is cracked."),
    "Mini Split Service": ("Mini split drips inside.", "Clean two heads."),
    "Membership Visit": ("Visit of the membership.", "Membership visit, both systems."),
}
"""What customers say, by the name of the job type."""


def write_request(kind: str, draw: int) -> str:
    """Write what a customer asks for, now and then with how to get in.

    Args:
        kind: the name of the job type.
        draw: decides the words, and whether they come as HTML, as ServiceTitan serves some.
    """
    requests = REQUESTS[kind]
    text = requests[draw % len(requests)]
    if draw // 7 % 3 == 0:
        note = LOCATION_NOTES[draw // 21 % len(LOCATION_NOTES)]
        text = f"{text} {note.format(number=1000 + draw % 8999)}"
    return f"<p>{text}</p>" if draw // 5 % 9 == 0 else text
