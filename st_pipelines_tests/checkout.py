"""Fails a suite that leaves files in the checkout, or removes some: hooks for conftest.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_CACHES = ("__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", ".venv", "*.egg-info")
_FILES_BEFORE = pytest.StashKey[frozenset[str]]()
_FILES_CHANGED = pytest.StashKey[list[str]]()


def untracked_files(folder: Path) -> frozenset[str]:
    """Lists the files below a folder that Git does not track, ignored ones too, but no caches.

    Empty outside a Git checkout. Tracked files are left out: somebody may edit them meanwhile.
    """
    command = ["git", "ls-files", "--others", *(f"--exclude={name}" for name in _CACHES)]
    try:
        listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return frozenset()
    return frozenset(listed.stdout.splitlines())


def pytest_sessionstart(session: pytest.Session) -> None:
    """Notes which files there are, in the controlling process only."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_FILES_BEFORE] = untracked_files(session.config.rootpath)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a session that created or removed files in the checkout."""
    if (before := session.config.stash.get(_FILES_BEFORE, None)) is None:
        return
    changed = sorted(before ^ untracked_files(session.config.rootpath))
    session.config.stash[_FILES_CHANGED] = changed
    if changed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Names the files that the session created or removed."""
    if changed := config.stash.get(_FILES_CHANGED, []):
        terminalreporter.section("files created or removed in the checkout", red=True)
        for file in changed:
            terminalreporter.line(file)
