"""Values in `_extra` become columns, as if the catalog had always known the fields."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from st_pipelines.catalog import additions
from st_pipelines.catalog.model import Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.config.project import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.adopt import adopt as adopting
from st_pipelines.warehouse.adopt.adopt import Adoption, Finding, adopt
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.staging import json_path
from st_pipelines_tests.churn_reader import build_context, days
from st_pipelines_tests.deadlines import DEADLINE
from st_pipelines_tests.warehouse.factories import FIELDS, Place, catalog_of, endpoint, record
from st_pipelines_tests.warehouse.test_drift import mutated, mutations, read, text_of

PH = [Phase.generate]
ALL = days("2026-02-09", "2026-03-10", open_start=True)
OWN = "_tenant_id, _partition_date, _loaded_at, _run_id, _deleted_at, _read_sequence"


@dataclasses.dataclass
class Adopting:
    """A warehouse, a catalog of one table, and an additions file."""

    place: Place
    of: Endpoint = dataclasses.field(default_factory=endpoint)

    @property
    def file(self) -> Path:
        return self.place.folder / "st_catalog.json"

    @property
    def adopted(self) -> Endpoint:
        read = additions.read(self.file)
        return additions.extend_catalog(catalog_of(self.of), read, self.file)[self.of.table]

    def load(self, *records: dict[str, Any], of: Endpoint | None = None, **changes: Any) -> None:
        self.place.load(records, of or self.of, **changes)

    def adopt(self, **options: Any) -> Adoption:
        return adopt(self.place.warehouse, catalog_of(self.of), self.file, **options)

    def rows(self, columns: str = "*") -> list[tuple]:
        return self.place.query(f"SELECT {columns} FROM {self.of.table} ORDER BY id")

    def fresh(self, records: Sequence[dict[str, Any]]) -> list[tuple]:
        """The rows of an empty warehouse that is loaded with the adopted catalog."""
        with tempfile.TemporaryDirectory() as folder:
            other = Adopting(Place(Path(folder)), self.adopted)
            other.load(*records)
            return [by_name(other, row) for row in other.rows()]


def by_name(adopting: Adopting, row: tuple) -> dict[str, Any]:
    names = adopting.place.query(
        "SELECT column_name FROM duckdb_columns() WHERE table_name = "
        f"'{adopting.of.name}' AND schema_name = '{adopting.of.api}' ORDER BY column_index"
    )
    return {name: normalize(value) for (name,), value in zip(names, row, strict=True)}


def normalize(value: Any) -> Any:
    """Parses JSON text, so that member order and number formats do not matter."""
    match value:
        case str() if value[:1] in ("{", "["):
            try:
                return ("JSON", json.loads(value, parse_float=Decimal))
            except ValueError:
                return value
        case dict():
            return {name: normalize(member) for name, member in value.items()}
        case list():
            return [normalize(item) for item in value]
    return value


@pytest.fixture
def things(place: Place) -> Adopting:
    return Adopting(place)


def finding(done: Adoption, path: str) -> Finding:
    return next(finding for finding in done.findings if finding.path == path)


UNKNOWN = [
    record(id=1, poNumber=5, shipTo={"zip": "0815", "geo": {"lat": 1.5}}),
    record(id=2, poNumber=7, mixed="x", items=[{"skuId": 1, "color": "red"}, {"skuId": 2}, None]),
    record(
        id=3,
        mixed=4,
        seenOn="2026-01-02T03:04:05.123Z",
        items=[
            {"skuId": 1, "from": {"zipCode": "1", "lots": [{"n": 1}, {"n": 2.5}]}},
            {"color": "blue"},
        ],
    ),
    record(id=4),
]


def test_unknown_fields_at_every_depth_become_columns(things: Adopting) -> None:
    things.load(*UNKNOWN)
    before = things.rows(OWN)
    done = things.adopt()
    assert json.loads(things.file.read_text()) == {
        "abc.things": {
            "items": [{"color": "VARCHAR", "from": {"lots": [{"n": "DECIMAL"}]}}],
            "mixed": "JSON",
            "poNumber": "BIGINT",
            "seenOn": "TIMESTAMPTZ",
            "shipTo": {"geo": {"lat": "DECIMAL"}, "zip": "VARCHAR"},
        }
    }
    assert things.rows("po_number, mixed, ship_to.zip, ship_to.geo.lat, _extra") == [
        (5, None, "0815", Decimal("1.5"), None),
        (7, '"x"', None, None, None),
        (None, "4", None, None, None),
        (None, None, None, None, None),
    ]
    assert [by_name(things, row) for row in things.rows()] == things.fresh(UNKNOWN)
    assert things.rows(OWN) == before
    assert finding(done, "items[].color").rows == 2
    assert finding(done, "items[].color").example == '"red"'
    assert done.rows == 3


def test_adopting_twice_changes_nothing(things: Adopting) -> None:
    things.load(*UNKNOWN, record(id=5, total="n/a", none=None))
    things.adopt()
    before, text = things.rows("rowid, *"), things.file.read_bytes()
    again = things.adopt()
    assert (things.rows("rowid, *"), things.file.read_bytes(), again.rows) == (before, text, 0)
    assert {one.path: one.reason for one in again.findings} == {
        "none": "only null or empty so far",
        "total": "not a DECIMAL; --widen makes the column VARCHAR",
    }


def test_a_later_load_fills_adopted_columns_directly(things: Adopting) -> None:
    things.load(*UNKNOWN)
    things.adopt()
    later = [*UNKNOWN[1:], record(id=9, poNumber=11, shipTo={"zip": "1"})]
    loaded, staging = things.place.load(later, things.adopted)
    assert loaded.counts.unchanged == 3
    assert not staging.drift.counts
    rows: list[Any] = [by_name(things, row) for row in things.rows()]
    fresh: list[Any] = things.fresh([UNKNOWN[0], *later])
    for row in (*rows, *fresh):
        del row["_read_sequence"]
    assert rows == fresh


def test_a_dry_run_finds_the_same_and_writes_nothing(things: Adopting) -> None:
    things.load(*UNKNOWN)
    before = things.rows()
    dry = things.adopt(dry_run=True)
    assert (dry.rows, things.rows(), things.file.exists()) == (0, before, False)
    assert things.adopt().findings == dry.findings


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([True, False, None], "BOOLEAN"),
        ([1, 2**63 - 1], "BIGINT"),
        ([1, 2.5], "DECIMAL"),
        ([2**63], "DECIMAL"),
        ([0.5, 1e-12], "DOUBLE"),
        ([1.0], "DECIMAL"),
        ([10**400], "VARCHAR"),
        (["2026-01-02", "2026-01-03T00:00:00"], "DATE"),
        (["2026-01-02T00:00:00Z"], "TIMESTAMPTZ"),
        (["2026-01-02T03:04:05"], "VARCHAR"),
        (["2026-01-02T03:04:05+05:30"], "VARCHAR"),
        (["2026-02-30"], "VARCHAR"),
        (["12.50", ""], "VARCHAR"),
        (["1", 1], "JSON"),
        ([True, "true"], "JSON"),
        ([[1], [2.5], []], ["DECIMAL"]),
        ([{"a": 1}, [1]], "JSON"),
        ([{"a": 1}, {"b": "x"}], {"a": "BIGINT", "b": "VARCHAR"}),
        ([{"a": 1, "A": 2}], "JSON"),
        ([{"": 1}], "JSON"),
        ([{"": 10**20}], "JSON"),
        ([{f"k{n}": n for n in range(101)}], "JSON"),
    ],
)
def test_the_inferred_type_is_the_narrowest_lossless_one(
    things: Adopting, values: list, type_: Any
) -> None:
    records = [record(id=n, new=value) for n, value in enumerate(values)]
    things.load(*records)
    things.adopt()
    assert json.loads(things.file.read_text()) == {"abc.things": {"new": type_}}
    assert things.rows("_extra") == [(None,)] * len(values)
    assert [by_name(things, row) for row in things.rows()] == things.fresh(records)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Name", "its column name is already taken by name"),
        ("due_date", "its column name is already taken by dueDate"),
        ("rowid", "rowid is reserved by DuckDB"),
        ('a"b', "its name contains a quote, a backslash or a control character"),
        ("日本", "its name contains no letter or digit to make a column name of"),
    ],
)
def test_a_name_that_cannot_be_a_column_stays_with_a_reason(
    things: Adopting, name: str, reason: str
) -> None:
    things.load(record(id=1, **{name: 1}))
    done = things.adopt()
    assert finding(done, json_path.format_steps((name,))).reason == reason
    assert things.rows("name, _extra IS NULL") == [("Müller", False)]


def test_of_two_fields_for_one_column_the_first_becomes_the_column(things: Adopting) -> None:
    things.load(record(id=1, po_number=1, poNumber=2))
    things.adopt()
    assert things.rows("po_number, _extra") == [(2, '{"po_number":1}')]


def test_a_column_is_widened_only_with_the_option_and_without_loss(things: Adopting) -> None:
    things.load(record(id=1), record(id=2, tagIds=[1, 2.5], rate="fast", active="yes"))
    assert not things.adopt().rows
    done = things.adopt(widen=True)
    assert {one.path for one in done.findings if one.type} == {"tagIds[]", "rate", "active"}
    rows = things.rows("tag_ids, rate, active, _extra")
    assert rows == [([1, 2], "0.25", "true", None), ([1, Decimal("2.5")], "fast", "yes", None)]


def test_a_boolean_among_integers_widens_them_to_text_at_once(things: Adopting) -> None:
    things.load(record(id=1), record(id=2, tagIds=[1, True]))
    things.adopt(widen=True)
    assert things.rows("tag_ids, _extra") == [(["1", "2"], None), (["1", "true"], None)]
    assert not things.adopt(widen=True).findings


def test_a_value_that_no_wider_type_holds_stays(things: Adopting) -> None:
    things.load(record(id=1, name={"first": "A"}, modifiedOn="soon"))
    done = things.adopt(widen=True)
    assert "no wider type" in finding(done, "name").reason
    assert "no wider type" in finding(done, "modifiedOn").reason
    assert json.loads(things.rows("_extra")[0][0]) == {
        "name": {"first": "A"},
        "modifiedOn": "soon",
    }


def test_the_key_and_the_cursor_keep_their_types(things: Adopting) -> None:
    things.load(record(id="A-1"))
    done = things.adopt(widen=True)
    assert "key or cursor" in finding(done, "id").reason
    assert things.place.query("SELECT id, _extra FROM abc.things") == [(None, '{"id":"A-1"}')]


def test_members_that_only_the_table_still_has_are_kept(things: Adopting) -> None:
    grown = Field("items", ListOf(StructOf((Field("legacyCode", Scalar("DECIMAL")),))))
    old = endpoint(columns=(*FIELDS[:-1], grown))
    things.load(record(id=1, items=[{"legacyCode": 1.25}, {"skuId": 3}]), of=old)
    things.adopt()
    rows = things.rows("items[1].legacy_code, items[2].sku_id, _extra")
    assert rows == [(Decimal("1.25"), 3, None)]


def test_rows_get_their_own_values_after_others_were_deleted(things: Adopting) -> None:
    things.load(*(record(id=n, new=n, tagIds=[n, "x"]) for n in range(100)))
    with duckdb.connect(str(things.place.file)) as connection:
        connection.execute("DELETE FROM abc.things WHERE id % 3 = 0")
    things.adopt(widen=True)
    rows = things.rows("id, new, tag_ids, _extra")
    assert rows == [(n, n, [str(n), "x"], None) for n in range(100) if n % 3]


def test_the_history_table_is_adopted_too(things: Adopting) -> None:
    things.load(*UNKNOWN)
    with duckdb.connect(str(things.place.file)) as connection:
        connection.execute("CREATE SCHEMA history")
        connection.execute(
            "CREATE TABLE history.abc_things AS SELECT *, _loaded_at AS valid_from, "
            "NULL::TIMESTAMPTZ AS valid_to FROM abc.things"
        )
        connection.execute("INSERT INTO history.abc_things FROM history.abc_things WHERE id = 2")
    things.adopt()
    values = "id, po_number, mixed, ship_to, items, _extra"
    kept = things.place.query(
        f"SELECT DISTINCT {values} FROM history.abc_things WHERE valid_from IS NOT NULL ORDER BY id"
    )
    assert kept == things.rows(values)


def test_an_interrupted_adoption_is_finished_by_the_next(
    things: Adopting, monkeypatch: pytest.MonkeyPatch
) -> None:
    things.load(*UNKNOWN)
    before = things.rows()

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adopting, "move_values", cut)
        with pytest.raises(KeyboardInterrupt):
            things.adopt()
    assert things.rows() == before
    text = things.file.read_bytes()
    done = things.adopt()
    assert (done.rows, things.file.read_bytes()) == (3, text)
    assert [by_name(things, row) for row in things.rows()] == things.fresh(UNKNOWN)


def test_a_newer_value_in_extra_replaces_the_columns_value(things: Adopting) -> None:
    things.load(record(id=1, poNumber=5))
    things.adopt()
    things.load(record(id=1, poNumber=6, modifiedOn="2026-02-01T00:00:00Z"))
    assert things.rows("po_number, _extra") == [(None, '{"poNumber":6}')]
    things.adopt()
    assert things.rows("po_number, _extra") == [(6, None)]


def test_unreadable_text_stays_beside_the_adopted_value(things: Adopting) -> None:
    raw = json.dumps(record(new=1)).replace("12.50", r"\ud800")
    things.place.load(f"[{raw}]".encode())
    things.adopt()
    ((new, extra),) = things.rows("new, _extra")
    assert (new, json.loads(extra)) == (1, {"(lone surrogates)": raw, "total": "\ufffd"})


def test_exploded_rows_adopt_fields_around_and_inside_them(tmp_path: Path) -> None:
    of = packaged_catalog()["jpm.job_history"]
    things = Adopting(Place(tmp_path), of)
    records = [{"jobId": 7, "note": "n", "history": [{"id": 1, "author": {"id": 3}}, {"id": 2}]}]
    things.load(*records)
    things.adopt()
    assert things.rows("id, note, author.id, _extra") == [(1, "n", 3, None), (2, "n", None, None)]
    assert [by_name(things, row) for row in things.rows()] == things.fresh(records)
    things.load({"jobId": 8, "history": [{"id": 4, "employeeId": "E"}]})
    things.adopt(widen=True)
    assert things.rows("employee_id, _extra")[-1] == ("E", None)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(mutations(), min_size=8, max_size=8), widen=st.booleans())
def test_adopted_rows_equal_a_fresh_load_with_the_adopted_catalog(
    changes: list[Any], widen: bool
) -> None:
    of = endpoint(key=(), cursor=None, kind="snapshot")
    plain = read(text_of(record()))
    records = [{**mutated(plain, change), "id": n} for n, change in enumerate(changes)]
    page = ("[" + ",".join(map(text_of, records)) + "]").encode()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        things = Adopting(Place(Path(first)), of)
        things.place.load(page, of)
        things.adopt(widen=False)
        fresh = Adopting(Place(Path(second)), things.adopted)
        fresh.place.load(page, things.adopted)
        adopted_rows = [by_name(things, row) for row in things.rows()]
        assert adopted_rows == [by_name(fresh, row) for row in fresh.rows()]
        if widen:
            things.adopt(widen=True)
            left = things.adopt(widen=True)
            assert not left.rows


def test_unknown_fields_of_the_sandbox_are_columns_in_later_loads(
    own_sandbox: Sandbox, tmp_path: Path
) -> None:
    table, world = "accounting.invoices", own_sandbox.world
    invoices = world.records(table)
    with_items = [invoice for invoice in invoices if invoice["items"]]
    for number, invoice in enumerate(with_items[:4]):
        items = [
            {**item, "color": {"name": "red", "n": n}} for n, item in enumerate(invoice["items"])
        ]
        world.change(
            table,
            invoice["id"],
            items=items,
            poNumber=number,
            shipTo={"zip": "0815"},
            odd="x" if number else 1,
        )
    loading = build_context(own_sandbox, tmp_path / "drifted.duckdb")
    drifted = extract_load(loading, load_catalog()[table], ALL)
    assert drifted.drift.counts["items[].color"] > 0
    before = packaged_catalog()[table]
    adopt(
        loading.warehouse, packaged_catalog(), tmp_path / "st_catalog.json", select=["accounting"]
    )
    assert load_catalog()[table] != before
    world.change(table, with_items[5]["id"], poNumber=99)
    again = extract_load(
        dataclasses.replace(loading, catalog=load_catalog()), load_catalog()[table], ALL
    )
    assert not again.drift.counts
    assert again.loaded.counts.updated == 1
    fresh = build_context(own_sandbox, tmp_path / "fresh.duckdb")
    extract_load(fresh, load_catalog()[table], ALL)
    of = load_catalog()[table]
    columns = ", ".join(f'"{f.column}"' for f in of.row_fields) + ", _partition_date, _extra"
    rows = []
    for name in ("drifted", "fresh"):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb"), read_only=True) as connection:
            rows.append(connection.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall())
    assert rows[0] == rows[1]
    assert sum(row[-1] is not None for row in rows[0]) == 0


def test_a_missing_warehouse_is_refused(things: Adopting) -> None:
    with pytest.raises(WarehouseUnusable, match=r"test\.duckdb does not exist: load into it"):
        things.adopt()
    assert not things.place.file.exists()
    things.place.folder /= "new"
    with pytest.raises(WarehouseUnusable, match=r"test\.duckdb does not exist: load into it"):
        things.adopt(dry_run=True)
    assert not things.place.folder.exists()


def test_a_selection_that_names_no_table_is_refused(things: Adopting) -> None:
    things.load(record(new=1))
    with pytest.raises(ValueError, match=r"did you mean abc\.things"):
        things.adopt(select=["abc.thing"])
    assert things.adopt(select=["abc.*"], dry_run=True).findings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "expected an object of tables"),
        ('{"jpm.jobs": []}', "jpm.jobs: expected an object of fields"),
        ('{"jpm.jobs": {"a": "TEXT"}}', 'jpm.jobs: a: "TEXT" is not a type: give one of BIGINT'),
        ('{"jpm.jobs": {"a": ["BIGINT", "DATE"]}}', "is not a type"),
        ('{"jpm.jobs": {"a": {}}}', "is not a type"),
        ('{"jpm.jobs": {"a": "DATE", "a": "DATE"}}', "duplicate name 'a'"),
        ('{"jpm.job": {"a": "DATE"}}', "no table 'jpm.job': did you mean jpm.jobs"),
        ('{"jpm.jobs": {"JobNumber": "DATE"}}', "'JobNumber' cannot be adopted: its column name"),
        ('{"jpm.jobs": {"id": "VARCHAR"}}', "jpm.jobs: id is its key or cursor"),
        ('{"jpm.jobs": {"modifiedOn": "VARCHAR"}}', "modifiedOn is its key or cursor"),
    ],
)
def test_a_malformed_additions_file_is_refused_with_the_location(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "st_catalog.json").write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        load_catalog()
    assert str(raised.value).startswith(str(tmp_path / "st_catalog.json"))


def test_additions_take_effect_as_soon_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_catalog() is load_catalog() is packaged_catalog()
    additions.write(
        tmp_path / "st_catalog.json", {"jpm.jobs": StructOf((Field("a", Scalar("DATE")),))}
    )
    assert load_catalog()["jpm.jobs"].column("a").type == Scalar("DATE")
    assert load_catalog() is load_catalog()
    other = tmp_path / "other.json"
    additions.write(other, {"jpm.jobs": StructOf((Field("b", ListOf(Scalar("DATE"))),))})
    monkeypatch.setenv("ST_CATALOG", str(other))
    assert load_catalog()["jpm.jobs"].columns[-1] == Field("b", ListOf(Scalar("DATE")))
    other.unlink()
    assert load_catalog() is packaged_catalog()


def test_additions_the_package_has_now_are_reported_as_superfluous(things: Adopting) -> None:
    things.load(record(id=1, poNumber=5, items=[{"color": "red"}]))
    things.adopt()
    of = things.adopted
    things.of = dataclasses.replace(of, columns=(*FIELDS, Field("poNumber", Scalar("BIGINT"))))
    assert things.adopt().superfluous == ("abc.things: poNumber",)
    things.of = dataclasses.replace(of, columns=(*FIELDS, Field("poNumber", Scalar("VARCHAR"))))
    assert things.adopt().superfluous == ()
    assert things.adopted.column("poNumber").type == Scalar("BIGINT")


def test_the_command_reports_what_it_adopted_and_what_is_left(
    things: Adopting,
) -> None:
    jobs = packaged_catalog()["jpm.jobs"]
    things.place.folder = things.place.folder / "data"
    things.place.folder.mkdir()
    things.of = jobs
    things.load({"id": 1, "poNumber": 5, "summary": {"a": "Jane Doe"}})
    things.place.file.rename(things.place.folder / "sandbox.duckdb")
    command = [sys.executable, "-m", "st_pipelines.cli.app", "catalog", "adopt"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "150"}
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=DEADLINE,
        )

    assert "Missing option '--environment'" in run().stderr
    assert "name one of production" in run("--environment", "prod").stderr
    dry = run("--environment", "sandbox", "--dry-run", "--show-values")
    assert '{"a":"Jane Doe"}' in dry.stdout, dry.stderr
    result = run("--environment", "sandbox")
    assert result.returncode == 0, result.stderr
    assert "object of 16 characters" in result.stdout
    assert "Jane" not in result.stdout + result.stderr
    for part in ("1 adopted", "poNumber", "BIGINT", "1 stay in _extra", "st_catalog.json lists"):
        assert part in result.stdout
    assert json.loads(Path("st_catalog.json").read_text()) == {"jpm.jobs": {"poNumber": "BIGINT"}}
    assert load_catalog()["jpm.jobs"].columns[-1] == Field("poNumber", Scalar("BIGINT"))
