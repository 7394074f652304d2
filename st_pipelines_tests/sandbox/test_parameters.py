"""Parameters are checked as their operation declares them."""

from __future__ import annotations

from typing import Any

import pytest

from st_pipelines_tests.sandbox.client import Client


@pytest.mark.parametrize(
    ("table", "query"),
    [
        ("jpm.jobs", {"page": "one"}),
        ("jpm.jobs", {"customerId": "all"}),
        ("jpm.jobs", {"completedOnOrAfter": "yesterday"}),
        ("jpm.jobs", {"jobStatus": "Finished"}),
        ("jpm.jobs", {"includeTotal": "maybe"}),
        ("jpm.jobs", {"sort": "+Nothing"}),
        ("crm.customers", {"active": "Yes"}),
        ("accounting.invoices", {"activeState": "True"}),
        ("accounting.ap_bills", {"billType": "Bill"}),
        ("inventory.return_types", {"activeOnly": None}),
        ("marketing_ads.performance_by_campaign", {"fromUtc": None}),
        ("jpm.jobs", {"ids": ",".join(map(str, range(51)))}),
        ("accounting.journal_entries", {"name": "x" * 256}),
    ],
    ids=str,
)
def test_an_invalid_parameter_gets_a_400_that_names_it(
    shared: Client, table: str, query: dict[str, Any]
) -> None:
    response = shared.request_list(table, **query)

    assert response.status_code == 400
    body = response.json()
    assert body["title"] == "One or more validation errors occurred."
    assert list(body["errors"]) == list(query)


@pytest.mark.parametrize(
    "query",
    [
        {"JOBSTATUS": "completed"},
        {"jobStatus": ""},
        {"ids": " "},
        {"includeTotal": "TRUE"},
        {"unknownFilter": "x"},
    ],
    ids=str,
)
def test_names_and_enum_values_are_read_in_any_case_and_empty_ones_are_ignored(
    shared: Client, query: dict[str, str]
) -> None:
    assert shared.request_list("jpm.jobs", **query).status_code == 200


def test_an_array_is_sent_as_one_parameter_per_item(shared: Client) -> None:
    keys = shared.sandbox.world.table("accounting.remittance_vendors").keys[:3]

    several = shared.read_rows("accounting.remittance_vendors", ids=keys, active="Any")

    assert sorted(row["id"] for row in several) == sorted(keys)
