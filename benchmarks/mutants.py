"""Changes the code in small ways, one at a time, and checks that a test fails each time.

A mutant is one edit of one module: a turned comparison, a dropped condition or call, another
constant, also inside SQL. Each runs in a forked process whose import of that module yields the
changed source, so nothing is copied and no file is touched. The tests of its area run until one
fails. Outcomes: `killed`, `timed out` (a loop without an end, or a lock), `survived`, and
`invalid` (no Python or SQL; not counted). The sample follows from `--seed` and the code itself:
an edit elsewhere does not change which lines are chosen.

Exits with 1 if more than 3 % of the mutants survive without an entry in `EXPLAINED`, if an entry
matches no mutant anymore, or if the tests fail on the unchanged code.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "st_pipelines"
TESTS = ROOT / "st_pipelines_tests"
sys.path.insert(0, str(ROOT))

MOST_SURVIVORS = 0.03
OUTCOMES = ("killed", "timed out", "survived", "explained", "invalid")


@dataclass(frozen=True)
class Area:
    """Modules below `st_pipelines`, and the tests below `st_pipelines_tests` that must notice.

    Tests are files, or single ones of slow files (`file.py::name`). Fast ones come first, because
    the first failure ends a run.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_TABLES = (
    "warehouse/test_load_counts.py",
    "warehouse/test_load.py",
    "warehouse/test_load_order.py",
)
_DELETIONS = ("sync/test_deletions.py", "sync/test_many_deletions.py")
_LOST = (
    "test_a_lost_warehouse_is_loaded_again",
    "test_days_after_a_backup_are_loaded_again",
    "test_a_table_that_is_selected_later_is_loaded_from_the_start_date",
    "test_gaps_says_how_the_warehouse_differs_from_what_dagster_recorded",
)
_GAPS = (
    "test_a_day_in_a_run_or_a_backfill_is_not_a_gap",
    "test_a_day_is_not_a_gap_before_its_daily_run_has_had_its_time",
    "test_a_gap_that_keeps_failing_is_given_up_and_named",
    "test_days_that_failed_in_an_outage_of_the_api_are_loaded_after_it",
    "test_after_a_weekend_of_outage_and_a_shorter_day_each_day_is_loaded_completely_once",
)
AREAS = {
    "merge": Area(
        (
            "warehouse/tables/merge.py",
            "warehouse/tables/merge_keyless.py",
            "warehouse/tables/row_values.py",
        ),
        (*_TABLES, "warehouse/test_versions.py"),
    ),
    "load": Area(
        ("warehouse/tables/load.py", "warehouse/tables/load_facts.py"),
        (
            *_TABLES,
            "warehouse/test_versions.py",
            "sync/test_strategies.py::test_the_reports_of_consecutive_days_add_up",
            "defs/test_checks.py",
        ),
    ),
    "load log": Area(
        ("warehouse/tables/load_log.py",),
        (
            "warehouse/test_load_log.py",
            *_TABLES,
            "warehouse/test_identity.py",
            "defs/test_checks.py::test_a_window_is_compared_with_those_of_its_weekday",
            "defs/test_checks.py::test_a_window_that_is_loaded_late_is_not_compared",
        ),
    ),
    "completeness": Area(
        ("servicetitan/reading/completeness.py", "servicetitan/reading/paging.py"),
        ("servicetitan/test_completeness.py", "servicetitan/test_paging.py"),
    ),
    "overlap": Area(
        ("servicetitan/reading/overlap.py",),
        (
            "servicetitan/test_overlap.py",
            "servicetitan/test_completeness.py",
            "servicetitan/test_paging.py",
        ),
    ),
    "read order": Area(
        ("warehouse/tables/overtakers.py",),
        (*_TABLES, "warehouse/test_overlapping_reads.py"),
    ),
    "table state": Area(
        ("warehouse/tables/table_state.py",),
        (
            "warehouse/test_row_scope.py",
            "warehouse/test_load_order.py",
            "warehouse/test_identity.py",
            "sync/test_many_deletions.py",
        ),
    ),
    "deletions": Area(
        ("sync/deletions.py", "sync/feed_reading.py", "warehouse/tables/deletion_guard.py"),
        ("warehouse/test_deletion_guard.py", *_DELETIONS),
    ),
    "row scope": Area(
        ("warehouse/tables/table_load.py",),
        ("warehouse/test_row_scope.py", *_TABLES),
    ),
    "history": Area(
        ("warehouse/tables/history.py",),
        ("warehouse/test_versions.py", "warehouse/test_load_order.py", "sync/test_history.py"),
    ),
    "export bookmarks": Area(
        ("servicetitan/reading/export_feed.py",),
        (
            "servicetitan/test_export_feed.py",
            "sync/test_deletions.py::test_the_feed_continues_from_its_bookmark",
            "sync/test_deletions.py::test_an_expired_continuation_token_is_replaced_by_a_date",
            "sync/test_deletions.py::test_an_expired_continuation_token_does_not_stop_loads",
        ),
    ),
    "lookups": Area(
        ("servicetitan/reading/lookup.py",),
        ("servicetitan/test_lookup.py", "sync/test_many_deletions.py"),
    ),
    "windows": Area(
        ("windows.py", "warehouse/tables/coverage.py"),
        (
            "test_windows.py",
            "servicetitan/test_window.py",
            "warehouse/test_coverage.py",
            "sync/test_day_boundaries.py",
            "sync/test_strategies.py",
        ),
    ),
    "gaps": Area(
        ("defs/sensors/gaps.py",),
        (
            "defs/test_gap_days.py",
            *(f"defs/test_changed_settings.py::{name}" for name in _LOST),
            *(f"defs/test_keeping_fresh.py::{name}" for name in _GAPS),
        ),
    ),
    "strategies": Area(
        ("sync/strategies.py", "sync/strategy.py"),
        ("sync/test_strategies.py", "sync/test_day_boundaries.py", "sync/test_verify.py"),
    ),
    "aggregate days": Area(
        ("warehouse/tables/aggregate_days.py",), ("warehouse/test_aggregate_days.py",)
    ),
    "time zones": Area(
        ("warehouse/tables/table_zones.py", "warehouse/tables/identity.py"),
        ("warehouse/test_identity.py",),
    ),
    "column types": Area(
        ("warehouse/tables/column_types.py",),
        (
            "warehouse/test_column_types.py",
            "warehouse/test_load.py::test_a_column_whose_type_changes_loses_no_value",
        ),
    ),
    "keys": Area(("warehouse/tables/missing_keys.py",), ("warehouse/test_missing_keys.py",)),
    "publish": Area(
        ("warehouse/store/read_copy.py",),
        ("warehouse/test_read_copy.py", "warehouse/test_store.py"),
    ),
}

