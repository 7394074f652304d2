"""Loads three tables by `extract_load`. Run by `load.py`; takes the DuckDB file as argument."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone

from pydantic import SecretStr

from st_pipelines.catalog.loader import load_catalog
from st_pipelines.days import Days, local_day
from st_pipelines.extract_load import Job, extract_load
from st_pipelines.servicetitan.client import Client
from st_pipelines.servicetitan.connection import Connection
from st_pipelines.warehouse.connect import Warehouse

TABLES = ("crm.customers", "jpm.jobs", "accounting.invoices")


def main(file: str) -> None:
    zone, catalog = os.environ["SERVICETITAN_TIMEZONE"], load_catalog()
    job = Job(
        client=Client(_connection()),
        warehouse=Warehouse(uri=file),
        timezone=zone,
        run_id="benchmark",
        catalog=catalog,
    )
    today = local_day(datetime.now(timezone.utc), zone)
    whole_history = Days(first=today, last=today, timezone=zone, open_start=True)
    for table in TABLES:
        extract_load(job, catalog[table], whole_history)


def _connection() -> Connection:
    return Connection(
        environment="sandbox",
        api_url=os.environ["SERVICETITAN_API_URL"],
        auth_url=os.environ["SERVICETITAN_AUTH_URL"],
        client_id=os.environ["SERVICETITAN_CLIENT_ID"],
        client_secret=SecretStr(os.environ["SERVICETITAN_CLIENT_SECRET"]),
        app_key=SecretStr(os.environ["SERVICETITAN_APP_KEY"]),
        tenant_id=os.environ["SERVICETITAN_TENANT_ID"],
    )


if __name__ == "__main__":
    main(sys.argv[1])
