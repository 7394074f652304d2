"""Loads the three tables with servicepytan and pandas, as its users do. Run by `load.py`.

servicepytan reads its hosts from its connection, so the sandbox's are put there. Without the
filters it would miss inactive customers and invoices.
"""

from __future__ import annotations

import os
import sys

import duckdb
import pandas as pd
import servicepytan
import servicepytan.auth

ENDPOINTS = (
    ("crm", "customers", {"active": "Any"}),
    ("jpm", "jobs", {}),
    ("accounting", "invoices", {"activeState": "All"}),
)
PAGE_SIZE = 5000


def main(file: str) -> None:
    connection = servicepytan.auth.servicepytan_connect(
        app_key=os.environ["SERVICETITAN_APP_KEY"],
        tenant_id=os.environ["SERVICETITAN_TENANT_ID"],
        client_id=os.environ["SERVICETITAN_CLIENT_ID"],
        client_secret=os.environ["SERVICETITAN_CLIENT_SECRET"],
        timezone=os.environ["SERVICETITAN_TIMEZONE"],
    )
    connection["api_root"] = os.environ["SERVICETITAN_API_URL"]
    connection["auth_root"] = os.environ["SERVICETITAN_AUTH_URL"]
    with duckdb.connect(file) as warehouse:
        for api, name, filters in ENDPOINTS:
            endpoint = servicepytan.Endpoint(api, name, connection)
            records = endpoint.get_all({"pageSize": PAGE_SIZE, **filters})
            frame = pd.DataFrame(records)
            warehouse.register("frame", frame)
            warehouse.execute(f"CREATE SCHEMA IF NOT EXISTS {api}")
            warehouse.execute(f"CREATE OR REPLACE TABLE {api}.{name} AS SELECT * FROM frame")


if __name__ == "__main__":
    main(sys.argv[1])
