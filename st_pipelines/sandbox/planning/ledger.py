"""The accounts of the general ledger, and which account an invoice line is booked to."""

from __future__ import annotations

import random

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Account, Named
from st_pipelines.sandbox.ids import compute_id

ACCOUNTS = (
    ("1000", "Checking", "Asset", "Bank", "CheckingAccount"),
    ("1050", "Undeposited Funds", "Asset", "Other Current Asset", "UndepositedFunds"),
    ("1100", "Accounts Receivable", "Asset", "Accounts Receivable", "AccountsReceivable"),
    ("1300", "Inventory", "Asset", "Other Current Asset", "Inventory"),
    ("2000", "Accounts Payable", "Liability", "Accounts Payable", "AccountsPayable"),
    ("2100", "Sales Tax Payable", "Liability", "Other Current Liability", "SalesTaxPayable"),
    ("2200", "Customer Deposits", "Liability", "Other Current Liability", "CustomerDeposits"),
    ("2300", "Membership Agreements", "Liability", "Deferred Revenue", "MembershipAgreements"),
    ("3000", "Retained Earnings", "Equity", "Retained Earnings", "RetainedEarnings"),
    ("4000", "Service Revenue", "Income", "Income", "Revenue"),
    ("4100", "Parts Revenue", "Income", "Income", None),
    ("4200", "Equipment Revenue", "Income", "Income", None),
    ("4300", "Membership Revenue", "Income", "Income", "MembershipRevenue"),
    ("5000", "Cost of Materials", "Expense", "Cost of Goods Sold", "CostOfGoodsSoldMaterials"),
    ("5100", "Cost of Equipment", "Expense", "Cost of Goods Sold", "CostOfGoodsSoldEquipment"),
    ("6500", "All Expenses", "Expense", "Expense", None),
    ("6100", "Overhead", "Expense", "Expense", None),
    ("6000", "Payroll Labor", "Expense", "Expense", "PayrollLabor"),
)
"""Number, name, type, subtype and role of each account."""

TYPES = ("Asset", "Liability", "Equity", "Income", "Expense")

REVENUE = {"Service": "4000", "Material": "4100", "Equipment": "4200"}
"""The account of an invoice line, by kind of price book item."""


class Ledger:
    """The accounts, by number. They exist from the beginning of the history.

    Args:
        rng: draws when they were created.
        start: the beginning of the history (ticks).
    """

    def __init__(self, rng: random.Random, start: int) -> None:
        created = start - 300 * ticks.DAY
        self.accounts = {
            number: Account(
                id=compute_id(2_056_000, n),
                moments=(created + rng.randrange(ticks.DAY),),
                draw=n,
                name=name,
                number=number,
                kind=kind,
                detail=detail,
                role=role or "",
            )
            for n, (number, name, kind, detail, role) in enumerate(ACCOUNTS)
        }
        self.types = tuple(
            Named(id=compute_id(2_058_000, n), moments=(created,), draw=n, name=name)
            for n, name in enumerate(TYPES)
        )

    def find_revenue(self, kind: str) -> Account:
        """Return the account that earns a kind of price book item."""
        return self.accounts[REVENUE[kind]]
