"""Runs of reports: pace, limits, maintenance, contracts, slots, contradictions, near matches."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    PermissionDenied,
    QuotaUsedUp,
    ReadingMoved,
    ReportNotFound,
    ServiceUnavailable,
    UnexpectedResponse,
)
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.http.rate_limit import ReportPacer
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.servicetitan.reporting import directory, reading
from st_pipelines.servicetitan.reporting.reading import read_pages
from st_pipelines.servicetitan.reporting.run import ReportRunner, ReportTarget, free_leftovers
from st_pipelines_tests.report_lab import CATEGORY, NUMBER, Lab, MovedClock, connect, open_lab
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer, Seen

TARGET = ReportTarget(category=CATEGORY, report_id=NUMBER)


class Tokens:
    """Tokens in memory."""

    def __init__(self, *dead: str) -> None:
        self.kept: list[str] = []
        self.dead = list(dead)
        self.remembered: list[str] = []

    def remember(self, token: str) -> None:
        self.kept.append(token)
        self.remembered.append(token)

    def forget(self, token: str) -> None:
        self.kept = [one for one in self.kept if one != token]
        self.dead = [one for one in self.dead if one != token]

    def give_up(self, token: str) -> None:
        self.dead.append(token)

    def leftovers(self) -> list[str]:
        return list(self.dead)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab"), customers=5, history_days=5) as lab:
        yield lab


@pytest.fixture
def lab(shared: Lab) -> Lab:
    """The sandbox as at the start, an hour later."""
    shared.clock.seconds += 3600
    shared.clock.waits.clear()
    settings = shared.sandbox.reports.settings
    settings.interval_seconds, settings.running_seconds, settings.slots = 60, 0, 3
    settings.maintenance = settings.as_observed = False
    shared.serve(["A"], [[1], [2], [3]])
    return shared


def run(client: Client, tokens: Tokens | None = None, **options: Any) -> tuple[list[Any], Any]:
    """Reads the report; returns its rows and how it was run."""
    session = client.session(ReadStats())
    runner = ReportRunner(session, TARGET, {}, tokens=tokens or Tokens(), **options)
    pages: list[Any] = []
    for page in read_pages(runner):
        pages = [one for one in pages if one.reading == page.reading] + [page]
    return [json.loads(row) for page in pages for row in page.rows], runner


def test_runs_of_a_report_start_a_minute_apart_and_those_of_others_do_not_wait(lab: Lab) -> None:
    client = lab.context.client
    start = lab.clock.seconds
    requests = [run(client)[1].session.usage.requests for _ in range(3)]
    assert 120 <= lab.clock.seconds - start <= 130
    assert requests == [1, 1, 1], "the limit was never reached"
    lab.serve(["A"], [], number=NUMBER + 1)
    runner = ReportRunner(
        client.session(ReadStats()),
        ReportTarget(category=CATEGORY, report_id=NUMBER + 1),
        {},
        tokens=Tokens(),
    )
    before = lab.clock.seconds
    assert list(read_pages(runner))
    assert lab.clock.seconds == before


def test_each_page_is_a_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_PAGE_SIZE", 1)
    start = lab.clock.seconds
    rows, _ = run(lab.context.client)
    assert rows == [[1], [2], [3]]
    assert 120 <= lab.clock.seconds - start <= 130


def test_a_limit_that_others_have_used_up_is_waited_for_as_long_as_it_says(lab: Lab) -> None:
    with closing(connect(lab.sandbox, lab.clock)) as other:
        run(other)  # another process, with a pacer of its own
    lab.clock.seconds += 20
    lab.clock.waits.clear()
    rows, _ = run(lab.context.client)
    assert rows == [[1], [2], [3]]
    assert sum(lab.clock.waits) == pytest.approx(40, abs=1)


def test_the_limit_of_a_report_does_not_hold_back_other_requests(lab: Lab) -> None:
    client = lab.context.client
    with closing(connect(lab.sandbox, lab.clock)) as other:
        run(other)
    run(client)
    assert client.limiter._next <= client.limiter.clock() + 1


@pytest.mark.parametrize("contract", ["sync", "async"])
def test_a_maintenance_is_waited_for_up_to_the_limit(lab: Lab, contract: Any) -> None:
    settings = lab.sandbox.reports.settings
    settings.maintenance = True
    with pytest.raises(ServiceUnavailable, match="409") as error:
        run(lab.context.client, contract=contract)
    assert error.value.exhausted
    assert 1800 <= sum(lab.clock.waits) <= 3700

    class Ending(MovedClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            settings.maintenance = len(self.waits) < 5

    with closing(connect(lab.sandbox, Ending())) as client:
        assert run(client, contract=contract)[0] == [[1], [2], [3]]


@pytest.mark.parametrize("observed", [False, True])
def test_a_run_is_polled_until_it_is_ready_and_its_slot_is_freed(lab: Lab, observed: bool) -> None:
    settings, tokens = lab.sandbox.reports.settings, Tokens()
    settings.running_seconds, settings.as_observed = 100, observed
    rows, runner = run(lab.context.client, tokens)
    assert rows == [[1], [2], [3]]
    assert runner.is_asynchronous
    assert len(tokens.remembered) == 1
    assert (tokens.kept, lab.sandbox.reports._queries) == ([], {})
    assert sum(lab.clock.waits) >= 100


def test_a_slot_is_freed_after_an_interrupt_too(lab: Lab) -> None:
    lab.sandbox.reports.settings.running_seconds = 100

    class Interrupted(MovedClock):
        def sleep(self, seconds: float) -> None:
            assert lab.sandbox.reports._queries, "the run takes up a slot"
            raise KeyboardInterrupt

    tokens = Tokens()
    with closing(connect(lab.sandbox, Interrupted())) as client, pytest.raises(KeyboardInterrupt):
        run(client, tokens)
    assert (tokens.kept, lab.sandbox.reports._queries) == ([], {})


def test_a_run_that_does_not_end_is_given_up_and_freed(lab: Lab) -> None:
    lab.sandbox.reports.settings.running_seconds = 1e6
    with (
        closing(connect(lab.sandbox, lab.clock, report_wait_seconds=50)) as client,
        pytest.raises(ServiceUnavailable, match=r"has not ended after 50 s.*REPORT_WAIT_SECONDS"),
    ):
        run(client)
    assert not lab.sandbox.reports._queries


def test_what_another_process_left_is_freed_and_a_slot_that_is_gone_is_forgotten(lab: Lab) -> None:
    lab.sandbox.reports.settings.running_seconds = 1e6
    session = lab.context.client.session(ReadStats())
    runner = ReportRunner(session, TARGET, {}, tokens=Tokens())
    pending: Any = runner._call(
        "POST",
        f"{TARGET.path}/data/query",
        lambda response: json.loads(response.body),
        {},
        is_run=True,
    )
    tokens = Tokens(pending["token"], "gone")
    assert free_leftovers(session, tokens) == 2
    assert (tokens.dead, lab.sandbox.reports._queries) == ([], {})


def test_a_report_that_is_gone_is_named_with_its_near_matches(lab: Lab) -> None:
    client, session = lab.context.client, lab.context.client.session(ReadStats())
    wrong = ReportTarget(category="marketing", report_id=NUMBER)
    with pytest.raises(ReportNotFound) as error:
        directory.describe_report(session, wrong)
    assert f"category {CATEGORY}, report {NUMBER}" in str(error.value)
    with pytest.raises(ReportNotFound, match=r"no report 'Calls' .*\(Calls and Bookings by Day\)"):
        directory.resolve_report(session, CATEGORY, "Calls")
    with pytest.raises(ReportNotFound, match=r"is named 'Sales'.* operations \(Operations\)"):
        directory.resolve_report(session, "Sales", 5)
    with pytest.raises(ReportNotFound, match="no report category 'no-such'"):
        directory.resolve_report(session, "no-such", "Calls")
    found = directory.resolve_report(session, "OPERATIONS", "calls and bookings by day")
    assert found.category == "operations"
    assert client.report_pacer.clock() == lab.clock.seconds, "nothing has waited"


def test_a_name_that_two_reports_have_is_not_guessed(lab: Lab) -> None:
    reports = lab.sandbox.reports
    first = next(r for r in reports.list(lab.sandbox.tenant_id) if r.id == NUMBER)
    reports.add(lab.sandbox.tenant_id, dataclasses.replace(first, id=NUMBER + 7))
    session = lab.context.client.session(ReadStats())
    try:
        with pytest.raises(ReportNotFound, match=rf"2 reports .* Give the id of one: {NUMBER}, "):
            directory.resolve_report(session, CATEGORY, first.name)
    finally:
        reports.remove(lab.sandbox.tenant_id, NUMBER + 7)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def scripted(server: ScriptedServer, clock: MovedClock) -> Client:
    """A client of a server whose responses the test sets up."""
    pacer = ReportPacer(60, clock=clock, sleep=clock.sleep)
    connection = server.connection()
    return Client(connection, policy=RetryPolicy(sleep=clock.sleep), report_pacer=pacer)


def body(rows: list[Any], **changes: Any) -> dict[str, Any]:
    """A page of a report with one field."""
    facts: dict[str, Any] = {
        "page": 1,
        "pageSize": 25_000,
        "hasMore": False,
        "totalCount": None,
        "fields": [{"name": "A", "label": "a"}],
        "data": rows,
    }
    return facts | changes


def requested(server: ScriptedServer) -> list[str]:
    """Method and end of the path of each request."""
    return [f"{seen.method} {seen.path.rpartition('/')[2]}" for seen in server.seen]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_without_the_asynchronous_contract_the_synchronous_one_is_used_from_then_on(
    server: ScriptedServer, scripted: Client, clock: MovedClock, status: int
) -> None:
    def answer(seen: Seen) -> Canned:
        return Canned(status=status) if seen.path.endswith("query") else Canned(body=body([[1]]))

    server.rule = answer
    rows, runner = run(scripted)
    assert rows == [[1]]
    assert not runner.is_asynchronous
    run(scripted)
    assert requested(server) == ["POST query", "POST data", "POST data"]
    assert clock.seconds < 10_000 + 70, "the refused request was no run"
    with pytest.raises(Exception, match=str(status)):
        run(scripted, contract="async")


def test_paging_is_in_the_query_and_parameters_are_in_the_body(
    server: ScriptedServer, scripted: Client
) -> None:
    server.rule = lambda seen: Canned(body=body([]))
    runner = ReportRunner(
        scripted.session(ReadStats()), TARGET, {"From": "2026-03-10", "Ids": [1]}, tokens=Tokens()
    )
    list(read_pages(runner))
    assert server.seen[0].query == {"page": "1", "pageSize": "25000", "includeTotal": "true"}
    assert json.loads(server.seen[0].body) == {
        "parameters": [{"name": "From", "value": "2026-03-10"}, {"name": "Ids", "value": [1]}]
    }


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([body([[1]], hasMore=True, totalCount=1)], "1 of 1 rows were read, and more pages follow"),
        ([body([[1]], totalCount=2)], "1 of 2 rows were read, and no page follows"),
        ([body([[1], [2]], totalCount=1)], "2 of 1 rows were read, and no page follows"),
        ([body([[1]], totalCount=0, hasMore=None)], "1 of 0 rows were read, and no page follows"),
        (
            [
                body([[1], [2]], hasMore=True, totalCount=3, pageSize=2),
                body([[1], [2]], page=2, totalCount=3, pageSize=2),
            ],
            "4 of 3 rows were read, and no page follows",
        ),
        ([body([], hasMore=True)], "an empty page says that more follow"),
        ([body([[1]], hasMore=True)], "a page that is not full says that more follow"),
        ([body([[1]], page=3)], "page 3 came for page 1"),
        (
            [
                body([[1]], hasMore=True, totalCount=2, pageSize=1),
                body([[1]], totalCount=2, pageSize=1),
            ],
            "page 1 came for page 2",
        ),
        ([body([[1]], hasMore=None)], "neither hasMore nor totalCount was served"),
        (
            [body([[1]], hasMore=True, totalCount=3), body([[2]], page=2, totalCount=2)],
            "pages have different totals",
        ),
        (
            [
                body([[1]], hasMore=True, totalCount=9),
                body([[2]], page=2, hasMore=True, totalCount=9, pageSize=7),
            ],
            "pages have different sizes",
        ),
    ],
)
def test_pages_that_contradict_each_other_are_read_again_and_then_fail(
    server: ScriptedServer, scripted: Client, pages: list[Any], reason: str
) -> None:
    server.rule = lambda seen: Canned(body=pages[int(seen.query["page"]) - 1])
    with pytest.raises(ReadingMoved, match=f"in 3 readings: {reason}"):
        run(scripted)
    assert len(server.seen) == 3 * len(pages)


@pytest.mark.parametrize("total", [2, 3])
def test_a_contradiction_that_goes_away_costs_a_reading_and_nothing_else(
    server: ScriptedServer, scripted: Client, total: int
) -> None:
    bodies = iter([body([[1]], totalCount=total), body([[1], [2]], totalCount=2)])
    server.rule = lambda seen: Canned(body=next(bodies))
    assert run(scripted)[0] == [[1], [2]]


def test_full_pages_without_a_total_go_on_to_the_last_one(
    server: ScriptedServer, scripted: Client
) -> None:
    """A negative total is none."""
    pages = [
        body([[1]], hasMore=True, pageSize=1, totalCount=-1),
        body([[2]], hasMore=True, page=2, pageSize=1),
        body([[3]], page=3, pageSize=1),
    ]
    server.rule = lambda seen: Canned(body=pages[int(seen.query["page"]) - 1])
    assert run(scripted)[0] == [[1], [2], [3]]


@pytest.mark.parametrize(
    "wrong",
    [
        b"[]",
        b"{}",
        b'{"data": []}',
        b'{"fields": [], "data": null}',
        b'{"fields": [{}], "data": []}',
        b'{"fields": [{"name": "A"}], "data": [[1, 2]]}',
        b'{"fields": [{"name": "A"}], "data": [{"A": 1}]}',
        b'{"fields": [{"name": "A"}], "data": [[1]], "Data": [[2]], "hasMore": false}',
        b'{"fields": [{"name": "A"}], "data": [[1',
        b"<html>login</html>",
    ],
)
def test_a_body_that_is_no_page_is_tried_again_and_never_loaded(
    server: ScriptedServer, scripted: Client, wrong: bytes
) -> None:
    server.rule = lambda seen: Canned(body=wrong)
    with pytest.raises(UnexpectedResponse):
        run(scripted)
    assert len(server.seen) == scripted.policy.attempts


def test_a_wrong_parameter_fails_at_once_with_the_words_of_servicetitan(
    server: ScriptedServer, scripted: Client
) -> None:
    server.rule = lambda seen: Canned(
        status=400, body={"title": "x", "errors": {"From": ["is required"]}}
    )
    with pytest.raises(BadRequest, match=r"From: is required.*st-pipelines reports show"):
        run(scripted)
    assert len(server.seen) == 1


def test_a_pending_run_may_be_spelled_either_way_and_a_lost_one_is_run_again(
    server: ScriptedServer, scripted: Client
) -> None:
    states = iter(
        [Canned(status=202, body={"Status": "InProgress", "Token": "t/1"}), Canned(status=404)]
    )

    def answer(seen: Seen) -> Canned:
        if seen.method == "DELETE":
            return Canned(status=404)
        if seen.method == "GET":
            return next(states)
        if sum(one.method == "POST" for one in server.seen) == 1:
            return Canned(status=202, body={"Status": "NotStarted", "Token": "t/1"})
        return Canned(body=body([[1]]))

    server.rule = answer
    assert run(scripted)[0] == [[1]]
    ends = ["POST query", "GET t%2F1", "GET t%2F1", "DELETE t%2F1", "POST query"]
    assert requested(server) == ends


def test_a_run_that_failed_is_an_error_and_its_token_is_in_no_message(
    server: ScriptedServer, scripted: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(seen: Seen) -> Canned:
        if seen.method == "DELETE":
            return Canned(status=500)
        return Canned(status=202, body={"status": "Failed", "token": "SECRET-TOKEN"})

    server.rule, tokens = answer, Tokens()
    with (
        caplog.at_level("DEBUG", logger="st_pipelines"),
        pytest.raises(UnexpectedResponse, match="failed") as error,
    ):
        run(scripted, tokens)
    assert tokens.dead == ["SECRET-TOKEN"], "it is freed by the next reading"
    assert "SECRET-TOKEN" not in str(error.value) + caplog.text


def test_a_page_that_is_too_large_is_halved(server: ScriptedServer, clock: MovedClock) -> None:
    def answer(seen: Seen) -> Canned:
        size, number = int(seen.query["pageSize"]), int(seen.query["page"])
        if size > 12_500:
            return Canned(body=body([["x" * 2_000_000]]))
        more = number == 1
        return Canned(body=body([[number]], page=number, hasMore=more, totalCount=2, pageSize=1))

    server.rule = answer
    pacer = ReportPacer(60, clock=clock, sleep=clock.sleep)
    client = Client(server.connection(max_response_mb=1), report_pacer=pacer)
    assert run(client, contract="sync")[0] == [[1], [2]]


def test_near_matches_need_scopes_and_the_error_names_them(
    server: ScriptedServer, scripted: Client
) -> None:
    def answer(seen: Seen) -> Canned:
        return Canned(status=403 if seen.path.endswith("report-categories") else 404)

    server.rule = answer
    with pytest.raises(ReportNotFound, match=r"tn\.rpr\.reportcategories:r") as error:
        directory.describe_report(scripted.session(ReadStats()), TARGET)
    assert not isinstance(error.value, PermissionDenied)


def test_a_contract_that_takes_no_total_is_asked_without(
    server: ScriptedServer, scripted: Client
) -> None:
    def answer(seen: Seen) -> Canned:
        if "includeTotal" in seen.query:
            return Canned(status=400, body={"title": "x", "errors": {"includeTotal": ["unknown"]}})
        return Canned(body=body([[1]]))

    server.rule = answer
    assert run(scripted)[0] == [[1]]


def test_a_page_size_that_is_refused_is_halved(server: ScriptedServer, scripted: Client) -> None:
    def answer(seen: Seen) -> Canned:
        if seen.page_size > 10_000:
            return Canned(status=400, body={"title": "x", "errors": {"pageSize": ["too large"]}})
        return Canned(body=body([[1]]))

    server.rule = answer
    assert run(scripted)[0] == [[1]]
    assert [seen.page_size for seen in server.seen] == [25_000, 12_500, 6_250]


def test_pages_are_halved_down_to_the_smallest_and_no_further(
    server: ScriptedServer, scripted: Client
) -> None:
    def answer(seen: Seen) -> Canned:
        return Canned(body=body([[1]])) if len(server.seen) > 100 else Canned(status=500)

    server.rule = answer
    with pytest.raises(ServiceUnavailable):
        run(scripted)
    sizes = list(dict.fromkeys(seen.page_size for seen in server.seen))
    assert sizes == [25_000, 12_500, 6_250, 3_125, 1_562, 1_000]


@pytest.mark.parametrize("status", [404, 410])
def test_a_report_that_is_gone_is_not_found_whichever_way_the_server_says_so(
    server: ScriptedServer, scripted: Client, status: int
) -> None:
    server.rule = lambda seen: Canned(status=status)
    with pytest.raises(ReportNotFound, match=f"no report {NUMBER}"):
        directory.describe_report(scripted.session(ReadStats()), TARGET)


def test_a_quota_that_comes_back_in_hours_is_not_waited_for(
    server: ScriptedServer, scripted: Client, clock: MovedClock
) -> None:
    text = "Out of call volume quota. Quota will be replenished in 05:00:00."
    server.rule = lambda seen: Canned(status=403, body={"statusCode": 403, "message": text})
    with pytest.raises(QuotaUsedUp):
        run(scripted)
    assert clock.waits == []
