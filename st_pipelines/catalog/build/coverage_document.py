"""Renders `docs/coverage.md`: where the data of every operation is, and what other tools read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from st_pipelines.catalog.build.coverage import PLACES, Covered, Facts, Place

_HEAD = """\
# Coverage

Where the data of every operation that reads from ServiceTitan is: of all GETs in its OpenAPI
documents, and of the POSTs that read. `st-pipelines catalog coverage --output docs/coverage.md`
writes this page, and a test keeps it true.
"""
_MEANINGS: dict[Place, str] = {
    "table": "tables are loaded from it",
    "part": "tables that are loaded from another operation have its records",
    "file": "the files that it serves are stored, if you ask for them",
    "report": "it is how reports of your choice become tables",
    "excluded": "it has no table on purpose",
    "not yet": "nothing reads it",
}


def render_document(covered: Sequence[Covered], facts: Facts) -> str:
    """Returns the text of the page. Equal facts give equal text."""
    sections = [
        _HEAD,
        _render_summary(covered),
        _render_excluded(covered),
        _render_operations(covered),
        _render_tap(covered, facts),
        _render_servicepytan(covered, facts),
    ]
    return "\n".join(sections)


def describe_place(covered: Covered) -> str:
    """Returns where the data is, in a few words of Markdown."""
    tables = ", ".join(f"`{table}`" for table in covered.tables)
    match covered.place:
        case "table":
            return tables
        case "part" if covered.adds:
            added = ", ".join(f"`{path}`" for path in covered.adds)
            return f"part of {tables}, without {added}"
        case "part":
            return f"part of {tables}"
        case "report":
            return "a report's table"
        case "file":
            return f"files, listed in {tables}"
    return f"{covered.place}: {covered.reason}"


def _render_summary(covered: Iterable[Covered]) -> str:
    numbers = Counter(one.place for one in covered)
    rows = [(place, str(numbers[place]), _MEANINGS[place]) for place in PLACES if numbers[place]]
    incomplete = [one for one in covered if one.place == "part" and one.adds]
    text = _table(("place", "operations", "meaning"), rows)
    if incomplete:
        text += (
            f"\nOf the operations that are part of a table, {len(incomplete)} serve fields that no "
            "table has a column\nfor; the table below names them. All others serve nothing new.\n"
        )
    return text


def _render_excluded(covered: Iterable[Covered]) -> str:
    numbers = Counter(one.reason for one in covered if one.place == "excluded")
    rows = [(reason, str(number)) for reason, number in numbers.items()]
    return "## Excluded\n\n" + _table(("reason", "operations"), rows)


def _render_operations(covered: Iterable[Covered]) -> str:
    by_api: dict[str, list[tuple[str, str]]] = {}
    for one in sorted(covered, key=lambda one: _collate(one.operation.path)):
        name = f"`{one.operation.method} {_shorten(one.operation.path)}`"
        by_api.setdefault(one.operation.api, []).append((name, describe_place(one)))
    parts = ["## Operations\n\nPaths are below `/tenant/{tenant}/`.\n"]
    for api, rows in sorted(by_api.items()):
        parts.append(f"### {api}\n\n" + _table(("operation", "where its data is"), rows))
    return "\n".join(parts)


def _render_tap(covered: Iterable[Covered], facts: Facts) -> str:
    known = _by_path(covered)
    rows = [
        (f"`{name}`", "; ".join(_describe_path(known, path)))
        for name, path in sorted(facts.tap.items())
    ]
    intro = (
        f"## Streams of the Singer tap\n\nThe {len(rows)} streams of `tap-service-titan`, without "
        "those of custom reports.\n\n"
    )
    return intro + _table(("stream", "where its data is"), rows)


def _render_servicepytan(covered: Iterable[Covered], facts: Facts) -> str:
    known = _by_path(covered)
    rows = []
    for name, value in facts.servicepytan.items():
        places = [value] if isinstance(value, str) else [_describe_path(known, p) for p in value]
        texts = [place if isinstance(place, str) else "; ".join(place) for place in places]
        rows.append((f"`{name}`", "; ".join(texts)))
    return "## Functions of servicepytan\n\n" + _table(("function", "where its data is"), rows)


def _by_path(covered: Iterable[Covered]) -> dict[str, list[Covered]]:
    known: dict[str, list[Covered]] = {}
    for one in covered:
        known.setdefault(one.operation.path, []).append(one)
    return known


def _describe_path(known: dict[str, list[Covered]], path: str) -> list[str]:
    return [describe_place(one) for one in known[path]]


def _collate(path: str) -> list[str]:
    """Returns what sorts a list before its objects and parts."""
    return path.split("/")


def _shorten(path: str) -> str:
    """Leaves out of a path what all have in common."""
    return path.replace("/tenant/{tenant}/", " ").lstrip("/")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"{line}\n" for line in _lines(head, rows))


def _lines(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
