"""Turns errors of this package into failures that Dagster shows, and decides whether to retry.

The text is the one that `st-pipelines check` prints: both take it from `sync.explain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

import dagster as dg

from st_pipelines.config.errors import SettingsError
from st_pipelines.defs.privacy import SETTING, make_inert
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.sync.explain import Diagnosis, diagnose
from st_pipelines.warehouse.errors import MalformedRecords, WarehouseError

RETRIES = 2
FIRST_DELAY = 30.0
"""Seconds before the first retry of a step; the next waits twice as long."""


_DAGSTER_ERRORS = (dg.Failure, dg.RetryRequested, dg.DagsterError)
_QUOTE_NO_VALUES = (
    AttributeError,
    ImportError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
)
"""Unexpected errors whose messages name code alone."""


@dataclass
class StepErrors:
    """How the errors of a step are shown.

    Attributes:
        full_previews: the message of an unexpected error is shown although it may quote records.
    """

    full_previews: bool = False


@contextmanager
def as_dagster_failure(retry_number: int) -> Iterator[StepErrors]:
    """Turns errors into a `dagster.Failure`; Dagster's own propagate unchanged.

    Of an unexpected error, such as one of DuckDB, the type and the place are shown: its message may
    quote a record, and Dagster stores it for good. The failure has no cause, because a chain of
    exceptions may hold values that must not be shown. Transient errors request a retry from
    Dagster here, because a `RetryPolicy` on the asset would also retry interrupted steps, so that a
    terminated run would not end.

    Args:
        retry_number: of the step, 0 for the first try.

    Raises:
        dagster.RetryRequested: a transient error, and retries are left.
        dagster.Failure: with the message as description and its parts as metadata.
    """
    errors = StepErrors()
    try:
        yield errors
    except (ServiceTitanError, SettingsError, WarehouseError, MalformedRecords) as error:
        failure = _failure(error, diagnose(error))
    except _DAGSTER_ERRORS:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            failure = dg.Failure(f"{diagnose(error).text}: nothing was loaded")
        else:
            text = describe_unexpected(error, full_previews=errors.full_previews)
            failure = dg.Failure(text, allow_retries=False)
            raise failure.with_traceback(error.__traceback__) from None
    else:
        return
    if failure.allow_retries and retry_number < RETRIES:
        delay = FIRST_DELAY * 2**retry_number
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=delay) from failure
    raise failure from None


def describe_unexpected(error: Exception, *, full_previews: bool = False) -> str:
    """Returns type and place of an error of others, and its message if that quotes no record."""
    frames = extract_tb(error.__traceback__)
    own = [frame for frame in frames if "st_pipelines" in Path(frame.filename).parts] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}, {own[-1].name}" if own else "nowhere"
    text = f"unexpected {type(error).__name__} at {place}"
    if full_previews or isinstance(error, _QUOTE_NO_VALUES):
        return f"{text}: {error}"
    return (
        f"{text}. Its message is not kept, as it may quote customers' data: {SETTING}=true shows"
        " it, and so does st-pipelines load in a terminal"
    )


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
        description=make_inert(diagnosis.line),  # the words of ServiceTitan are in it
        metadata={name: str(value) for name, value in facts.items() if value},
        allow_retries=not getattr(error, "permanent", False),
    )
