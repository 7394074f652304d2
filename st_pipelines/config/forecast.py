"""Reads how many days before and after today a load of a forecast covers.

`ST_CAPACITY_DAYS_BACK` (by default 1) and `ST_CAPACITY_DAYS_AHEAD` (by default 14), for
`dispatch.capacity`.
"""

from __future__ import annotations

import dataclasses

from st_pipelines.catalog.model import Catalog, Forecast
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.local import Variables

DAYS_BACK, DAYS_AHEAD = "ST_CAPACITY_DAYS_BACK", "ST_CAPACITY_DAYS_AHEAD"
MAX_DAYS_BACK = 13
"""A public client found that ServiceTitan looks back 14 days at most. A load's first day begins at
midnight, so with 14 it would begin earlier than that."""

MAX_DAYS_AHEAD = 90
"""How far ahead ServiceTitan looks is not documented. This keeps a slip of the pen from becoming
thousands of requests."""


def apply_forecast_days(catalog: Catalog, variables: Variables) -> Catalog:
    """Returns the catalog, whose forecasts cover the days of the settings.

    Raises:
        SettingsError: as `read_forecast_days`.
    """
    forecasts = {e.table: e.forecast for e in catalog if e.forecast}
    if not forecasts:
        return catalog
    back, ahead = read_forecast_days(variables)
    endpoints = dict(catalog.endpoints)
    for table, facts in forecasts.items():
        forecast = dataclasses.replace(facts, days_back=back, days_ahead=ahead)
        endpoints[table] = dataclasses.replace(endpoints[table], forecast=forecast)
    return Catalog(endpoints, catalog.left_out)


def read_forecast_days(variables: Variables) -> tuple[int, int]:
    """Returns the days before and after today that a load covers.

    Raises:
        SettingsError: a setting is not a whole number of days within its limit.
    """
    back = _read_days(variables, DAYS_BACK, Forecast.days_back, MAX_DAYS_BACK)
    return back, _read_days(variables, DAYS_AHEAD, Forecast.days_ahead, MAX_DAYS_AHEAD)


def _read_days(variables: Variables, name: str, default: int, most: int) -> int:
    text = variables.read(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise SettingsError(f"{name} is {text!r}: give a whole number of days from 0 to {most}")
    return int(text)
