r"""Escapes such as `\ud83d`: half a character, which JSON may hold and no text can.

Servers that cut texts at a number of characters leave them behind.
"""

from __future__ import annotations

import re

_MAY_BE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
"""An escape of JSON; a pair of surrogates together."""


def replace_lone_surrogates(text: bytes) -> bytes:
    """JSON with U+FFFD in the place of each half character, of the same length.

    Args:
        text: JSON, or a part of it that does not begin within an escape.

    Returns:
        `text` itself where it has none.
    """
    if not _MAY_BE.search(text):
        return text
    fitted = _ESCAPE.sub(lambda found: rb"\ufffd" if found["lone"] else found[0], text)
    return text if fitted == text else fitted
