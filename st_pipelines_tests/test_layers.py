"""Imports point one way: down one ordered list of packages, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "st_pipelines"
LAYERS: tuple[tuple[str, ...], ...] = (
    ("json_text", "windows"),
    ("catalog",),
    ("warehouse", "servicetitan", "sandbox"),
    ("config",),
    ("sync",),
    ("defs",),
    ("definitions",),
    ("component", "cli"),
)
"""From the bottom up. A package imports lower layers and itself, never its own layer's others."""
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
HTTP, DUCKDB, DAGSTER = {"requests", "urllib3", "httpx"}, {"duckdb"}, {"dagster"}
FORBIDDEN: Mapping[str, set[str]] = {
    "catalog": HTTP | DUCKDB | DAGSTER,
    "warehouse": HTTP | DAGSTER,
    "servicetitan": DUCKDB | DAGSTER,
    "sandbox": DUCKDB | DAGSTER,
    "config": DUCKDB | DAGSTER,
    "sync": DAGSTER,
}
"""Libraries that a package does without."""


def _module_name(file: Path) -> str:
    return ".".join(file.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


FILES = {_module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def _imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports in full"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if node.module == "st_pipelines" and alias.name.startswith("__"):
                    continue  # the version
                yield full if full in FILES else node.module


IMPORTS = {name: frozenset(_imports(file)) for name, file in FILES.items()}


def _layer(module: str) -> str:
    """The entry of `LAYERS` that a module belongs to."""
    return module.split(".")[1]


def _find_cycle(graph: Mapping[str, frozenset[str]]) -> list[str]:
    """Nodes of one cycle, in order; empty if there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph[node]):
            if found := visit(following, [*path, node]):
                return found
        done.add(node)
        return []

    for node in graph:
        if found := visit(node, []):
            return found
    return []


def test_every_module_belongs_to_a_layer() -> None:
    assert {_layer(name) for name in FILES if name != "st_pipelines"} == RANK.keys()


def test_imports_point_down() -> None:
    upward = [
        f"{name} imports {imported}"
        for name, modules in IMPORTS.items()
        if name != "st_pipelines"  # the public API imports from every layer
        for imported in sorted(modules)
        if imported.startswith("st_pipelines") and not _may_import(name, imported)
    ]
    assert upward == []


def _may_import(name: str, imported: str) -> bool:
    if imported == "st_pipelines":
        return False
    own, other = _layer(name), _layer(imported)
    return other == own or RANK[other] < RANK[own]


def test_packages_form_no_cycle() -> None:
    graph = {
        layer: frozenset(
            _layer(imported)
            for name, modules in IMPORTS.items()
            if name != "st_pipelines" and _layer(name) == layer
            for imported in modules
            if imported.startswith("st_pipelines.") and _layer(imported) != layer
        )
        for layer in RANK
    }
    assert _find_cycle(graph) == []


def test_files_form_no_cycle() -> None:
    graph = {
        name: frozenset(imported for imported in modules if imported in FILES)
        for name, modules in IMPORTS.items()
        if name != "st_pipelines"
    }
    graph = {name: modules & graph.keys() for name, modules in graph.items()}
    assert _find_cycle(graph) == []


def test_a_cycle_is_found() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b"), "d": frozenset("a")}
    assert _find_cycle(graph) == ["b", "c", "b"]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_does_without_libraries_of_other_layers(package: str) -> None:
    for name, modules in IMPORTS.items():
        if name.startswith(f"st_pipelines.{package}"):
            libraries = {module.partition(".")[0] for module in modules}
            assert not libraries & FORBIDDEN[package], f"{name} imports {libraries}"


def test_the_sandbox_knows_the_vendors_documents_and_not_the_endpoint_catalog() -> None:
    facts = ("specification", "specification_files", "foreign_keys")
    allowed = {f"st_pipelines.catalog.{module}" for module in facts}

    for name, imports in IMPORTS.items():
        if _layer(f"{name}.") == "sandbox":
            found = {one for one in imports if one.startswith("st_pipelines.catalog")}
            assert not found - allowed, f"{name}: an error in the catalog would be mirrored"


def test_the_package_stays_small_enough_to_find_things_in() -> None:
    """At 147 modules and 37 top-level files nobody but its builders found their way around.

    There is room for new commands, managers and backends. Where it runs out, merge small modules.
    """
    entries = [e for e in PACKAGE.iterdir() if e.name != "__pycache__"]
    modules = [
        name
        for name, file in FILES.items()
        if file.name != "__init__.py" and _layer(name) != "sandbox"
    ]
    assert len(entries) <= 14, sorted(e.name for e in entries)
    assert len(modules) <= 240, f"{len(modules)} modules: merge some that are always read together"


def test_only_config_reads_settings_from_the_process_environment() -> None:
    """The demo sets them, and the event storage uses a variable of Dagster's own."""
    others = {"st_pipelines.cli.demo", "st_pipelines.defs.event_storage"}
    for name, file in FILES.items():
        text = file.read_text(encoding="utf-8")
        if "os.environ" in text or "getenv" in text:
            assert _layer(name) == "config" or name in others, name


def test_definitions_load_without_what_only_a_run_needs() -> None:
    code = (
        "import sys; import st_pipelines.definitions as d; assert d.production.assets;"
        "print(*({'requests', 'duckdb', 'pandas', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
