"""Counts what decides how easily the package is read: modules, entries, scattered conditions.

    python benchmarks/structure.py
    python benchmarks/structure.py --list

Prints, for the package without its sandbox,

- the modules, `__init__.py` not counted;
- the packages and modules at the package's top level, `__init__.py` not counted;
- the conditions on the kind of an endpoint or a load outside the places that decide about it
  (`sync/strategies.py`, `catalog/`, `sandbox/`): on `kind`, `by_day`, `replaces`, `mode` or an
  empty `key`, also by the properties `is_feed` and `has_key`; and, in a second figure, on any fact
  of an endpoint that tells its kinds apart.

A condition is the test of an `if`, `elif`, ternary, `while`, `assert`, `match` or comprehension, an
operand of `and`, `or` and `not`, a side of a comparison, or an argument of `bool`. It counts where
it is such a name (`replaces`) or attribute (`endpoint.by_day`), and once.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "st_pipelines"
KINDS = frozenset({"kind", "is_feed", "by_day", "replaces", "keyless", "mode", "key", "has_key"})
FACTS = KINDS | {
    "partitioned",
    "cursor",
    "export",
    "explode",
    "variants",
    "ids",
    "can_look_up",
    "has_active",
    "includes_total",
}
_ALSO_BY_NAME = frozenset({"by_day", "replaces", "keyless"})  # others mean other things as well
_OF_AN_ENDPOINT = FACTS - {"replaces", "mode", "keyless"}
_ENDPOINTS = frozenset({"endpoint", "_endpoint", "e"})
_DECIDING = ("sync/strategies.py", "sync/strategy.py", "catalog/", "sandbox/")


def main() -> None:
    options = _options()
    package = options.package.resolve()
    modules = [file for file in package.rglob("*.py") if file.name != "__init__.py"]
    outside = [file for file in modules if not file.is_relative_to(package / "sandbox")]
    kinds, facts = scattered(package, KINDS), scattered(package, FACTS)
    if options.list:
        print("\n".join(facts))
    print(f"{len(outside)} modules outside the sandbox")
    print(f"{len(top_level(package))} packages and modules at the top level")
    print(f"{len(kinds)} scattered conditions on kinds, {len(facts)} on facts of an endpoint")


def top_level(package: Path) -> list[str]:
    """Names of the packages and modules directly in the package."""
    return sorted(
        entry.name.removesuffix(".py")
        for entry in package.iterdir()
        if (entry / "__init__.py").exists()
        or (entry.suffix == ".py" and entry.name != "__init__.py")
    )


def scattered(package: Path, names: frozenset[str]) -> list[str]:
    """Conditions on such names where they are not decided about, as `file:line: expression`."""
    found = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        if not name.startswith(_DECIDING):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            tested = [node for node in _conditions(tree) if _tests(node, names)]
            at = {(node.lineno, node.col_offset): ast.unparse(node) for node in tested}
            found += [f"{name}:{line}: {text}" for (line, _), text in sorted(at.items())]
    return found


def _conditions(tree: ast.AST) -> Iterator[ast.expr]:
    """Every expression whose truth or value decides something, nested ones included."""
    for node in ast.walk(tree):
        match node:
            case ast.If() | ast.IfExp() | ast.While() | ast.Assert():
                yield node.test
            case ast.comprehension():
                yield from node.ifs
            case ast.BoolOp():
                yield from node.values
            case ast.UnaryOp(op=ast.Not()):
                yield node.operand
            case ast.Compare():
                yield from (node.left, *node.comparators)
            case ast.Match():
                yield node.subject
            case ast.Call(func=ast.Name(id="bool")):
                yield from node.args


def _tests(node: ast.expr, names: frozenset[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in names & _ALSO_BY_NAME
    if not isinstance(node, ast.Attribute) or node.attr not in names:
        return False
    return node.attr not in _OF_AN_ENDPOINT or _last_name(node.value) in _ENDPOINTS


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, default=PACKAGE, help="default: this checkout's")
    parser.add_argument("--list", action="store_true", help="print the conditions")
    return parser.parse_args()


if __name__ == "__main__":
    main()
