"""Takes the documents apart: code blocks, command lines, links and names of code."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "st_pipelines"
DOCUMENTS = sorted(
    file.relative_to(CHECKOUT).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", ".github/**/*.md")
    for file in CHECKOUT.glob(pattern)
)

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}\S.*\n)+", re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def text_of(document: str) -> str:
    """A document's text."""
    return (CHECKOUT / document).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return [code for tag, code in _FENCED.findall(text) if tag == language]


def command_lines(text: str, *programs: str) -> Iterator[list[str]]:
    """The command lines of these programs, in code blocks and in inline code, as words."""
    fenced = [code for tag, code in _FENCED.findall(text) if tag in ("", "sh")]
    shown = [line for code in fenced for line in code.replace("\\\n", " ").splitlines()]
    shown += [line.strip() for code in _INDENTED.findall(text) for line in code.splitlines()]
    prose = _FENCED.sub("", text)
    shown += [" ".join(code.split()) for code in _INLINE.findall(prose)]
    for line in shown:
        for part in re.split(r"&&|\||;", re.sub(r"\s#.*", "", line)):
            try:
                words = shlex.split(part.removeprefix("$ "))
            except ValueError:  # an apostrophe of prose
                continue
            if words and words[0] in programs:
                yield words


def links(text: str) -> list[str]:
    """The targets of links and pictures outside of code, without those to other hosts."""
    targets = _LINK.findall(_INLINE.sub("", _FENCED.sub("", text)))
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in kept}


def inline_code(text: str) -> list[str]:
    """What stands in backticks, outside of code blocks."""
    return [" ".join(code.split()) for code in _INLINE.findall(_FENCED.sub("", text))]


def defines(file: Path, name: str) -> bool:
    """Whether a Python file defines a name, a method or attribute as `Class.name`."""
    body: list[ast.stmt] = _parsed(file).body
    for part in name.split("."):
        found = [node for node in body if part in _names(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _names(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name() as target):
            return {target.id}
        case _:
            return set()
