"""The asset checks: generated from the catalogue, judged in the step of the load.

Every check costs Dagster three events (planned, output, evaluation) of 10 to 20 ms, more than most
loads of a day take. So there are two an asset and not eight: `rows`, which judges by several rules
and names each in its metadata, and `schema_drift`. A rule that cannot fail for an endpoint is left
out of its check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from st_pipelines.catalog.model import DataType, Endpoint, StructOf
from st_pipelines.warehouse.columns import table_type

if TYPE_CHECKING:
    from st_pipelines.sync.sync import LoadReport

ROWS = "rows"
SCHEMA_DRIFT = "schema_drift"

DROP_OF_A_TABLE = 0.3
"""A table that is smaller by this share than after the load before has lost something."""

DROP_OF_A_WINDOW = 0.75
"""Days differ, holidays too: only a window that holds so much less than usual is told."""

FEW_ROWS = 20
"""Below so many rows nothing can be said to drop."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule says of a load.

    Attributes:
        text: what was found, for people.
        passed: nothing is wrong.
        error: what is wrong is so for certain; else it is worth a look.
    """

    text: str
    passed: bool = True
    error: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that `rows` looks at.

    Attributes:
        name: in the metadata of the result.
        says: what it demands, for the check's description.
        applies: whether it could fail for an endpoint at all.
        judge: what it says of a load.
    """

    name: str
    says: str
    applies: Callable[[Endpoint], bool]
    judge: Callable[[LoadReport], Verdict]


def check_specs(endpoint: Endpoint, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of an endpoint's asset."""
    says = "; ".join(f"`{rule.name}`: {rule.says}" for rule in rules_of(endpoint))
    return [
        dg.AssetCheckSpec(ROWS, asset=key, description=says),
        dg.AssetCheckSpec(
            SCHEMA_DRIFT,
            asset=key,
            description="Records are as the catalogue says, and no field has stopped coming.",
        ),
    ]


def check_results(report: LoadReport) -> list[dg.AssetCheckResult]:
    """The results for a load, in the order of the specs."""
    return [_rows(report), _schema_drift(report)]


def rules_of(endpoint: Endpoint) -> list[Rule]:
    """The rules that could fail for an endpoint."""
    return [rule for rule in RULES if rule.applies(endpoint)]


def _rows(report: LoadReport) -> dg.AssetCheckResult:
    verdicts = {rule.name: rule.judge(report) for rule in rules_of(report.endpoint)}
    failed = {name: verdict for name, verdict in verdicts.items() if not verdict.passed}
    certain = any(verdict.error for verdict in failed.values())
    told = "; ".join(f"{name}: {verdict.text}" for name, verdict in failed.items())
    return dg.AssetCheckResult(
        check_name=ROWS,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if certain else dg.AssetCheckSeverity.WARN,
        description=told or f"{len(verdicts)} rules kept",
        metadata={name: verdict.text for name, verdict in verdicts.items()},
    )


def _schema_drift(report: LoadReport) -> dg.AssetCheckResult:
    found = drifted(report)
    told = "; ".join(f"{one.path}: {one.what}" for one in found[:5])
    if len(found) > 5:
        told += f"; and {len(found) - 5} more"
    records = [dg.TableRecord(one.as_row()) for one in found]
    return dg.AssetCheckResult(
        check_name=SCHEMA_DRIFT,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=told or "as the catalogue says",
        metadata={"drift": dg.MetadataValue.table(records)} if records else {},
    )


def _key_unique(report: LoadReport) -> Verdict:
    facts = report.loaded.facts
    if facts.duplicate_keys:
        some = f"{facts.duplicate_keys:,} keys have more than one row{_some(facts.examples)}"
        return Verdict(text=some, passed=False, error=True)
    return Verdict(text="no key has more than one row")


def _key_not_null(report: LoadReport) -> Verdict:
    lacking = report.loaded.facts.without_key
    if lacking:
        text = f"{lacking:,} rows lack {' or '.join(report.endpoint.key)}"
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text="every row has its key")


def _in_partition(report: LoadReport) -> Verdict:
    facts = report.loaded.facts
    if facts.misplaced:
        text = (
            f"{facts.misplaced:,} rows are not in the local day of their {report.endpoint.cursor}"
            f"{_some(facts.examples)}; they move when they are loaded again after a change, or"
            " the time zone in the settings was another one before"
        )
        return Verdict(text=text, passed=False, error=True)
    return Verdict(text="every row is in the local day of its cursor")


