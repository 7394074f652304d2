"""Names the records of generated collections, such as tax zones and payment types."""

from __future__ import annotations

from collections.abc import Mapping

from st_pipelines.sandbox.trades import TRADES

NAMES: Mapping[str, tuple[str, ...]] = {
    "accounting.gl_accounts": (
        "Service Revenue",
        "Install Revenue",
        "Cost of Materials",
        "Cost of Labor",
        "Accounts Receivable",
        "Inventory Asset",
        "Sales Tax Payable",
        "Undeposited Funds",
        "Membership Revenue",
        "Accounts Payable",
    ),
    "accounting.gl_accounts_types": ("Income", "Expense", "Asset", "Liability", "Equity"),
    "accounting.payment_terms": ("Due on Receipt", "Net 15", "Net 30", "Net 60", "2% 10, Net 30"),
    "accounting.payment_types": ("Credit Card", "Check", "Cash", "ACH", "Financiamento", "Crédito"),
    "accounting.tax_zones": ("New York State", "Westchester", "New Jersey", "Connecticut"),
    "crm.booking_provider_tags": ("Website", "Marketplace", "Call Center", "Partner"),
    "crm.tags": ("VIP", "Do Not Text", "Senior", "Rental"),
    "dispatch.technician_skills": ("Boilers", "Heat Pumps", "Gas Lines", "Panels", "Sewer"),
    "dispatch.teams": ("Team North", "Team South", "Install Crew", "On Call"),
    "dispatch.zones": ("North", "South", "East", "West", "Río Grande"),
    "equipment_systems.equipment_types": ("Furnace", "Air Conditioner", "Boiler", "Water Heater"),
    "forms.forms": ("Arrival Checklist", "Safety Inspection", "Furnace Tune-Up", "Job Debrief"),
    "inventory.purchase_order_types": ("Restock", "Job", "Equipment", "Return"),
    "inventory.return_types": ("Defective", "Not Used", "Warranty", "Wrong Part"),
    "inventory.trucks": ("Truck 1", "Truck 2", "Truck 3", "Van 4", "Van 5"),
    "inventory.vendors": (
        "Hudson Supply",
        "Müller Parts",
        "Albany Plumbing Supply",
        "Northeast HVAC Wholesale",
        "Electrical Depot",
        "Copper & Pipe Co.",
    ),
    "inventory.warehouses": ("Main Warehouse", "Yonkers Warehouse", "Newark Warehouse"),
    "jbce.call_reasons": ("Price Shopping", "Wrong Number", "Not in Service Area", "Billing"),
    "jpm.job_cancel_reasons": ("Customer Canceled", "No Show", "Rescheduled", "Duplicate"),
    "jpm.job_hold_reasons": ("Waiting for Parts", "Waiting for Permit", "Customer Request"),
    "jpm.jobs_cancel_reasons": ("Customer Canceled", "No Show", "Rescheduled", "Duplicate"),
    "jpm.jobs_hold_reasons": ("Waiting for Parts", "Waiting for Permit", "Customer Request"),
    "jpm.project_statuses": ("Planning", "In Progress", "On Hold", "Completed", "Canceled"),
    "jpm.project_substatuses": ("Permit", "Ordered", "Rough-In", "Inspection", "Punch List"),
    "jpm.project_types": ("Replacement", "New Construction", "Remodel", "Commercial"),
    "marketing.categories": ("Digital", "Print", "Radio", "Referral", "Events"),
    "memberships.membership_types": ("Comfort Club", "Gold Plan", "Commercial Plan", "Basic"),
    "memberships.recurring_service_types": ("Spring Tune-Up", "Fall Tune-Up", "Drain Check"),
    "payroll.activity_codes": ("Regular", "Overtime", "Training", "Travel"),
    "payroll.timesheet_codes": ("Meeting", "Training", "Paid Time Off", "Shop Time"),
    "settings.user_roles": ("CSR", "Dispatcher", "Accountant", "Manager", "Technician"),
    "timesheets.activity_categories": ("Working", "Driving", "Break", "Idle"),
    "timesheets.activity_types": ("Job", "Travel", "Lunch", "Meeting", "Shop"),
}


def name_record(collection: str, number: int) -> str:
    """Return the name of a record, by its position in the collection."""
    names = NAMES.get(collection)
    if names is None:
        kind = collection.partition(".")[2].replace("_", " ").title()
        return f"{TRADES[number % len(TRADES)]} {kind} {number + 1}"
    round_number = number // len(names)
    name = names[number % len(names)]
    return f"{name} {round_number + 1}" if round_number else name


def number_record(number: int) -> str:
    """Return the number that people call a record by, from its position in the collection."""
    return str(1001 + number)