EXPLAINED: dict[tuple[str, str], str] = {
    (
        "servicetitan/reading/overlap.py",
        "begin = max(1, end - overlap)",
    ): "the page of row 0 is the page of row 1, as every page has two rows or more",
    (
        "defs/sensors/gaps.py",
        "INTERVAL = timedelta(minutes=11)",
    ): "how often the sensor looks is a matter of taste; everything else follows from the value",
    (
        "warehouse/tables/identity.py",
        "if True or (new != stored):",
    ): "the settings are written again as they are stored",
    (
        "warehouse/tables/history.py",
        "if False and (not fetch_row(connection, versions, tenant)[0]):",
    ): "the general way makes the same first versions, only slower",
    (
        "warehouse/tables/history.py",
        'f"FROM {load.table} t LEFT JOIN {history} "',
    ): "more rows are compared with their open version, and do not differ from it",
}
"""Mutants that no test can or needs to kill: the reason by module and mutated line."""


@dataclass(frozen=True)
class Mutant:
    """One edit of a module: `text` replaces the characters from `start` to `end`."""

    module: str
    line: int
    kind: str
    start: int
    end: int
    text: str

    def source(self) -> str:
        """The module's changed source."""
        source = (PACKAGE / self.module).read_text()
        return source[: self.start] + self.text + source[self.end :]

    def mutated_line(self) -> str:
        """The first changed line."""
        return self.source().splitlines()[self.line - 1].strip()

    def rank(self, seed: int) -> str:
        """Orders the mutants at random, the same way after edits elsewhere."""
        identity = f"{seed} {self.module} {self.kind} {self.mutated_line()}"
        return hashlib.sha256(identity.encode()).hexdigest()


