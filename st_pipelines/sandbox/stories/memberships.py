"""Renders memberships, their types, changes of status, billing templates and visits."""

from __future__ import annotations

from collections.abc import Iterator

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import RecurringService, ServiceEvent
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import BillingTemplate, Entity, Membership, MembershipType, Named
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story


class StatusChange(Entity, frozen=True, kw_only=True, gc=False):
    """A change of a membership's status."""

    membership: Membership
    old: str
    new: str


def _find_status(membership: Membership, context: RenderContext) -> str:
    if context.has_passed(membership.canceled):
        return "Canceled"
    if context.has_passed(membership.expired):
        return "Expired"
    if context.has_passed(membership.suspended) and not context.has_passed(membership.resumed):
        return "Suspended"
    return "Active"


def _render_membership(membership: Membership, context: RenderContext) -> Fields:
    status, kind = _find_status(membership, context), membership.kind
    # Bills are among the membership's moments, so this changes only with `modifiedOn`.
    next_bill = next((bill for bill in membership.bills if bill > context.now), 0)
    is_running = status in ("Active", "Suspended")
    renewal = membership.renewed.membership if context.has_passed(membership.expired) else None
    return {
        "from": ticks.format_local_midnight(membership.start),
        "to": ticks.format_local_midnight(membership.end) if membership.end else None,
        "cancellationDate": ticks.format_iso(membership.canceled) if status == "Canceled" else None,
        "nextScheduledBillDate": ticks.format_local_midnight(next_bill)
        if next_bill and is_running
        else None,
        "followUpOn": ticks.format_local_midnight(membership.end or membership.start),
        "followUpStatus": "Won" if renewal else "NotAttempted",
        "billingFrequency": kind.frequency,
        "renewalBillingFrequency": kind.frequency if membership.end else None,
        "status": status,
        "duration": 12 if membership.end else None,
        "renewalDuration": 12 if membership.end else None,
        "businessUnitId": membership.unit.id,
        "customerId": membership.location.customer.id,
        "locationId": membership.location.id,
        "membershipTypeId": kind.id,
        "billingTemplateId": membership.template.id,
        "initialDeferredRevenue": format_money(kind.sku.cents if kind.is_deferred else 0),
        "soldById": compute_user_id(membership.seller.id),
        "activatedById": compute_user_id(membership.seller.id),
        "createdById": compute_user_id(membership.seller.id),
        "renewedById": renewal.id if renewal else None,
        "recurringLocationId": membership.location.id,
        "cancellationBalanceInvoiceId": None,
        "cancellationInvoiceId": None,
        "activatedFromId": None,
    }


def _render_type(kind: MembershipType, context: RenderContext) -> Fields:
    price = format_money(kind.sku.cents)
    return {
        "name": kind.name,
        "displayName": kind.name,
        "discountMode": "Basic",
        "locationTarget": "SingleLocation",
        "revenueRecognitionMode": "Deferred" if kind.is_deferred else "PointOfSale",
        "billingTemplateId": None,
        "durationBilling": [
            {
                "duration": None if kind.frequency == "OneTime" else 12,
                "billingFrequency": kind.frequency,
                "salePrice": price,
                "billingPrice": price,
                "renewalPrice": price,
            }
        ],
        # In percent, beside the prices for members of each item.
        "discount": format_money(500 * (1 + kind.draw % 3)),
        "discounts": [],
    }


def _render_template(template: BillingTemplate, context: RenderContext) -> Fields:
    kind = template.kind
    price = format_money(kind.sku.cents)
    item = {
        "skuId": kind.sku.id,
        "skuType": kind.sku.kind,
        "quantity": format_money(100),
        "unitPrice": price,
        "isAddOn": False,
    }
    return {
        "name": template.name,
        "total": price,
        "isSettingsTemplate": True,
        "items": [context.render_part("items", template.draw, {"id": template.id, **item})],
    }


def _list_status_changes(company: Company) -> list[StatusChange]:
    return [change for m in company.memberships for change in _list_changes(m)]


def _list_changes(membership: Membership) -> Iterator[StatusChange]:
    changes = (
        (membership.suspended, "Active", "Suspended"),
        (membership.resumed, "Suspended", "Active"),
        (membership.canceled, "Active", "Canceled"),
        (membership.expired, "Active", "Expired"),
    )
    for number, (moment, old, new) in enumerate(changes):
        if moment:
            yield StatusChange(
                # Ids of memberships are at least three apart for every two of them.
                id=membership.id * 4 + number,
                moments=(moment,),
                draw=membership.draw,
                membership=membership,
                old=old,
                new=new,
            )


def _render_status_change(change: StatusChange, context: RenderContext) -> Fields:
    return {
        "oldStatus": change.old,
        "newStatus": change.new,
        "note": None,
        "createdById": compute_user_id(change.membership.seller.id),
        "membershipId": change.membership.id,
    }


def _render_service_type(kind: Named, context: RenderContext) -> Fields:
    return {
        "name": kind.name,
        "recurrenceType": "Monthly",
        "recurrenceInterval": 6,
        "durationType": "Continuous",
        "durationLength": 12,
        "priority": "Normal",
    }


def _render_service(service: RecurringService, context: RenderContext) -> Fields:
    membership = service.membership
    return {
        "name": service.kind.name,
        "membershipId": membership.id,
        "locationId": membership.location.id,
        "recurringServiceTypeId": service.type.id,
        "durationType": "Continuous",
        "durationLength": 12,
        "from": ticks.format_local_midnight(membership.start),
        "to": ticks.format_local_midnight(membership.end) if membership.end else None,
        "jobTypeId": service.kind.id,
        "businessUnitId": membership.unit.id,
        "campaignId": service.campaign.id,
        "recurrenceType": "Monthly",
        "recurrenceInterval": 6,
        "createdById": compute_user_id(membership.seller.id),
    }


def _render_event(event: ServiceEvent, context: RenderContext) -> Fields:
    service = event.service
    booked, dismissed = context.has_passed(event.booked), context.has_passed(event.dismissed)
    job = event.found.job if booked else None
    return {
        "locationRecurringServiceId": service.id,
        "locationRecurringServiceName": service.kind.name,
        "membershipId": service.membership.id,
        "membershipName": service.membership.kind.name,
        "status": "Won" if booked else "Dismissed" if dismissed else "NotAttempted",
        "date": ticks.format_local_midnight(event.due),
        "jobId": job.id if job else None,
        "createdById": compute_user_id(service.membership.seller.id),
    }


STORIES = {
    "memberships.memberships": Story(
        entities=lambda company: company.memberships, fields=_render_membership
    ),
    "memberships.membership_types": Story(
        entities=lambda company: company.master_data.membership_types, fields=_render_type
    ),
    "memberships.invoice_templates": Story(
        entities=lambda company: company.master_data.templates, fields=_render_template
    ),
    "memberships.membership_status_changes": Story(
        entities=_list_status_changes, fields=_render_status_change
    ),
    "memberships.recurring_service_types": Story(
        entities=lambda company: company.master_data.service_types, fields=_render_service_type
    ),
    "memberships.recurring_services": Story(
        entities=lambda company: company.recurring_services, fields=_render_service
    ),
    "memberships.recurring_service_events": Story(
        entities=lambda company: company.service_events, fields=_render_event
    ),
}
