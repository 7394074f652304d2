"""Plays random histories of a company that is loaded while it changes, for as long as you like.

    python benchmarks/soak.py --minutes 30

Each history ends with one last load, after which the table must equal the source, value by value.
Prints one line per table. Exits with 1 and the history's seed at the first difference.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from st_pipelines_tests.property_model import CHANGES, Change, Disturbance, Scenario

TABLES = (
    "jpm.jobs",
    "crm.customers",
    "crm.locations_contacts",
    "settings.user_roles",
    "marketing_ads.attributed_leads",
    "accounting.invoice_items",
    "memberships.memberships",
    "payroll.gross_pay_items",
    "accounting.ap_bills",
    "jpm.appointments",
)


def main() -> int:
    """Plays histories until the time is up."""
    parser = argparse.ArgumentParser(description="Play random histories.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the first history")
    options = parser.parse_args()
    ends, seed = time.monotonic() + options.minutes * 60, options.seed
    histories, outcomes = Counter[str](), Counter[str]()
    while time.monotonic() < ends:
        table = TABLES[seed % len(TABLES)]
        scenario = Scenario(table, seed=seed)
        try:
            play(scenario, random.Random(seed))
            scenario.catch_up()
            missing, surplus = scenario.differences()
        finally:
            scenario.close()
        if missing or surplus:
            print(
                f"{table}, --seed {seed}: not in the table {missing[:3]}, "
                f"not in the source {surplus[:3]}, after {scenario.outcomes}"
            )
            return 1
        histories[table] += 1
        outcomes.update(scenario.outcomes)
        seed += 1
    for table, count in sorted(histories.items()):
        print(f"{table:35}{count:6}")
    print(f"{sum(histories.values())} histories equal; loads: {dict(outcomes.most_common())}")
    return 0


def play(scenario: Scenario, rng: random.Random) -> None:
    """Plays 4 to 12 random events."""
    for _ in range(rng.randint(4, 12)):
        match rng.choice(("change", "load", "load", "reconcile", "processes")):
            case "change":
                for change in _changes(rng, 6):
                    scenario.apply(change)
            case "load":
                scenario.load(
                    rng.randint(0, 9), rng.randint(0, 12), rng.random() < 0.5, _disturbances(rng)
                )
            case "reconcile":
                scenario.reconcile(_disturbances(rng))
            case _:
                ranges = [(rng.randint(0, 9), rng.randint(0, 12)) for _ in range(rng.randint(1, 3))]
                scenario.load_in_processes(ranges, [*_disturbances(rng), Disturbance(kill=True)])


def _changes(rng: random.Random, most: int) -> tuple[Change, ...]:
    return tuple(
        (rng.choice(CHANGES), rng.randint(0, 60), rng.randint(0, 60))
        for _ in range(rng.randint(0, most))
    )


def _disturbances(rng: random.Random) -> list[Disturbance]:
    return [
        Disturbance(
            changes=_changes(rng, 2), fault=rng.randint(0, 9) if rng.random() < 0.2 else None
        )
        for _ in range(rng.randint(0, 8))
    ]


if __name__ == "__main__":
    sys.exit(main())
