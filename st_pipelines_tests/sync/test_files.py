"""Files of every kind are stored once, named by ids, and the table says what became of each."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import random
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import fsspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.file_kinds import FILE_KINDS, FileKind
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.config.files import FileSettings
from st_pipelines.sandbox.files import PDF, PNG, WAV
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    PermissionDenied,
    ServiceUnavailable,
)
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync import files as sync_files
from st_pipelines.sync.file_storage import open_storage
from st_pipelines.sync.files import describe_cost, find_due, load_files
from st_pipelines.sync.sync import SyncContext, extract_load
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseUnusable
from st_pipelines.warehouse.tables.stored_files import StoredFile
from st_pipelines_tests import crash_harness
from st_pipelines_tests.churn_reader import build_context, days, query
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.crash_harness import CrashPoint, Server, is_killed
from st_pipelines_tests.deadlines import wait_until
from st_pipelines_tests.sandbox.client import Client as SandboxClient
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer

Serve: TypeAlias = Callable[[Callable[[str], Response | None]], None]

RECORDINGS, VOICEMAILS = FILE_KINDS["recordings"], FILE_KINDS["voicemails"]
IMAGES = FILE_KINDS["pricebook_images"]
LOADED = tuple(FILE_KINDS.values())
EVERYTHING = days("2024-01-01", "2026-03-10", open_start=True)


def settings(folder: Path | str, **changes: Any) -> FileSettings:
    facts: dict[str, Any] = {
        "kinds": tuple(FILE_KINDS.values()),
        "url": str(folder),
        "per_run": 10_000,
        "concurrency": 4,
        "max_bytes": 1 << 30,
    }
    return FileSettings(**facts | changes)


@pytest.fixture(scope="module")
def company() -> Iterator[Sandbox]:
    """A small company; tests that intercept its requests stop doing so at their end."""
    with Sandbox(customers=12, seed=4, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(company: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with calls and the price book."""
    file = tmp_path_factory.mktemp("loaded") / "x.duckdb"
    made, catalog = build_context(company, file, NO_WAIT), load_catalog()
    sources = {catalog[source.table] for kind in LOADED for source in kind.sources}
    parents = {catalog[source.parent.table] for source in sources if source.parent}
    for endpoint in sorted(sources | parents, key=lambda one: (one in sources, one.table)):
        extract_load(made, endpoint, EVERYTHING if endpoint.partitioned else None)
    return file


@pytest.fixture
def context(company: Sandbox, loaded: Path, tmp_path: Path) -> Iterator[SyncContext]:
    """Works on a copy of that warehouse, at the sandbox's time."""
    shutil.copy(loaded, tmp_path / "x.duckdb")
    before = list(company.interceptors)
    yield at(build_context(company, tmp_path / "x.duckdb", NO_WAIT), NOW)
    company.interceptors[:] = before


def at(context: SyncContext, moment: datetime) -> SyncContext:
    return dataclasses.replace(context, clock=lambda: moment)


def table_of(context: SyncContext, kind: FileKind) -> list[StoredFile]:
    return sync_files.open_table(context, kind).read(("storing", *STATES))


STATES = ("stored", "missing", "empty", "too_large", "failed")


