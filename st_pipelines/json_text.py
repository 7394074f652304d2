r"""Reads JSON text that strict readers refuse: splits it into values, and repairs single values.

Servers send such text. One that truncates a string in the middle of a surrogate pair produces a
lone surrogate, `\ud83d`; others write NaN, or control characters as they are. What is repaired is
read only; whoever repairs a record keeps it as it was served beside what was read.

The structure must be sound. Text whose brackets or strings do not close was cut off, and a string
that touches another value has a quotation mark in it that nobody escaped: where records begin and
end is unknown then, so both are refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

MAX_DEPTH = 100
"""Objects and arrays inside each other, the record counted; .NET's serializer stops at 64."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
"""Matches one JSON escape, or both escapes of a valid surrogate pair."""

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_BARE = rb'[^"\[\]{},:\s]+'
_BRACKET = re.compile(_STRING + rb'|[\[\]{}]|"', re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[\[\]{},:]|"|' + _BARE, re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|" + _BARE, re.DOTALL)
_NAME = re.compile(rb"\s*(" + _STRING + rb")\s*:\s*", re.DOTALL)
_SPACE = re.compile(rb"\s*")
_LITERAL = re.compile(rb"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INVALID_IN_STRING = re.compile(
    rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<escape>\\)|(?P<control>[\x00-\x1f])'
)
_CLOSING = {b"[": b"]", b"{": b"}"}


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


def split_array(text: bytes) -> list[bytes]:
    """Returns the text of each item of an array, whatever the items are like inside.

    Raises:
        ValueError: the text is not an array, or breaks off.
    """
    position, items = _skip_space(text, 0), []
    if text[position : position + 1] != b"[":
        raise ValueError("it is not an array")
    while text[position : position + 1] == (b"," if items else b"["):
        start = _skip_space(text, position + 1)
        if not items and text[start : start + 1] == b"]":
            position = start
            break
        end = _find_end(text, start)
        items.append(text[start:end])
        position = _skip_space(text, end)
    _require_end(text, position, b"]")
    return items


def split_object(text: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the text of each name and value of an object, whatever the values are like inside.

    Raises:
        ValueError: the text is not an object, or breaks off.
    """
    position, members = _skip_space(text, 0), []
    if text[position : position + 1] != b"{":
        raise ValueError("it is not an object")
    while text[position : position + 1] == (b"," if members else b"{"):
        name = _NAME.match(text, position + 1)
        if name is None:
            position = _skip_space(text, position + 1)
            break
        end = _find_end(text, name.end())
        members.append((name[1], text[name.end() : end]))
        position = _skip_space(text, end)
    _require_end(text, position, b"}")
    return members


def measure_depth(text: bytes) -> int:
    """Returns how many objects and arrays are inside each other."""
    depth = deepest = 0
    for token in _BRACKET.findall(text):
        if token in _CLOSING:
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest


def is_too_deep(text: bytes) -> bool:
    """Whether more than `MAX_DEPTH` objects and arrays are inside each other."""
    return text.count(b"[") + text.count(b"{") > MAX_DEPTH and measure_depth(text) > MAX_DEPTH


def repair(text: bytes) -> bytes:
    """Returns valid JSON in place of a value whose brackets and strings close.

    What no reader understands becomes null: NaN, a missing value, what is nested more deeply than
    `MAX_DEPTH`. Members without a name are left out. A string keeps its characters, also those that
    must be escaped, and a backslash that escapes nothing. Bytes that are not UTF-8 become U+FFFD.

    Raises:
        ValueError: a string or a bracket does not close, or a string touches another value.
    """
    _find_end(text, 0)
    tokens = _TOKEN.findall(text)
    for token, following in itertools.pairwise(tokens):
        if b'"' in (token[:1], following[:1]) and _is_scalar(token) and _is_scalar(following):
            raise ValueError("a string touches another value")
    return replace_lone_surrogates(_Repair(tokens).read_value(1))


class _Repair:
    """Reads tokens, and writes JSON."""

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens
        self._position = 0

    def read_value(self, depth: int) -> bytes:
        token = self._peek()
        if token in _CLOSING:
            if depth > MAX_DEPTH:
                self._skip_nested()
                return b"null"
            return self._read_object(depth) if token == b"{" else self._read_array(depth)
        if not _is_scalar(token):
            return b"null"
        self._position += 1
        if self._peek() not in (b",", b"]", b"}", b""):
            return b"null"  # more follows that belongs to it
        if token[:1] == b'"':
            return _repair_string(token)
        return token if _LITERAL.fullmatch(token) else b"null"

    def _read_object(self, depth: int) -> bytes:
        members = []
        for token in self._parts(b"}"):
            if token[:1] == b'"':
                self._position += 1
                if self._peek() == b":":
                    self._position += 1
                    members.append(_repair_string(token) + b":" + self.read_value(depth + 1))
        return b"{" + b",".join(members) + b"}"

    def _read_array(self, depth: int) -> bytes:
        return b"[" + b",".join(self.read_value(depth + 1) for _ in self._parts(b"]")) + b"]"

    def _parts(self, closing: bytes) -> Iterator[bytes]:
        """Yields the first token of each part between commas, and skips what is left of it."""
        self._position += 1
        while self._peek() != closing:
            if self._peek() == b",":
                self._position += 1
                continue
            yield self._peek()
            while self._peek() not in (b",", b"]", b"}"):
                self._skip_nested()
        self._position += 1

    def _skip_nested(self) -> None:
        """Skips a token, or everything between two brackets."""
        depth = 0
        while True:
            token = self._peek()
            depth += (token in _CLOSING) - (token in (b"]", b"}"))
            self._position += 1
            if depth <= 0:
                return

    def _peek(self) -> bytes:
        """Returns the next token; none follows a value that is not inside another."""
        return self._tokens[self._position] if self._position < len(self._tokens) else b""


def _is_scalar(token: bytes) -> bool:
    return token not in (b"[", b"]", b"{", b"}", b",", b":")


def _repair_string(token: bytes) -> bytes:
    def escape(match: re.Match[bytes]) -> bytes:
        if match["escape"]:
            return rb"\\"
        return b"\\u%04x" % match[0][0] if match["control"] else match[0]

    return _INVALID_IN_STRING.sub(escape, token.decode(errors="replace").encode())


def _find_end(text: bytes, start: int) -> int:
    """Returns where the value ends that begins at a position."""
    if text[start : start + 1] not in _CLOSING:
        match = _SCALAR.match(text, start)
        if match is None:
            raise ValueError(f"no value begins at byte {start}")
        return match.end()
    closing = []
    for match in _BRACKET.finditer(text, start):
        token = match[0]
        if token in _CLOSING:
            closing.append(_CLOSING[token])
        elif token == b'"':
            break
        elif token in (b"]", b"}") and token != closing.pop():
            raise ValueError(f"a bracket at byte {match.start()} closes nothing")
        if not closing:
            return match.end()
    raise ValueError(f"it breaks off after {len(text)} bytes")


def _skip_space(text: bytes, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _require_end(text: bytes, position: int, closing: bytes) -> None:
    if text[position : position + 1] != closing or text[position + 1 :].strip():
        raise ValueError(f"it is not as expected at byte {position}")
