"""Downloads of single files: streamed to disk, resumed, redirected without credentials."""

from __future__ import annotations

import gzip
import hashlib
import logging
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from st_pipelines.servicetitan.errors.errors import (
    PermissionDenied,
    ResponseTooLarge,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
    WrongPath,
)
from st_pipelines.servicetitan.http.download import (
    CannotWrite,
    FileNotServed,
    Target,
    download,
    read_media_type,
)
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.http.retry import NO_WAIT, RetryPolicy
from st_pipelines_tests.servicetitan.fake_server import APP_KEY, Canned, ScriptedServer, Seen

PATH = "/telecom/v2/tenant/{tenant}/calls/7/recording"
AUDIO = bytes(range(256)) * 4096
HALF = len(AUDIO) // 2
OLD = bytes(HALF)
"""Long enough that a part of it is received before it is cut."""
HEADERS = {"Content-Type": "audio/mpeg", "ETag": '"v1"'}


@pytest.fixture
def storage() -> Iterator[ScriptedServer]:
    """A host that is not ServiceTitan's."""
    server = ScriptedServer()
    yield server
    server.close()


def fetch(
    server: ScriptedServer, folder: Path, policy: RetryPolicy = NO_WAIT, max_bytes: int = 1 << 30
) -> Target:
    target = Target(path=folder / "file", max_bytes=max_bytes)
    session = server.client(policy=policy).session(ReadStats())
    download(session, PATH, {"path": "Images/Jane Doe.jpg"}, target, scope="tn.tlc.calls:r")
    return target


