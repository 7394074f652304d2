"""Types of settings: which values each accepts, and how an invalid value is reported."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timezone
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationError

from st_pipelines.config.sources.base import CREDENTIAL

_EARLIEST_START = date(2000, 1, 1)
"""Years before ServiceTitan existed; Dagster slows down with tens of thousands of partitions."""

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_CRON_FIELDS: tuple[tuple[int, int, Sequence[str]], ...] = (
    (0, 59, []),
    (0, 23, []),
    (1, 31, ["l"]),
    (1, 12, _MONTHS),
    (0, 7, _WEEKDAYS),
)
_CRON_ALIASES = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"]


def check_url(url: str) -> str:
    """Accepts https, and http for this machine; returns the URL without a trailing slash.

    Raises:
        ValueError: the URL has another scheme, no host, no valid port, or more than a host and a
            path.
    """
    if not url:
        return url
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("give the host alone, without user, query or fragment")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL: give it as https://host")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url!r} has no valid port: give one up to 65535, or none") from None
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(
            f"{url!r} is not https; http is accepted only for this machine (127.0.0.1)"
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_tenant_id(text: str | None) -> str | None:
    if text and not text.isdecimal():
        raise ValueError("a tenant ID is a number, without quotes")
    return text


def _check_guid(text: str | None) -> str | None:
    if not text:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(
            "an application's GUID looks like 01234567-89ab-cdef-0123-456789abcdef"
        ) from None


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("not an IANA time zone: give one such as America/New_York") from None
    return name


def _parse_start_date(value: Any) -> Any:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("write it as YYYY-MM-DD") from None


def _check_start_date(day: date) -> date:
    if day > datetime.now(timezone.utc).date():
        raise ValueError(f"{day} is in the future: give the first day that gets a partition")
    if day < _EARLIEST_START:
        raise ValueError(
            f"{day} is before {_EARLIEST_START}: each day from it on is a partition in Dagster, "
            "and the first one holds everything older anyway"
        )
    return day


def check_cron(text: str) -> str:
    """Accepts the cron expressions that Dagster accepts for a schedule.

    Dagster is not imported for it, as most commands need neither it nor its second of loading.

    Raises:
        ValueError: the expression is not one of five fields.
    """
    fields = text.lower().split()
    if text.lower() in _CRON_ALIASES:
        return text
    valid = len(fields) == len(_CRON_FIELDS) and all(
        _is_cron_field(field, at) for at, field in enumerate(fields)
    )
    if not valid or (fields[3] in ("2", "feb") and fields[2] in ("30", "31")):
        raise ValueError("write it as five fields: minute, hour, day, month, weekday")
    return text


def _is_cron_field(text: str, at: int) -> bool:
    lowest, highest, names = _CRON_FIELDS[at]

    def is_value(value: str) -> bool:
        return value in names or (value.isdecimal() and lowest <= int(value) <= highest)

    def is_part(part: str) -> bool:
        if at == 4 and (nth := re.fullmatch(r"(.+)#[1-5]|l([0-7])", part)):
            part = nth[1] or nth[2]
        base, slash, step = part.partition("/")
        if slash and not (step.isdecimal() and int(step)):
            return False
        return base == "*" or all(is_value(value) for value in base.split("-", 1))

    return (text == "?" and at in (2, 4)) or all(is_part(part) for part in text.split(","))


# Every source strips white space and quotes before these see a value.
Text = str | None
Secret = SecretStr | None
Url = Annotated[str, AfterValidator(check_url)]
OptionalUrl = Annotated[str | None, AfterValidator(lambda url: check_url(url) if url else None)]
Cron = Annotated[str, AfterValidator(check_cron)]
Guid = Annotated[Text, AfterValidator(_check_guid)]
TenantId = Annotated[Text, AfterValidator(_check_tenant_id)]
Zone = Annotated[str, AfterValidator(_check_time_zone)]
StartDate = Annotated[date, BeforeValidator(_parse_start_date), AfterValidator(_check_start_date)]


def format_validation_error(
    error: ValidationError, secret_fields: Collection[str], prefix: str, origins: Mapping[str, str]
) -> str:
    """Describes each invalid value with its setting, without ever repeating a secret.

    Args:
        error: from the settings model.
        prefix: of the environment's settings, such as `SERVICETITAN_`.
        origins: where each value came from, by field.
    """
    lines = []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0]).upper().removeprefix(prefix)
        given = str(item["input"])
        secret = field.lower() in secret_fields or "@" in given or CREDENTIAL.search(given)
        value = "" if secret else f" is {item['input']!r}"
        message = item["msg"].removeprefix("Value error, ")
        if secret:
            message = message.replace(repr(given), "the value")
        origin = origins.get(field.lower(), "")
        # The name of the setting alone leads to the sources that everybody has.
        far = origin and not origin.startswith(("environment variable", ".env", "an argument"))
        lines.append(f"{prefix}{field}{f' ({origin})' if far else ''}{value}: {message}")
    return "; ".join(lines)
