"""The smallest question to an endpoint: may this app read it for this tenant?"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.page_source import date_params
from st_pipelines.windows import Window

_HOUR = timedelta(hours=1)


def probe(client: Client, endpoint: Endpoint) -> None:
    """Ask for one record of the last hour; what comes is not looked at.

    Args:
        client: asks.
        endpoint: list or feed.

    Raises:
        ServiceTitanError: one of its subclasses, as a load would get it.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0)
    params = dict(endpoint.params)
    if endpoint.kind == "feed":
        params["from"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    else:
        params |= endpoint.variants[0] if endpoint.variants else {}
        if endpoint.date_filter is not None:
            params |= date_params(endpoint.date_filter, Window(start=now - _HOUR, end=now))
        if endpoint.paged:
            params |= {"page": str(endpoint.first_page), "pageSize": "1"}
        if endpoint.includes_total:
            params["includeTotal"] = "true"
    client.get(endpoint.path, params, scope=endpoint.scope)
