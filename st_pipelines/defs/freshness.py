"""How old a table may become: one policy for all assets, and what the alerts go by."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

WARN_AFTER = timedelta(hours=30)
FAIL_AFTER = timedelta(hours=54)

FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=WARN_AFTER, fail_window=FAIL_AFTER)
"""Of a daily load: a late one warns, a second missed one fails. It costs no event of a run."""
