"""Checks that no table is wrong after a load that succeeds, whatever the API, clocks and files do.

First each fault of the API hits 1, 5 and 20 % of the requests. A load is right if its table equals
the sandbox value by value, failed if it ended with an error that names the request and left no
table, and wrong otherwise. Then the situations of `situations.py` are played, once each. Exits with
1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from situations import SITUATIONS, WRONG, outcome

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.fault_kinds import FAULT_KINDS, TOKEN_PREFIX
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.sync.sync import SyncContext, extract_load
from st_pipelines.windows import Days
from st_pipelines_tests.churn_reader import (
    TIMEZONE,
    build_context,
    build_rows,
    comparable,
    complete_records,
)

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
ALL = Days(first=date(2026, 3, 1), last=date(2026, 3, 10), timezone=TIMEZONE, open_start=True)
TABLES = (
    "crm.customers",
    "jpm.jobs",
    "jpm.job_types",
    "jpm.job_notes",
    "settings.user_roles",
    "accounting.journal_entries",
    "marketing_reputation.reviews",
    "pricebook.materialsmarkup",
)
TOKEN_FAULTS = tuple(f"{TOKEN_PREFIX}{kind}" for kind in ("401", "500", "429", "html", "reset"))
SHARES = (0.01, 0.05, 0.2)
OUTCOMES = ("right", "failed", "wrong")
# The default number of attempts, with short waits.
POLICY = RetryPolicy(backoff=0.01, max_backoff=0.05, max_retry_after_seconds=0.05)
MAX_REASON = 200
PAGE_SIZE, EXPORT_BATCH, TIMEOUT = 12, 10, 0.5


def main() -> int:
    """Plays all faults and situations; returns the exit code."""
    options = _options()
    total = _play_faults(options) if options.faults else Counter[str]()
    situations = _play_situations(options.situation or list(SITUATIONS))
    return 1 if total["wrong"] + situations[WRONG] else 0


def _play_situations(names: Sequence[str]) -> Counter[str]:
    print("\n| situation | outcome |\n|---|---|")
    total: Counter[str] = Counter()
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            ended, message = outcome(name, Path(folder))
        total[ended] += 1
        reason = " ".join(message.split())[:MAX_REASON]
        print(f"| {name} | {ended}{': ' * bool(reason)}{reason} |", flush=True)
    print(f"\n{total.total()} situations: " + ", ".join(f"{n} {o}" for o, n in total.items()))
    return total


def _play_faults(options: argparse.Namespace) -> Counter[str]:
    print("| fault | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |")
    print("|---|" + "---:|" * len(SHARES))
    total: Counter[str] = Counter()
    sandbox = Sandbox(
        customers=40,
        now=NOW,
        seed=options.seed,
        requests_per_second=1e9,
        export_batch=EXPORT_BATCH,
    )
    with sandbox, tempfile.TemporaryDirectory() as folder:
        endpoints = [load_catalog()[table] for table in TABLES]
        wanted = {
            one.table: comparable(build_rows(complete_records(sandbox, one), one.row_fields))
            for one in endpoints
        }
        for kind in options.kind or (*FAULT_KINDS, *TOKEN_FAULTS):
            cells: list[Counter[str]] = []
            for share in SHARES:
                sandbox.set_faults({kind: share})
                files = (Path(folder) / f"{kind}-{share}-{n}.duckdb" for n in range(options.runs))
                cells.append(Counter(_outcomes(sandbox, files, endpoints, wanted)))
                total += cells[-1]
            counts = (" / ".join(str(cell[outcome]) for outcome in OUTCOMES) for cell in cells)
            print(f"| {kind} | " + " | ".join(counts) + " |", flush=True)
    print(f"\n{total.total():,} loads: " + ", ".join(f"{total[o]:,} {o}" for o in OUTCOMES))
    return total


def _outcomes(
    sandbox: Sandbox,
    files: Iterator[Path],
    endpoints: Sequence[Endpoint],
    wanted: dict[str, list[str]],
) -> Iterator[str]:
    """Yields how each load ended: "right", "failed" or "wrong"."""
    for file in files:
        for endpoint in endpoints:
            yield _outcome(_context(sandbox, file), endpoint, file, wanted[endpoint.table])


def _outcome(loading: SyncContext, endpoint: Endpoint, file: Path, wanted: list[str]) -> str:
    try:
        extract_load(loading, endpoint, ALL if endpoint.partitioned else None)
    except ServiceTitanError as error:
        clear = error.url or endpoint.table in str(error)
        return "failed" if clear and _rows(file, endpoint) is None else "wrong"
    finally:
        loading.client.close()
    rows = _rows(file, endpoint)
    return "right" if rows is not None and comparable(rows) == wanted else "wrong"


def _context(sandbox: Sandbox, file: Path) -> SyncContext:
    """A context whose client has no token yet."""
    loading = build_context(sandbox, file, page_size=PAGE_SIZE, timeout=TIMEOUT)
    connection = loading.client.connection
    client = Client(connection, policy=POLICY, tokens=TokenSource(connection))
    return replace(loading, client=client)


def _rows(file: Path, endpoint: Endpoint) -> list[tuple] | None:
    """The rows of a table; None if there is no table."""
    if not file.exists():
        return None
    columns = ", ".join(f'"{field.column}"' for field in endpoint.row_fields)
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            return connection.execute(f"SELECT {columns} FROM {endpoint.table}").fetchall()
        except duckdb.CatalogException:
            return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3, help=f"runs of {len(TABLES)} loads each")
    parser.add_argument("--seed", type=int, default=7, help="decides which requests are hit")
    parser.add_argument("--kind", action="append", help="only this fault; repeatable")
    parser.add_argument("--no-faults", dest="faults", action="store_false")
    parser.add_argument("--situation", action="append", help="only this one; repeatable")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
