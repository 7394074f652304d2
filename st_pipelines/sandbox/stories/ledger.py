"""Renders the general ledger's accounts and their types, and batches of what is exported."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Account, Named
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story


def refer_to_account(account: Account) -> Fields:
    """Render a reference to an account, as invoices and bills have it."""
    return {
        "id": account.id,
        "name": account.name,
        "number": account.number,
        "type": account.kind,
        "detailType": account.detail,
    }


BATCHES = {
    "Bills": 700_000_000,
    "Credit memos": 710_000_000,
    "Returns": 720_000_000,
    "Invoices": 730_000_000,
    "Payments": 740_000_000,
}
"""Added to the month, the id of a batch, by what is in it."""


def render_batch(name: str, moment: int) -> Fields:
    """Render the batch in which bills or other things are exported in the month of `moment`.

    Args:
        name: a key of `BATCHES`.
        moment: in ticks.
    """
    year, month = ticks.format_local_midnight(moment)[:7].split("-")
    number = f"{year}{month}"
    return {"id": BATCHES[name] + int(number), "number": number, "name": f"{name} {year}-{month}"}


def _render_account(account: Account, context: RenderContext) -> Fields:
    return {
        "name": account.name,
        "number": account.number,
        "description": account.name,
        "type": account.kind,
        "subtype": account.detail,
        "isIntacctGroup": account.number.endswith("500"),
        "isIntacctBankAccount": account.detail == "Bank",
        "source": "AccountingSystem" if account.role else "ManuallyCreated",
        "defaultAccountType": account.role or None,
    }


def _render_type(kind: Named, context: RenderContext) -> Fields:
    return {"name": kind.name, "parentTypeId": None}


STORIES = {
    "accounting.gl_accounts": Story(
        entities=lambda company: tuple(company.ledger.accounts.values()), fields=_render_account
    ),
    "accounting.gl_accounts_types": Story(
        entities=lambda company: company.ledger.types, fields=_render_type
    ),
}
