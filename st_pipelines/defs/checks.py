"""Builds the asset checks `rows` and `schema_drift`, and evaluates them in the step of the load.

Every check costs three events in Dagster (planned, output, evaluation) of 10 to 20 ms, more than
most loads of one day take. Therefore an asset has two checks instead of eight: `rows` evaluates all
of `RULES` that can fail for the endpoint and names each in its metadata. The figures come from the
load's transaction (`warehouse.tables.load_facts`); nothing here queries the warehouse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from st_pipelines.catalog.model import Endpoint
from st_pipelines.defs.drift import find_drift
from st_pipelines.defs.privacy import display_key, make_inert
from st_pipelines.warehouse.errors import TooManyDeletions
from st_pipelines.warehouse.load_spec import MAX_DELETED_ROWS, MAX_DELETED_SHARE
from st_pipelines.windows import describe_days

if TYPE_CHECKING:
    from st_pipelines.sync.context import LoadReport

ROWS = "rows"
SCHEMA_DRIFT = "schema_drift"

MAX_TABLE_DROP = 0.3
"""Share of its rows that a table may lose between two loads."""

MAX_WINDOW_DROP = 0.75
"""Share of its usual records that a window may lack. It is large because weekdays and holidays
differ."""

MIN_DROP_ROWS = 20
"""A loss of fewer rows is not a drop."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a rule for one load.

    Attributes:
        text: what the rule found, for people.
        error: a failure is certain to be an error. Otherwise it is a warning.
    """

    text: str
    passed: bool = True
    error: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One requirement of the check `rows`.

    Attributes:
        name: its key in the metadata of the result.
        requirement: for the check's description.
        applies: whether the rule can fail for an endpoint.
    """

    name: str
    requirement: str
    applies: Callable[[Endpoint], bool]
    judge: Callable[[LoadReport], Verdict]


def check_specs(endpoint: Endpoint, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Returns the checks of an endpoint's asset."""
    requirements = [f"`{rule.name}`: {rule.requirement}" for rule in rules_of(endpoint)]
    return [
        dg.AssetCheckSpec(ROWS, asset=key, description="; ".join(requirements)),
        dg.AssetCheckSpec(
            SCHEMA_DRIFT,
            asset=key,
            description="Records match the catalog, and no field has stopped coming.",
        ),
    ]


def check_results(
    report: LoadReport, *, full_previews: bool = False, reconciled: bool = False
) -> list[dg.AssetCheckResult]:
    """Returns the results for a load, in the order of the specs.

    Args:
        full_previews: also shows values that may be customers' data; see `privacy`.
        reconciled: it has read the whole table to find deletions.
    """
    return [_rows(report, reconciled), _schema_drift(report, full_previews)]


def refused_deletions(error: TooManyDeletions) -> dg.AssetCheckResult:
    """Returns the result of `rows` for a load that was refused."""
    return dg.AssetCheckResult(
        check_name=ROWS,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"no_sudden_drop: {error}",
        metadata={"no_sudden_drop": str(error)},
    )


def rules_of(endpoint: Endpoint) -> list[Rule]:
    """Returns the rules that can fail for an endpoint."""
    return [rule for rule in RULES if rule.applies(endpoint)]


def _rows(report: LoadReport, reconciled: bool) -> dg.AssetCheckResult:
    verdicts = {rule.name: rule.judge(report) for rule in rules_of(report.endpoint)}
    if reconciled:
        verdicts["no_sudden_drop"] = _no_drop_by_reconcile(report)
    failed = {name: verdict for name, verdict in verdicts.items() if not verdict.passed}
    certain = any(verdict.error for verdict in failed.values())
    text = "; ".join(f"{name}: {verdict.text}" for name, verdict in failed.items())
    return dg.AssetCheckResult(
        check_name=ROWS,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if certain else dg.AssetCheckSeverity.WARN,
        description=text or f"all {len(verdicts)} rules passed",
        metadata={name: verdict.text for name, verdict in verdicts.items()},
    )


def _schema_drift(report: LoadReport, full: bool) -> dg.AssetCheckResult:
    drifts = find_drift(report, full_previews=full)
    lines = [make_inert(line) for line in report.column_changes]
    lines += [f"{drift.path}: {drift.summary}" for drift in drifts]
    text = "; ".join(lines[:5])
    if len(lines) > 5:
        text += f"; and {len(lines) - 5} more"
    records = [dg.TableRecord(drift.as_row()) for drift in drifts]
    return dg.AssetCheckResult(
        check_name=SCHEMA_DRIFT,
        passed=not lines,
        severity=dg.AssetCheckSeverity.WARN,
        description=text or "records match the catalog",
        metadata={"drift": dg.MetadataValue.table(records)} if records else {},
    )


def _key_unique(report: LoadReport) -> Verdict:
    facts = report.loaded.facts
    if facts.duplicate_keys:
        text = f"{facts.duplicate_keys:,} keys have more than one row{_examples(facts.examples)}"
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text="no key has more than one row")


