"""Stores a sensor's state between ticks: as JSON in Dagster's cursor, which survives restarts."""

from __future__ import annotations

from typing import Any, TypeVar

import dagster as dg
import msgspec

_T = TypeVar("_T", bound=msgspec.Struct)


def read_state(context: dg.SensorEvaluationContext, state_type: type[_T]) -> _T:
    """Returns the state that the last tick wrote.

    Without one, or if another version wrote a cursor that does not decode, the state is new.

    Args:
        state_type: has a default for every field.
    """
    try:
        return msgspec.json.decode(context.cursor or "{}", type=state_type)
    except msgspec.DecodeError:
        context.log.warning("the cursor is of another version and was discarded")
        return state_type()


def write_state(context: dg.SensorEvaluationContext, state: Any) -> None:
    """Stores the state for the next tick."""
    context.update_cursor(msgspec.json.encode(state).decode())
