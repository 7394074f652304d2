"""The one place where an error of ours becomes a failure that Dagster shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from st_pipelines.servicetitan.errors import ServiceTitanError
from st_pipelines.settings import SettingsError
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines.warehouse.staging import MalformedRecords


@contextmanager
def explained() -> Iterator[None]:
    """Turns what is understood into a `dagster.Failure`; the rest passes as it is.

    What running again would not change is not retried. The failure has no cause attached, as a
    chain of exceptions may carry what must not be shown.

    Raises:
        dagster.Failure: with the message as description and its parts as metadata.
    """
    try:
        yield
    except (ServiceTitanError, SettingsError, WarehouseError) as error:
        raise _failure(error, permanent=error.permanent) from None
    except MalformedRecords as error:
        raise _failure(error, permanent=False) from None
    except OSError as error:
        if error.errno is None or error.strerror is None:
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise dg.Failure(f"{error.strerror}{where}: nothing was loaded", allow_retries=True) from None


def _failure(error: Exception, *, permanent: bool) -> dg.Failure:
    facts = {
        "error": type(error).__name__,
        "status": getattr(error, "status", None),
        "url": getattr(error, "url", None),
        "trace_id": getattr(error, "trace_id", None),
        "hint": getattr(error, "hint", None),
    }
    return dg.Failure(
        description=str(error),
        metadata={name: str(value) for name, value in facts.items() if value},
        allow_retries=not permanent,
    )