# SQL is recognized by its upper-case words inside string literals.
_SQL_EDITS = (
    (r"\bAND\b(?! 1 PRECEDING)", "OR"),
    (r"\bOR\b(?! REPLACE)", "AND"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NOT DISTINCT FROM\b", "IS DISTINCT FROM"),
    (r"\bIS DISTINCT FROM\b", "IS NOT DISTINCT FROM"),
    (r"\bIS NOT FALSE\b", "IS FALSE"),
    (r"\bNOT EXISTS\b", "EXISTS"),
    (r"(?<!NOT )\bEXISTS\b \(", "NOT EXISTS ("),
    (r"\bNOT IN\b", "IN"),
    (r"\bNOT \(", "("),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r"\bgreatest\(", "least("),
    (r"\bbool_or\(", "bool_and("),
    (r"\bSEMI JOIN\b", "ANTI JOIN"),
    (r"\bANTI JOIN\b", "SEMI JOIN"),
    (r"\bLEFT JOIN\b", "JOIN"),
    (r"\bUNION ALL\b", "EXCEPT ALL"),
    (r"\bSELECT DISTINCT\b", "SELECT"),
    (r" DESC\b", " ASC"),
    (r"(?<= )<(?= )", "<="),
    (r"(?<= )<=(?= )", "<"),
    (r"(?<= )>(?= )", ">="),
    (r"(?<= )>=(?= )", ">"),
    (r"(?<= )=(?= )", "<>"),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r" AND (?:[^\"'()\n]|\([^\"'()\n]*\))+?(?= AND |\"| OR |\n| GROUP | ORDER )", " "),
)
_SQL_WORDS = re.compile(r"\b(SELECT|WHERE|AND|OR|MERGE|UPDATE|JOIN|NULL|EXISTS|WHEN|HAVING|IN)\b")
_TURNED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.BitOr: ("|", "&"),
}
_TURNED_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutator:
    """Finds the possible edits of one module."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.source = (PACKAGE / module).read_text()
        self._lines = [0]
        for line in self.source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def mutants(self) -> list[Mutant]:
        """All edits, in the order of the source; no two give the same line."""
        found: dict[tuple[int, str], Mutant] = {}
        for node in self._code(ast.parse(self.source)):
            edits = self._sql(node) if _is_text(node) else self._python(node)
            for kind, start, end, text in edits:
                line = self.source.count("\n", 0, start) + 1
                mutant = Mutant(self.module, line, kind, start, end, text)
                found.setdefault((line, mutant.mutated_line()), mutant)
        return sorted(found.values(), key=lambda one: (one.start, one.kind))

    def _code(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yields nodes, but no docstrings, annotations, decorators, and raised messages."""
        yield node
        if _is_text(node) or isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom)):
            return
        skipped = {"annotation", "returns", "decorator_list"}
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.Expr) and _is_text(child.value):
                    continue
                if isinstance(child, ast.AST) and name not in skipped:
                    yield from self._code(child)

    def _position(self, line: int, column: int) -> int:
        text = self.source[self._lines[line - 1] : self._lines[line]]
        return self._lines[line - 1] + len(text.encode()[:column].decode())

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._position(node.lineno, node.col_offset),
            self._position(node.end_lineno, node.end_col_offset),
        )

    def _sql(self, node: ast.AST) -> Iterator[tuple[str, int, int, str]]:
        assert isinstance(node, ast.expr)
        start, end = self._span(node)
        text = self.source[start:end]
        if not _SQL_WORDS.search(text):
            return
        for pattern, replacement in _SQL_EDITS:
            for match in re.finditer(pattern, text):
                yield "SQL", start + match.start(), start + match.end(), replacement

    def _between(
        self, kind: str, left: ast.expr, right: ast.expr, op: ast.AST
    ) -> Iterator[tuple[str, int, int, str]]:
        if type(op) not in _TURNED:
            return
        old, new = _TURNED[type(op)]
        start, end = self._span(left)[1], self._span(right)[0]
        words = re.compile(rf"(?<![\w<>=!]){re.escape(old)}(?![\w<>=!])")
        if match := words.search(self.source[start:end]):
            yield kind, start + match.start(), start + match.end(), new

    def _python(self, node: ast.AST) -> Iterator[tuple[str, int, int, str]]:
        match node:
            case ast.Compare(left, [op], [right]):
                yield from self._between("comparison", left, right, op)
            case ast.BinOp(left, op, right) if not (_has_text(left) or _has_text(right)):
                yield from self._between("operator", left, right, op)
            case ast.BoolOp(op, values):
                old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for one, other in itertools.pairwise(values):
                    start, end = self._span(one)[1], self._span(other)[0]
                    at = start + self.source[start:end].index(old)
                    yield "and, or", at, at + len(old), new
            case ast.UnaryOp(ast.Not(), operand):
                yield "not", *self._span(node), f"({self._text(operand)})"
            case ast.Constant(bool() as value):
                yield "constant", *self._span(node), str(not value)
            case ast.Constant(int() as value) if value < 100:  # larger ones are tuning
                yield "constant", *self._span(node), str(value + 1)
            case ast.IfExp(test, body, orelse):
                turned = f"{self._text(orelse)} if {self._text(test)} else {self._text(body)}"
                yield "branches", *self._span(node), turned
            case ast.If(test) | ast.While(test):
                yield "condition", *self._span(test), f"False and ({self._text(test)})"
                if isinstance(node, ast.If):
                    yield "condition", *self._span(test), f"True or ({self._text(test)})"
            case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise():
                yield "statement", *self._span(node), "pass"
            case ast.Return(ast.expr() as value) if not _is_plain(value):
                yield "returned early", *self._span(value), "None"
            case ast.Call(ast.Name(name), _) if name in _TURNED_NAMES:
                start, end = self._span(node.func)
                yield "function", start, end, _TURNED_NAMES[name]
            case ast.Call(_, [ast.expr() as one, ast.expr() as other, *_]):
                if not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred):
                    start, end = self._span(one)[0], self._span(other)[1]
                    yield "arguments", start, end, f"{self._text(other)}, {self._text(one)}"

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self.source[start:end]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _has_text(node: ast.AST) -> bool:
    return any(_is_text(one) for one in ast.walk(node))


