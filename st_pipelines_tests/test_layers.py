"""Three layers, one direction: a module that reaches past its neighbour is a design error."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "st_pipelines"
HTTP = {"requests", "urllib3", "httpx", "st_pipelines.servicetitan"}
DUCKDB = {"duckdb", "st_pipelines.warehouse"}
DAGSTER = {"dagster", "dagster_webserver"}
FORBIDDEN = {
    "catalog": DAGSTER | HTTP | {"duckdb"},
    "servicetitan": DAGSTER | DUCKDB,
    "warehouse": DAGSTER | HTTP,
    "config/sources": DAGSTER | HTTP | DUCKDB,
    "sandbox": DAGSTER | DUCKDB | {"st_pipelines.servicetitan"},
}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("layer", sorted(FORBIDDEN))
def test_a_layer_does_not_reach_into_another(layer: str) -> None:
    files = sorted((PACKAGE / layer).rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            hits = [f for f in FORBIDDEN[layer] if name == f or name.startswith(f + ".")]
            if layer == "catalog" and file.name == "listing.py":
                hits = [hit for hit in hits if hit != "duckdb"]
            assert not hits, f"{file.relative_to(PACKAGE)} imports {name}"


def test_no_module_reads_the_environment_but_settings_and_the_demo() -> None:
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "os.environ" in text or "getenv" in text:
            assert file.parent.name == "config" or file.name == "demo.py", file


def test_definitions_load_without_what_only_a_run_needs() -> None:
    code = (
        "import sys; import st_pipelines.definitions as d; assert d.production.assets;"
        "print(*({'requests', 'duckdb', 'pandas', 'cryptography'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
