"""Renders the general ledger's accounts and their types."""

from __future__ import annotations

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
