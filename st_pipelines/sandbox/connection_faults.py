"""Answers that are wrong below HTTP: reset, hanging, dripping, broken in the middle."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

PIECES = 20
"""A slow body comes in so many pieces, `PAUSE` apart."""

PAUSE = 0.02
"""Seconds between two pieces of a body that drips."""

_TRANSPORT = "transport"
_LINGER_NOT = struct.pack("ii", 1, 0)


class Protocol(AutoHTTPProtocol):
    """Uvicorn's own, which also shows an application the connection that it answers on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection where a response finds it."""
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        super().connection_made(transport)


class Reset(Response):
    """The connection is reset instead of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing but the reset."""
        transport: asyncio.Transport = scope["state"][_TRANSPORT]
        connection = transport.get_extra_info("socket")
        # Closing a socket that must not linger sends RST in the place of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
        await _until_gone(receive)


class Hanging(Response):
    """Headers and the first half of a body, then nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the half, then wait for the client to give up."""
        await _begin(self, send)
        await _send_piece(send, bytes(self.body)[: len(self.body) // 2])
        await _until_gone(receive)


class Slow(Response):
    """A body that comes in small pieces, all of it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, slowly."""
        await _begin(self, send)
        await _drip(send, _pieces(bytes(self.body)))
        await send({"type": "http.response.body", "body": b""})


class Dripping(Response):
    """A body of which a byte comes every now and then, and never the end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send blanks, which JSON allows, until the client gives up."""
        self.headers["content-length"] = str(1 << 40)
        await _begin(self, send)
        gone = asyncio.create_task(_until_gone(receive))
        while not gone.done():
            await _drip(send, [b" "])


def _pieces(body: bytes) -> Iterable[bytes]:
    size = max(1, -(-len(body) // PIECES))
    return (body[start : start + size] for start in range(0, len(body), size))


async def _begin(response: Response, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": response.status_code,
         "headers": response.raw_headers}
    )  # fmt: skip


async def _drip(send: Send, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        await _send_piece(send, piece)
        await asyncio.sleep(PAUSE)


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
