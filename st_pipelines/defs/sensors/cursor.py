"""What a sensor remembers from tick to tick: JSON in Dagster's cursor, which outlives restarts."""

from __future__ import annotations

from typing import Any, TypeVar

import dagster as dg
import msgspec

_T = TypeVar("_T", bound=msgspec.Struct)


def remembered(context: dg.SensorEvaluationContext, kind: type[_T]) -> _T:
    """What the last tick left, or a fresh one where there is none or it cannot be understood.

    Args:
        context: of the tick.
        kind: has a default for everything.
    """
    try:
        return msgspec.json.decode(context.cursor or "{}", type=kind)
    except msgspec.DecodeError:
        context.log.warning("the cursor of another version was put away")
        return kind()


def remember(context: dg.SensorEvaluationContext, state: Any) -> None:
    """Leaves a state for the next tick."""
    context.update_cursor(msgspec.json.encode(state).decode())
