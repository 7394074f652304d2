"""Windows are half-open, aware, and written with a Z."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from st_pipelines.servicetitan.reading.page_source import format_timestamp
from st_pipelines.windows import Window
from st_pipelines_tests.servicetitan.read_results import ENDED


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 2, 5, tzinfo=timezone.utc), "2026-01-02T05:00:00Z"),
        (datetime(2026, 1, 2, 5, 0, 0, 1200, tzinfo=timezone.utc), "2026-01-02T05:00:00.001200Z"),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5))), "2026-01-02T05:00:00Z"),
    ],
)
def test_a_time_is_written_in_utc_with_a_z(moment, text):
    assert format_timestamp(moment) == text


def test_a_naive_time_is_refused():
    with pytest.raises(ValueError, match="aware"):
        Window(start=None, end=datetime(2026, 1, 2))


def test_a_window_cannot_end_before_it_starts():
    with pytest.raises(ValueError, match="before it starts"):
        Window(start=ENDED.end, end=ENDED.end - timedelta(seconds=1))
