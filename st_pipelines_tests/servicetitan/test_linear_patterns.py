"""No text of a server makes a pattern of ours search for longer than the text is long.

A proxy once answered with a page that took minutes to search. Time cannot be asserted reliably, so
the patterns themselves are: only the end of a pattern may repeat without a limit.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from st_pipelines import servicetitan
from st_pipelines.servicetitan.http import redact, responses
from st_pipelines.servicetitan.http.model import Request, Response

try:
    from re import _constants as constants  # pyright: ignore[reportAttributeAccessIssue]
    from re import _parser as parser  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # Python 3.10
    import sre_constants as constants
    import sre_parse as parser

LONGEST_REPEAT = 1000
"""More than any of our limits, and far less than a body has."""
PACKAGES = ("st_pipelines.servicetitan.http.", "st_pipelines.servicetitan.errors.")


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(servicetitan.__path__, f"{servicetitan.__name__}."):
        if found.name.startswith(PACKAGES):
            yield importlib.import_module(found.name)


PATTERNS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in modules()
    for name, value in vars(module).items()
    if isinstance(value, re.Pattern)
}


def find_risky_repeats(parsed: list, *, at_end: bool = True) -> Iterator[str]:
    """Yield the repeats that are not limited, except one that ends the pattern.

    What follows an unlimited repeat may fail, and then each shorter repeat, and each later start,
    is tried. A repeat at the end cannot fail.
    """
    for index, (operation, argument) in enumerate(parsed):
        last = at_end and index == len(parsed) - 1
        if operation in (constants.MAX_REPEAT, constants.MIN_REPEAT):
            _, most, inner = argument
            if most > LONGEST_REPEAT and not last:
                yield f"{operation} at {index}"
            # Inside of a repeat nothing is at the end: the next round follows it.
            yield from find_risky_repeats(list(inner), at_end=False)
        elif operation is constants.SUBPATTERN:
            yield from find_risky_repeats(list(argument[-1]), at_end=last)
        elif operation is constants.BRANCH:
            for branch in argument[1]:
                yield from find_risky_repeats(list(branch), at_end=last)


def risks(pattern: Any) -> list[str]:
    parsed: Any = parser.parse(pattern)
    return list(find_risky_repeats(list(parsed)))


def test_the_patterns_are_found():
    assert {"redact._BEARER", "retry._SECONDS", "diagnosis._APP_UNKNOWN"} <= PATTERNS.keys()


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_repeats_without_a_limit_before_its_end(name):
    assert risks(PATTERNS[name].pattern) == []


def test_the_pattern_of_a_secret_repeats_with_a_limit():
    secret = 'cs1.a/b+c \n"d\\'
    for pattern in redact._build_patterns([secret]):
        assert risks(pattern.pattern) == []


@pytest.mark.parametrize(
    "pattern", [r"<title[^>]*>(.*?)</title>", r"eyJ[\w-]{5,}\.", r"(?:a+)+", r"(?:a{1,5}|b+)c"]
)
def test_a_pattern_that_searches_for_long_would_be_noticed(pattern):
    """The first two were ours."""
    assert risks(pattern)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 429, 503])
@pytest.mark.parametrize("before", ["", '{"title":"', "<html><title>"])
def test_only_the_beginning_of_an_error_body_is_searched(status, before):
    limit = responses.MAX_ERROR_BODY_BYTES
    body = before + "x " * limit + "maintenance, try again in 9 seconds, quota"
    request = Request(method="GET", url="https://a.io/x")
    response = Response(status=status, headers={}, body=body.encode())
    assert len(responses.read_error_body(request, response).searched) < limit
    padded = b'{"title":"quota"' + b" " * limit + b"}"
    response = Response(status=status, headers={}, body=padded)
    assert responses.read_error_body(request, response).text != "quota"
    response = Response(status=status, headers={}, body=body.encode())
    if status != 200:
        error = responses.build_error(request, response)
        assert error.retry_after is None
        assert "quota" not in str(error)
