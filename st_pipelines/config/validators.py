"""What the value of a setting may be, and how a wrong one is told."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import date, datetime, timezone
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationError

from st_pipelines.config.sources.base import CREDENTIAL, SECRET_FIELDS


def https_or_loopback(url: str) -> str:
    """The URL without a trailing slash, or "".

    Raises:
        ValueError: it is no https URL, nor one of this machine, or it carries more than a host.
    """
    if not url:
        return url
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("give the host alone, without user, query or fragment")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL: give it as https://host")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            f"{url!r} is not https; http is accepted for this machine (127.0.0.1) only"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digits(text: str | None) -> str | None:
    if text and not text.isdecimal():
        raise ValueError("it is no tenant id, which is a number without quotes")
    return text


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("it is no IANA time zone: give one such as America/New_York") from None
    return name


def _a_day(value: Any) -> Any:
    """A date as it is written in `.env`; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("write it as YYYY-MM-DD") from None


def _not_in_the_future(day: date) -> date:
    if day > datetime.now(timezone.utc).date():
        raise ValueError(f"{day} is in the future: give the day from which partitions shall exist")
    return day


def _a_cron(text: str) -> str:
    import dagster as dg  # takes seconds, which commands that need no schedule should not pay

    try:
        with warnings.catch_warnings():  # the schedule itself warns of an odd interval
            warnings.simplefilter("ignore")
            dg.ScheduleDefinition(name="validation", job_name="validation", cron_schedule=text)
    except dg.DagsterInvalidDefinitionError:
        raise ValueError("write it as five fields: minute, hour, day, month, weekday") from None
    return text


# What is gathered was cleaned of white space and quotes already.
Text = str | None
Secret = SecretStr | None
Url = Annotated[str, AfterValidator(https_or_loopback)]
Cron = Annotated[str, AfterValidator(_a_cron)]
TenantId = Annotated[Text, AfterValidator(_digits)]
Zone = Annotated[str, AfterValidator(_known_zone)]
StartDate = Annotated[date, BeforeValidator(_a_day), AfterValidator(_not_in_the_future)]


def format_validation_error(error: ValidationError, prefix: str, origins: Mapping[str, str]) -> str:
    """One line a wrong value; the value of a secret is never repeated."""
    lines = []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0]).upper().removeprefix(prefix)
        given = str(item["input"])
        secret = field.lower() in SECRET_FIELDS or "@" in given or CREDENTIAL.search(given)
        value = "" if secret else f" is {item['input']!r}"
        message = item["msg"].removeprefix("Value error, ")
        if secret:
            message = message.replace(repr(given), "the value")
        origin = origins.get(field.lower(), "")
        # The two that everybody has; the name alone leads there.
        far = origin and not origin.startswith(("environment variable", ".env", "an argument"))
        lines.append(f"{prefix}{field}{f' ({origin})' if far else ''}{value}: {message}")
    return "; ".join(lines)
