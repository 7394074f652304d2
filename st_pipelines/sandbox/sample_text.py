"""Draws sample names and words, and text that suits the name of a field."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import lru_cache

from st_pipelines.sandbox.trades import TRADES

FIRST = (
    "Ava",
    "Noah",
    "Mia",
    "Liam",
    "Zoë",
    "Lucas",
    "José",
    "Ingrid",
    "Emma",
    "Owen",
    "Chloé",
    "Amir",
    "Grace",
    "Hans",
    "Nina",
    "Søren",
    "Ruth",
    "Diego",
    "Priya",
    "Tom",
    "Łucja",
    "Ben",
)
LAST = (
    "Müller",
    "Smith",
    "Nguyen",
    "O'Brien",
    "García",
    "Johnson",
    "Sørensen",
    "Kowalski",
    "Brown",
    "Silva",
    "Patel",
    "Jones",
    "Lefèvre",
    "Davis",
    "Miller",
    "Martínez",
    "Wilson",
    "Čapek",
    "Young",
    "Anderson",
    "Ramírez",
    "Lee",
    "Walker",
    "Øverby",
    "Hall",
    "Allen",
    "King",
    "Wright",
    "Scott",
)
FIRMS = ("Diner", "Dental", "Bakery", "Storage", "Auto Body", "Yoga", "Church", "Café")
STREETS = ("Maple Ave", "Oak St", "Elm Dr", "Lake Rd", "Río Grande Way", "Main St", "5th Ave")
CITIES = (
    ("Albany", "NY", "12207"),
    ("Yonkers", "NY", "10701"),
    ("Newark", "NJ", "07102"),
    ("São Paulo Heights", "NY", "10940"),
    ("Stamford", "CT", "06902"),
    ("Hoboken", "NJ", "07030"),
    ("Montclair", "NJ", "07042"),
    ("White Plains", "NY", "10601"),
)
CHANNELS = ("Google", "Postcard", "Radio", "Truck Wrap", "Referral", "Yelp", "Email", "Facebook")
SKUS = ("Capacitor", "Contactor", "Filter", "Valve", "Blower", "Coil", "Breaker", "Pump", "Sensor")
NOTES = (
    "Customer asked for a call 30 minutes ahead.",
    "Gate code 4711.",
    "Dog in the yard 🐕, ring first.",
    "Replaced part, tested, running normally.",
    "Prefers Frau Müller as contact.",
    "Paid on site.",
    "<p>Checked pressure &amp; flow.</p>",
    "Second visit needed for the part.",
    'He said "ok".',
)
CUSTOMER_NOTES = (
    "Prefers calls after 5 p.m.",
    "Pays by check; send the invoice by mail.",
    "Manages {number} Main St and two more houses, ask which one.",
    "Asked for a reminder of the spring tune-up.",
    "Wants the price confirmed before the work starts.",
    "José can interpret.",
    "Referred by a neighbor, offered the usual discount.",
    "New phone number, the old one is disconnected.",
    "<p>Tax exempt &ndash; certificate {number} is on file.</p>",
)
LOCATION_NOTES = (
    "Gate code {number}.",
    "Dog in the yard 🐕, ring first.",
    "The shutoff valve is behind the furnace.",
    "Park on the street, the driveway is shared.",
    "The panel is in the garage, left wall.",
    "Key is in the lockbox, code {number}.",
    "Attic access through the hall closet.",
    "Low ceiling in the basement, bring the short ladder.",
)
LEAD_NOTES = (
    "Called back, no answer; left a voicemail.",
    "Wants a second quote first.",
    "Asked about financing.",
    "Will talk to the landlord and call again.",
    "Sent the price list by email.",
    "Only has time on Saturdays.",
)
DONE_NOTES = (
    "Replaced part, tested, running normally.",
    "Paid on site.",
    "<p>Checked pressure &amp; flow.</p>",
    "Second visit needed for the part.",
    'He said "ok".',
    "Showed the customer the old part, and the filter.",
    "Recommended a new unit before winter.",
    "Left the area clean, photos attached.",
)
PROJECT_NOTES = (
    "Permit is posted, inspector comes after the start-up.",
    "Crew of two, bring the lift.",
    "Old unit goes to recycling.",
    "Deposit received, the rest on completion.",
    "Owner is away, the neighbor has the key.",
)
CANCELED_NOTES = (
    "Customer called to cancel.",
    "Found somebody sooner.",
    "Nobody answered when the technician called ahead.",
    "Moved to another date, see the new job.",
)
WORDS = ("Standard", "Pending", "Open", "Posted", "Default", "Active", "Manual", "Regular")
ROLES = ("CSR", "Dispatch", "Accounting", "CSR", "GeneralOffice", "Admin", "SalesManager")
COLORS = ("#1E90FF", "#228B22", "#B22222", "#FFA500", "#708090")

VALUES: Mapping[str, tuple[str, ...]] = {
    "budgetCostType": ("Material", "Labor", "Equipment"),
    "captureSource": ("Call", "Form", "Chat"),
    "detailType": ("Service Revenue", "Cost of Goods Sold", "Other Current Assets"),
    "inventoryStatus": ("NonInventory", "Consumed", "Reserved"),
    "leadState": ("Open", "Won", "Lost"),
    "leadStatus": ("Open", "Booked", "Dismissed"),
    "platform": ("Google", "Yelp", "Facebook"),
    "review": (
        "On time and friendly, the heat works again.",
        "Explained every step before the work started.",
        "A fair price for a good job.",
        "Had to wait two days, but the repair holds.",
    ),
    "reviewResponse": ("Thank you for your kind words.", "Thank you, we are glad to help."),
    "priority": ("Normal", "Normal", "High", "Urgent", "Low"),
    "skuType": ("Material", "Equipment"),
    "source": ("Web", "Phone", "Walk-In", "Partner"),
    "subtype": ("Income", "Expense", "Asset"),
    "syncStatus": ("Pending", "Posted", "Exported"),
    "transferType": ("Standard", "Replenishment"),
    "warningType": ("LowCapacity", "NoCapacity"),
    "currency": ("USD",),
}
"""Texts of fields that hold one of a few words. The documents do not state which words."""


def draw_name(rng: random.Random) -> str:
    """Draw a first and a last name."""
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def draw_phone(rng: random.Random) -> str:
    """Draw ten digits in the range that is reserved for fiction."""
    return f"{rng.choice(('212', '518', '914', '973'))}55501{rng.randrange(100):02}"


def derive_email(name: str) -> str:
    """Derive an email address from a name, in the domain that is reserved for examples."""
    local = "".join(c for c in name.lower() if c.isascii() and c.isalnum()) or "office"
    return f"{local}@example.com"


def draw_guid(rng: random.Random) -> str:
    """Draw a GUID in lower case."""
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def draw_duration(rng: random.Random) -> str:
    """Draw a duration of less than an hour, in one of the two formats that the API uses."""
    minutes, seconds = rng.randrange(59), rng.randrange(60)
    if rng.random() < 0.5:
        return f"PT{minutes}M{seconds}S"
    return f"00:{minutes:02}:{seconds:02}"


def draw_time_of_day(rng: random.Random) -> str:
    """Draw a full or half hour between 7 a.m. and 6 p.m."""
    return f"{rng.randrange(7, 18):02}:{rng.choice((0, 30)):02}:00"


def _draw_address_part(name: str, rng: random.Random) -> str | None:
    city, state, zip_code = rng.choice(CITIES)
    return {
        "street": f"{rng.randrange(1, 999)} {rng.choice(STREETS)}",
        "city": city,
        "state": state,
        "zip": zip_code,
        "country": "USA",
        "unit": rng.choice((None, "2B")),
    }.get(name)


def draw_text(name: str, rng: random.Random) -> str | None:
    """Draw a text for the field `name`; None if the API usually serves null for it."""
    if name in VALUES:
        return rng.choice(VALUES[name])
    lowered = name.lower()
    if lowered in ("street", "city", "state", "zip", "country", "unit"):
        return _draw_address_part(lowered, rng)
    return _find_generator(lowered)(rng)


@lru_cache(maxsize=4096)
def _find_generator(lowered: str) -> Callable[[random.Random], str | None]:
    for words, make in _GENERATORS:
        if any(word in lowered for word in words):
            return make
    return lambda rng: rng.choice(WORDS)


_GENERATORS = (
    (("guid", "taskid", "aaduserid", "sid"), draw_guid),
    (("importid", "exportid", "externalid", "customerpo"), lambda rng: None),
    (("duration",), draw_duration),
    (("shiftstart", "shiftend", "starttime"), draw_time_of_day),
    (("email",), lambda rng: derive_email(draw_name(rng))),
    (("phone", "fax", "callerid", "dnis"), draw_phone),
    (("url", "image", "video", "link"), lambda rng: f"https://example.com/{rng.getrandbits(32):x}"),
    (("color",), lambda rng: rng.choice(COLORS)),
    (
        (
            "memo",
            "note",
            "summary",
            "description",
            "text",
            "paragraph",
            "message",
            "header",
            "instructions",
            "bio",
            "comment",
        ),
        lambda rng: rng.choice(NOTES),
    ),
    (("launchdate", "eligibilitydate"), lambda rng: f"2025-0{rng.randrange(1, 10)}-15"),
    (
        ("number", "code", "reference"),
        lambda rng: f"{rng.choice('ABCMST')}-{rng.randrange(1000, 9999)}",
    ),
    (("firstname",), lambda rng: rng.choice(FIRST)),
    (("lastname",), lambda rng: rng.choice(LAST)),
    (("campaign",), lambda rng: f"{rng.choice(CHANNELS)} {rng.choice(TRADES)}"),
    (("technician", "employee", "customer", "author", "by"), draw_name),
    (("sku", "material", "equipment"), lambda rng: f"{rng.choice(SKUS)} {rng.randrange(10, 99)}"),
    (("name",), lambda rng: f"{rng.choice(TRADES)} {rng.choice(WORDS)} {rng.randrange(1, 99)}"),
)
