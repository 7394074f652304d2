"""A single asset: the least that Dagster can load, for comparison in `definitions.py`."""

import dagster as dg


@dg.asset
def one() -> None:
    """Does nothing."""


production = dg.Definitions(assets=[one])
