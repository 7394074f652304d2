"""The suite's own machinery: deadlines, the order of files, and the check for files left behind."""

from __future__ import annotations

import re
import subprocess
from itertools import count
from pathlib import Path

import pytest

from st_pipelines_tests import deadlines
from st_pipelines_tests.conftest import SLOWEST, TESTS

pytest_plugins = ("pytester",)
HOOKS = ("-p", "st_pipelines_tests.checkout")


@pytest.fixture
def checkout(pytester: pytest.Pytester) -> Path:
    """A Git checkout that ignores the folder `data`."""
    subprocess.run(["git", "init", "--quiet", "."], cwd=pytester.path, check=True)
    pytester.path.joinpath(".gitignore").write_text("/data/\n")
    return pytester.path


@pytest.mark.parametrize(("file", "workers"), [("left.txt", "0"), ("data/left.duckdb", "2")])
def test_a_suite_that_leaves_a_file_in_the_checkout_fails(
    pytester: pytest.Pytester, checkout: Path, file: str, workers: str
) -> None:
    pytester.makepyfile(
        f"""
        from pathlib import Path
        def test_leaves_a_file():
            path = Path({str(checkout / file)!r})
            path.parent.mkdir(exist_ok=True)
            path.touch()
        """
    )
    result = pytester.runpytest_subprocess(*HOOKS, "-n", workers)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*files created or removed in the checkout*", file])


def test_a_suite_that_removes_a_file_from_the_checkout_fails(
    pytester: pytest.Pytester, checkout: Path
) -> None:
    env = checkout / ".env"
    env.touch()
    pytester.makepyfile(f"import os\ndef test_removes_a_file(): os.unlink({str(env)!r})")
    result = pytester.runpytest_subprocess(*HOOKS, "-n", "0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([".env"])


def test_caches_may_change(pytester: pytest.Pytester, checkout: Path) -> None:
    pytester.makepyfile(
        """
        from pathlib import Path
        def test_fills_caches(request):
            for name in (".hypothesis", ".pytest_cache", ".ruff_cache", "a/__pycache__"):
                (request.config.rootpath / name).mkdir(parents=True, exist_ok=True)
                (request.config.rootpath / name / "entry").touch()
        """
    )
    assert pytester.runpytest_subprocess(*HOOKS, "-n", "0").ret == pytest.ExitCode.OK


def test_a_wait_returns_the_first_true_value() -> None:
    numbers = count()
    assert deadlines.wait_until(lambda: next(numbers), "number", interval=0) == 1


def test_a_wait_in_vain_says_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "DEADLINE", 0)
    with pytest.raises(AssertionError, match="no unicorn within 0 s"):
        deadlines.wait_until(lambda: None, "unicorn")


def test_a_wait_ends_before_its_test_is_ended() -> None:
    """pytest-timeout ends a test without saying what it waited for."""
    project = (TESTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    [timeout] = re.findall(r"^timeout = (\d+)$", project, re.MULTILINE)
    assert int(timeout) > deadlines.DEADLINE


def test_every_file_that_starts_first_exists() -> None:
    assert [file for file in SLOWEST if not (TESTS / file).is_file()] == []


def test_waits_for_processes_share_the_deadline() -> None:
    """One slow fixture used to reach a limit of its own, and 153 tests failed with it."""
    own_limits = re.compile(r"timeout=\d{2,}|(?:join|wait)\(\d{2,}\)")
    found = {
        str(file.relative_to(TESTS)): limits
        for file in sorted(TESTS.rglob("*.py"))
        if (limits := own_limits.findall(file.read_text(encoding="utf-8")))
    }
    assert found == {}
