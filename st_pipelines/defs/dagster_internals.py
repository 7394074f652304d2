"""Collects what the project takes from Dagster's private modules.

An upgrade of Dagster has this file and `event_storage` to check: nothing else in the package
imports `dagster._core` or `dagster._utils`. Each entry names the public API that is missing.
"""

from collections.abc import Collection, Mapping

import dagster as dg

# The type that `dg.define_asset_job` returns; only the function is public.
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as UnresolvedAssetJobDefinition,
)

# Tells an interrupted run from a failed one; events are public, the reason's type is not.
from dagster._core.events import RunFailureReason as RunFailureReason

# `dg.DagsterInstance` has no public method that lists the backfills in progress.
from dagster._core.execution.backfill import (
    BulkActionsFilter as BulkActionsFilter,
)
from dagster._core.execution.backfill import (
    BulkActionStatus as BulkActionStatus,
)

# The ticks of schedules and sensors, which `alerts` watches, have no public API.
from dagster._core.scheduler.instigation import (
    InstigatorState as InstigatorState,
)
from dagster._core.scheduler.instigation import (
    InstigatorType as InstigatorType,
)
from dagster._core.scheduler.instigation import (
    TickStatus as TickStatus,
)

# Whether a schedule may have a cron expression, before it is defined.
from dagster._utils.schedules import is_valid_cron_string as is_valid_cron_string

# When a cron expression is due in a time zone, as the daemon computes it, changes of the clock
# included; nothing public iterates over the times of a schedule.
from dagster._utils.schedules import (
    schedule_execution_time_iterator as schedule_execution_time_iterator,
)


def read_cursor_values(instance: dg.DagsterInstance, keys: Collection[str]) -> dict[str, str]:
    """Returns the values of those keys that have one.

    The storage is the one in which Dagster's daemons keep their cursors; nothing public lets a run
    and a sensor share a value.
    """
    return dict(instance.daemon_cursor_storage.get_cursor_values(set(keys)))


def write_cursor_values(instance: dg.DagsterInstance, values: Mapping[str, str]) -> None:
    """Stores a value for each key, for all processes that use the instance."""
    instance.daemon_cursor_storage.set_cursor_values(values)


SQLITE_STORAGE_MODULES = (
    "dagster._core.storage.event_log.sqlite.sqlite_event_log",
    "dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log",
    "dagster._core.storage.runs.sqlite.sqlite_run_storage",
    "dagster._core.storage.schedules.sqlite.sqlite_schedule_storage",
)
"""Create the SQLite engines that `cli.dagster_sqlite` shares; Dagster has no setting for this."""
