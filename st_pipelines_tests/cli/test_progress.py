"""The table of outcomes that `load` and `demo` print."""

from __future__ import annotations

import io

from rich.console import Console

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.progress import ApiOutcome, print_outcomes


def test_the_names_of_apis_are_printed_in_full_in_80_columns() -> None:
    outcomes = [
        ApiOutcome(
            api=api, endpoints=24, rows=12_345_678, requests=9999, seconds=1234.5, failures={}
        )
        for api in load_catalog().apis
    ]
    printed = io.StringIO()
    print_outcomes(Console(file=printed, width=80), outcomes)
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if line.split()} > set(load_catalog().apis)