def _is_plain(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


class _ChangedModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from other source than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        parts = ["st_pipelines", *Path(mutant.module).with_suffix("").parts]
        self.name = ".".join(parts)
        self.path = str(PACKAGE / mutant.module)
        self.source = mutant.source()

    def find_spec(
        self, name: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Claims the changed module only."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the changed source."""
        exec(compile(self.source, self.path, "exec"), module.__dict__)


def run_tests(
    tests: Sequence[str], mutant: Mutant | None, *, time_limit: float
) -> tuple[str, float, str]:
    """Runs test files in a fork until one fails.

    Returns:
        "survived", "killed", "timed out" or "invalid", the seconds, and the last output.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.setsid()
            os._exit(_run_in_child(tests, mutant, output.fileno()))
        status = _wait(child, started + time_limit)
        seconds = time.monotonic() - started
        output.seek(0)
        text = output.read()
    if status is None:
        return "timed out", seconds, text[-2_000:]
    if os.waitstatus_to_exitcode(status) == 0:
        return "survived", seconds, text[-2_000:]
    unusable = re.search(r"^E .*(Parser Error|Binder Error|SyntaxError)", text, re.M)
    return "invalid" if unusable and mutant else "killed", seconds, text[-2_000:]


def _run_in_child(tests: Sequence[str], mutant: Mutant | None, output: int) -> int:
    import pytest

    os.dup2(output, 1)
    os.dup2(output, 2)
    if mutant:
        try:
            sys.meta_path.insert(0, _ChangedModule(mutant))
            compile(mutant.source(), mutant.module, "exec")
        except SyntaxError:
            os.write(1, b"E   SyntaxError\n")
            return 1
    options = ["-x", "-q", "-n0", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
    for test in tests:
        if code := pytest.main([*options, str(TESTS / test)]):
            return int(code)
    return 0


def _wait(child: int, until: float) -> int | None:
    """The exit status of a process; None if it had to be stopped with what it started."""
    while time.monotonic() < until:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return status
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def choose(area: Area, *, count: int, seed: int, at: Sequence[str] | None) -> list[Mutant]:
    """Samples mutants of an area's modules, at most one a line until lines run out.

    With `at`, these are all mutants of certain lines.
    """
    candidates = [one for module in area.modules for one in Mutator(module).mutants()]
    if at:
        return [one for one in candidates if f"{one.module}:{one.line}" in at]
    ranked = sorted(candidates, key=lambda one: one.rank(seed))
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for mutant in ranked:
        by_line.setdefault((mutant.module, mutant.line), []).append(mutant)
    rounds = [
        mutant
        for number in range(max(map(len, by_line.values())))
        for mutant in (line[number] for line in by_line.values() if number < len(line))
    ]
    return rounds[:count]


def find_stale() -> list[tuple[str, str]]:
    """The entries of `EXPLAINED` that match no mutant of the present code."""
    modules = {module for module, _ in EXPLAINED}
    lines = {(m, one.mutated_line()) for m in modules for one in Mutator(m).mutants()}
    return [entry for entry in EXPLAINED if entry not in lines]


def main() -> int:
    options = _options()
    if stale := find_stale():
        print("these entries of EXPLAINED match no mutant anymore:", *stale, sep="\n")
        return 1
    _import_once()
    results: list[dict[str, object]] = []
    table: dict[str, Counter[str]] = {}
    broken: list[str] = []
    for name in options.area or AREAS:
        area = AREAS[name]
        chosen = choose(area, count=options.each, seed=options.seed, at=options.at)
        if not chosen:
            continue
        outcome, seconds, text = run_tests(area.tests, None, time_limit=1_800)
        if outcome != "survived":
            print(f"{name}: the tests fail on the unchanged code\n{text}", file=sys.stderr)
            broken.append(name)
            continue
        limit = 60 + 3 * seconds
        print(f"{name}: {seconds:.0f} s for the tests", file=sys.stderr, flush=True)
        table[name] = Counter()
        for mutant in chosen:
            outcome, seconds, text = run_tests(area.tests, mutant, time_limit=limit)
            reason = EXPLAINED.get((mutant.module, mutant.mutated_line()))
            if outcome == "survived" and reason:
                outcome = "explained"
            table[name][outcome] += 1
            results.append({**asdict(mutant), "new line": mutant.mutated_line()})
            results[-1] |= {"area": name, "outcome": outcome, "seconds": round(seconds, 1)}
            if outcome == "survived" or options.verbose:
                where = f"{outcome} {seconds:.0f} s {mutant.module}:{mutant.line} ({mutant.kind})"
                print(f"{where}: {mutant.mutated_line()}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    return _report(table) or (1 if broken else 0)


def _import_once() -> None:
    """Imports what every test needs, but nothing of this package, which mutants change."""
    import dagster  # noqa: F401
    import duckdb  # noqa: F401
    import hypothesis  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import uvicorn  # noqa: F401

    os.chdir(ROOT)


def _report(table: dict[str, Counter[str]]) -> int:
    print("| area | " + " | ".join(OUTCOMES) + " |")
    print("|---|" + "---:|" * len(OUTCOMES))
    total: Counter[str] = Counter()
    for name, counts in table.items():
        total += counts
        print(f"| {name} | " + " | ".join(str(counts[one]) for one in OUTCOMES) + " |")
    valid = total.total() - total["invalid"]
    share = total["survived"] / valid if valid else 0
    print(f"\n{valid} mutants, {total['survived']} survived without a reason ({share:.1%})")
    return 1 if share > MOST_SURVIVORS else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--area", action="append", choices=AREAS, help="may be repeated")
    parser.add_argument("--each", type=int, default=14, help="mutants of each area")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--at",
        action="append",
        metavar="MODULE:LINE",
        help="all mutants of a line, such as windows.py:82; may be repeated",
    )
    parser.add_argument("--json", type=Path, help="write every mutant and its outcome here")
    parser.add_argument("--verbose", action="store_true", help="print every mutant")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
