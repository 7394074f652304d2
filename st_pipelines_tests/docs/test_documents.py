"""The documents say what the code does: their examples run, and what they name exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import typer
import yaml
from dagster._cli import create_dagster_cli

from st_pipelines.catalog.configured import read as read_endpoints
from st_pipelines.cli.app import app
from st_pipelines.component import ServiceTitanComponent
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.docs.markdown import (
    CHECKOUT,
    DOCUMENTS,
    PACKAGE,
    anchors,
    blocks,
    command_lines,
    defines,
    inline_code,
    links,
    text_of,
)

WITH_PYTHON = ["README.md", "CONTRIBUTING.md", "docs/extend.md", "docs/coming-from.md"]
COMPONENTS = [code for page in WITH_PYTHON for code in blocks(text_of(page), "yaml")]
WITH_CODE_NAMES = ["CONTRIBUTING.md", "docs/architecture.md", "docs/correctness.md"]
TOP_LEVEL = ("st_pipelines", "st_pipelines_tests", "docs", "benchmarks", ".ci", ".github")
OF_DG = {
    "check",
    "dev",
    "scaffold",
    "list",
    "-w",
}
"""Words of `dg` commands in the documents. `test_component` runs these commands."""


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """What the examples take for granted: a folder whose production is the sandbox."""
    with Sandbox(customers=20, now=NOW, requests_per_second=1e9) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
        monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-01-01")
        yield tmp_path


@pytest.mark.parametrize("document", WITH_PYTHON)
def test_the_examples_in_python_run(document: str, configured: Path) -> None:
    """Those of one document after one another, with the names of the earlier ones."""
    names: dict[str, Any] = {"__name__": "example"}
    for number, code in enumerate(blocks(text_of(document), "python"), start=1):
        name = f"{document}, example {number}"
        exec(compile(code, name, "exec", dont_inherit=True), names)
        bound = [key for key, value in names.items() if isinstance(value, dg.Definitions)]
        assert len(bound) <= 1, f"{name}: Dagster loads no module with {' and '.join(bound)}"


@pytest.mark.parametrize(
    "code",
    [
        code
        for page in ("README.md", "docs/extend.md")
        for code in blocks(text_of(page), "yaml")
        if "type" in yaml.safe_load(code)
    ],
)
def test_the_examples_of_a_component_can_be_loaded(code: str, configured: Path) -> None:
    example = yaml.safe_load(code)
    assert example["type"] == "st_pipelines.ServiceTitanComponent"
    component = ServiceTitanComponent.resolve_from_yaml(yaml.safe_dump(example["attributes"]))
    definitions = component.build_defs(dg.ComponentTree.for_test().load_context)
    assert definitions.resolve_all_asset_keys()


def test_the_example_of_an_endpoint_of_the_users_can_be_read(tmp_path: Path) -> None:
    examples = blocks(text_of("docs/extend.md"), "yaml")
    [code] = [code for code in examples if "type" not in yaml.safe_load(code)]
    (tmp_path / "st_endpoints.yaml").write_text(code, encoding="utf-8")
    [endpoint] = read_endpoints(tmp_path / "st_endpoints.yaml").values()
    assert (endpoint.table, endpoint.kind) == ("salestech.opportunities", "window")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_command_lines_name_commands_and_options_that_exist(document: str) -> None:
    programs = {"st-pipelines": typer.main.get_command(app), "dagster": create_dagster_cli()}
    wrong = [
        f"{' '.join(words)}: {unknown}"
        for words in command_lines(text_of(document), *programs)
        if (unknown := find_unknown_word(programs[words[0]], words[1:]))
    ]
    wrong += [
        " ".join(words)
        for words in command_lines(text_of(document), "dg")
        if not {*words[1:2], *filter(is_option, words)} <= OF_DG
    ]
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_command_lines_name_scripts_recipes_and_tests_that_exist(document: str) -> None:
    recipes = re.findall(r"^(\w+)[^\n=]*:$", (CHECKOUT / "justfile").read_text(), re.MULTILINE)
    wrong = []
    for words in command_lines(text_of(document), "python", "just", "pytest"):
        files = [word.partition("::")[0] for word in words if word.startswith(TOP_LEVEL)]
        fine = all((CHECKOUT / file).exists() for file in files)
        if words[0] == "just":
            fine &= set(words[1:2]) <= set(recipes)
        if words[0] == "python" and files:
            fine &= set(filter(is_option, words)) <= options_of_script(CHECKOUT / files[0])
        if not fine:
            wrong.append(" ".join(words))
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings_that_exist(document: str) -> None:
    wrong = []
    for link in links(text_of(document)):
        path, _, anchor = link.partition("#")
        file = (CHECKOUT / document).parent / path if path else CHECKOUT / document
        heading_exists = not anchor or anchor in anchors(file.read_text(encoding="utf-8"))
        if not file.exists() or not heading_exists:
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_modules_in_inline_code_exist(document: str) -> None:
    wrong = []
    for code in inline_code(text_of(document)):
        if re.fullmatch(rf"({'|'.join(map(re.escape, TOP_LEVEL))})/[\w./-]+", code):
            exists = (CHECKOUT / code).exists()
        elif re.fullmatch(r"st_pipelines(\.\w+)+", code):
            exists = can_be_imported(code)
        else:
            continue
        if not exists:
            wrong.append(code)
    if document != "CHANGELOG.md":  # which may name what is no longer there
        assert wrong == []


@pytest.mark.parametrize("document", WITH_CODE_NAMES)
def test_names_of_code_exist(document: str) -> None:
    wrong = []
    for code in inline_code(text_of(document)):
        if not (found := re.fullmatch(r"([\w/.-]+/[\w.-]+|\w+\.py)(?::([\w.]+))?", code)):
            continue
        file, name = found.groups()
        path = next((root / file for root in (PACKAGE, CHECKOUT) if (root / file).exists()), None)
        if path is None or (name and not defines(path, name)):
            wrong.append(code)
    assert wrong == []


def test_the_architecture_lists_every_package_and_module() -> None:
    section = text_of("docs/architecture.md").partition("## Packages")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", section, re.MULTILINE))
    assert rows.keys() == packages_in(PACKAGE)
    for package, text in rows.items():
        assert packages_in(PACKAGE / package) == set(re.findall(r"`(?:\w+/)?(\w+)/`", text)), (
            package
        )
    modules = {code for code in inline_code(section) if re.fullmatch(r"[a-z]\w*\.py", code)}
    assert modules == {file.name for file in PACKAGE.glob("*.py")} - {"__init__.py"}


def packages_in(folder: Path) -> set[str]:
    """Names of the packages directly in a folder."""
    return {entry.name for entry in folder.iterdir() if (entry / "__init__.py").exists()}


def find_unknown_word(command: Any, words: list[str]) -> str:
    """The first subcommand or option that a command line names in vain; empty if none."""
    options: set[str] = {"--help"}
    while True:
        for parameter in command.params:
            options |= {*parameter.opts, *parameter.secondary_opts}
        commands = getattr(command, "commands", None)
        if not commands:
            break
        if not words or is_option(words[0]):  # `st-pipelines --help`
            break
        if words[0] not in commands:
            return words[0]
        command, words = commands[words[0]], words[1:]
    used = [word.partition("=")[0] for word in words if is_option(word)]
    return next((option for option in used if option not in options), "")


def is_option(word: str) -> bool:
    """Whether a word of a command line is an option."""
    return re.match(r"--?[a-zA-Z]", word) is not None


def options_of_script(script: Path) -> set[str]:
    """The options that a script gives to its `argparse` parser."""
    return {
        argument.value
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def can_be_imported(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    try:
        importlib.import_module(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True
