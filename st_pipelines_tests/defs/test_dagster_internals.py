"""Dagster's private modules are imported in two places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "st_pipelines"


def private_names(file: Path) -> Iterator[str]:
    """Modules of Dagster with an underscore that a file imports or names in a string."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        else:
            continue
        yield from (name for name in names if name.startswith(("dagster._", "dagster_shared")))


def test_two_modules_import_the_private_modules_of_dagster() -> None:
    found = {
        str(file.relative_to(PACKAGE))
        for file in sorted(PACKAGE.rglob("*.py"))
        if any(private_names(file))
    }
    assert found == {"defs/dagster_internals.py", "defs/event_storage.py"}
