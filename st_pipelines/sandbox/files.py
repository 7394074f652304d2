"""Serves recordings, images and attachments: a few bytes of the right kind.

The documents declare that these operations serve a file, or redirect to one, and say no more.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute

from st_pipelines.sandbox import responses
from st_pipelines.sandbox.entities import Call
from st_pipelines.sandbox.operations import Route
from st_pipelines.sandbox.stories import attachments, front_office
from st_pipelines.sandbox.world import World

FOLDER = "/_sandbox/files"
"""Where redirects lead. As for a signed link, no token is needed."""


def _build_wav() -> bytes:
    """Build a tenth of a second of silence: 8,000 samples of 8 bits per second."""
    samples = b"\x80" * 800
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    data = head + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(data), b"WAVE") + data


def _build_png() -> bytes:
    """Build an image of one gray pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = zlib.compress(b"\x00\x80")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


_PDF = base64.b64decode(
    "JVBERi0xLjEKMSAwIG9iajw8L1R5cGUvQ2F0YWxvZy9QYWdlcyAyIDAgUj4+ZW5kb2JqCjIgMCBvYmo8PC9UeXBl"
    "L1BhZ2VzL0tpZHNbMyAwIFJdL0NvdW50IDE+PmVuZG9iagozIDAgb2JqPDwvVHlwZS9QYWdlL1BhcmVudCAyIDAg"
    "Ui9NZWRpYUJveFswIDAgMyAzXT4+ZW5kb2JqCnRyYWlsZXI8PC9Sb290IDEgMCBSPj4K"
)

WAV, PNG, PDF = (
    (_build_wav(), "audio/wav"),
    (_build_png(), "image/png"),
    (_PDF, "application/pdf"),
)


def answer(route: Route, values: Mapping[str, Any], world: World) -> Response:
    """Answer a request for a file whose record exists.

    Args:
        route: what the request asks for.
        values: the query parameters; `path` names the file.
        world: the tenant's records.
    """
    path = route.operation.path
    if path.endswith(("/recording", "/voicemail")):
        return _send_audio(world, path, route.values[route.parameter])
    if path.endswith("/jobs/attachment/{id}"):
        return _send_attachment(world, route.values["id"])
    if "path" in route.operation.query:
        name = str(values.get("path", ""))
        if not name:
            return responses.build_not_found()
        kind = "pdf" if name.lower().endswith(".pdf") else "png"
        if 302 in route.operation.responses:
            return Response(status_code=302, headers={"Location": f"{FOLDER}/file.{kind}"})
        return _send(PDF if kind == "pdf" else PNG)
    return _send(PDF)


def _send_audio(world: World, path: str, key: str) -> Response:
    """Send a recording exactly where the lists name one, and a voicemail wherever they do."""
    table = world.table("telecom.calls")
    call = table.entities[table.find_position(int(key))]
    is_there = int(key) % front_office.UNRECORDED > 0
    # A call that `World.create` made is not planned.
    if isinstance(call, Call) and path.endswith("/recording"):
        is_there = front_office.has_recording(call)
    return _send(WAV) if is_there else responses.build_not_found()


def _send_attachment(world: World, key: str) -> Response:
    found = attachments.find_attachment(world.company, int(key)) if key.isdigit() else None
    if found is None or found.moments[0] > world.now_ticks:
        return responses.build_not_found()
    return _send(PDF if found.name.endswith(".pdf") else PNG)


def build_routes() -> list[HttpRoute]:
    """Build the routes to which redirects lead."""

    async def serve(request: Request) -> Response:
        return _send(PDF if request.url.path.endswith(".pdf") else PNG)

    return [HttpRoute(f"{FOLDER}/file.{kind}", serve, methods=["GET"]) for kind in ("png", "pdf")]


def _send(file: tuple[bytes, str]) -> Response:
    content, media_type = file
    return Response(content, media_type=media_type)
