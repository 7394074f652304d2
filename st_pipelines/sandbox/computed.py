"""Operations whose responses are computed on request.

`reports` and `capacity` define them. `Api` asks `ComputedOperations` first, checks access as for
any other operation, and lets `ComputedOperations.answer` do the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from st_pipelines.sandbox import responses
from st_pipelines.sandbox.operations import compile_path
from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.world import World


class Refusal(Exception):
    """A request that is answered with an error in ServiceTitan's format.

    For a wrong value, `parameters.BadRequest` names it.

    Args:
        status: the HTTP status.
        title: says what is wrong.
    """

    def __init__(self, status: int, title: str) -> None:
        super().__init__(f"{status} {title}")
        self.status = status
        self.title = title


class TooEarly(Exception):
    """A request that is answered with a 429.

    Args:
        seconds: how long to wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds} seconds")
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request to a computed operation.

    Attributes:
        tenant: the tenant's id.
        world: the tenant's records.
        path: the values in the path, by name.
        query: the query parameters.
        body: the request's body.
    """

    tenant: str
    world: World
    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def read_body(self) -> Mapping[str, Any]:
        """Return the body, which is a JSON object.

        Raises:
            BadRequest: the body is something else.
        """
        try:
            body = json.loads(self.body)
        except ValueError:
            raise BadRequest("$", "The request body is not valid JSON.") from None
        if not isinstance(body, dict):
            raise BadRequest("$", "The request body is not a JSON object.")
        return body

    def read_number(self, name: str, default: int, largest: int, smallest: int = 1) -> int:
        """Return a whole number from the query, from `smallest` to `largest`.

        Raises:
            BadRequest: the value is something else.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise BadRequest(name, f"The value '{text}' is not valid.")
        if not smallest <= int(text) <= largest:
            raise BadRequest(name, f"The value must be from {smallest} to {largest}.")
        return int(text)

    def read_flag(self, name: str) -> bool:
        """Return a truth value from the query; False if it is missing.

        Raises:
            BadRequest: the value is neither true nor false.
        """
        text = self.query.get(name, "") or "false"
        if text.lower() not in ("true", "false"):
            raise BadRequest(name, f"The value '{text}' is not valid.")
        return text.lower() == "true"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A computed operation.

    Attributes:
        method: of HTTP.
        path: with names in braces.
        scope: a token needs it.
        answer: computes the response. It may raise `BadRequest`, `Refusal` or `TooEarly`.
    """

    method: str
    path: str
    scope: str
    answer: Callable[[Call], Response]


class ComputedOperations:
    """Finds operations by method and path, and answers calls to them."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = [(compile_path(each.path), each) for each in operations]

    def find(self, method: str, path: str) -> tuple[Operation, Mapping[str, str]] | None:
        """Find the operation of a request.

        Args:
            method: of HTTP.
            path: with `{tenant}` in place of the tenant's id.

        Returns:
            The operation and the values in the path; None if there is no such operation.
        """
        for pattern, operation in self._operations:
            match = pattern.fullmatch(path)
            if match and operation.method == method:
                return operation, match.groupdict()
        return None

    @staticmethod
    def answer(operation: Operation, call: Call) -> Response:
        """Answer a call whose access was checked. Waits for the lock of the tenant's world.

        Raises:
            BadRequest: a value in the request is wrong.
        """
        try:
            with call.world.lock:
                return operation.answer(call)
        except Refusal as refusal:
            body = responses.build_problem(refusal.status, refusal.title, errors={}, data={})
            return responses.build_json_response(body, refusal.status)
        except TooEarly as early:
            return responses.build_too_many_requests(early.seconds)


def build_page(
    call: Call, rows: Sequence[Any], *, default_size: int, largest_size: int
) -> dict[str, Any]:
    """Build the envelope of a page, with the rows in `data`.

    Raises:
        BadRequest: the page or its size is invalid.
    """
    # Like most lists, reports are taken to treat page 0 as the first.
    page = call.read_number("page", 1, 999_999_999, smallest=0) or 1
    size = call.read_number("pageSize", default_size, largest_size)
    with_total = call.read_flag("includeTotal")
    return responses.build_page(rows, page=page - 1, size=size, with_total=with_total)
