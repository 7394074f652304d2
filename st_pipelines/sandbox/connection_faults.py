"""Responses that fail at the connection: they reset it, hang, never end, or arrive slowly."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

PIECES = 20
"""Number of pieces of a slow body. They are sent `PAUSE_SECONDS` apart."""

PAUSE_SECONDS = 0.02

_TRANSPORT = "transport"
_NO_LINGER = struct.pack("ii", 1, 0)


class Protocol(AutoHTTPProtocol):
    """uvicorn's protocol, with the connection accessible to the application."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the connection in the request's state for `Reset`."""
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        super().connection_made(transport)


class Reset(Response):
    """Resets the connection instead of responding."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset the connection."""
        transport: asyncio.Transport = scope["state"][_TRANSPORT]
        connection = transport.get_extra_info("socket")
        # Closing a socket with SO_LINGER 0 sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
        await _wait_for_disconnect(receive)


class Hanging(Response):
    """Sends headers and half of the body, then nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half of the body, then wait until the client disconnects."""
        await _begin(self, send)
        await _send_piece(send, bytes(self.body)[: len(self.body) // 2])
        await _wait_for_disconnect(receive)


class Slow(Response):
    """Sends the whole body in small, slow pieces."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the body piece by piece."""
        await _begin(self, send)
        await _drip(send, _split(bytes(self.body)))
        await send({"type": "http.response.body", "body": b""})


class Dripping(Response):
    """Sends a byte at a time and never finishes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send blanks, which are valid JSON whitespace, until the client disconnects."""
        self.headers["content-length"] = str(1 << 40)
        await _begin(self, send)
        disconnected = asyncio.create_task(_wait_for_disconnect(receive))
        while not disconnected.done():
            await _drip(send, [b" "])


def _split(body: bytes) -> Iterable[bytes]:
    size = max(1, -(-len(body) // PIECES))
    return (body[start : start + size] for start in range(0, len(body), size))


async def _begin(response: Response, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )


async def _drip(send: Send, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        await _send_piece(send, piece)
        await asyncio.sleep(PAUSE_SECONDS)


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
