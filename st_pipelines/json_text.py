r"""Repairs JSON text that holds lone surrogates: escapes such as `\ud83d`, half of a character.

JSON allows them, but no Unicode text can contain them. Servers that truncate a string in the middle
of a surrogate pair produce them.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
"""Matches one JSON escape, or both escapes of a valid surrogate pair."""


def replace_lone_surrogates(text: bytes) -> bytes:
    """Replaces each lone surrogate by U+FFFD. The length stays the same.

    Args:
        text: JSON, or a part of it that does not start inside an escape.

    Returns:
        The repaired text; `text` itself if it contains no lone surrogate.
    """
    if not _SURROGATE.search(text):
        return text
    repaired = _ESCAPE.sub(lambda match: rb"\ufffd" if match["lone"] else match[0], text)
    return text if repaired == text else repaired
