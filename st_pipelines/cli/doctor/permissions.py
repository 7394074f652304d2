"""Steps that check permissions: app key and tenant, and the scopes of the selection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from st_pipelines.catalog.model import Endpoint
from st_pipelines.cli.console import counted
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.cli.scopes import allows_writing, required_scopes, surplus_scopes
from st_pipelines.servicetitan.errors.errors import PermissionDenied, ServiceTitanError, WrongPath
from st_pipelines.servicetitan.errors.problems import ACCEPT, build_problem
from st_pipelines.servicetitan.http.model import Usage
from st_pipelines.servicetitan.reading.probes import probe_access
from st_pipelines.sync.explain import Finding, failed

MAX_TRIES = 3
"""Endpoints to try before their refusals count as a refusal of all endpoints."""
_SCOPE_PROBLEMS = {"scope-missing", "scope-doubtful", "scope-unknown"}
_CONCURRENCY = 4
_MAX_NAMED = 8


def check_access(subject: Subject) -> Iterator[Finding]:
    """Checks app key and tenant with the first endpoint that can be read."""
    tenant = subject.connection.tenant_id
    refusals: list[ServiceTitanError] = []
    for endpoint in _endpoints_to_try(subject)[:MAX_TRIES]:
        try:
            probe_access(subject.client.session(Usage()), endpoint)
        except (PermissionDenied, WrongPath) as error:
            refusals.append(error)
        else:
            text = f"tenant {tenant} and the app key are accepted ({endpoint.table} can be read)"
            yield Finding(step="access", status="ok", text=text)
            return
    yield failed("access", _combine_refusals(subject, refusals))


def _endpoints_to_try(subject: Subject) -> list[Endpoint]:
    """Returns an endpoint per scope that the token has, those of the selection first."""
    candidates = [e for e in (*subject.endpoints, *subject.config.catalog) if e.parent is None]
    # An aggregate costs more than a record, and a report that is gone says nothing about the app.
    candidates.sort(key=lambda endpoint: (endpoint.report is not None, endpoint.by_day))
    scopes = subject.claims.scopes if subject.claims else None
    permitted = [e for e in candidates if scopes is None or e.scope in scopes] or candidates
    by_scope: dict[str, Endpoint] = {}
    for endpoint in permitted:
        by_scope.setdefault(endpoint.scope, endpoint)
    return list(by_scope.values())


def _combine_refusals(subject: Subject, refusals: Sequence[ServiceTitanError]) -> ServiceTitanError:
    """Returns the first error, explained by what the refusals have in common."""
    first, scopes = refusals[0], subject.claims.scopes if subject.claims else None
    codes = {error.problem.code if error.problem else "" for error in refusals}
    other_scopes = codes == {"scope-missing"} and scopes
    if len(refusals) > 1 and codes <= _SCOPE_PROBLEMS and not other_scopes:
        first.problem = build_problem("app-not-connected")
    return first


def check_scopes(subject: Subject) -> Iterator[Finding]:
    """Compares the scopes of the token with those the selection needs."""
    granted = subject.claims.scopes if subject.claims else None
    if granted is None:
        yield Finding(
            step="scopes",
            status="warning",
            code="scopes-unknown",
            text="unknown, because the token does not list them",
            hint="The step 'endpoints' checks them."
            if subject.deep
            else "--deep requests a record from each endpoint.",
        )
        return
    required = required_scopes(subject.endpoints, subject.file_kinds)
    if missing := [scope for scope in required if scope not in granted]:
        yield _report_missing(missing, len(required))
    else:
        text = f"the token has all {len(required)} scopes of the selection"
        if len(required) == 1:
            text = "the token has the scope of the selection"
        yield Finding(step="scopes", status="ok", text=text)
    if surplus := [scope for scope in surplus_scopes(granted, required) if allows_writing(scope)]:
        yield Finding(
            step="scopes",
            status="warning",
            code="scopes-that-write",
            items=tuple(surplus),
            text=f"the token can also change data: {_join(surplus)}",
            hint="This package never writes to ServiceTitan: untick them in the app.",
        )


def _report_missing(missing: Sequence[str], required: int) -> Finding:
    return Finding(
        step="scopes",
        status="failed",
        code="scopes-missing",
        items=tuple(missing),
        text=f"the token lacks {len(missing)} of the {required} scopes of the selection: "
        + _join(missing),
        hint="Tick them in the app (developer portal); its new version takes effect when "
        f"{ACCEPT}. Or limit what you load with --select.",
    )


def check_endpoints(subject: Subject) -> Iterator[Finding]:
    """Requests a record from each endpoint of the selection for which the token has the scope.

    Child lists are left out, as they need an id of a record.
    """
    scopes = subject.claims.scopes if subject.claims else None
    permitted = [e for e in subject.endpoints if scopes is None or e.scope in scopes]
    endpoints = [endpoint for endpoint in permitted if endpoint.parent is None]
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        errors = list(pool.map(lambda endpoint: _probe(subject, endpoint), endpoints))
    failures = [(e, error) for e, error in zip(endpoints, errors, strict=True) if error]
    denied = [e for e, error in failures if isinstance(error, PermissionDenied)]
    if len(denied) > 1:
        yield _report_denied(denied, len(endpoints))
    for _, error in failures:
        if len(denied) < 2 or not isinstance(error, PermissionDenied):
            yield failed("endpoints", error)
    if not failures:
        text = f"{counted(len(endpoints), 'endpoint')} can be read"
        yield Finding(step="endpoints", status="ok", text=text)


def _report_denied(denied: Sequence[Endpoint], number: int) -> Finding:
    scopes = required_scopes(denied)
    return Finding(
        step="endpoints",
        status="failed",
        code="scopes-denied",
        items=tuple(scopes),
        text=f"{len(denied)} of {number} are refused; their scopes are {_join(scopes)}",
        hint="Tick those that are not ticked in the app (developer portal); its current version "
        f"takes effect when {ACCEPT}. A part of ServiceTitan that the tenant does not have may be "
        "refused too.",
    )


def _probe(subject: Subject, endpoint: Endpoint) -> ServiceTitanError | None:
    try:
        probe_access(subject.client.session(Usage()), endpoint)
    except ServiceTitanError as error:
        return error
    return None


def _join(scopes: Sequence[str]) -> str:
    rest = len(scopes) - _MAX_NAMED
    return ", ".join(scopes[:_MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
