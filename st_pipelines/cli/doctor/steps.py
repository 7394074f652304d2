"""The steps of the check, in order, and which of them need which.

A step is a function of the `Subject` that yields findings; what it raises, if it is an error of
ours, is a finding too. Another step is another entry of `STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from st_pipelines.cli.doctor import local, network, permissions
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.config.errors import SettingsError
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.sync.explain import Finding, failed
from st_pipelines.warehouse.errors import WarehouseError

Look: TypeAlias = Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to look at.

    Attributes:
        name: begins its lines.
        look: finds.
        needs: steps without whose success it would only repeat their trouble.
        deep: taken only if the subject asks for it.
    """

    name: str
    look: Look
    needs: tuple[str, ...] = ()
    deep: bool = False


STEPS: tuple[Step, ...] = (
    Step(name="settings", look=local.look_at_settings),
    Step(name="auth host", look=network.reach_auth_host, needs=("settings",)),
    Step(name="api host", look=network.reach_api_host, needs=("settings",)),
    Step(name="clock", look=network.compare_clocks, needs=("auth host",)),
    Step(name="token", look=network.get_token, needs=("auth host",)),
    Step(name="secrets", look=local.look_at_secrets, needs=("token",)),
    Step(name="access", look=permissions.make_a_call, needs=("api host", "token")),
    Step(name="scopes", look=permissions.compare_scopes, needs=("token",)),
    Step(name="endpoints", look=permissions.ask_each, needs=("access",), deep=True),
    Step(name="warehouse", look=local.look_at_warehouse),
    Step(name="history", look=local.look_at_history, needs=("warehouse", "settings")),
    Step(name="time zone", look=local.look_at_time_zone, needs=("settings",)),
    Step(name="definitions", look=local.load_definitions, needs=("settings",)),
)


def check(subject: Subject, steps: Sequence[Step] = STEPS) -> Iterator[Finding]:
    """Take the steps.

    Args:
        subject: what is checked.
        steps: in their order; one that needs a failed one is skipped.

    Yields:
        Findings, each as soon as it is made.
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
        for finding in _findings(step, subject):
            if finding.status == "failed":
                stopped.add(step.name)
            yield finding


def _findings(step: Step, subject: Subject) -> Iterator[Finding]:
    try:
        yield from step.look(subject)
    except (ServiceTitanError, SettingsError, WarehouseError, OSError) as error:
        yield failed(step.name, error)