def paths_in(folder: Path) -> set[str]:
    """Returns the files below a folder, those of staging left out."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".staging" not in path.parts
    }


def assert_table_matches_folder(context: SyncContext, kind: FileKind, folder: Path) -> None:
    stored = [file for file in table_of(context, kind) if file.path]
    assert {file.state for file in stored} <= {"stored"}
    assert {str(file.path) for file in stored} == paths_in(folder)
    for file in stored:
        content = (folder / str(file.path)).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)


@pytest.mark.parametrize("kind", LOADED, ids=lambda kind: kind.name)
def test_each_kind_is_stored_once_and_recorded(
    context: SyncContext, tmp_path: Path, kind: FileKind
) -> None:
    folder = tmp_path / "files"
    due = find_due(context, kind, settings(folder))
    report = load_files(context, kind, settings(folder))
    assert report.due == due.count == len(due.files) > 0
    assert report.stored > 0
    assert report.left == report.failed == 0
    assert report.stored + report.missing == report.due
    assert_table_matches_folder(context, kind, folder)
    again = load_files(context, kind, settings(folder))
    assert (again.due, again.requests) == (0, 0)
    assert (again.total, again.total_bytes) == (report.stored, report.bytes)


def test_recordings_are_those_of_the_calls_that_have_one(
    context: SyncContext, company: Sandbox, tmp_path: Path
) -> None:
    load_files(context, RECORDINGS, settings(tmp_path / "files"))
    calls = query(
        tmp_path / "x.duckdb",
        "SELECT id::VARCHAR FROM telecom.calls WHERE lead_call.recording_url IS NOT NULL",
    )
    ids = {id_ for (id_,) in calls}
    rows = {file.key: file for file in table_of(context, RECORDINGS)}
    assert rows.keys() == ids
    for id_, file in rows.items():
        assert file.source_table == "telecom.calls"
        if int(id_) % 5 == 0:
            assert (file.state, file.path) == ("missing", None)
            continue
        tenant = company.tenant_id
        assert file.path == f"sandbox/{tenant}/recordings/{id_}.wav"
        assert (file.state, file.content_type) == ("stored", "audio/wav")
        assert (tmp_path / "files" / str(file.path)).read_bytes() == WAV[0]
        assert file.stored_at == file.checked_at


def test_an_image_that_several_rows_show_is_stored_once_and_urls_are_left(
    context: SyncContext, tmp_path: Path
) -> None:
    report = load_files(context, IMAGES, settings(tmp_path / "files"))
    rows = table_of(context, IMAGES)
    references = [file.reference for file in rows]
    assert len(set(references)) == len(references) == report.stored
    assert all(reference.startswith("Images/") for reference in references)
    assert report.elsewhere > 0
    pointers = query(
        tmp_path / "x.duckdb",
        "SELECT unnest([a.url for a in assets]) FROM pricebook.services"
        " UNION ALL SELECT unnest([a.url for a in assets]) FROM pricebook.equipment"
        " UNION ALL SELECT unnest([a.url for a in assets]) FROM pricebook.materials"
        " UNION ALL SELECT unnest([a.url for a in assets]) FROM pricebook.discounts_and_fees"
        " UNION ALL SELECT default_asset_url FROM pricebook.services"
        " UNION ALL SELECT default_asset_url FROM pricebook.equipment"
        " UNION ALL SELECT default_asset_url FROM pricebook.materials"
        " UNION ALL SELECT image FROM pricebook.categories"
        " UNION ALL SELECT unnest(sku_images) FROM pricebook.categories",
    )
    expected = {url for (url,) in pointers if url and url.startswith("Images/")}
    assert set(references) == expected
    for file in rows:
        assert Path(str(file.path)).name.startswith(f"{file.source_id}-")
        assert file.reference.rpartition("/")[2] not in str(file.path)
        assert (tmp_path / "files" / str(file.path)).read_bytes() == PNG[0]


def test_files_are_their_owners_alone_and_nothing_of_them_is_logged(
    context: SyncContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "new" / "files"
    load_files(context, IMAGES, settings(folder))
    for path in folder.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "Images/" not in caplog.text
    assert "Images%2F" not in caplog.text
    assert "images" in caplog.text


def test_a_run_downloads_the_newest_up_to_the_limit_and_says_what_it_costs(
    context: SyncContext, tmp_path: Path
) -> None:
    limited = settings(tmp_path / "files", per_run=16)
    said: list[str] = []
    report = load_files(context, RECORDINGS, limited, announce=said.append)
    newest = query(
        tmp_path / "x.duckdb",
        "SELECT id::VARCHAR FROM telecom.calls WHERE lead_call.recording_url IS NOT NULL "
        "ORDER BY lead_call.modified_on DESC LIMIT 16",
    )
    assert {file.key for file in table_of(context, RECORDINGS)} == {id_ for (id_,) in newest}
    assert report.left == report.due - 16 > 0
    assert said == [
        "call recordings: 16 to download, with as many requests or more, in 0 s at the earliest; "
        f"{report.left:,} more are due and left to later runs"
    ]
    nothing = find_due(context, RECORDINGS, limited, limit=0)
    assert describe_cost(RECORDINGS, nothing, 60) == "call recordings: nothing is due"
    runs = 0
    while load_files(context, RECORDINGS, limited).due:
        runs += 1
    assert runs == -(-report.left // 16)
    assert_table_matches_folder(context, RECORDINGS, tmp_path / "files")


def test_days_limit_the_rows(context: SyncContext, tmp_path: Path) -> None:
    (first,), (last,) = query(
        tmp_path / "x.duckdb",
        "SELECT DISTINCT _partition_date FROM telecom.calls ORDER BY 1 DESC LIMIT 2",
    )[::-1]
    load_files(context, RECORDINGS, settings(tmp_path / "files"), days=(first, last))
    (expected,) = query(
        tmp_path / "x.duckdb",
        "SELECT count(*) FROM telecom.calls WHERE lead_call.recording_url IS NOT NULL "
        f"AND _partition_date BETWEEN '{first}' AND '{last}'",
    )
    assert (len(table_of(context, RECORDINGS)),) == expected


def test_before_the_source_is_loaded_nothing_is_due(company: Sandbox, tmp_path: Path) -> None:
    context = build_context(company, tmp_path / "x.duckdb", NO_WAIT)
    with pytest.raises(WarehouseUnusable, match="load something"):
        load_files(context, RECORDINGS, settings(tmp_path / "files"))
    extract_load(context, load_catalog()["settings.business_units"], EVERYTHING)
    report = load_files(context, RECORDINGS, settings(tmp_path / "files"))
    assert (report.due, report.missing_tables) == (0, ("telecom.calls",))
    due = find_due(context, RECORDINGS, settings(tmp_path / "files"), limit=5)
    assert describe_cost(RECORDINGS, due, 60) == (
        "call recordings: nothing is due; first load telecom.calls, whose rows name the files"
    )


def read_json(company: Sandbox, path: str) -> Any:
    response = SandboxClient(company).get(path)
    assert response.status_code == 200, response.text
    return response.json()


def test_attachments_of_jobs_are_those_that_the_jobs_list(
    context: SyncContext, company: Sandbox, tmp_path: Path
) -> None:
    jobs = query(tmp_path / "x.duckdb", "SELECT id FROM jpm.jobs")
    expected = {
        str(attachment["id"])
        for (job,) in jobs
        for attachment in read_json(
            company, f"/forms/v2/tenant/{{tenant}}/jobs/{job}/attachments?pageSize=500"
        )["data"]
    }
    kind = FILE_KINDS["job_attachments"]
    load_files(context, kind, settings(tmp_path / "files"))
    rows, tenant = table_of(context, kind), company.tenant_id
    assert {file.key for file in rows} == expected
    for file in rows:
        content, extension = (PDF, ".pdf") if str(file.path).endswith("f") else (PNG, ".png")
        assert file.path == f"sandbox/{tenant}/job_attachments/{file.key}{extension}"
        assert file.content_type == content[1]
        assert (tmp_path / "files" / str(file.path)).read_bytes() == content[0]


@pytest.fixture
def serve(context: SyncContext, company: Sandbox) -> Serve:
    """Sets what answers requests for recordings from now on; gets the id of the call."""
    rules: list[Callable[[str], Response | None]] = []

    def intercept(request: Request) -> Response | None:
        if request.url.path.endswith("/recording") and rules:
            return rules[-1](request.url.path.split("/")[-2])
        return None

    company.interceptors.append(intercept)
    return rules.append


def states(context: SyncContext) -> dict[str, int]:
    return dict(Counter(str(file.state) for file in table_of(context, RECORDINGS)))


def test_a_file_that_may_still_come_is_requested_again_while_its_call_is_young(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    folder, morning = tmp_path / "files", NOW - timedelta(days=5, hours=12)
    serve(lambda id_: Response(b"", media_type="audio/wav"))
    load_files(at(context, morning), RECORDINGS, settings(folder))
    assert states(context).keys() == {"empty"}
    assert paths_in(folder) == set()
    serve(lambda id_: None)
    for hours, young in ((1, 0), (7, 1), (7, 0)):
        now = at(context, morning + timedelta(hours=hours))
        report = load_files(now, RECORDINGS, settings(folder))
        assert bool(report.due) == bool(young)
    (expected,) = query(
        tmp_path / "x.duckdb",
        "SELECT count(*) FROM telecom.calls WHERE lead_call.recording_url IS NOT NULL AND "
        f"lead_call.modified_on > TIMESTAMPTZ '{morning - timedelta(days=3)}'",
    )
    counts = states(context)
    assert (counts["stored"] + counts.get("missing", 0),) == expected
    assert_table_matches_folder(context, RECORDINGS, folder)


def test_a_changed_reference_is_downloaded_again_and_replaces_the_file(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    """A signature behind the question mark is no change."""
    folder = tmp_path / "files"
    serve(lambda id_: Response(b"first", media_type="audio/wav"))
    load_files(context, RECORDINGS, settings(folder))
    first, second, third, *_ = sorted(file.key for file in table_of(context, RECORDINGS))
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        for id_, url in ((first, "changed"), (second, "gone"), (third, "")):
            connection.execute(
                "UPDATE telecom.calls SET lead_call = struct_update(lead_call, recording_url := "
                "CASE WHEN ? = '' THEN lead_call.recording_url || '?sig=2' ELSE ? END) "
                "WHERE id = ?::BIGINT",
                [url, url, id_],
            )
    serve(
        lambda id_: (
            Response(b"second", media_type="audio/mpeg")
            if id_ == first
            else Response(status_code=404)
        )
    )
    report = load_files(context, RECORDINGS, settings(folder))
    assert (report.due, report.stored, report.missing) == (2, 1, 1)
    rows = {file.key: file for file in table_of(context, RECORDINGS)}
    assert (
        rows[first].path == f"sandbox/{context.client.connection.tenant_id}/recordings/{first}.mp3"
    )
    assert (folder / str(rows[first].path)).read_bytes() == b"second"
    assert not (folder / str(rows[first].path)).with_suffix(".wav").exists()
    assert rows[second].state == "missing"
    assert (folder / str(rows[second].path)).read_bytes() == b"first"
    assert load_files(context, RECORDINGS, settings(folder)).due == 0


def test_a_file_above_the_limit_is_recorded_and_due_once_the_limit_is_higher(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    folder = tmp_path / "files"
    serve(lambda id_: Response(bytes(3000), media_type="audio/wav"))
    report = load_files(context, RECORDINGS, settings(folder, max_bytes=2000))
    assert report.too_large == report.due > 0
    assert load_files(context, RECORDINGS, settings(folder, max_bytes=2000)).due == 0
    assert paths_in(folder) == set()
    again = load_files(context, RECORDINGS, settings(folder, max_bytes=4000))
    assert again.stored == report.due


def test_one_file_that_fails_holds_up_no_other_and_is_tried_again_later(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    folder = tmp_path / "files"
    broken = sorted(find_due(context, RECORDINGS, settings(folder)).files, key=lambda f: f.key)[3]
    serve(lambda id_: Response(status_code=500) if id_ == broken.key else None)
    report = load_files(context, RECORDINGS, settings(folder))
    assert (report.failed, report.problems) == (1, ("ServiceUnavailable, status 500",))
    assert report.stored + report.missing == report.due - 1
    for hours, due in ((1, 1), (2, 0), (26, 1), (28, 0)):
        later = at(context, NOW + timedelta(hours=hours))
        assert load_files(later, RECORDINGS, settings(folder)).due == due, hours
    serve(lambda id_: Response(b"there", media_type="audio/wav"))
    assert (
        load_files(at(context, NOW + timedelta(days=9)), RECORDINGS, settings(folder)).stored == 1
    )
    assert "failed" not in states(context)
    assert_table_matches_folder(context, RECORDINGS, folder)


def test_failed_files_come_after_those_that_were_never_tried(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    """Otherwise the newest, if they fail for good, would use up the limit of every run."""
    folder = tmp_path / "files"
    serve(lambda id_: Response(status_code=400))
    first = load_files(context, RECORDINGS, settings(folder, per_run=3))
    assert first.failed == 3
    serve(lambda id_: None)
    before = {file.key for file in table_of(context, RECORDINGS)}
    due = find_due(context, RECORDINGS, settings(folder))
    assert due.count == first.due
    assert {file.key for file in due.files[-3:]} == before


def fail_before(context: SyncContext, number: int, **changes: Any) -> list[str]:
    """Records that some recordings have failed; returns their keys."""
    due = find_due(context, RECORDINGS, settings("unused")).files[:number]
    failed = [
        dataclasses.replace(file, state="failed", tries=1, checked_at=NOW - timedelta(days=30))
        for file in due
    ]
    table = sync_files.open_table(context, RECORDINGS)
    table.write([dataclasses.replace(file, **changes) for file in failed])
    return [file.key for file in due]


def test_files_that_have_failed_before_do_not_end_a_run(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    keys = fail_before(context, 8)
    serve(lambda id_: Response(status_code=500) if id_ in keys else None)
    report = load_files(context, RECORDINGS, settings(tmp_path / "files"))
    assert report.failed == len(keys)
    assert report.left == 0


def test_a_file_that_always_fails_is_tried_every_seven_days(context: SyncContext) -> None:
    [key] = fail_before(context, 1, tries=50, checked_at=NOW)
    for days_later, is_due in ((6, False), (7, True)):
        later = at(context, NOW + timedelta(days=days_later))
        due = find_due(later, RECORDINGS, settings("unused")).files
        assert (key in {file.key for file in due}) == is_due


def test_a_blank_reference_is_none(context: SyncContext, tmp_path: Path) -> None:
    before = find_due(context, RECORDINGS, settings("unused"))
    first, second, *_ = before.files
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        for file, reference in ((first, ""), (second, "  ")):
            connection.execute(
                "UPDATE telecom.calls SET lead_call = struct_update(lead_call, recording_url := ?) "
                "WHERE id = ?::BIGINT",
                [reference, file.key],
            )
    after = find_due(context, RECORDINGS, settings("unused"))
    assert (after.count, after.elsewhere) == (before.count - 2, before.elsewhere)


def test_a_file_of_several_rows_belongs_to_the_one_that_changed_last(
    context: SyncContext, tmp_path: Path
) -> None:
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        ids = connection.execute("SELECT id FROM pricebook.materials ORDER BY id LIMIT 3")
        ids = [id_ for (id_,) in ids.fetchall()]
        for id_, day in zip(ids, (2, 9, 5), strict=True):
            connection.execute(
                "UPDATE pricebook.materials SET default_asset_url = 'Images/shared.png', "
                "modified_on = ? WHERE id = ?",
                [datetime(2026, 3, day, tzinfo=timezone.utc), id_],
            )
    due = find_due(context, IMAGES, settings("unused")).files
    [shared] = [file for file in due if file.key == "Images/shared.png"]
    assert (shared.source_table, shared.source_id) == ("pricebook.materials", str(ids[1]))
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute(
            "UPDATE pricebook.materials SET _deleted_at = now() WHERE id = ?", [ids[1]]
        )
    due = find_due(context, IMAGES, settings("unused")).files
    [shared] = [file for file in due if file.key == "Images/shared.png"]
    assert shared.source_id == str(ids[2]), "a deleted row points to nothing"


def test_an_outage_ends_the_run_and_keeps_what_has_arrived(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    folder, served = tmp_path / "files", []

    def answer(id_: str) -> Response:
        served.append(id_)
        if len(served) > 12:
            return Response(status_code=503)
        return Response(id_.encode(), media_type="audio/wav")

    serve(answer)
    with pytest.raises(ServiceUnavailable):
        load_files(context, RECORDINGS, settings(folder))
    counts = states(context)
    assert counts["stored"] == 12
    assert 5 <= counts["failed"] <= 5 + 4
    assert_table_matches_folder(context, RECORDINGS, folder)


@pytest.mark.parametrize(
    ("status", "error"), [(403, PermissionDenied), (401, AuthenticationFailed)]
)
def test_a_refusal_ends_the_run_at_once(
    context: SyncContext, tmp_path: Path, serve: Serve, status: int, error: type[Exception]
) -> None:
    served: list[str] = []

    def refuse(id_: str) -> Response:
        served.append(id_)
        return Response(status_code=status)

    serve(refuse)
    with pytest.raises(error):
        load_files(context, RECORDINGS, settings(tmp_path / "files"))
    assert len(served) <= 2 * 4 * 2
    assert table_of(context, RECORDINGS) == []


def test_two_runs_of_one_kind_exclude_each_other(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    folder, refused = tmp_path / "files", []
    hurried = dataclasses.replace(
        context, warehouse=dataclasses.replace(context.warehouse, wait_seconds=0)
    )

    def answer(id_: str) -> None:
        if not refused:
            refused.append("")
            with pytest.raises(WarehouseBusy, match="recordings"):
                load_files(hurried, RECORDINGS, settings(folder))
            refused.append("refused")

    serve(answer)
    load_files(context, RECORDINGS, settings(folder, concurrency=1))
    assert refused == ["", "refused"]


def test_a_redirect_leads_to_the_file_without_our_credentials(
    context: SyncContext, tmp_path: Path, serve: Serve
) -> None:
    storage = ScriptedServer()
    try:
        storage.rule = lambda seen: Canned(
            body=seen.path.encode(), headers={"Content-Type": "audio/mpeg"}
        )
        serve(lambda id_: Response(status_code=302, headers={"Location": f"{storage.url}/{id_}"}))
        report = load_files(context, RECORDINGS, settings(tmp_path / "files"))
        assert report.stored == report.due == len(storage.seen)
        assert report.requests == 2 * report.stored
        headers = [name for seen in storage.seen for name in seen.headers]
        assert not {"authorization", "st-app-key", "cookie"} & set(headers)
    finally:
        storage.close()


def test_files_go_to_any_storage_of_fsspec(context: SyncContext) -> None:
    memory = fsspec.filesystem("memory")
    url = "memory://files-of-the-test/below"
    try:
        report = load_files(context, IMAGES, settings(url))
        found = memory.find("/files-of-the-test/below")
        stored = table_of(context, IMAGES)
        assert {f"/files-of-the-test/below/{file.path}" for file in stored} == set(found)
        assert report.stored == len(found) > 0
        assert all(memory.cat_file(path) == PNG[0] for path in found)
    finally:
        memory.rm("/files-of-the-test", recursive=True)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("storage", ["folder", "memory"])
def test_a_run_that_was_killed_between_its_commits_is_completed(
    context: SyncContext, tmp_path: Path, storage: str, in_place: bool
) -> None:
    url = str(tmp_path / "files") if storage == "folder" else "memory://killed"
    try:
        load_files(context, RECORDINGS, settings(url))
        table = sync_files.open_table(context, RECORDINGS)
        first, *_ = table.read(("stored",))
        table.write([dataclasses.replace(first, state="storing")])
        if not in_place:
            open_storage(url).delete(str(first.path))
        report = load_files(context, RECORDINGS, settings(url))
        assert (report.due, report.stored) == ((0, 0) if in_place else (1, 1))
        assert open_storage(url).holds(str(first.path), first.bytes or 0, first.sha256 or "")
        assert "storing" not in states(context)
    finally:
        if storage == "memory":
            fsspec.filesystem("memory").rm("/killed", recursive=True)


def test_a_run_that_was_killed_keeps_the_version_that_it_was_to_replace(
    context: SyncContext, company: Sandbox, tmp_path: Path, serve: Serve
) -> None:
    """Both versions have one path, and the later one is no longer served by the next run."""
    folder, warehouse = tmp_path / "files", tmp_path / "x.duckdb"
    serve(lambda id_: Response(b"first", media_type="audio/wav"))
    load_files(context, RECORDINGS, settings(folder))
    id_ = min(file.key for file in table_of(context, RECORDINGS))
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "UPDATE telecom.calls SET lead_call = struct_update(lead_call, recording_url := 'new') "
            "WHERE id = ?::BIGINT",
            [id_],
        )
    serve(lambda id_: Response(b"second", media_type="audio/wav"))
    point = CrashPoint("st_pipelines.sync.file_storage:LocalStorage.put")
    server = Server.from_sandbox(company)
    assert is_killed(
        crash_harness.store_files, server, warehouse, RECORDINGS.name, settings(folder), point
    )
    serve(lambda id_: Response(status_code=404))
    later = at(context, datetime.now(timezone.utc) + timedelta(days=365))
    # the sandbox's clock has whole seconds, and may be behind the last request's time for one
    wait_until(lambda: load_files(later, RECORDINGS, settings(folder)).missing, "request for it")
    rows = {file.key: file for file in table_of(context, RECORDINGS)}
    assert rows[id_].state == "missing"
    assert (folder / str(rows[id_].path)).read_bytes() == b"first"
    assert {file.path for file in rows.values()} == paths_in(folder)


CRASH_POINTS = (
    "st_pipelines.servicetitan.http.download:Target._write",
    "st_pipelines.warehouse.tables.stored_files:FileTable.write",
    "st_pipelines.warehouse.store.duckdb_file:DuckDBFile.commit",
    "st_pipelines.sync.file_storage:LocalStorage.put",
    "os:replace",
    "os:fsync",
)


def test_runs_that_are_killed_at_random_moments_store_no_file_twice_and_none_torn(
    company: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    """Each goes on where the last one was killed. A file that is in its place is not requested."""
    folder, rng = tmp_path / "files", random.Random(5)
    requested: list[str] = []

    def note(request: Request) -> None:
        if request.url.path.endswith("/images"):
            requested.append(request.query_params["path"])

    company.interceptors.append(note)
    limited, warehouse = settings(folder, per_run=9), tmp_path / "x.duckdb"
    server, kept, kills = Server.from_sandbox(company), set[str](), 0
    for _ in range(30):
        point = CrashPoint(rng.choice(CRASH_POINTS), rng.random() < 0.5, rng.randint(1, 4))
        requested.clear()
        kills += is_killed(
            crash_harness.store_files, server, warehouse, IMAGES.name, limited, point
        )
        assert not kept & set(requested), f"requested again after {point}"
        in_folder, kept = paths_in(folder), set()
        for file in table_of(context, IMAGES):
            if file.path in in_folder:
                content = (folder / str(file.path)).read_bytes()
                assert hashlib.sha256(content).hexdigest() == file.sha256
                kept.add(file.reference)
                in_folder.remove(str(file.path))
            else:
                assert file.state in ("storing", "failed"), "a row promises a file that is gone"
        assert in_folder == set(), f"files without a row after {point}"
    load_files(context, IMAGES, settings(folder))
    assert kills > 20, "the others found less to store than their moment needs"
    assert len(kept) > 20
    assert_table_matches_folder(context, IMAGES, folder)
    assert find_due(context, IMAGES, settings(folder)).count == 0
    assert list((folder / ".staging").glob("files-*")) == []
