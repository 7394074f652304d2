"""A uvicorn server that stops at once.

uvicorn itself polls for its stop flag ten times a second, and then waits for connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn

_TICK = 0.1
_LOOP_TURNS = 3
"""Iterations of the event loop in which idle connections close."""


class QuickShutdownServer(uvicorn.Server):
    """Serves until `end` is called, from any thread."""

    _loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop serving. Requests that are being answered have the configured grace."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def main_loop(self) -> None:
        """Run uvicorn's ticks until `stop` is called."""
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close listeners and idle connections; wait only while a request is being answered."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_LOOP_TURNS):
            await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
