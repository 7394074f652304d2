"""Chooses the extension of a stored file, from its content type or else from its first bytes.

The name that a file has at ServiceTitan is not used: it may name a customer. ServiceTitan's
documents declare `application/octet-stream` for recordings, and describe them as `audio/mpeg`, so a
type that tells nothing is common.
"""

from __future__ import annotations

import mimetypes
import re

SIGNATURE_BYTES = 16
UNKNOWN = ".bin"
"""The extension of a file of which neither type nor content tells what it is."""

_EXTENSIONS = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/pdf": ".pdf",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/x-pdf": ".pdf",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "audio/aac": ".aac",
    "audio/basic": ".au",
    "audio/flac": ".flac",
    "audio/m4a": ".m4a",
    "audio/mp3": ".mp3",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/mpeg3": ".mp3",
    "audio/ogg": ".ogg",
    "audio/opus": ".opus",
    "audio/vnd.wave": ".wav",
    "audio/wav": ".wav",
    "audio/wave": ".wav",
    "audio/webm": ".webm",
    "audio/x-m4a": ".m4a",
    "audio/x-mpeg": ".mp3",
    "audio/x-wav": ".wav",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/pjpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "image/x-png": ".png",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-m4v": ".m4v",
}
_TELL_NOTHING = ("", "application/octet-stream", "binary/octet-stream", "application/binary")
# Of Python itself: what a machine's own lists of types say must not change a name.
_STANDARD = mimetypes.MimeTypes()
_SAFE = re.compile(r"\.[a-z0-9]{1,8}", re.ASCII)
_SIGNATURES = (
    (re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL), ".mp3"),
    (re.compile(rb"RIFF.{4}WAVE", re.DOTALL), ".wav"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), ".webp"),
    (re.compile(rb"OggS"), ".ogg"),
    (re.compile(rb"fLaC"), ".flac"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ".png"),
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"%PDF-"), ".pdf"),
    (re.compile(rb".{4}ftyphei[cx]", re.DOTALL), ".heic"),
    (re.compile(rb".{4}ftypM4A", re.DOTALL), ".m4a"),
    (re.compile(rb".{4}ftypqt", re.DOTALL), ".mov"),
    (re.compile(rb".{4}ftyp", re.DOTALL), ".mp4"),
    (re.compile(rb"PK\x03\x04"), ".zip"),
)


def find_extension(media_type: str, beginning: bytes) -> str:
    """Returns the extension of a file, with its dot.

    Args:
        media_type: in small letters and without parameters; "" if unknown.
        beginning: at least `SIGNATURE_BYTES` bytes of the file, if it has them.
    """
    if media_type in _TELL_NOTHING:
        found = (name for signature, name in _SIGNATURES if signature.match(beginning))
        return next(found, UNKNOWN)
    known = _EXTENSIONS.get(media_type) or _STANDARD.guess_extension(media_type) or ""
    return known if _SAFE.fullmatch(known) else UNKNOWN
