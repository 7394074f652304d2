"""Where a warehouse can lie, what is reported at once, and who can read its files."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.warehouse.errors import (
    OutOfMemory,
    WarehouseBusy,
    WarehouseFull,
    WarehouseUnusable,
    memory_errors_translated,
    translate_duckdb_error,
)
from st_pipelines.warehouse.store import location
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.warehouse.tables.staged_records import staged_records
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

OTHER_USER = 12345
needs_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="needs root, to act as another user"
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize(
    "code", ["EPERM", "EXDEV", "EIO", "EACCES", "EMLINK", "EINVAL", "EOPNOTSUPP", "ENOSYS"]
)
def test_the_first_load_succeeds_however_the_file_system_refuses_hard_links(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, "link", refuse)
    place.load([record()])
    assert place.query("SELECT count(*) FROM abc.things") == [(1,)]
    assert mode(place.file) == 0o600


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_file_system_without_modes_holds_a_warehouse(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """FAT, and shares of other systems; `check` names the files that others can open."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    for name in ("chmod", "fchmod", "lchmod"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    warehouse = DuckDBFile(uri=str(place.folder / "new" / "wh.duckdb"), file_mode=0o660)
    for _ in range(2):
        with duckdb.connect() as connection, warehouse.attach(connection):
            connection.execute("CREATE OR REPLACE TABLE warehouse.t AS SELECT 1 AS a")
        assert warehouse.publish()


