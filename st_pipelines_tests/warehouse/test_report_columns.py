"""The columns of a report: names that stay, types that only get wider, values that stay exact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from st_pipelines.catalog.model import Scalar, ScalarName
from st_pipelines.catalog.report import ReportColumn
from st_pipelines.warehouse.reports.columns import (
    KnownColumns,
    describe_changes,
    identify_fields,
    plan_columns,
)
from st_pipelines.warehouse.reports.inference import ColumnValues, find_types, to_text
from st_pipelines.warehouse.reports.rows import KeptPages
from st_pipelines.warehouse.reports.table import _as_text


@dataclass(frozen=True)
class Named:
    name: str
    label: str = ""


def identify(*fields: Any) -> list[str]:
    return identify_fields([Named(*f) if isinstance(f, tuple) else Named(f) for f in fields])


def plan(known: KnownColumns, **values: list[Any]) -> dict[str, ScalarName]:
    """The types that columns get for their values, by field."""
    found = {name: ColumnValues() for name in values}
    for name, items in values.items():
        for item in items:
            found[name].add(item)
    columns, fields = plan_columns(known, dict.fromkeys(values, ""), found)
    types = {field.name: field.type for field in fields}
    named = {column.field: types[column.column] for column in columns}
    return {name: type_.name for name, type_ in named.items() if isinstance(type_, Scalar)}


def test_fields_of_one_name_are_told_apart_by_label_then_by_number() -> None:
    assert identify("A", "B") == ["A", "B"]
    assert identify(("A", "x"), ("A", "y"), "B") == ["A (x)", "A (y)", "B"]
    assert identify(("A", "x"), ("A", "x")) == ["A (x) #1", "A (x) #2"]


def test_a_field_keeps_its_column_whatever_comes_later() -> None:
    first, _ = plan_columns(KnownColumns(), {"Total": "", "total": "", "日本": ""}, {})
    assert [c.column for c in first] == ["total", "total_2", "column"]
    known = KnownColumns(columns=first, is_new=False)
    second, _ = plan_columns(known, {"TOTAL": "", "total": "", "rowid": "", "語": ""}, {})
    assert {c.field: c.column for c in second} == {
        "Total": "total",
        "total": "total_2",
        "日本": "column",
        "TOTAL": "total_3",
        "rowid": "column_rowid",
        "語": "column_2",
    }
    assert [c.position for c in second] == [None, 1, None, 0, 2, 3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "VARCHAR"),
        ([None], "VARCHAR"),
        ([1, None, -7], "BIGINT"),
        ([1, 0.5], "DECIMAL"),
        ([5.0], "DECIMAL"),
        ([2**63], "DECIMAL"),
        ([1, 1 / 3], "DOUBLE"),
        ([Decimal("0.12345678901234567890")], "VARCHAR"),
        ([2**53 + 1, 1 / 3], "VARCHAR"),
        ([10**40], "VARCHAR"),
        ([True, False], "BOOLEAN"),
        ([True, 1], "VARCHAR"),
        (["5", "6"], "VARCHAR"),
        (["2026-03-10", "1999-12-31"], "DATE"),
        (["2026-03-10", "2026-02-30"], "VARCHAR"),
        (["0001-01-01"], "VARCHAR"),
        (["2026-03-10T15:00:00Z", "2026-03-10T15:00:00.5Z"], "TIMESTAMPTZ"),
        (["2026-03-10T15:00:00.50Z"], "VARCHAR"),
        (["2026-03-10T15:00:00-05:00"], "VARCHAR"),
        (["2026-03-10T00:00:00"], "VARCHAR"),
        ([[1, 2]], "VARCHAR"),
    ],
)
def test_a_type_holds_all_values_exactly(values: list[Any], expected: str) -> None:
    assert plan(KnownColumns(), A=values) == {"A": expected}


@pytest.mark.parametrize(
    ("present", "value", "exact", "expected"),
    [
        ("BIGINT", 1, True, "BIGINT"),
        ("BIGINT", 0.5, True, "DECIMAL"),
        ("BIGINT", 1 / 3, True, "DOUBLE"),
        ("BIGINT", 1 / 3, False, "VARCHAR"),
        ("DECIMAL", 1, True, "DECIMAL"),
        ("DECIMAL", 1 / 3, True, "DOUBLE"),
        ("DECIMAL", 1 / 3, False, "VARCHAR"),
        ("DOUBLE", 5, True, "DOUBLE"),
        ("DOUBLE", 2**53 + 1, True, "VARCHAR"),
        ("DATE", 1, True, "VARCHAR"),
        ("DATE", "2026-03-10", True, "DATE"),
        ("BOOLEAN", "yes", True, "VARCHAR"),
        ("VARCHAR", 1, True, "VARCHAR"),
        ("TIMESTAMPTZ", "2026-03-10", True, "VARCHAR"),
        ("BIGINT", None, True, "BIGINT"),
    ],
)
def test_a_column_only_gets_wider(
    present: ScalarName, value: Any, exact: bool, expected: str
) -> None:
    column = ReportColumn(field="A", label="", column="a", position=0)
    known = KnownColumns(
        columns=(column,),
        types={"a": present},
        exact_as_double=frozenset({"a"} if exact else ()),
        is_new=False,
    )
    assert plan(known, A=[value]) == {"A": expected}


def test_an_empty_column_keeps_its_type_until_a_value_decides() -> None:
    column = ReportColumn(field="A", label="", column="a", position=0)
    known = KnownColumns(columns=(column,), empty_types={"a": "BIGINT"}, is_new=False)
    assert plan(known, A=[None]) == {"A": "BIGINT"}
    assert plan(known, A=["2026-03-10"]) == {"A": "DATE"}


def test_nothing_of_pages_that_are_read_again_counts(tmp_path: Path) -> None:
    kept = KeptPages(tmp_path / "pages")
    kept.add([Named("A"), Named("Gone")], [b'["text", 1]'])
    kept.add([Named("Gone")], [b"[1]"])
    kept.clear()
    kept.add([Named("A", "again")], [b"[1]", b"[2]"])
    columns, fields = plan_columns(KnownColumns(), kept.served, kept.values)
    assert [(c.field, c.label) for c in columns] == [("A", "again")]
    assert fields[0].type == Scalar("BIGINT")
    assert (kept.count, kept.values["A"].count, kept.differing_pages) == (1, 2, [])
    assert [bytes(row) for row in next(kept.records(columns, fields))] == [b'{"a":1}', b'{"a":2}']
    assert len(list(kept.folder.iterdir())) == 1


def test_changes_are_described_since_the_last_load_and_not_before_the_first() -> None:
    served = {"A": "", "B": "", "C": ""}
    first, fields = plan_columns(KnownColumns(), served, {})
    assert describe_changes(KnownColumns(), first, fields) == []
    known = KnownColumns(columns=first, types={"a": "BIGINT"}, is_new=False)
    values = {"A": ColumnValues()}
    values["A"].add("x")
    planned, fields = plan_columns(known, {"C": "", "A": "", "D": ""}, values)
    assert describe_changes(known, planned, fields) == [
        "new field 'D' (column d)",
        "field 'B' is no longer served",
        "field 'A' has values that are no BIGINT: its column a becomes VARCHAR",
        "the fields come in another order",
    ]


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-100, 100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-(10**20), 10**20, places=4),
    st.decimals(-1, 1, places=10),
)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=20))
@example([-0.0, 0.0, 1e-5, 1e20])
def test_a_widened_column_says_what_text_would_have_said(values: list[Any]) -> None:
    """A value that was stored in a narrow column, and is then text, is the text of the value."""
    with duckdb.connect() as connection:
        for value in values:
            for type_ in sorted(find_types(value) & {"BIGINT", "DECIMAL", "DOUBLE"}):
                sql_type = "DECIMAL(38,10)" if type_ == "DECIMAL" else type_
                cell = f"(SELECT CAST(? AS VARCHAR)::{sql_type} AS x)"
                sql = f"SELECT {_as_text('x', type_)} FROM {cell}"
                (text,) = connection.execute(sql, [str(value)]).fetchall()[0]
                if "e" in text:  # `_write_exponents_out` does the rest
                    text = to_text(Decimal(text))
                assert text == to_text(value), (type_, value)
