"""What a window of a child list costs where there are very many parents."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.responses import build_json_response
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load
from st_pipelines_tests.children_reader import load_with_parents
from st_pipelines_tests.churn_reader import build_context, days, query
from st_pipelines_tests.conftest import NOW

CUSTOMERS, NOTES = load_catalog()["crm.customers"], load_catalog()["crm.customers_notes"]
MANY, CHANGED = 200_000, 500
FIRST_ID = 50_000_000
"""Of the customers that are added to those of the sandbox."""


def add_customers(file: Path) -> None:
    """Adds customers to a warehouse whose notes were read, as copies of one of them."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"INSERT INTO {CUSTOMERS.table} BY NAME "
            f"SELECT c.* REPLACE ({FIRST_ID} + n AS id) "
            f"FROM (FROM {CUSTOMERS.table} LIMIT 1) c, range({MANY}) numbers(n)"
        )
        connection.execute(
            "INSERT INTO _st.child_reads BY NAME "
            "SELECT r.* REPLACE (c.id::VARCHAR AS parent_key, c.modified_on::VARCHAR AS version) "
            f"FROM {CUSTOMERS.table} c, (FROM _st.child_reads LIMIT 1) r WHERE c.id >= {FIRST_ID}"
        )


class LargeCompany:
    """Serves customers of which some have changed, and a note for each of them.

    Attributes:
        changed: ids of the customers that have changed.
        requests: for notes, by the id of the customer.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.changed = range(FIRST_ID, FIRST_ID + MANY, MANY // CHANGED)
        self.requests = Counter[int]()
        [record, *_] = sandbox.world.records(CUSTOMERS.table)
        moment = (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._record = {**record, "modifiedOn": moment}
        sandbox.interceptors.append(self._answer)

    def _answer(self, request: Request) -> Response | None:
        *_, name, last = request.url.path.split("/")
        if last == "customers" and "/export/" not in request.url.path:
            return _serve_page([{**self._record, "id": id_} for id_ in self.changed])
        if last != "notes":
            return None
        self.requests[int(name)] += 1
        note = {"id": 1, "text": name, "isPinned": False, "createdById": 1}
        return _serve_page([note])


def _serve_page(records: list[Any]) -> Response:
    body = {"page": 1, "pageSize": 5000, "hasMore": False, "totalCount": len(records)}
    return build_json_response({**body, "data": records})


def test_a_window_costs_a_request_for_each_of_500_changed_parents_among_200_000(
    own_sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "x.duckdb"
    context = build_context(own_sandbox, file)
    load_with_parents(context, NOTES.table)
    add_customers(file)
    assert extract_load(context, NOTES, None).read.requests == 0
    company = LargeCompany(own_sandbox)

    extract_load(context, CUSTOMERS, days("2026-03-10", "2026-03-10"))
    report = extract_load(context, NOTES, None)

    assert company.requests == Counter(company.changed)
    assert len(company.changed) == CHANGED
    assert report.read.requests == CHANGED
    assert report.parents is not None
    assert (report.parents.read, report.parents.remaining) == (CHANGED, 0)
    notes = f"SELECT customer_id FROM {NOTES.table} WHERE customer_id >= {FIRST_ID} AND id = 1"
    assert {id_ for (id_,) in query(file, notes)} == set(company.changed)
    assert extract_load(context, NOTES, None).read.requests == 0
