"""Runs a check in this process."""

from __future__ import annotations

from collections.abc import Iterable

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli.doctor import steps
from st_pipelines.cli.doctor.report import as_line
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.explain import Finding

SELECTION = ("crm.customers", "jpm.jobs", "settings.user_roles")
CUSTOMERS = "/crm/v2/tenant/{tenant}/customers"
ACCEPTS = (
    "the tenant's admin accepts it in ServiceTitan under Settings > Integrations > "
    "API Application Access"
)
QUICK_STEPS = tuple(step for step in steps.STEPS if step.name != "definitions")


def run_check(
    *,
    environment: EnvironmentName = "production",
    selection: Iterable[str] = SELECTION,
    deep: bool = False,
) -> list[Finding]:
    """Returns all findings except those of the step `definitions`, which is slow."""
    endpoints = select(load_catalog(), selection)
    subject = Subject(environment=environment, endpoints=endpoints, deep=deep, policy=NO_WAIT)
    findings = list(steps.check(subject, QUICK_STEPS))
    subject.close()
    return findings


def problem_lines(
    *,
    environment: EnvironmentName = "production",
    selection: Iterable[str] = SELECTION,
    deep: bool = False,
) -> list[str]:
    """Returns the lines of failures and warnings."""
    findings = run_check(environment=environment, selection=selection, deep=deep)
    return [as_line(f) for f in findings if f.status in ("failed", "warning")]
