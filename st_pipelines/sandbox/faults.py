"""Simulates faults: chooses the requests that get one, and breaks their responses.

The seed and the number of the request decide, so the same requests in the same order get the same
faults.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.sandbox import responses
from st_pipelines.sandbox.connection_faults import Dripping, Hanging, Reset, Slow
from st_pipelines.sandbox.false_responses import (
    FALSE_RESPONSES,
    FaultEffect,
    change_body,
    change_envelope,
)
from st_pipelines.sandbox.fault_kinds import FALSE_KINDS, FAULT_KINDS, TOKEN_PREFIX

_HTML = "<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
_MAINTENANCE = "The service is suspended for maintenance. Please try again later."
_BEGINNING_OF_TIME = "1970-01-01"


def _send_error_page(status: int, title: str) -> FaultEffect:
    """Respond with an HTML error page, as a proxy does."""
    page = _HTML.format(title=f"{status} {title}")
    return lambda request, original: Response(page, status, media_type="text/html")


def _send_problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> FaultEffect:
    """Respond with an error in the API's format."""
    return lambda request, original: responses.build_json_response(
        responses.build_problem(status, title), status, headers
    )


def _wrap(body: bytes) -> bytes:
    """Wrap an array in an object, or an object in an array."""
    return b'{"items":' + body + b"}" if body[:1] == b"[" else b"[" + body + b"]"


def _remove_data(body: bytes) -> bytes:
    envelope = json.loads(body)
    if isinstance(envelope, dict):
        envelope = {name: value for name, value in envelope.items() if name != "data"}
    return json.dumps({} if isinstance(envelope, list) else envelope).encode()


def _replace_data(body: bytes) -> bytes:
    envelope = json.loads(body)
    around = envelope if isinstance(envelope, dict) else {}
    return json.dumps({**around, "data": {"message": "ok"}}).encode()


def _break_gzip(compress: Callable[[bytes], bytes]) -> FaultEffect:
    """Declare a body as gzip that cannot be decompressed."""

    def apply(request: Request, original: Response) -> Response:
        if original.status_code != 200:
            return original
        headers = {"Content-Encoding": "gzip"}
        return Response(compress(bytes(original.body)), 200, headers, "application/json")

    return apply


def _send_as(response_class: type[Response]) -> FaultEffect:
    """Send the original response through another class of response."""
    return lambda request, original: response_class(
        bytes(original.body), original.status_code, media_type="application/json"
    )


