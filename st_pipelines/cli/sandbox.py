"""`st-pipelines sandbox`: serves a simulated ServiceTitan on this machine."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from datetime import datetime
from typing import Annotated

import typer

from st_pipelines.cli.console import Customers, Seed
from st_pipelines.sandbox.fault_kinds import DEFECT_KINDS, FALSE_KINDS, FAULT_KINDS

Faults = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND:PROBABILITY",
        help="Make some responses wrong, such as 503:0.05; repeatable. Kinds: "
        + ", ".join((*FAULT_KINDS, *FALSE_KINDS))
        + "; for token requests token-500 and so on.",
    ),
]
Defects = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND[:VALUE]",
        help="Set the app up wrongly; repeatable. Kinds: " + ", ".join(DEFECT_KINDS) + ".",
    ),
]


def sandbox(
    port: Annotated[int, typer.Option(help="Port; 0 chooses a free one.")] = 0,
    seed: Seed = 7,
    customers: Customers = 2000,
    now: Annotated[str | None, typer.Option(help="Start time of its clock (ISO 8601).")] = None,
    fault: Faults = None,
    churn: Annotated[
        float, typer.Option(help="Probability that records change before a data request, 0 to 1.")
    ] = 0,
    defect: Defects = None,
    requests_per_second: Annotated[
        float, typer.Option(hidden=True, help="Requests of a tenant before it answers 429.")
    ] = 60,
    until_input_ends: Annotated[
        bool, typer.Option("--until-input-ends", hidden=True, help="Stop when standard input ends.")
    ] = False,
) -> None:
    """Run a simulated ServiceTitan on this machine until Ctrl-C.

    With --fault some responses are wrong, chosen by the seed and the number of the request.

    With --churn records are created, changed, deactivated and deleted while they are read.

    With --defect the app is set up wrongly, to practice docs/setup.md.
    """
    from st_pipelines.sandbox.faults import read_faults
    from st_pipelines.sandbox.server import serve

    start = _parse_now(now) if now else None
    if until_input_ends:
        threading.Thread(target=_stop_when_input_ends, daemon=True).start()
    faults = read_faults(fault or ())
    try:
        serve(
            port=port,
            seed=seed,
            customers=customers,
            now=start,
            requests_per_second=requests_per_second,
            faults=faults,
            churn=churn,
            defects=defect or (),
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ValueError(
            f"--port {port} is in use: choose another one, or 0 for a free one"
        ) from None


def _parse_now(text: str) -> datetime:
    try:
        now = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--now {text!r}: give a time such as 2026-03-10T09:00+00:00") from None
    if now.tzinfo is None:
        raise ValueError(f"--now {text}: add the offset from UTC, such as {text}+00:00")
    return now


def _stop_when_input_ends() -> None:
    """Ends this process once its standard input closes, which happens however the caller ends."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
