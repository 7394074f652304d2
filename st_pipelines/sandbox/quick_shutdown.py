"""Runs uvicorn so that it stops at once.

uvicorn itself checks its stop flag ten times a second, and then waits for open connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn

_TICK_SECONDS = 0.1
_LOOP_ITERATIONS = 3
"""Number of event loop iterations in which idle connections close."""


class QuickShutdownServer(uvicorn.Server):
    """Serves until `stop` is called, from any thread."""

    _loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop serving. Requests in progress get the configured time to finish."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def main_loop(self) -> None:
        """Run uvicorn's ticks until `stop` is called."""
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close listeners and idle connections. Wait only if a request is in progress."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_LOOP_ITERATIONS):
            await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
