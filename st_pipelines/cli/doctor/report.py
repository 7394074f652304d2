"""The findings of a check, for people a line each and for programs as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from st_pipelines.cli.doctor.settings_report import Shown
from st_pipelines.sync.explain import Finding, Status

_SIGNS: dict[Status, str] = {"ok": "✅", "warning": "⚠ ", "failed": "❌", "skipped": "➖"}


def line_of(finding: Finding) -> str:
    """Sign, step, what is so and what to do."""
    hint = f". {finding.hint}" if finding.hint else ""
    text = finding.text.removeprefix(f"{finding.step} ")
    return f"{_SIGNS[finding.status]} {finding.step}: {text}{hint}"


def all_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed or had to be skipped."""
    return not any(finding.status in ("failed", "skipped") for finding in findings)


def as_json(environment: str, findings: Sequence[Finding], shown: Shown | None = None) -> str:
    """An object with the environment, whether all is well, the findings, and the settings."""
    told = [dataclasses.asdict(finding) for finding in findings]
    settings = {"settings": [dataclasses.asdict(one) for one in shown.settings]} if shown else {}
    return json.dumps(
        {"environment": environment, "well": all_well(findings), "findings": told} | settings,
        indent=1,
        ensure_ascii=False,
    )


def as_table(shown: Shown) -> Table:
    """Each setting with its value, masked where it is a secret, and its source."""
    table = Table("setting", "value", "source")
    table.columns[0].no_wrap = True
    for one in shown.settings:
        table.add_row(escape(one.name), escape(one.value), escape(one.source))
    return table


def summary(environment: str, findings: Sequence[Finding]) -> str:
    """The last line."""
    number = sum(finding.status == "failed" for finding in findings)
    if number:
        return f"{environment}: {number} to mend; docs/setup.md explains each"
    if not all_well(findings):
        return f"{environment}: not all steps could be taken"
    warnings = sum(finding.status == "warning" for finding in findings)
    return f"{environment}: all is well" + (f", {warnings} to look at" if warnings else "")
