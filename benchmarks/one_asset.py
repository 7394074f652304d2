"""The least that Dagster can load, for `definitions.py` to compare with."""

import dagster as dg


@dg.asset
def one() -> None:
    """Does nothing."""


production = dg.Definitions(assets=[one])
