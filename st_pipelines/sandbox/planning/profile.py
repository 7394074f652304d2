"""What distinguishes one company from another: where it works, how well it sells, what it charges.

Tenants of one sandbox have consecutive seeds. These take the profiles in turn, so up to three
tenants differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from st_pipelines.sandbox import sample_text

City = tuple[str, str, str]
"""City, state and ZIP code."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The habits of a company. Shares and rates are from 0 to 1.

    Attributes:
        brand: part of the names of its business units.
        cities: where its customers live.
        commercial: share of customers that are businesses.
        booking_rate: share of lead calls that are booked.
        close_rate: share of jobs with estimates on which one is sold.
        membership_share: share of locations that buy a membership.
        price_percent: prices, compared with the usual ones.
        tax_permille: sales tax on materials and equipment, in thousandths.
        web_share: share of jobs that are booked on the web.
    """

    brand: str
    cities: tuple[City, ...]
    commercial: float
    booking_rate: float
    close_rate: float
    membership_share: float
    price_percent: int
    tax_permille: int
    web_share: float


PROFILES = (
    Profile(
        brand="Residential",
        cities=sample_text.CITIES,
        commercial=0.12,
        booking_rate=0.78,
        close_rate=0.45,
        membership_share=0.15,
        price_percent=100,
        tax_permille=80,
        web_share=0.12,
    ),
    Profile(
        brand="Lakeside",
        cities=(
            ("Buffalo", "NY", "14201"),
            ("Rochester", "NY", "14604"),
            ("Erie", "PA", "16501"),
            ("Niagara Falls", "NY", "14301"),
            ("Saint-Félix", "NY", "14174"),
        ),
        commercial=0.3,
        booking_rate=0.66,
        close_rate=0.34,
        membership_share=0.08,
        price_percent=85,
        tax_permille=60,
        web_share=0.05,
    ),
    Profile(
        brand="Shoreline",
        cities=(
            ("Providence", "RI", "02903"),
            ("Newport", "RI", "02840"),
            ("New London", "CT", "06320"),
            ("Fall River", "MA", "02720"),
        ),
        commercial=0.05,
        booking_rate=0.86,
        close_rate=0.52,
        membership_share=0.27,
        price_percent=120,
        tax_permille=70,
        web_share=0.22,
    ),
)


def choose_profile(seed: int) -> Profile:
    """Return the profile of the company with this seed. The default seed has the first one."""
    return PROFILES[(seed - 7) % len(PROFILES)]