def test_a_file_arrives_as_it_was_served_and_only_its_owner_can_read_it(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    target = fetch(server, tmp_path)
    assert target.path.read_bytes() == AUDIO
    assert target.sha256 == hashlib.sha256(AUDIO).hexdigest()
    assert (target.received, target.media_type) == (len(AUDIO), "audio/mpeg")
    assert stat.S_IMODE(target.path.stat().st_mode) == 0o600
    assert server.seen[0].headers["accept-encoding"] == "identity"


def test_a_file_is_larger_than_other_responses_may_be(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    target = Target(path=tmp_path / "file", max_bytes=1 << 30)
    session = server.client(max_response_mb=0).session(ReadStats())
    download(session, PATH, {}, target, scope="")
    assert target.path.read_bytes() == AUDIO


def test_a_compressed_file_is_decompressed(server: ScriptedServer, tmp_path: Path) -> None:
    server.zip = True
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    assert fetch(server, tmp_path).path.read_bytes() == AUDIO


def test_a_cut_body_is_continued_where_it_ended(server: ScriptedServer, tmp_path: Path) -> None:
    half = len(AUDIO) // 2
    server.canned.append(Canned(body=AUDIO[:half], headers=HEADERS, fault="truncated"))
    part = {**HEADERS, "Content-Range": f"bytes {half}-{len(AUDIO) - 1}/{len(AUDIO)}"}
    server.canned.append(Canned(status=206, body=AUDIO[half:], headers=part))
    target = fetch(server, tmp_path)
    assert target.path.read_bytes() == AUDIO
    assert target.sha256 == hashlib.sha256(AUDIO).hexdigest()
    first, second = server.seen
    assert "range" not in first.headers
    assert (second.headers["range"], second.headers["if-range"]) == (f"bytes={half}-", '"v1"')


def test_a_cut_body_starts_over_where_the_server_sends_all_of_it(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A changed file, or a server that ignores Range."""
    server.canned.append(Canned(body=OLD, headers=HEADERS, fault="truncated"))
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    target = fetch(server, tmp_path)
    assert server.seen[1].headers["range"] == f"bytes={HALF}-"
    assert target.path.read_bytes() == AUDIO
    assert target.sha256 == hashlib.sha256(AUDIO).hexdigest()


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"v1"'}], ids=["none", "weak"])
def test_no_part_is_requested_of_a_file_without_a_version(
    server: ScriptedServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.canned.append(Canned(body=OLD, headers=headers, fault="truncated"))
    server.canned.append(Canned(body=AUDIO, headers=headers))
    assert fetch(server, tmp_path).path.read_bytes() == AUDIO
    assert "range" not in server.seen[1].headers


def test_no_part_is_requested_of_a_compressed_file(server: ScriptedServer, tmp_path: Path) -> None:
    """A part of the compressed body is no part of the file."""
    content = random.Random(1).randbytes(1 << 20)
    zipped, headers = gzip.compress(content), {**HEADERS, "Content-Encoding": "gzip"}
    server.canned.append(Canned(body=zipped[:HALF], headers=headers, fault="truncated"))
    server.canned.append(Canned(body=zipped, headers=headers))
    assert fetch(server, tmp_path).path.read_bytes() == content
    assert "range" not in server.seen[1].headers


def test_another_part_than_the_requested_one_is_not_appended(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Although it is as long as the one that is missing."""
    server.canned.append(Canned(body=AUDIO[:HALF], headers=HEADERS, fault="truncated"))
    wrong = {**HEADERS, "Content-Range": f"bytes 0-{HALF - 1}/{len(AUDIO)}"}
    server.canned.append(Canned(status=206, body=OLD, headers=wrong))
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    target = fetch(server, tmp_path)
    assert target.path.read_bytes() == AUDIO
    assert target.sha256 == hashlib.sha256(AUDIO).hexdigest()
    assert "range" in server.seen[1].headers
    assert "range" not in server.seen[2].headers


@pytest.mark.parametrize("total", [len(AUDIO), HALF + 500])
def test_a_part_that_ends_before_the_file_is_not_its_end(
    server: ScriptedServer, tmp_path: Path, total: int
) -> None:
    """A server may send less than was requested. A part beyond the end is of another file."""
    server.canned.append(Canned(body=AUDIO[:HALF], headers=HEADERS, fault="truncated"))
    for first, last in ((HALF, HALF + 999), (HALF + 1000, len(AUDIO) - 1)):
        part = {**HEADERS, "Content-Range": f"bytes {first}-{last}/{total}"}
        server.canned.append(Canned(status=206, body=AUDIO[first : last + 1], headers=part))
    if total != len(AUDIO):
        server.canned[-1] = Canned(body=AUDIO, headers=HEADERS)
    target = fetch(server, tmp_path)
    assert target.path.read_bytes() == AUDIO
    assert target.sha256 == hashlib.sha256(AUDIO).hexdigest()
    resumed = f"bytes={HALF + 1000}-" if total == len(AUDIO) else None
    assert server.seen[2].headers.get("range") == resumed


@pytest.mark.parametrize("content_range", ["bytes {first}-{last}/*", "bytes {first}-"])
def test_a_part_that_does_not_say_how_long_the_file_is_may_not_be_its_end(
    server: ScriptedServer, tmp_path: Path, content_range: str
) -> None:
    server.canned.append(Canned(body=AUDIO[:HALF], headers=HEADERS, fault="truncated"))
    part = {**HEADERS, "Content-Range": content_range.format(first=HALF, last=HALF + 999)}
    server.canned.append(Canned(status=206, body=AUDIO[HALF : HALF + 1000], headers=part))
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    target = fetch(server, tmp_path)
    assert target.path.read_bytes() == AUDIO
    assert target.sha256 == hashlib.sha256(AUDIO).hexdigest()


def test_transient_errors_are_retried_and_the_token_is_renewed(
    server: ScriptedServer, tmp_path: Path
) -> None:
    for status in (500, 429, 401):
        server.canned.append(Canned(status=status))
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    assert fetch(server, tmp_path).path.read_bytes() == AUDIO
    sent = [seen.headers["authorization"] for seen in server.seen]
    assert sent[2] != sent[3]


def test_a_body_that_stays_cut_fails(server: ScriptedServer, tmp_path: Path) -> None:
    server.rule = lambda seen: Canned(body=b"x", headers=HEADERS, fault="truncated")
    with pytest.raises(Unreachable):
        fetch(server, tmp_path, RetryPolicy(attempts=2, backoff=0))


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_is_told_apart_from_a_missing_operation(
    server: ScriptedServer, tmp_path: Path, status: int
) -> None:
    server.canned.append(Canned(status=status, body={"title": "Not Found", "traceId": "1"}))
    with pytest.raises(FileNotServed):
        fetch(server, tmp_path)
    gateway = {"statusCode": status, "message": "Resource not found"}
    server.canned.append(Canned(status=status, body=gateway))
    with pytest.raises(WrongPath):
        fetch(server, tmp_path)
    page = "<html><title>Not here</title></html>"
    server.canned.append(Canned(status=status, body=page))
    with pytest.raises(WrongPath):
        fetch(server, tmp_path)


def test_an_empty_file_and_no_content_are_empty(server: ScriptedServer, tmp_path: Path) -> None:
    for answer in (Canned(headers=HEADERS), Canned(status=204), Canned(status=205)):
        server.canned.append(answer)
        target = fetch(server, tmp_path)
        assert (target.received, target.path.read_bytes()) == (0, b"")


def test_a_response_that_has_no_file_yet_is_retried(server: ScriptedServer, tmp_path: Path) -> None:
    server.canned.append(Canned(status=202))
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    assert fetch(server, tmp_path).received == len(AUDIO)


def test_a_web_page_is_no_recording(server: ScriptedServer, tmp_path: Path) -> None:
    server.rule = lambda seen: Canned(body="<p>sign in</p>", headers={"Content-Type": "text/html"})
    target = Target(
        path=tmp_path / "file", max_bytes=1000, accepts=lambda kind: kind != "text/html"
    )
    with pytest.raises(UnexpectedResponse, match="text/html instead of a file"):
        download(server.client().session(ReadStats()), PATH, {}, target, scope="")
    assert not target.path.exists()


def test_a_file_that_is_too_large_is_not_read_to_its_end(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    with pytest.raises(ResponseTooLarge, match="ST_FILES_MAX_MB"):
        fetch(server, tmp_path, max_bytes=1000)
    assert not (tmp_path / "file").exists()
    server.canned.append(Canned(body=AUDIO, headers=HEADERS, fault="endless"))
    with pytest.raises(ResponseTooLarge):
        fetch(server, tmp_path, max_bytes=1 << 20)
    assert (tmp_path / "file").stat().st_size <= 1 << 20


@pytest.mark.parametrize("resumed", [0, 600])
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_file_may_be_as_large_as_the_limit_and_no_larger(
    tmp_path: Path, is_declared: bool, resumed: int
) -> None:
    """What a server declares is refused before any of it is read."""
    for size in (1000, 1001):
        target = Target(path=tmp_path / str(size), max_bytes=1000)
        if resumed:
            target.receive(200, HEADERS, iter([bytes(resumed)]))
        length = {"Content-Length": str(size - resumed)} if is_declared else {}
        part = {"Content-Range": f"bytes {resumed}-{size - 1}/{size}"} if resumed else {}
        chunks = iter([bytes(size - resumed)])
        answer = (206 if resumed else 200, {**HEADERS, **length, **part}, chunks)
        if size == 1000:
            target.receive(*answer)
            assert target.path.stat().st_size == target.received == 1000
            continue
        with pytest.raises(ResponseTooLarge):
            target.receive(*answer)
        assert target.received == resumed
        assert len(list(chunks)) == is_declared


def test_a_full_disk_is_not_a_lost_connection(server: ScriptedServer, tmp_path: Path) -> None:
    server.canned.append(Canned(body=AUDIO, headers=HEADERS))
    target = Target(path=tmp_path / "no such folder" / "file", max_bytes=1 << 30)
    with pytest.raises(CannotWrite):
        download(server.client().session(ReadStats()), PATH, {}, target, scope="")
    assert len(server.seen) == 1


def test_a_redirect_to_another_host_carries_no_credentials(
    server: ScriptedServer,
    storage: ScriptedServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    address = f"{storage.url}/tenant-4711/Jane-Doe.mp3?sig=of-the-storage"
    server.canned.append(Canned(status=302, headers={"Location": address}))
    storage.canned.append(Canned(body=AUDIO, headers=HEADERS))
    assert fetch(server, tmp_path).path.read_bytes() == AUDIO
    (seen,) = storage.seen
    assert seen.raw_query == "sig=of-the-storage"
    assert not {"authorization", "st-app-key", "cookie"} & seen.headers.keys()
    everything = " ".join(seen.headers.values())
    assert APP_KEY not in everything
    assert not [token for token in server.tokens if token in everything]
    assert "authorization" in server.seen[0].headers
    logged = caplog.text
    assert "Jane" not in logged
    assert "of-the-storage" not in logged
    assert "GET" in logged


def test_a_cut_body_of_a_redirect_is_continued_at_a_new_address(
    server: ScriptedServer, storage: ScriptedServer, tmp_path: Path
) -> None:
    for number in (1, 2):
        location = {"Location": f"{storage.url}/{number}"}
        server.canned.append(Canned(status=302, headers=location))
    half = len(AUDIO) // 2
    storage.canned.append(Canned(body=AUDIO[:half], headers=HEADERS, fault="truncated"))
    part = {**HEADERS, "Content-Range": f"bytes {half}-{len(AUDIO) - 1}/{len(AUDIO)}"}
    storage.canned.append(Canned(status=206, body=AUDIO[half:], headers=part))
    assert fetch(server, tmp_path).path.read_bytes() == AUDIO
    assert [seen.path for seen in storage.seen] == ["/1", "/2"]


def test_a_redirect_on_the_same_host_is_signed_and_one_back_is_not(
    server: ScriptedServer, storage: ScriptedServer, tmp_path: Path
) -> None:
    def answer(seen: Seen) -> Canned | None:
        if seen.path.endswith("recording"):
            return Canned(status=302, headers={"Location": "/files/1"})
        if seen.path == "/files/1":
            return Canned(status=302, headers={"Location": f"{storage.url}/elsewhere"})
        return Canned(body=AUDIO, headers=HEADERS)

    server.rule = answer
    storage.rule = lambda seen: Canned(status=302, headers={"Location": f"{server.url}/back"})
    assert fetch(server, tmp_path).received == len(AUDIO)
    signed = ["authorization" in seen.headers for seen in server.seen]
    assert signed == [True, True, False]
    assert "authorization" not in storage.seen[0].headers


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://[::1",
        "ftp://host/file",
        "file:///etc/passwd",
        "https://user:pw@host/",
        "https://user@host/",
        "//",
    ],
)
def test_a_redirect_that_leads_nowhere_is_not_followed(
    server: ScriptedServer, tmp_path: Path, location: str
) -> None:
    server.rule = lambda seen: Canned(status=302, headers={"Location": location})
    with pytest.raises(UnexpectedResponse, match="redirected") as raised:
        fetch(server, tmp_path)
    assert "pw" not in str(raised.value)


def test_https_does_not_lead_to_http() -> None:
    """Of an https API; the test servers have no certificates."""
    from st_pipelines.servicetitan.http.download import _follow
    from st_pipelines.servicetitan.http.model import Request, Response

    server = ScriptedServer()
    try:
        session = server.client(api_url="https://127.0.0.1:1").session(ReadStats())
        answer = Response(status=302, headers={"Location": f"{server.url}/file"}, body=b"")
        request = Request(method="GET", url="https://127.0.0.1:1/images")
        with pytest.raises(UnexpectedResponse, match="not https"):
            _follow(session, request, answer, Target(path=Path("x"), max_bytes=1))
        assert server.seen == []
    finally:
        server.close()


def test_redirects_in_a_circle_end(server: ScriptedServer, tmp_path: Path) -> None:
    server.rule = lambda seen: Canned(status=302, headers={"Location": seen.path})
    with pytest.raises(UnexpectedResponse, match="more than 5 times"):
        fetch(server, tmp_path, RetryPolicy(attempts=1))
    assert len(server.seen) == 6


@pytest.mark.parametrize("status", [301, 303, 307, 308])
def test_other_redirects_are_not_followed(
    server: ScriptedServer, storage: ScriptedServer, tmp_path: Path, status: int
) -> None:
    server.rule = lambda seen: Canned(status=status, headers={"Location": storage.url})
    with pytest.raises(WrongPath):
        fetch(server, tmp_path)
    assert storage.seen == []


def test_an_expired_address_is_fetched_anew_and_a_missing_file_there_is_missing(
    server: ScriptedServer, storage: ScriptedServer, tmp_path: Path
) -> None:
    server.rule = lambda seen: Canned(status=302, headers={"Location": f"{storage.url}/Jane"})
    storage.canned.append(Canned(status=403, body="<Error>AccessDenied</Error>"))
    storage.canned.append(Canned(status=503))
    storage.canned.append(Canned(status=429))
    storage.canned.append(Canned(body=AUDIO, headers=HEADERS))
    assert fetch(server, tmp_path).received == len(AUDIO)
    storage.canned.append(Canned(status=404, body="<Error>NoSuchKey</Error>"))
    with pytest.raises(FileNotServed):
        fetch(server, tmp_path)
    storage.rule = lambda seen: Canned(status=403)
    with pytest.raises(UnexpectedResponse) as raised:
        fetch(server, tmp_path)
    assert "Jane" not in str(raised.value)
    for status in (408, 425, 429, 500):
        storage.rule = lambda seen, status=status: Canned(status=status)
        with pytest.raises(ServiceUnavailable):
            fetch(server, tmp_path)


def test_a_refusal_names_the_scope_and_no_file(server: ScriptedServer, tmp_path: Path) -> None:
    server.canned.append(Canned(status=403, body={"title": "Forbidden"}))
    with pytest.raises(PermissionDenied, match=r"tn\.tlc\.calls:r") as raised:
        fetch(server, tmp_path)
    assert "Jane" not in str(raised.value)


def test_media_types_are_read_without_parameters() -> None:
    served = {
        "audio/mpeg": "audio/mpeg",
        "Audio/MPEG; charset=binary": "audio/mpeg",
        " image/svg+xml ;q=1": "image/svg+xml",
        "image/png, image/png": "image/png",
        "": "",
        "../../etc/passwd": "",
        "audio": "",
        "a/b c": "",
    }
    assert {text: read_media_type({"Content-Type": text}) for text in served} == served