@pytest.mark.parametrize("name", ["test.duckdb", "test.duckdb.wal"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(place: Place, name: str) -> None:
    if name.endswith(".wal"):
        place.load([record()])
    os.mkfifo(place.folder / name)
    for use in (place.warehouse.check, lambda: place.warehouse.read_only().__enter__()):
        with pytest.raises(WarehouseUnusable, match="is not a regular file"):
            use()


def test_a_link_to_a_file_that_does_not_exist_yet_gets_its_warehouse(place: Place) -> None:
    target = place.folder / "disk" / "real.duckdb"
    target.parent.mkdir()
    place.file.symlink_to(target)
    place.load([record()])
    assert place.file.is_symlink()
    assert target.stat().st_size
    assert mode(target) == 0o600
    assert place.query("SELECT count(*) FROM abc.things") == [(1,)]


def test_a_link_into_a_folder_that_does_not_exist_is_reported_by_the_check(place: Place) -> None:
    place.file.symlink_to(place.folder / "nowhere" / "real.duckdb")
    with pytest.raises(WarehouseUnusable, match="whose folder does not exist"):
        place.warehouse.check()


def test_a_null_character_in_a_path_is_reported_by_the_check(tmp_path: Path) -> None:
    with pytest.raises(WarehouseUnusable, match="null character"):
        DuckDBFile(uri=f"{tmp_path}/a\0b.duckdb").check()


def test_a_folder_in_the_place_of_the_read_copy_is_reported(place: Place) -> None:
    place.load([record()])
    place.warehouse.read_copy.path.mkdir()
    with pytest.raises(WarehouseUnusable, match=r"test_read\.duckdb cannot be reached"):
        place.warehouse.publish()
    assert not list(place.folder.glob(".*.new"))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_staging_may_lie_on_another_disk(place: Place) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (place.folder / ".staging").symlink_to(other)
        place.load([record()])
        assert place.warehouse.publish()
        assert mode(place.warehouse.read_copy.path) == 0o400
    assert place.query("SELECT count(*) FROM abc.things") == [(1,)]
    assert not list(place.folder.glob(".*.new"))


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_without_locks_is_refused_at_once_and_by_name(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(location.fcntl, "lockf", refuse)
    with pytest.raises(WarehouseUnusable, match="cannot lock files"):
        place.warehouse.check()
    with pytest.raises(WarehouseUnusable, match="cannot lock files"):
        place.load([record()])
    assert not list(place.folder.glob(".test.duckdb.*"))


@pytest.mark.parametrize("reason", ["No locks available", "Function not implemented"])
def test_duckdbs_report_of_missing_locks_blames_no_process(tmp_path: Path, reason: str) -> None:
    text = f'IO Error: Could not set lock on file "{tmp_path}": {reason}. See also https://x'
    translated = translate_duckdb_error(duckdb.IOException(text), tmp_path)
    assert type(translated) is WarehouseUnusable
    held = text.replace(reason, "Conflicting lock is held in python (PID 7)")
    assert type(translate_duckdb_error(duckdb.IOException(held), tmp_path)) is WarehouseBusy


@pytest.mark.parametrize(
    ("code", "expected"),
    [("EROFS", WarehouseUnusable), ("EACCES", WarehouseUnusable), ("ENOSPC", WarehouseFull)],
)
def test_a_folder_that_takes_no_file_is_reported_by_the_check(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: str, expected: type[Exception]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(location, "open_with_mode", refuse)
    with pytest.raises(expected, match=r"test\.duckdb"):
        place.warehouse.check()


def test_all_files_of_a_warehouse_are_their_owners_only(place: Place, umask: int) -> None:
    warehouse = DuckDBFile(uri=str(place.folder / "new" / "wh.duckdb"))
    with duckdb.connect() as connection, warehouse.attach(connection):
        connection.execute("SET checkpoint_threshold = '1GB'")
        connection.execute("CREATE TABLE warehouse.t AS SELECT 1 AS a")
        connection.execute("UPDATE warehouse.t SET a = 2")
        log = warehouse.path.with_name("wh.duckdb.wal")
        assert mode(log) == 0o600
        assert log.stat().st_size
    assert warehouse.publish()
    modes = {path.name: mode(path) for path in warehouse.path.parent.iterdir()}
    assert modes == {
        "wh.duckdb": 0o600,
        "wh.duckdb.lock": 0o600,
        "wh_read.duckdb": 0o400,
        "wh_read.duckdb.lock": 0o600,
        ".staging": 0o700,
    }
    assert mode(warehouse.path.parent) == 0o700


def test_other_threads_keep_their_umask_while_a_warehouse_is_attached(
    place: Place, umask: int
) -> None:
    """A file that a program embedding this package writes meanwhile has its usual permissions."""
    place.load([record()])
    with duckdb.connect() as connection, place.warehouse.attach(connection):
        (place.folder / "theirs.txt").touch()
    assert mode(place.folder / "theirs.txt") == 0o666 & ~umask


def test_a_look_at_the_warehouse_leaves_no_log(place: Place) -> None:
    place.load([record()])
    with duckdb.connect() as connection, place.warehouse.attach(connection):
        connection.execute("FROM warehouse.abc.things")
    assert not place.file.with_name(f"{place.file.name}.wal").exists()


def test_drivers_of_duckdb_1_4_can_open_a_new_warehouse(place: Place) -> None:
    place.load([record()])
    with place.warehouse.read_only() as connection:
        tags = "SELECT tags FROM duckdb_databases() WHERE database_name = current_database()"
        assert connection.execute(tags).fetchall()[0][0]["storage_version"].startswith("v1.4.0")


def test_a_setting_opens_the_files_to_a_group(place: Place, umask: int) -> None:
    warehouse = DuckDBFile(uri=str(place.folder / "new" / "wh.duckdb"), file_mode=0o660)
    with duckdb.connect() as connection, warehouse.attach(connection):
        connection.execute("SET checkpoint_threshold = '1GB'")
        connection.execute("CREATE TABLE warehouse.t AS SELECT 1 AS a")
        connection.execute("UPDATE warehouse.t SET a = 2")
        assert mode(warehouse.path.with_name("wh.duckdb.wal")) == 0o660
    assert warehouse.publish()
    assert mode(warehouse.path) == mode(warehouse.path.with_name("wh.duckdb.lock")) == 0o660
    assert mode(warehouse.read_copy.path) == 0o440
    assert mode(warehouse.path.parent) == 0o770


def test_a_warehouse_that_was_shared_stays_shared_without_the_setting(place: Place) -> None:
    place.load([record()])
    place.file.chmod(0o644)
    place.load([record(name="later")])
    assert place.warehouse.publish()
    assert mode(place.file) == 0o644
    assert mode(place.warehouse.read_copy.path) == 0o444


def test_the_mode_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_environment("sandbox").file_mode is None
    for text, value in {"0640": 0o640, "660": 0o660, "0o600": 0o600}.items():
        monkeypatch.setenv("ST_FILE_MODE", text)
        store = resolve_environment("sandbox").open_store()
        assert isinstance(store, DuckDBFile)
        assert store.file_mode == value
    for text in ("0755", "group", "0444", "06400", "-1"):
        monkeypatch.setenv("ST_FILE_MODE", text)
        with pytest.raises(SettingsError, match="ST_FILE_MODE"):
            _ = resolve_environment("sandbox").file_mode


@needs_root
def test_a_second_user_learns_whose_warehouse_it_is(place: Place) -> None:
    place.load([record()])
    open_to_everyone(place.folder)

    def check() -> None:
        with pytest.raises(WarehouseUnusable, match=r"belongs to root .*ST_FILE_MODE=0660"):
            place.warehouse.check()

    as_other_user(check)


@needs_root
def test_a_second_user_of_a_shared_folder_stages_elsewhere(place: Place) -> None:
    (place.folder / ".staging").mkdir(mode=0o700)
    open_to_everyone(place.folder)

    def stage() -> None:
        with staging_folder(place.folder, "x") as folder:
            assert folder.parent.parent.name == f".staging-{OTHER_USER}"
            assert mode(folder.parent.parent) == 0o700

    as_other_user(stage)


def open_to_everyone(shared: Path) -> None:
    """Lets other users reach the folder through pytest's own, which are its user's alone."""
    shared.chmod(0o777)
    for folder in shared.parents:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)


def as_other_user(function) -> None:
    """Runs a function in a forked process of another user; fails if it raises."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(OTHER_USER)
            os.setuid(OTHER_USER)
            function()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate 1 GB"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_each_report_of_used_up_memory_names_the_setting_to_change(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match="SERVICETITAN_PAGE_SIZE"), memory_errors_translated():
        raise error


def test_memory_that_runs_out_while_records_are_staged_is_reported_so(place: Place) -> None:
    with (
        pytest.raises(OutOfMemory),
        staged_records(place.warehouse, endpoint(), place.what()),
    ):
        raise MemoryError


def test_other_errors_that_quote_such_a_text_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"bad_alloc"), memory_errors_translated():
        raise ValueError("std::bad_alloc")


def test_a_path_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WarehouseUnusable, match="not UTF-8"):
        DuckDBFile(uri=f"{tmp_path}/\udcff.duckdb").check()
