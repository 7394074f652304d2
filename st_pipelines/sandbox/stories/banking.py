"""Renders bank deposits, and the payments that one consists of."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import Payment
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.planning.banking import BankDeposit, Banking
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.billing import name_deposit, render_payment
from st_pipelines.sandbox.stories.ledger import refer_to_account
from st_pipelines.sandbox.stories.story import ChildStory, Fields, RenderContext, Story


def _render_deposit(deposit: BankDeposit, context: RenderContext) -> Fields:
    created, reviewed = deposit.moments
    is_reviewed = context.has_passed(reviewed)
    return {
        "name": name_deposit(deposit.day),
        "depositStatus": "Deposited" if is_reviewed else "Open",
        "syncStatus": "Exported" if is_reviewed else "Pending",
        "batch": None,
        "createdBy": deposit.clerk.name,
        "importId": None,
        "depositDate": ticks.format_local_midnight(created),
        "reviewStatus": "Reviewed" if is_reviewed else "NeedsReview",
        "reviewedOn": ticks.format_iso(reviewed) if is_reviewed else None,
        "grossAmount": format_money(deposit.gross),
        "netAmount": format_money(deposit.gross - deposit.fees),
        "fees": format_money(deposit.fees),
        "bankAccount": refer_to_account(deposit.bank),
        "feeAccount": refer_to_account(deposit.expense),
    }


def _list_payments(company: Company, deposit: BankDeposit) -> tuple[Payment, ...]:
    return deposit.payments


STORIES = {
    "accounting.bank_deposits": Story(
        entities=lambda company: company.chapter(Banking).deposits, fields=_render_deposit
    ),
}

CHILDREN = {
    "/accounting/v2/tenant/{tenant}/bank-deposits/{id}/transactions": ChildStory(
        entities=_list_payments, fields=render_payment
    ),
}