def _key_not_null(report: LoadReport) -> Verdict:
    without_key = report.loaded.facts.without_key
    if without_key:
        text = f"{without_key:,} rows lack {' or '.join(report.endpoint.key)}"
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text="every row has its key")


def _in_partition(report: LoadReport) -> Verdict:
    facts = report.loaded.facts
    if facts.misplaced:
        text = (
            f"{facts.misplaced:,} rows are not in the local day of their {report.endpoint.cursor}"
            f"{_examples(facts.examples)}; they move when they are loaded again after a change, or"
            " the setting timezone was different before"
        )
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text="every row is in the local day of its cursor")


def _in_window(report: LoadReport) -> Verdict:
    outside, bounds = report.loaded.facts.outside, report.endpoint.date_filter
    if outside and bounds:
        text = (
            f"{outside:,} of {report.loaded.rows_read:,} records are from outside the window that"
            f" was requested: ServiceTitan seems to ignore {bounds.lower} and {bounds.upper}. They"
            " are loaded into their own days; each load of this table reads more than it has to"
        )
        return Verdict(text=text, passed=False)
    return Verdict(text="every record is from the window that was requested")


def _row_count(report: LoadReport) -> Verdict:
    facts, total = report.loaded.facts, report.source_total
    text = f"{report.loaded.rows_read:,} read, {facts.distinct_read:,} distinct"
    text += "" if total is None else f", {total:,} reported by ServiceTitan"
    if total is not None and report.loaded.rows_read < total:
        return Verdict(text=f"{text}: some are missing", passed=False, error=True)
    if facts.lost:
        text = f"{text}: {facts.lost:,} of them are not in the table"
        return Verdict(text=text, passed=False, error=True)
    if facts.not_read:
        text = (
            f"{text}: the table has {facts.not_read:,} more rows, which were changed or deleted at"
            " ServiceTitan since; a load of the latest days or the job reconcile corrects them"
        )
        return Verdict(text=text, passed=False, error=not report.endpoint.has_key)
    return Verdict(text=f"{text}, all in the table")


def _no_sudden_drop(report: LoadReport) -> Verdict:
    facts, now, read = report.loaded.facts, report.loaded.table_rows, report.loaded.rows_read
    before, usual = facts.rows_before, facts.usual_rows
    if before is not None and before - now >= max(MIN_DROP_ROWS, MAX_TABLE_DROP * before):
        return Verdict(text=f"the table had {before:,} rows and has {now:,}", passed=False)
    if usual is not None and usual - read >= max(MIN_DROP_ROWS, MAX_WINDOW_DROP * usual):
        text = f"{read:,} records read, where such a window usually has {usual:,.0f}"
        return Verdict(text=text, passed=False)
    return Verdict(text="the table had " + ("no load before" if before is None else f"{before:,}"))


def _no_drop_by_reconcile(report: LoadReport) -> Verdict:
    """What was deleted, not what is new, is compared: new rows would hide a drop."""
    deleted, now = report.loaded.counts.deleted, report.loaded.table_rows
    text = f"{deleted:,} of {now + deleted:,} rows were marked as deleted"
    if deleted > MAX_DELETED_ROWS and deleted > MAX_DELETED_SHARE * (now + deleted):
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text=text)


def _in_warehouse(report: LoadReport) -> Verdict:
    if report.lost_days:
        text = (
            f"{describe_days(report.lost_days)} that Dagster shows as loaded are not in the"
            " warehouse: it was lost, restored from a backup, or is another one. The sensor gaps"
            " loads them again, and so does st-pipelines load"
        )
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text="no earlier day is known to be missing")


def _examples(examples: Sequence[str]) -> str:
    shown = [display_key(example) for example in examples]
    return f" ({', '.join(shown)})" if shown else ""


RULES = (
    Rule(
        name="key_unique",
        requirement="no two rows have the same key",
        applies=lambda endpoint: endpoint.has_key,
        judge=_key_unique,
    ),
    Rule(
        name="key_not_null",
        requirement="every row has its key",
        applies=lambda endpoint: endpoint.has_key,
        judge=_key_not_null,
    ),
    Rule(
        name="in_partition",
        requirement="every row is in the local day of its cursor",
        applies=lambda endpoint: endpoint.cursor is not None,
        judge=_in_partition,
    ),
    Rule(
        name="in_window",
        requirement="the list serves the window that was requested",
        applies=lambda endpoint: endpoint.date_filter is not None and endpoint.cursor is not None,
        judge=_in_window,
    ),
    Rule(
        name="row_count",
        requirement="the table holds what was read, and all of it was read",
        applies=lambda _: True,
        judge=_row_count,
    ),
    Rule(
        name="no_sudden_drop",
        requirement="the table and the window hold about as much as before",
        applies=lambda _: True,
        judge=_no_sudden_drop,
    ),
    Rule(
        name="in_warehouse",
        requirement="the warehouse holds the days that Dagster shows as loaded",
        applies=lambda endpoint: endpoint.partitioned,
        judge=_in_warehouse,
    ),
)
