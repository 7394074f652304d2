"""Runs the sandbox as a server: in a thread (`Sandbox`) or in the foreground (`serve`)."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from st_pipelines.catalog.specification_files import packaged_specification
from st_pipelines.sandbox import files
from st_pipelines.sandbox.api import AnsweredRequest, Api, Interceptor, ServerOptions
from st_pipelines.sandbox.churn import Churn
from st_pipelines.sandbox.connection_faults import Protocol
from st_pipelines.sandbox.control import Control
from st_pipelines.sandbox.credentials import APP_KEY, Credentials
from st_pipelines.sandbox.faults import Faults
from st_pipelines.sandbox.guard import LocalOnly
from st_pipelines.sandbox.portal import read_defects
from st_pipelines.sandbox.quick_shutdown import QuickShutdownServer
from st_pipelines.sandbox.reports import Reports
from st_pipelines.sandbox.world import World

HOST = "127.0.0.1"
_KEEP_ALIVE_SECONDS = 75
"""As long as usual servers do. A busy machine may take seconds between two requests, and a
connection that is closed at that moment costs its client a retry."""

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Sandbox:
    """A simulated ServiceTitan. `url` serves both the API and tokens.

    Use it as a context manager, or call `start` and `stop`.

    Args:
        seed: decides all random choices. Each further tenant has the next seed.
        customers: approximate number of customers per tenant.
        port: 0 chooses a free one.
        now: the simulated time (aware); None starts at the real time. It stands still unless it is
            moved or `live` is set.
        history_days: how long the company has existed.
        tenants: number of tenants. They share the app key and have separate credentials.
        scopes: the scopes granted to the app; all if None.
        requests_per_second, token_seconds, export_batch, export_timezone, gzip_level, live,
            simulated_date, clock: see `ServerOptions`.
        faults: probability by kind, see `fault_kinds.FAULT_KINDS`.
        churn: probability that records change before a data request, see `churn.Churn`.
        defects: defects of the app's setup, see `fault_kinds.DEFECT_KINDS`.

    Raises:
        ValueError: a fault or defect is unknown, or a probability is not from 0 to 1.
    """

    app_key = APP_KEY

    def __init__(
        self,
        *,
        seed: int = 7,
        customers: int = 2000,
        port: int = 0,
        now: datetime | None = None,
        history_days: int = 730,
        tenants: int = 1,
        scopes: Iterable[str] | None = None,
        requests_per_second: float = 60.0,
        token_seconds: float = 900,
        export_batch: int = 5000,
        export_timezone: str = "UTC",
        gzip_level: int = 0,
        live: bool = False,
        simulated_date: bool = False,
        clock: Callable[[], float] = time.monotonic,
        faults: Mapping[str, float] | None = None,
        churn: float = 0,
        defects: Iterable[str] = (),
    ) -> None:
        self._seed = seed
        now = now or datetime.now(timezone.utc)
        self.tenants = tuple(Credentials.for_tenant(number) for number in range(tenants))
        self.portal = read_defects(defects, self.tenants[0])
        self.worlds = {
            credentials.tenant_id: World(
                seed=seed + number,
                customers=customers,
                now=now,
                history_days=history_days,
            )
            for number, credentials in enumerate(self.tenants)
        }
        known = {operation.scope for operation in packaged_specification() if operation.scope}
        granted = sorted(known if scopes is None else scopes)
        self._api = Api(
            worlds=self.worlds,
            scopes=tuple(granted),
            tenants={credentials.tenant_id: credentials for credentials in self.tenants},
            options=ServerOptions(
                requests_per_second=requests_per_second,
                token_seconds=token_seconds,
                export_batch=export_batch,
                export_timezone=export_timezone,
                gzip_level=gzip_level,
                live=live,
                simulated_date=simulated_date,
                clock=clock,
            ),
            faults=Faults(faults or {}, seed),
            churn=Churn(churn, seed),
            portal=self.portal,
        )
        self._socket = socket.create_server((HOST, port), backlog=512)
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._server = self._build_server(
            date_header=not (simulated_date or self.portal.clock_offset)
        )
        self._thread = threading.Thread(target=self.run, name="sandbox", daemon=True)

    def _build_server(self, *, date_header: bool) -> QuickShutdownServer:
        control = Control(self.worlds, self._api.log)
        token = Route("/connect/token", self._api.handle_token, methods=["POST"])
        data = Route("/{path:path}", self._api.handle_data, methods=EVERY_METHOD)
        own = (*control.build_routes(), *files.build_routes(), *self.reports.build_routes())
        application = LocalOnly(Starlette(routes=[token, *own, data]))
        return QuickShutdownServer(
            uvicorn.Config(
                application,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                http=Protocol,
                date_header=date_header,
            )
        )

    @property
    def world(self) -> World:
        """The first tenant's world."""
        return self.worlds[self.tenant_id]

    @property
    def tenant_id(self) -> str:
        """The first tenant's id."""
        return self.tenants[0].tenant_id

    @property
    def client_id(self) -> str:
        """The first tenant's client id."""
        return self.tenants[0].client_id

    @property
    def client_secret(self) -> str:
        """The first tenant's client secret."""
        return self.tenants[0].client_secret

    @property
    def interceptors(self) -> list[Interceptor]:
        """Functions that may answer a request before the sandbox does. Append to this list."""
        return self._api.interceptors

    @property
    def reports(self) -> Reports:
        """The reports of all tenants, with the settings of their limits."""
        return self._api.reports

    def set_faults(self, faults: Mapping[str, float]) -> None:
        """Replace the faults from the next request on.

        Args:
            faults: probability by kind; an empty mapping ends all faults.

        Raises:
            ValueError: a fault is unknown, or a probability is not from 0 to 1.
        """
        self._api.faults = Faults(faults, self._seed)

    def set_churn(self, churn: float, seed: int) -> None:
        """Replace the churn from the next request on.

        Args:
            churn: probability that records change before a data request; 0 ends the churn.
            seed: decides all random choices.

        Raises:
            ValueError: the probability is not from 0 to 1.
        """
        self._api.churn = Churn(churn, seed)

    def rotate(self, *secrets: str) -> None:
        """Accept only these client secrets of the first tenant. Issued tokens stay valid.

        Args:
            secrets: one or two, because ServiceTitan allows two at a time.
        """
        self._api.access.rotate(self.client_id, *secrets)

    @property
    def requests(self) -> Counter[str]:
        """The number of requests per path, with `{tenant}` instead of the id."""
        return self._api.log.counts

    @property
    def seen(self) -> list[AnsweredRequest]:
        """The answered requests, oldest first."""
        return list(self._api.log.seen)

    @property
    def token_requests(self) -> int:
        """The number of token requests."""
        return self.requests["/connect/token"]

    @property
    def data_requests(self) -> int:
        """The number of all requests except token requests."""
        return self.requests.total() - self.token_requests

    def run(self) -> None:
        """Serve until `stop` is called from another thread, or until Ctrl-C in the main one."""
        self._server.run(sockets=[self._socket])

    def start(self) -> Sandbox:
        """Serve in a thread. The socket already listens, so requests may be sent at once."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Sandbox:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def environment(self, prefix: str = "SERVICETITAN_") -> dict[str, str]:
        """Return the environment variables that configure a client for the first tenant.

        Some defects make them wrong on purpose.
        """
        values = {
            "API_URL": self.url,
            "AUTH_URL": self.url,
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret,
            "APP_KEY": self.app_key,
            "TENANT_ID": self.tenant_id,
            "TIMEZONE": "America/New_York",
            **self.portal.wrong_settings,
        }
        return {f"{prefix}{name}": value for name, value in values.items()}


def serve(
    *,
    port: int = 0,
    seed: int = 7,
    customers: int = 2000,
    now: datetime | None = None,
    tenants: int = 1,
    requests_per_second: float = 60.0,
    gzip_level: int = 0,
    faults: Mapping[str, float] | None = None,
    churn: float = 0,
    defects: Iterable[str] = (),
) -> None:
    """Serve until Ctrl-C. Print the address and the settings to export.

    Without `now`, the simulated time is the real time. `Sandbox` describes the arguments.
    """
    sandbox = Sandbox(
        port=port,
        seed=seed,
        customers=customers,
        now=now,
        tenants=tenants,
        live=now is None,
        requests_per_second=requests_per_second,
        gzip_level=gzip_level,
        faults=faults,
        churn=churn,
        defects=defects,
    )
    print(sandbox.url, flush=True)
    for name, value in sandbox.environment().items():
        print(f"export {name}={value}", flush=True)
    for remedy in sandbox.portal.remedies:
        print(f"# {remedy}", flush=True)
    with suppress(KeyboardInterrupt):
        sandbox.run()
