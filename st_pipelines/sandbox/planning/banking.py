"""Plans bank deposits: on each weekday, the office deposits the payments of the days before.

`deposit_days` says when and which, so a payment knows its deposit before that is planned.
"""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import Payment
from st_pipelines.sandbox.entities import Account, Entity, Staff
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.deposit_days import (
    compute_deposit_id,
    find_deposit_moment,
)

CARD_FEE_PERMILLE = 29
"""What the bank keeps of payments by card, in thousandths."""


class BankDeposit(Entity, frozen=True, kw_only=True, gc=False):
    """The payments that are taken to the bank on a local day (days since 1970).

    Attributes:
        bank, expense: the accounts to which the amount and the fees are booked.
    """

    day: int
    bank: Account
    expense: Account
    clerk: Staff
    payments: tuple[Payment, ...]

    @property
    def gross(self) -> int:
        """The sum of its payments, in cents."""
        return sum(payment.cents for payment in self.payments)

    @property
    def fees(self) -> int:
        """What the bank keeps, in cents, rounded down."""
        cards = sum(payment.cents for payment in self.payments if payment.is_card)
        return cards * CARD_FEE_PERMILLE // 1000


class Banking:
    """The bank deposits of a company."""

    def __init__(self, company: Books) -> None:
        self._company = company
        self.deposits: list[BankDeposit] = []
        self._by_day: dict[int, list[Payment]] = {}
        self._seen = 0

    def extend(self) -> None:
        """Add the deposits of the days that were planned since the last call."""
        company = self._company
        for payment in company.payments[self._seen :]:
            if not payment.deactivated:
                self._by_day.setdefault(payment.deposit_day, []).append(payment)
        self._seen = len(company.payments)
        for day in sorted(day for day in self._by_day if day < company.next_day):
            self._add_deposit(day, self._by_day.pop(day))

    def _add_deposit(self, day: int, payments: list[Payment]) -> None:
        office, accounts = self._company.master_data.office, self._company.ledger.accounts
        created = find_deposit_moment(day)
        self.deposits.append(
            BankDeposit(
                id=compute_deposit_id(day),
                moments=(created, created + 18 * ticks.HOUR),
                draw=day,
                day=day,
                bank=accounts["1000"],
                expense=accounts["6100"],
                clerk=office[day % len(office)],
                payments=tuple(sorted(payments, key=lambda payment: payment.moments[0])),
            )
        )
