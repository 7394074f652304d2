"""Turns errors of this package into failures that Dagster shows, and decides whether to retry.

The text is the one that `st-pipelines check` prints: both take it from `sync.explain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from st_pipelines.config.errors import SettingsError
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.sync.explain import Diagnosis, diagnose
from st_pipelines.warehouse.errors import MalformedRecords, WarehouseError

RETRIES = 2
FIRST_DELAY = 30.0
"""Seconds before the first retry of a step; the next waits twice as long."""


@contextmanager
def as_dagster_failure(retry_number: int) -> Iterator[None]:
    """Turns known errors into a `dagster.Failure`; all others propagate unchanged.

    Transient errors request a retry from Dagster here, because a `RetryPolicy` on the asset would
    also retry interrupted steps, so that a terminated run would not end. The failure has no cause,
    because a chain of exceptions may hold values that must not be shown.

    Args:
        retry_number: of the step, 0 for the first try.

    Raises:
        dagster.RetryRequested: a transient error, and retries are left.
        dagster.Failure: with the message as description and its parts as metadata.
    """
    try:
        yield
    except (ServiceTitanError, SettingsError, WarehouseError, MalformedRecords) as error:
        failure = _failure(error, diagnose(error))
    except OSError as error:
        if error.strerror is None:
            raise
        failure = dg.Failure(f"{diagnose(error).text}: nothing was loaded")
    else:
        return
    if failure.allow_retries and retry_number < RETRIES:
        delay = FIRST_DELAY * 2**retry_number
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=delay) from failure
    raise failure from None


def _failure(error: Exception, diagnosis: Diagnosis) -> dg.Failure:
    """Returns the failure, with the parts of the diagnosis as metadata."""
    facts = {
        "error": type(error).__name__,
        "finding": diagnosis.code,
        "status": getattr(error, "status", None),
        "url": getattr(error, "url", None),
        "trace_id": getattr(error, "trace_id", None),
        "hint": diagnosis.hint,
    }
    return dg.Failure(
        description=diagnosis.line,
        metadata={name: str(value) for name, value in facts.items() if value},
        allow_retries=not getattr(error, "permanent", False),
    )
