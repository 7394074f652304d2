"""Plays random histories of a company that is loaded while it changes, for as long as you like.

    TMPDIR=/dev/shm python benchmarks/soak.py --histories 10000
    python benchmarks/soak.py --minutes 1

After each load that reports success, the table must be what the documents promise of it
(`st_pipelines_tests/promises.py`); after all days were loaded, and again after one reconcile, it
must equal the source, value by value. Prints each history that ends otherwise with its seed, and
exits with 1 if there is one. `--seed N --histories 1` plays one again.

    python benchmarks/soak.py --minutes 1 --drop-half

shows that the soak notices: every load of a window loses half of its rows, and it must exit with 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import random
import sys
import time
import traceback
from collections import Counter
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from st_pipelines.warehouse.columns import count_changes
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines_tests.company_changes import CHANGES, Change
from st_pipelines_tests.property_model import Disturbance, Load, Scenario

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
    "marketing_reputation.reviews",
    "telecom.calls",
    "accounting.journal_entries",
)
CUSTOMERS = (6, 6, 6, 30)
"""With 30, tables have more than 20 rows, so that nothing is deleted without a second look."""

WIDE = 10
"""Every such history has all columns of its table; the others have those that change."""

OFFSETS = (0, 0, 0, 0, -3, 3, -90, 90, -1500, 1500)
"""Minutes by which the loader's clock is off."""


def main() -> int:
    """Plays histories until the time is up, or as many as were asked for."""
    options = _options()
    if options.drop_half:
        drop_half_of_every_window()
    gc.freeze()  # the modules; going through them again and again takes a tenth of the time
    gc.set_threshold(50_000)
    ends, seed = time.monotonic() + options.minutes * 60, options.seed
    histories, outcomes, wrong = Counter[str](), Counter[str](), 0
    started = time.monotonic()
    while time.monotonic() < ends and histories.total() < options.histories:
        table = options.table or TABLES[seed % len(TABLES)]
        problems, ended = play_history(table, seed)
        if problems:
            wrong += 1
            print(f"{table}, --seed {seed}, {len(problems)} wrong: {problems[0]}\n  {ended}")
            if not options.keep_going:
                return 1
        histories[table] += 1
        outcomes.update(ended)
        seed += 1
        if histories.total() % 100 == 0:
            print(_describe(histories.total(), started, wrong), flush=True)
    for table, count in sorted(histories.items()):
        print(f"{table:35}{count:6}")
    print(_describe(histories.total(), started, wrong))
    print(f"loads: {dict(outcomes.most_common())}")
    return 1 if wrong else 0


def _describe(histories: int, started: float, wrong: int) -> str:
    minutes, cpu = (time.monotonic() - started) / 60, time.process_time()
    return f"{histories} histories in {minutes:.1f} min ({cpu:.0f} CPU s), {wrong} wrong"


def drop_half_of_every_window() -> None:
    """Breaks the package in this process: the rows of a window are lost before they are merged."""
    finish = StagedRecords.finish

    def finish_half(self: StagedRecords) -> None:
        finish(self)
        rows = self.rows
        if self.spec.window_end is not None and rows.name == "staged":
            half = f"DELETE FROM {rows.name} WHERE rowid % 2 = 1"
            rows.dropped += count_changes(rows.connection, half)

    StagedRecords.finish = finish_half


def play_history(table: str, seed: int) -> tuple[list[str], list[str]]:
    """Plays one history; returns what is wrong, and how each load ended."""
    rng = random.Random(seed)
    narrow = seed % WIDE != 0
    scenario = Scenario(table, seed=seed, customers=rng.choice(CUSTOMERS), narrow=narrow)
    try:
        play(scenario, rng)
        if not scenario.wrong:
            scenario.load_remaining_days()
        if not scenario.wrong:
            scenario.reconcile()
    except Exception:
        traceback.print_exc()
        return [f"the history crashed after {scenario.outcomes}"], scenario.outcomes
    finally:
        scenario.close()
    return scenario.wrong, scenario.outcomes


def play(scenario: Scenario, rng: random.Random) -> None:
    """Plays 4 to 12 random events, or fewer if something is wrong."""
    for _ in range(rng.randint(4, 12)):
        event = rng.random()
        if event < 0.4:
            for change in _changes(rng, 6):
                scenario.apply(change)
        elif event < 0.97:
            scenario.load(_load(rng, disturbed=True))
        else:
            loads = [_load(rng, disturbed=False) for _ in range(rng.randint(1, 2))]
            scenario.load_in_processes(loads, kill=rng.randint(1, 6))
        if scenario.wrong:
            return


def _load(rng: random.Random, *, disturbed: bool) -> Load:
    """Mostly of yesterday or today, as the schedules do."""
    load = Load(
        first=rng.choice((0, 0, 1, 1, 1, 1, 2, 5, 9)),
        length=rng.choice((0, 0, 0, 1, 2, 12)),
        reconcile=rng.random() < 0.05,
        older_catalog=rng.random() < 0.2,
        offset=timedelta(minutes=rng.choice(OFFSETS)),
        disturbances=_disturbances(rng) if disturbed and rng.random() < 0.5 else (),
    )
    if not disturbed or rng.random() < 0.6:
        return load
    same_days = dataclasses.replace(load, disturbances=())
    second = rng.choice((same_days, _load(rng, disturbed=False)))
    changes = _changes(rng, 3)
    return dataclasses.replace(load, second=second, second_at=rng.randint(2, 5), changes=changes)


def _disturbances(rng: random.Random) -> tuple[Disturbance, ...]:
    return tuple(
        Disturbance(
            changes=_changes(rng, 2) if rng.random() < 0.4 else (),
            fault=rng.randint(0, 9) if rng.random() < 0.05 else None,
            hide=(rng.randint(1, 3), rng.randint(1, 4)) if rng.random() < 0.02 else None,
            jump=timedelta(minutes=rng.choice(OFFSETS) if rng.random() < 0.1 else 0),
        )
        for _ in range(rng.randint(0, 6))
    )


def _changes(rng: random.Random, most: int) -> tuple[Change, ...]:
    return tuple(
        (rng.choice(CHANGES), rng.randint(0, 60), rng.randint(0, 60))
        for _ in range(rng.randint(0, most))
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Play random histories.")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--histories", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1, help="of the first history")
    parser.add_argument("--table", help="only this one")
    parser.add_argument("--drop-half", action="store_true", help="of every window, to be noticed")
    parser.add_argument("--keep-going", action="store_true", help="after a difference")
    options = parser.parse_args()
    if options.minutes == options.histories == float("inf"):
        options.minutes = 10
    return options


if __name__ == "__main__":
    sys.exit(main())
