"""What the demo shows when it is done."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from st_pipelines.cli.progress import ApiOutcome, print_outcomes
from st_pipelines.warehouse.store.duckdb_file import Warehouse

FIRST_QUERY = """\
SELECT strftime(j.completed_on, '%Y-%m') AS month, b.name AS business_unit,
       count(DISTINCT j.id) AS jobs, count(DISTINCT c.id) AS customers,
       sum(i.total)::DECIMAL(18,2) AS invoiced
FROM jpm.jobs j
JOIN crm.customers c ON c.id = j.customer_id
JOIN settings.business_units b ON b.id = j.business_unit_id
JOIN accounting.invoices i ON i.id = j.invoice_id
WHERE j.job_status = 'Completed'
GROUP BY ALL ORDER BY month DESC, invoiced DESC LIMIT 5"""


def print_summary(
    console: Console, outcomes: Sequence[ApiOutcome], warehouse: Warehouse, ui_command: str
) -> None:
    """A line an API, what failed, and what to type next."""
    print_outcomes(console, outcomes)
    path = os.path.relpath(warehouse.path)
    opening = f"import duckdb; db = duckdb.connect('{path}', read_only=True)"
    console.print(f"\nOpen {path} in Python, then db.sql('...'):", highlight=False)
    quoted = shlex.quote(opening) if set(path) & set("\"'$`\\!") else f'"{opening}"'
    console.print(f"  python -i -c {quoted}\n", highlight=False, soft_wrap=True)
    console.print("A first query:\n")
    console.print(FIRST_QUERY, highlight=False, soft_wrap=True)
    console.print(_result_of(warehouse, FIRST_QUERY))
    console.print("\nOpen the Dagster UI on it:")
    console.print(f"  {ui_command}", highlight=False, soft_wrap=True)


def _result_of(warehouse: Warehouse, query: str) -> Table | str:
    if not warehouse.path.exists():
        return "(nothing was loaded)"
    with warehouse.reading() as connection:
        try:
            result = connection.execute(query)
        except Exception as error:  # a table is missing because its load failed: say so, go on
            return f"(not possible: {error})"
        names, rows = [column[0] for column in result.description or ()], result.fetchall()
        table = Table()
        for at, name in enumerate(names):
            numbers = all(isinstance(row[at], int | float | Decimal) for row in rows)
            table.add_column(name, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*[str(value) for value in row])
        return table