def _row_count(report: LoadReport) -> Verdict:
    facts, total = report.loaded.facts, report.source_total
    told = f"{report.loaded.rows_read:,} read, {facts.distinct_read:,} distinct"
    told += "" if total is None else f", {total:,} told by ServiceTitan"
    if total is not None and report.loaded.rows_read < total:
        return Verdict(text=f"{told}: some are missing", passed=False, error=True)
    if facts.lost:
        text = f"{told}: {facts.lost:,} of them are not in the table"
        return Verdict(text=text, passed=False, error=True)
    if facts.not_read:
        text = (
            f"{told}: the table has {facts.not_read:,} rows besides, which have been changed or"
            " deleted at ServiceTitan since; a load of the latest days or a reading of everything"
            " settles it"
        )
        return Verdict(text=text, passed=False, error=not report.endpoint.has_key)
    return Verdict(text=f"{told}, all in the table")


def _no_sudden_drop(report: LoadReport) -> Verdict:
    facts, now, read = report.loaded.facts, report.loaded.table_rows, report.loaded.rows_read
    before, usual = facts.rows_before, facts.usual_rows
    if before is not None and before - now >= max(FEW_ROWS, DROP_OF_A_TABLE * before):
        return Verdict(text=f"the table had {before:,} rows and has {now:,}", passed=False)
    if usual is not None and usual - read >= max(FEW_ROWS, DROP_OF_A_WINDOW * usual):
        text = f"{read:,} records read, where such a window has {usual:,.0f}"
        return Verdict(text=text, passed=False)
    return Verdict(text="the table had " + ("no load before" if before is None else f"{before:,}"))


def _some(examples: Sequence[str]) -> str:
    return f" ({', '.join(examples)})" if examples else ""


def _always(_: Endpoint) -> bool:
    return True


RULES = (
    Rule(
        name="key_unique",
        says="no two rows have one key",
        applies=lambda endpoint: endpoint.has_key,
        judge=_key_unique,
    ),
    Rule(
        name="key_not_null",
        says="every row has its key",
        applies=lambda endpoint: endpoint.has_key,
        judge=_key_not_null,
    ),
    Rule(
        name="in_partition",
        says="every row is in the local day of its cursor",
        applies=lambda endpoint: endpoint.cursor is not None,
        judge=_in_partition,
    ),
    Rule(
        name="row_count",
        says="the table holds what was read, and all of it was read",
        applies=_always,
        judge=_row_count,
    ),
    Rule(
        name="no_sudden_drop",
        says="the table, and the window, hold about what they did",
        applies=_always,
        judge=_no_sudden_drop,
    ),
)


_TYPES = {'"': "string", "{": "object", "[": "array", "t": "boolean", "f": "boolean", "n": "null"}


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """A path whose values are not as the catalogue says.

    Attributes:
        path: as served, `items[].sku`, or a column that has stopped coming.
        records: how many records differ there.
        found: the JSON type of the example; "nothing" for a field that has stopped coming.
        expected: the type by the catalogue; "unknown field" where it knows none.
        example: JSON, at most 80 characters.
    """

    path: str
    records: int
    found: str
    expected: str
    example: str = ""

    @property
    def what(self) -> str:
        """In a few words."""
        told = f"{self.found} {self.example}".strip()
        return f"{told} in {self.records:,} records, {self.expected}"

    def as_row(self) -> dict[str, str | int]:
        """For a table."""
        return {
            "path": self.path,
            "records": self.records,
            "found": self.found,
            "expected": self.expected,
            "example": self.example,
        }


def drifted(report: LoadReport) -> list[Drifted]:
    """What differed, the most frequent first; then the fields that have stopped coming."""
    from st_pipelines.warehouse.staging.json_path import find_type

    examples = report.drift.examples
    differing = [
        Drifted(
            path=path,
            records=count,
            found=_TYPES.get(examples.get(path, "")[:1], "number"),
            expected=_expected(find_type(StructOf(report.endpoint.row_fields), path)),
            example=examples.get(path, ""),
        )
        for path, count in report.drift.counts.most_common()
    ]
    return differing + [
        Drifted(
            path=gone.path,
            records=gone.rows,
            found="nothing",
            expected=f"{gone.share:.0%} of the rows had a value before",
        )
        for gone in report.loaded.missing_fields
    ]


def _expected(type_: DataType | None) -> str:
    return "unknown field" if type_ is None else f"expected {table_type(type_)}"
