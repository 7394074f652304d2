"""Lists the steps of the check in order, and runs them.

A step is a function of the `Subject` that yields findings. An error of ours that it raises becomes
a finding too. A new step is a new entry of `STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from st_pipelines.cli.doctor import loaded, local, network, permissions
from st_pipelines.cli.doctor.stored_files import check_file_storage
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.config.errors import SettingsError
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.sync.explain import Finding, failed
from st_pipelines.warehouse.errors import WarehouseError

CheckFunction: TypeAlias = Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the check.

    Attributes:
        name: printed in front of its findings.
        check: yields the findings.
        needs: steps that must succeed first, because this one would only repeat their failure.
        deep: runs only if the subject is `deep`.
    """

    name: str
    check: CheckFunction
    needs: tuple[str, ...] = ()
    deep: bool = False


STEPS: tuple[Step, ...] = (
    Step(name="settings", check=local.check_settings),
    Step(name="auth host", check=network.check_auth_host, needs=("settings",)),
    Step(name="api host", check=network.check_api_host, needs=("settings",)),
    Step(name="clock", check=network.check_clock, needs=("auth host",)),
    Step(name="token", check=network.check_token, needs=("auth host",)),
    Step(name="secrets", check=local.check_secrets, needs=("token",)),
    Step(name="access", check=permissions.check_access, needs=("api host", "token")),
    Step(name="scopes", check=permissions.check_scopes, needs=("token",)),
    Step(name="endpoints", check=permissions.check_endpoints, needs=("access",), deep=True),
    Step(name="warehouse", check=local.check_warehouse),
    Step(name="files", check=local.check_files),
    Step(name="file storage", check=check_file_storage, needs=("settings",)),
    Step(name="history", check=loaded.check_history, needs=("warehouse", "settings")),
    Step(name="time zone", check=loaded.check_time_zone, needs=("settings",)),
    Step(name="definitions", check=local.check_definitions, needs=("settings",)),
)


def check(subject: Subject, steps: Sequence[Step] = STEPS) -> Iterator[Finding]:
    """Runs the steps in order. Skips those that need a step that failed or was skipped.

    Yields:
        Each finding as soon as it is made.
    """
    stopped: set[str] = set()
    for step in steps:
        if step.deep and not subject.deep:
            continue
        if blocking := [name for name in step.needs if name in stopped]:
            stopped.add(step.name)
            needed = " and ".join(blocking)
            yield Finding(step=step.name, status="skipped", text=f"skipped: it needs {needed}")
            continue
        for finding in _run_step(step, subject):
            if finding.status == "failed":
                stopped.add(step.name)
            yield finding


def _run_step(step: Step, subject: Subject) -> Iterator[Finding]:
    try:
        yield from step.check(subject)
    except (ServiceTitanError, SettingsError, WarehouseError, OSError) as error:
        yield failed(step.name, error)
