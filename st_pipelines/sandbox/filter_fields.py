"""Maps filters to fields where the name does not tell, or the field lies elsewhere (`JOINS`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FIELDS: Mapping[str, tuple[str, ...]] = {
    "fromutc": ("dateTime",),
    "toutc": ("dateTime",),
    "fromdate": ("publishDate",),
    "todate": ("publishDate",),
    "datefrom": ("billDate", "date"),
    "dateto": ("billDate", "date"),
    "paidonafter": ("paidOn", "date"),
    "paidonbefore": ("paidOn", "date"),
    "invoicedonorafter": ("invoiceDate",),
    "invoicedonbefore": ("invoiceDate",),
    "number": ("number", "jobNumber", "appointmentNumber", "referenceNumber"),
    "billnumber": ("referenceNumber",),
    "name": ("name", "tagName", "displayName"),
    "soldbyid": ("soldById", "soldBy"),
    "soldbyemployeeid": ("soldById", "soldBy"),
    "totalgreater": ("total", "subtotal"),
    "totalless": ("total", "subtotal"),
    "approvedonorafter": ("managerApprovedOn",),
    "completedonorafter": ("completedOn", "actualCompletionDate"),
    "completedbefore": ("completedOn", "actualCompletionDate"),
    "completeonorafter": ("closedOn",),
    "completebefore": ("closedOn",),
    "campaignphonenumber": ("campaignPhoneNumbers[]",),
    "campaignid": ("campaignId", "leadCall.campaign.id"),
    "budgetcodeids": ("id",),
    "segmentids": ("segments[].id", "segments[].segmentId"),
    "segmentitemids": ("segments[].item.id", "segments[].segmentItemId", "segments[].itemId"),
    "duration": ("duration", "durationBilling[].duration"),
    "billingfrequency": ("billingFrequency", "durationBilling[].billingFrequency"),
    "exportedby": ("exportedBy.id",),
    "ownertype": ("owners[].type",),
    "adjustmenttypes": ("type",),
    "agentexternalid": ("leadCall.agent.externalId",),
    "postedfrom": ("postDate",),
    "postedto": ("postDate",),
    "startedon": ("arrivedOn", "startedOn", "dispatchedOn"),
    "endedon": ("doneOn", "endedOn"),
    "phone": ("phoneNumber", "phone", "contacts[].value"),
    "unit": ("address.unit",),
    "technicianid": ("technicianId", "technician.id", "assignedTechnicians[].id"),
    "technicianids": ("technicianId", "technician.id"),
    "campaignids": ("campaignId", "campaign.id"),
    "locationids": ("locationId", "location.id"),
    "fromlocationids": ("fromLocationId", "fromLocation.id", "sourceInventoryLocationId"),
    "tolocationids": ("toLocationId", "toLocation.id", "destinationInventoryLocationId"),
    "involvedemployeeidlist": ("involvedEmployeeIdList", "involvedEmployees[].id"),
    "employeetaskresolutionids": ("employeeTaskResolutionId", "resolutionId", "typeId"),
    "employeetasksourceids": ("employeeTaskSourceId", "sourceId"),
    "employeetasktypeids": ("employeeTaskTypeId", "typeId", "type.id"),
    "priorities": ("priority", "taskPriority"),
    "purchaseordertypes": ("purchaseOrderType", "purchaseOrderTypeId"),
    "mincost": ("billAmount",),
    "maxcost": ("billAmount",),
    "statuses": ("status", "syncStatus"),
    "appliedtoinvoiceids": ("appliedTo[].appliedTo", "splits[].invoiceId"),
    "appliedtoreferencenumber": ("appliedTo[].appliedToReferenceNumber",),
    "appliedonorafter": ("appliedTo[].appliedOn",),
    "appliedbefore": ("appliedTo[].appliedOn",),
    "callerphonenumber": ("leadCall.from", "from"),
    "phonenumbercalled": ("leadCall.to", "to"),
    "agentid": ("leadCall.agent.id", "agent.id"),
    "agentname": ("leadCall.agent.name", "agent.name"),
    "sid": ("leadCall.sid", "sid"),
    "tag": ("leadCall.tags[].name", "leadCall.tag.name"),
    "userids": ("userId",),
    "search": ("review", "authorName", "customerName"),
    "searchtext": ("code", "displayName", "name", "description"),
    "externaldatakey": ("externalData[].key",),
    "externaldatavalues": ("externalData[].value",),
    "serviceagreementids": ("serviceAgreementId",),
    "statusid": ("statusId", "status.id"),
    "jobids": ("jobId", "job.id"),
}
"""The fields that a parameter means, where no rule finds them. The first that exists counts."""


CREATED, MODIFIED = "@created", "@modified"
"""Stand for the time of creation and of modification, whether or not the record shows it."""


@dataclass(frozen=True, kw_only=True)
class Join:
    """Where the field of a filter lies in another collection.

    Attributes:
        here: the path of the key in the record that is filtered.
        collection: the other collection.
        key: the path of the key in its records.
        field: the path of the field in its records.
    """

    here: str
    collection: str
    key: str
    field: str


_APPOINTMENTS = ("id", "jpm.appointments", "jobId")
_CUSTOMER = ("customerId", "crm.customers", "id")
_ORDER = ("purchaseOrderId", "inventory.purchase_orders", "id")

JOINS: Mapping[tuple[str, str], Join] = {
    (collection, name): Join(here=here, collection=other, key=key, field=field)
    for collection, name, (here, other, key), field in (
        ("jpm.jobs", "appointmentStatus", _APPOINTMENTS, "status"),
        ("jpm.jobs", "appointmentStartsOnOrAfter", _APPOINTMENTS, "start"),
        ("jpm.jobs", "appointmentStartsBefore", _APPOINTMENTS, "start"),
        ("jpm.jobs", "hasUnusedAppointments", _APPOINTMENTS, "unused"),
        (
            "jpm.jobs",
            "firstAppointmentStartsOnOrAfter",
            ("firstAppointmentId", "jpm.appointments", "id"),
            "start",
        ),
        (
            "jpm.jobs",
            "firstAppointmentStartsBefore",
            ("firstAppointmentId", "jpm.appointments", "id"),
            "start",
        ),
        (
            "jpm.jobs",
            "technicianId",
            ("id", "dispatch.appointment_assignments", "jobId"),
            "technicianId",
        ),
        (
            "jpm.appointments",
            "technicianId",
            ("id", "dispatch.appointment_assignments", "appointmentId"),
            "technicianId",
        ),
        ("jpm.appointments", "projectId", ("jobId", "jpm.jobs", "id"), "projectId"),
        ("jpm.projects", "invoiceId", ("jobIds[]", "jpm.jobs", "id"), "invoiceId"),
        ("jpm.projects", "appointmentId", ("jobIds[]", "jpm.appointments", "jobId"), "id"),
        (
            "jpm.projects",
            "technicianId",
            ("jobIds[]", "dispatch.appointment_assignments", "jobId"),
            "technicianId",
        ),
        ("crm.leads", "isProspect", ("customerId", "jpm.jobs", "customerId"), "id"),
        ("crm.leads", "customerCity", _CUSTOMER, "address.city"),
        ("crm.leads", "customerState", _CUSTOMER, "address.state"),
        ("crm.leads", "customerZip", _CUSTOMER, "address.zip"),
        ("crm.leads", "customerCreatedOnOrAfter", _CUSTOMER, "createdOn"),
        ("crm.leads", "customerCreatedBefore", _CUSTOMER, "createdOn"),
        ("crm.leads", "customerModifiedOnOrAfter", _CUSTOMER, "modifiedOn"),
        ("crm.locations", "country", _CUSTOMER, "address.country"),
        ("crm.customers", "phone", ("id", "crm.customers_contacts", "customerId"), "value"),
        (
            "memberships.recurring_service_events",
            "locationId",
            ("locationRecurringServiceId", "memberships.recurring_services", "id"),
            "locationId",
        ),
        (
            "memberships.recurring_service_types",
            "membershipTypeId",
            ("id", "memberships.membership_types", "recurringServices[].recurringServiceTypeId"),
            "id",
        ),
        (
            "salestech.estimates_items",
            "estimateId",
            ("id", "salestech.estimates", "items[].id"),
            "id",
        ),
        ("accounting.ap_bills", "purchaseOrderNumber", _ORDER, "number"),
        ("accounting.ap_bills", "purchaseOrderTypes", _ORDER, "typeId"),
        ("accounting.inventory_bills", "purchaseOrderNumber", _ORDER, "number"),
        ("accounting.inventory_bills", "purchaseOrderTypes", _ORDER, "typeId"),
        (
            "accounting.inventory_bills",
            "threeWayMatchDiscrepancy",
            ("id", "accounting.ap_bills", "id"),
            "status",
        ),
    )
}
"""Filters whose field lies in another collection, by collection and parameter."""
