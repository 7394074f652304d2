"""A warehouse of another kind is one module and one URI scheme; nothing else has to know it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from st_pipelines.catalog.registry import load_catalog, packaged_catalog
from st_pipelines.defs.resources import WarehouseResource
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load, reconcile
from st_pipelines.sync.verify import verify_table
from st_pipelines.warehouse.adopt.adopt import adopt
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.store.base import ALIAS, BACKENDS, Published, Store, open_store
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines_tests.churn_reader import build_context, comparable, days, expected_rows

TABLE = "crm.customers"
ALL = days("2026-03-01", "2026-03-10", open_start=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lake:
    """The least a backend must do. It has no `path`, no write lock and no read copy.

    The connections it yields have another database as their main one, as with a remote catalog.
    """

    uri: str
    wait_seconds: float
    publish_seconds: float | None = None

    @property
    def name(self) -> str:
        return self.uri

    @property
    def scratch_folder(self) -> Path:
        return Path(self.uri.removeprefix("lake:"))

    @property
    def _catalog(self) -> Path:
        return self.scratch_folder / "catalog"

    @property
    def exists(self) -> bool:
        return self._catalog.exists()

    @property
    def size_bytes(self) -> int:
        return 0

    @property
    def read_location(self) -> str:
        return self.name

    def exposed_files(self) -> list[tuple[Path, int]]:
        return []

    def check(self) -> None:
        self.scratch_folder.mkdir(exist_ok=True)

    @contextmanager
    def attach(
        self, connection: duckdb.DuckDBPyConnection, purpose: str = "a load"
    ) -> Iterator[None]:
        self.check()
        connection.execute(f"ATTACH '{self._catalog}' AS {ALIAS}")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            connection.execute(f"DETACH {ALIAS}")

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("COMMIT")

    @contextmanager
    def read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{self._catalog}' AS lake (READ_ONLY); USE lake")
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    def publish(self) -> Published | None:
        return None

    def publish_if_due(self) -> Published | None:
        return None


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(BACKENDS, "lake", f"{__name__}:Lake")
    return open_store(f"lake:{tmp_path / 'lake'}", wait_seconds=5)


def test_a_second_backend_loads_reconciles_verifies_and_adopts(
    lake: Store, own_sandbox: Sandbox, tmp_path: Path
) -> None:
    endpoint, customer = load_catalog()[TABLE], own_sandbox.world.records(TABLE)[0]
    own_sandbox.world.change(TABLE, customer["id"], favoriteColor="red")
    expected = expected_rows(own_sandbox, endpoint)
    loading = dataclasses.replace(build_context(own_sandbox, tmp_path / "unused"), warehouse=lake)
    first = extract_load(loading, endpoint, ALL)
    assert first.loaded.counts.inserted == len(expected)
    assert extract_load(loading, endpoint, ALL).loaded.counts.unchanged == len(expected)
    assert reconcile(loading, endpoint)
    assert verify_table(loading, endpoint, days=None, deep=True).same
    assert adopt(lake, packaged_catalog(), tmp_path / "st_catalog.json").rows == 1
    with lake.read_only() as connection:
        columns = ", ".join(f'"{field.column}"' for field in endpoint.row_fields)
        rows = connection.execute(f"SELECT {columns}, favorite_color FROM {TABLE}").fetchall()
    assert [row[-1] for row in rows if row[-1]] == ["red"]
    assert comparable(row[:-1] for row in rows) == comparable(expected)
    assert lake.publish() is None
    assert not (tmp_path / "unused").exists()


def test_dagsters_resource_opens_the_backend_of_its_uri(lake: Store, sandbox: Sandbox) -> None:
    loading = dataclasses.replace(build_context(sandbox, Path("unused")), warehouse=lake)
    report = extract_load(loading, load_catalog()[TABLE], ALL)
    resource = WarehouseResource(environment="sandbox", uri=lake.uri)
    assert isinstance(resource.warehouse, Lake)
    frame = resource.query(f"SELECT count(*) AS rows FROM {TABLE}")
    assert frame["rows"][0] == report.loaded.table_rows > 0


@pytest.mark.parametrize("uri", ["duckdb:/tmp/x.duckdb", "/tmp/x.duckdb"])
def test_a_path_with_or_without_a_scheme_is_a_duckdb_file(uri: str) -> None:
    store = open_store(uri, wait_seconds=1.5, publish_seconds=60)
    assert isinstance(store, DuckDBFile)
    assert store.path == Path("/tmp/x.duckdb")
    assert (store.wait_seconds, store.publish_seconds) == (1.5, 60)


@pytest.mark.parametrize("uri", ["C:\\data\\x.duckdb", "data/a:b.duckdb"])
def test_a_drive_or_a_colon_in_a_file_name_is_not_a_scheme(uri: str) -> None:
    assert open_store(uri).name == uri


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(WarehouseUnusable, match="ducklake: is not supported, set a path of a Duck"):
        open_store("ducklake:postgres:db")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgres://user:hunter2@host/db", "the scheme postgres: is"),
        ("md:db?motherduck_token=hunter2", "the scheme md: is"),
        ("host=db password=hunter2:3", "what its URI begins with is"),
    ],
)
def test_the_refusal_of_a_uri_shows_no_password(uri: str, shown: str) -> None:
    with pytest.raises(WarehouseUnusable, match=f"^warehouse: {shown} not supported") as refused:
        open_store(uri)
    assert "hunter2" not in str(refused.value)