def _repeat_token(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    if "continueFrom" not in envelope:
        return None
    return {**envelope, "hasMore": True, "continueFrom": _read_token(request)}


def _empty_page(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    if not envelope.get("hasMore"):
        return None
    # No record was served, so the token does not advance.
    token = {"continueFrom": _read_token(request)} if "continueFrom" in envelope else {}
    return {**envelope, **token, "data": []}


def _promise_more(request: Request, envelope: dict[str, Any]) -> dict[str, Any] | None:
    return {**envelope, "hasMore": True} if "hasMore" in envelope else None


def _declare_encoding(request: Request, original: Response) -> Response:
    """Declare a body as Brotli, which no client of ours accepts."""
    if original.status_code != 200:
        return original
    headers = {"Content-Encoding": "br"}
    return Response(bytes(original.body), 200, headers, "application/json")


def _read_token(request: Request) -> str:
    return request.query_params.get("from") or _BEGINNING_OF_TIME


_ANYWHERE: dict[str, FaultEffect] = {
    "500": _send_error_page(500, "Internal Server Error"),
    "502": _send_error_page(502, "Bad Gateway"),
    "503": _send_error_page(503, "Service Unavailable"),
    "401": lambda request, original: responses.build_gateway_error(
        401, "The access token has expired."
    ),
    "409": _send_problem(409, _MAINTENANCE),
    "429": _send_problem(
        429, "Rate limit is exceeded. Try again in 1 seconds.", {"Retry-After": "1"}
    ),
    "429-fraction": _send_problem(429, "Rate limit is exceeded.", {"Retry-After": "0.25"}),
    "429-bare": _send_problem(429, "Rate limit is exceeded."),
    "html": change_body(lambda body: _HTML.format(title="Sign in"), "text/html"),
    "truncated": change_body(lambda body: body[: len(body) * 2 // 3]),
    "not-json": change_body(lambda body: "The operation was successful.", "text/plain"),
    "wrapped": change_body(_wrap),
    "reset": lambda request, original: Reset(),
    "hang": _send_as(Hanging),
    "drip": _send_as(Dripping),
    "slow": _send_as(Slow),
    "gzip-garbage": _break_gzip(lambda body: b"this is not gzip" * 4),
    "gzip-cut": _break_gzip(lambda body: gzip.compress(body, 1)[:-12]),
    "204": lambda request, original: Response(status_code=204),
    "423": _send_problem(423, "The tenant is locked."),
    "425": _send_problem(425, "Too early."),
    "quota": _send_problem(403, "Out of call volume quota. Quota will be replenished in 00:00:01."),
    "429-beyond": _send_problem(429, "Rate limit is exceeded.", {"Retry-After": "9" * 15}),
    "encoding": _declare_encoding,
    "redirect": lambda request, original: Response(
        status_code=302, headers={"Location": "https://login.example.com/"}
    ),
}
_LISTS_ONLY: dict[str, FaultEffect] = {
    "no-data": change_body(_remove_data),
    "data-object": change_body(_replace_data),
    "repeated-token": change_envelope(_repeat_token),
    "endless": change_envelope(_promise_more),
    "empty-page": change_envelope(_empty_page),
    **FALSE_RESPONSES,
}


class Faults:
    """Decides which request gets which fault.

    Args:
        probabilities: probability by kind, from 0 to 1. The first kind drawn applies.
        seed: decides all random choices.

    Raises:
        ValueError: a kind is unknown, or a probability is not from 0 to 1.
    """

    def __init__(self, probabilities: Mapping[str, float], seed: int) -> None:
        for kind, probability in probabilities.items():
            _check(kind, probability)
        self._probabilities = dict(probabilities)
        self._seed = seed
        self._numbers = {True: 0, False: 0}

    def draw(self, *, token: bool) -> FaultEffect | None:
        """Draw the fault of the next request, or None.

        Args:
            token: whether it is a token request. They are counted separately.
        """
        self._numbers[token] += 1
        for kind, probability in self._probabilities.items():
            if kind.startswith(TOKEN_PREFIX) is token:
                text = f"{self._seed}:{kind}:{self._numbers[token]}"
                if random.Random(text).random() < probability:
                    return _find_effect(kind.removeprefix(TOKEN_PREFIX))
        return None


def read_faults(texts: Iterable[str]) -> dict[str, float]:
    """Read probabilities by kind from texts such as `503:0.05`.

    Raises:
        ValueError: a text does not have that form, a kind is unknown, or a probability is not from
            0 to 1.
    """
    probabilities: dict[str, float] = {}
    for text in texts:
        kind, colon, number = text.rpartition(":")
        try:
            probability = float(number) if colon else 1.0
        except ValueError:
            raise ValueError(f"--fault {text}: {number!r} is not a number from 0 to 1") from None
        kind = kind if colon else number
        _check(kind, probability)
        probabilities[kind] = probability
    return probabilities


def _check(kind: str, probability: float) -> None:
    plain = kind.removeprefix(TOKEN_PREFIX)
    if plain not in _ANYWHERE and (kind not in _LISTS_ONLY):
        raise ValueError(
            f"there is no fault {kind!r}: name one of {', '.join((*FAULT_KINDS, *FALSE_KINDS))};"
            f" or, for token requests, {TOKEN_PREFIX} and one of {', '.join(_ANYWHERE)}"
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"fault {kind}: the probability must be from 0 to 1, not {probability}")


def _find_effect(kind: str) -> FaultEffect:
    return _ANYWHERE.get(kind) or _LISTS_ONLY[kind]
