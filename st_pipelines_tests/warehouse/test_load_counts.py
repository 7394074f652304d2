"""What a load counts: rows of the export feed, of the table before and after, and lost ones."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import duckdb
import pytest

from st_pipelines.catalog.model import Endpoint, Export, Field, Scalar, StructOf
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables.load import FollowUp
from st_pipelines.warehouse.tables.load_facts import Facts, count_facts
from st_pipelines.warehouse.tables.table_load import Counts, TableLoad
from st_pipelines_tests.warehouse.factories import FIELDS, Place, endpoint, record

OLD, NEW = "2026-01-02T03:00:00Z", "2026-01-05T00:00:00Z"
WHOLE: dict[str, Any] = {"mode": MergeMode.REPLACE_ALL, "window_end": None}
FED = endpoint(export=Export(path="/export", adds=("active",)))


def listed(id_: int, **changes: Any) -> dict[str, Any]:
    """A record as the list serves it: without what only the feed has."""
    return record(id=id_, active=None, modifiedOn=OLD, **changes)


def fed(id_: int | None, **changes: Any) -> dict[str, Any]:
    return record(**({"id": id_, "modifiedOn": OLD} | changes))


def counted(place: Place, of: Endpoint, *records: dict[str, Any], **changes: Any) -> Facts:
    """The facts of a reading that is compared with the table and not merged."""
    what = place.what(**changes)
    with place.staged(of, what) as (staging, typed):
        typed.add(staging.add(json.dumps(list(records)).encode()))
        typed.finish()
        with place.warehouse.attach(typed.connection):
            return count_facts(TableLoad(typed.connection, of, what))


class TestFeed:
    """A record of the feed counts once, and not again if the list served it too."""

    def test_records_that_only_the_feed_serves_are_inserted(self, place: Place) -> None:
        loaded = place.load_with_feed([listed(1)], [fed(1), fed(2)], FED)
        assert loaded.counts == Counts(inserted=2)
        assert place.query("SELECT id, active FROM abc.things ORDER BY id") == [
            (1, True),
            (2, True),
        ]

    def test_the_same_again_is_unchanged(self, place: Place) -> None:
        place.load_with_feed([listed(1)], [fed(1), fed(2)], FED)
        loaded = place.load_with_feed([listed(1)], [fed(1), fed(2)], FED)
        assert loaded.counts == Counts(unchanged=2)

    def test_newer_versions_and_new_values_are_updates(self, place: Place) -> None:
        place.load([listed(1), listed(2), listed(3)], FED)
        feed = [fed(1, name="newer", modifiedOn=NEW), fed(2), fed(3, active=None)]
        loaded = place.load_with_feed([], feed, FED)
        assert loaded.counts == Counts(updated=2, unchanged=1)
        assert place.query("SELECT name, active FROM abc.things ORDER BY id") == [
            ("newer", True),
            ("Müller", True),
            ("Müller", None),
        ]

    def test_a_change_that_list_and_feed_serve_is_one_update(self, place: Place) -> None:
        place.load_with_feed([listed(1)], [fed(1)], FED)
        changed = listed(1, name="b") | {"modifiedOn": NEW}
        loaded = place.load_with_feed([changed], [fed(1, name="b", modifiedOn=NEW)], FED)
        assert loaded.counts == Counts(updated=1)

    def test_what_the_feed_adds_to_a_record_that_the_list_left_alone_is_an_update(
        self, place: Place
    ) -> None:
        place.load([listed(1)], FED)
        loaded = place.load_with_feed([listed(1)], [fed(1)], FED)
        assert loaded.counts == Counts(updated=1)

    def test_records_without_a_key_are_left_to_the_list(self, place: Place) -> None:
        loaded = place.load_with_feed([listed(1)], [fed(None), fed(None)], FED)
        assert loaded.counts == Counts(inserted=1)
        assert place.query("SELECT count(*) FROM abc.things") == [(1,)]


def test_the_rows_of_a_table_are_the_live_ones_of_the_tenant(place: Place) -> None:
    place.load([record(id=n) for n in range(3)], tenant_id="2")
    place.load([record(id=1), record(id=2)])
    loaded, _ = place.load([record(id=2)], **WHOLE)
    assert (loaded.counts.deleted, loaded.table_rows) == (1, 1)
    assert place.query("SELECT table_rows FROM _st.loads ORDER BY rowid") == [(3,), (2,), (1,)]


def test_the_rows_before_are_those_after_the_last_load_of_the_table_and_tenant(
    place: Place,
) -> None:
    assert place.load([record(id=1)])[0].facts.rows_before is None
    assert place.load([record(id=1), record(id=2)])[0].facts.rows_before == 1
    assert place.load([record(id=3)])[0].facts.rows_before == 2
    place.load([record(id=n) for n in range(7)], tenant_id="2")
    place.load([record(id=n) for n in range(9)], endpoint(name="others"))
    assert place.load([])[0].facts.rows_before == 3


def test_the_rows_before_may_be_of_a_version_that_did_not_number_its_loads(place: Place) -> None:
    place.load([record(id=1)])
    place.load([record(id=2)])
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("UPDATE _st.loads SET sequence = NULL")
        connection.execute(
            "INSERT INTO _st.loads BY NAME SELECT * REPLACE (NULL AS table_rows) "
            "FROM _st.loads LIMIT 1"
        )
    assert place.load([record(id=3)])[0].facts.rows_before == 2
    assert place.load([])[0].facts.rows_before == 3


def test_a_lost_record_and_one_that_was_not_read_do_not_cancel_each_other_out(
    place: Place,
) -> None:
    place.load([record(id=1), record(id=3)])
    facts = counted(place, endpoint(), record(id=1), record(id=2))
    assert (facts.lost, facts.not_read, facts.distinct_read) == (1, 1, 2)


def test_a_record_that_was_read_by_its_id_may_be_from_any_time(place: Place) -> None:
    day = {
        "window_start": datetime(2026, 3, 2, tzinfo=timezone.utc),
        "window_end": datetime(2026, 3, 3, tzinfo=timezone.utc),
    }
    records = [record(id=1), record(id=2), record(id=None)]
    assert all(each["modifiedOn"].startswith("2026-01") for each in records)
    looked_up = FollowUp(looked_up_ids=frozenset((1,)))
    loaded, _ = place.load(records, follow_up=looked_up, **day)
    assert loaded.facts.outside == 2


def test_a_record_whose_newer_version_is_outside_the_window_is_neither_lost_nor_read(
    place: Place,
) -> None:
    place.load([record(id=1, modifiedOn=NEW), record(id=2, modifiedOn=OLD)])
    day = {"window_end": datetime(2026, 1, 3, tzinfo=timezone.utc)}
    facts = counted(place, endpoint(), record(id=1, modifiedOn=OLD), **day)
    assert (facts.lost, facts.not_read) == (0, 1)


@pytest.mark.parametrize(
    ("number", "lost", "not_read"), [(1, 0, 1), (2, 0, 0), (4, 2, 0)], ids=["less", "same", "more"]
)
def test_records_without_a_key_are_compared_by_number(
    place: Place, number: int, lost: int, not_read: int
) -> None:
    of = endpoint(key=())
    place.load([record(name="a"), record(name="b"), record(name="later", modifiedOn=NEW)], of)
    day = {"window_end": datetime(2026, 1, 3, tzinfo=timezone.utc)}
    facts = counted(place, of, *[record(name=str(n)) for n in range(number)], **day)
    assert (facts.lost, facts.not_read) == (lost, not_read)


def test_a_field_that_stops_coming_is_named_once_with_all_its_members(place: Place) -> None:
    address = StructOf((Field("city", Scalar("VARCHAR")), Field("zip", Scalar("VARCHAR"))))
    of = endpoint(columns=(*FIELDS, Field("address", address)))
    whole = {"city": "Essen", "zip": "45127"}
    place.load([record(id=n, address=whole) for n in range(40)], of)

    def missing(number: int, **address: str | None) -> list[tuple[str, float, int]]:
        records = [record(id=n, address=address or None) for n in range(number)]
        return [(m.path, m.share, m.rows) for m in place.load(records, of)[0].missing_fields]

    assert missing(20, city="Essen", zip=None) == [("address.zip", 1.0, 20)]
    assert missing(19) == [], "of so few rows, chance may explain it"
    assert missing(40) == [("address", 21 / 40, 40)]
