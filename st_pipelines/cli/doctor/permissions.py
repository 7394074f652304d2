"""Steps that ask for data: app key and tenant by one call, the scopes of the selection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from st_pipelines.catalog.model import Endpoint
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.cli.scopes import allows_writing, required_scopes, surplus_scopes
from st_pipelines.servicetitan.errors.errors import PermissionDenied, ServiceTitanError, WrongPath
from st_pipelines.servicetitan.errors.problems import ACCEPT, build_problem
from st_pipelines.servicetitan.http.messages import Usage
from st_pipelines.servicetitan.reading.probes import probe_access
from st_pipelines.sync.explain import Finding, failed

TRIES = 3
"""Endpoints that are asked before their refusals are taken for the refusal of all."""
_OF_ONE_SCOPE = {"scope-missing", "scope-doubtful", "scope-unknown"}
_AT_ONCE = 4
_SHOWN = 8


def make_a_call(subject: Subject) -> Iterator[Finding]:
    """App key and tenant, by the first endpoint that lets itself be read."""
    tenant = subject.connection.tenant_id
    refusals: list[ServiceTitanError] = []
    for endpoint in _askable(subject)[:TRIES]:
        try:
            probe_access(subject.client.session(Usage()), endpoint)
        except (PermissionDenied, WrongPath) as error:
            refusals.append(error)
        else:
            text = f"tenant {tenant} and the app key are accepted ({endpoint.table} can be read)"
            yield Finding(step="access", status="ok", text=text)
            return
    yield failed("access", _refused_everywhere(subject, refusals))


def _askable(subject: Subject) -> list[Endpoint]:
    """Where a call should succeed: what the token has a scope for, of the selection first."""
    everything = [*subject.endpoints, *subject.config.catalog]
    everything.sort(key=lambda endpoint: endpoint.by_day)  # an aggregate costs more than a record
    scopes = subject.claims.scopes if subject.claims else None
    fitting = [e for e in everything if scopes is None or e.scope in scopes] or everything
    first_of: dict[str, Endpoint] = {}
    for endpoint in fitting:
        first_of.setdefault(endpoint.scope, endpoint)
    return list(first_of.values())


def _refused_everywhere(
    subject: Subject, refusals: Sequence[ServiceTitanError]
) -> ServiceTitanError:
    """What the refusals of several endpoints have in common: one alone stays what it is."""
    first, scopes = refusals[0], subject.claims.scopes if subject.claims else None
    codes = {error.problem.code if error.problem else "" for error in refusals}
    other_scopes = codes == {"scope-missing"} and scopes
    if len(refusals) > 1 and codes <= _OF_ONE_SCOPE and not other_scopes:
        first.problem = build_problem("app-not-connected")
    return first


def compare_scopes(subject: Subject) -> Iterator[Finding]:
    """The scopes of the selection, by what the token says."""
    granted = subject.claims.scopes if subject.claims else None
    if granted is None:
        yield Finding(
            step="scopes", status="warning", code="scopes-unknown",
            text="unknown, for the token does not tell them",
            hint="The step 'endpoints' does." if subject.deep else "--deep asks each endpoint.",
        )  # fmt: skip
        return
    wanted = required_scopes(subject.endpoints)
    missing = [scope for scope in wanted if scope not in granted]
    if missing:
        yield Finding(
            step="scopes", status="failed", code="scopes-missing", items=tuple(missing),
            text=f"the token lacks {len(missing)} of the {len(wanted)} scopes of the selection: "
            + _listed(missing),
            hint="Tick them in the app (developer portal); the new version of the app acts when "
            f"{ACCEPT}. Or name what you load with --select.",
        )  # fmt: skip
    else:
        number = len(wanted)
        text = f"the token has all {number} of the selection" if number > 1 else "the token has it"
        yield Finding(step="scopes", status="ok", text=text)
    if surplus := [scope for scope in surplus_scopes(granted, wanted) if allows_writing(scope)]:
        yield Finding(
            step="scopes", status="warning", code="scopes-that-write", items=tuple(surplus),
            text=f"the token may also change data: {_listed(surplus)}",
            hint="Nothing here writes to ServiceTitan: untick them in the app.",
        )  # fmt: skip


def ask_each(subject: Subject) -> Iterator[Finding]:
    """One request to each endpoint of the selection, but for known refusals."""
    scopes = subject.claims.scopes if subject.claims else None
    asked = [e for e in subject.endpoints if scopes is None or e.scope in scopes]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda endpoint: _answer(subject, endpoint), asked))
    wrong = [(e, error) for e, error in zip(asked, answers, strict=True) if error is not None]
    denied = [e for e, error in wrong if isinstance(error, PermissionDenied)]
    if len(denied) > 1:
        yield _all_denied(denied, len(asked))
    for _, error in wrong:
        if len(denied) < 2 or not isinstance(error, PermissionDenied):
            yield failed("endpoints", error)
    if not wrong:
        yield Finding(step="endpoints", status="ok", text=f"each of {len(asked)} can be read")


def _all_denied(denied: Sequence[Endpoint], number: int) -> Finding:
    scopes = required_scopes(denied)
    return Finding(
        step="endpoints", status="failed", code="scopes-denied", items=tuple(scopes),
        text=f"{len(denied)} of {number} are refused; their scopes are {_listed(scopes)}",
        hint="Tick them in the app (developer portal) if they are not; the app's current version "
        f"acts when {ACCEPT}. What the tenant does not have in ServiceTitan may be refused too.",
    )  # fmt: skip


def _answer(subject: Subject, endpoint: Endpoint) -> ServiceTitanError | None:
    try:
        probe_access(subject.client.session(Usage()), endpoint)
    except ServiceTitanError as error:
        return error
    return None


def _listed(scopes: Sequence[str]) -> str:
    rest = len(scopes) - _SHOWN
    return ", ".join(scopes[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
