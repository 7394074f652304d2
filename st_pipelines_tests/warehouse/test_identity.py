"""The identity of a warehouse, and what happens to its rows when the settings change."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from st_pipelines.catalog.model import Catalog, Field, Scalar, StructOf
from st_pipelines.warehouse.errors import Overtaken, TimeZoneRefused
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables.coverage import read_coverage
from st_pipelines.warehouse.tables.identity import (
    WarehouseIdentity,
    ZoneChange,
    accept_timezone,
    read_identity,
)
from st_pipelines_tests.warehouse.factories import Place, catalog_of, endpoint, record

EASTERN, PACIFIC = "America/New_York", "America/Los_Angeles"
# 02:00 on March 5 in New York is 23:00 on March 4 in Los Angeles
NIGHT = "2026-03-05T07:00:00Z"
NOON = "2026-03-05T20:00:00Z"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, timezone=EASTERN)


def load(place: Place, *records: dict[str, Any], **changes: Any) -> ZoneChange | None:
    loaded, _ = place.load(records, **changes)
    return loaded.zone_change


def days(place: Place, table: str = "abc.things") -> dict[int, date]:
    return dict(place.query(f"SELECT id, _partition_date FROM {table} ORDER BY 1"))


def identity(place: Place, tenant_id: str = "1") -> WarehouseIdentity:
    owner = {"environment": "sandbox", "tenant_id": tenant_id}
    with place.warehouse.read_only() as connection:
        stored = read_identity(connection, **owner, schema="_st")
    assert stored
    return stored


def test_the_first_load_of_a_tenant_gives_the_warehouse_an_identity(place: Place) -> None:
    load(place, record(), start_date=date(2026, 1, 1))
    first = identity(place)
    assert (first.timezone, first.start_date) == (EASTERN, date(2026, 1, 1))
    load(place, record(id=2), start_date=date(2026, 1, 1))
    assert identity(place) == first
    load(place, record(), tenant_id="2")
    assert identity(place, "2").identity != first.identity


def test_a_zone_that_was_never_used_moves_every_row_to_its_day(place: Place) -> None:
    load(place, record(id=1, modifiedOn=NIGHT), record(id=2, modifiedOn=NOON))
    load(place, record(id=3, modifiedOn=None), default_date=date(2026, 3, 5))
    load(place, record(id=1, modifiedOn=NIGHT), tenant_id="2")
    change = load(place, record(id=2, modifiedOn=NOON), timezone=PACIFIC)
    assert change == ZoneChange(former=EASTERN, timezone=PACIFIC, rows=1)
    found = place.query("SELECT _tenant_id, id, _partition_date FROM abc.things ORDER BY 1, 2")
    assert found == [
        ("1", 1, date(2026, 3, 4)),
        ("1", 2, date(2026, 3, 5)),
        ("1", 3, date(2026, 3, 5)),  # no cursor: the day of its load
        ("2", 1, date(2026, 3, 5)),  # another tenant has a zone of its own
    ]
    stored = identity(place)
    assert (stored.timezone, stored.former_timezones) == (PACIFIC, (EASTERN,))


def test_a_new_zone_moves_the_kept_versions_too(place: Place) -> None:
    load(place, record(modifiedOn=NIGHT), history=True)
    load(place, record(id=2, modifiedOn=NOON), history=True, timezone=PACIFIC)
    assert days(place, "history.abc_things") == {1: date(2026, 3, 4), 2: date(2026, 3, 5)}


def test_a_table_that_the_catalog_of_the_new_zone_lacks_is_moved_by_one_that_knows_it(
    place: Place,
) -> None:
    """An older host changed the zone; the newer host's tables kept their former days for good."""
    other = endpoint(name="others")
    both = Catalog({other.table: other, endpoint().table: endpoint()})
    place.load([record(id=1, modifiedOn=NIGHT)], other, history=True)
    load(place, record(id=2, modifiedOn=NIGHT), timezone=PACIFIC)
    assert days(place, "abc.others") == {1: date(2026, 3, 5)}
    change = place.load([], catalog=both, timezone=PACIFIC)[0].zone_change
    assert change == ZoneChange(former="", timezone=PACIFIC, rows=1)
    for table in ("abc.others", "history.abc_others"):
        assert days(place, table) == {1: date(2026, 3, 4)}
    assert place.load([], catalog=both, timezone=PACIFIC)[0].zone_change is None


@pytest.mark.parametrize("changed_by_us", [True, False])
def test_a_table_that_a_version_without_notes_has_left_is_moved_when_it_is_loaded(
    place: Place, changed_by_us: bool
) -> None:
    other = endpoint(name="others")
    place.load([record(id=1, modifiedOn=NIGHT)], other)
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("DROP TABLE _st.table_zones")
    load(place, timezone=PACIFIC)
    if not changed_by_us:
        with duckdb.connect(str(place.file)) as connection:
            connection.execute("DROP TABLE _st.table_zones")
    place.load([], other, timezone=PACIFIC)
    assert days(place, "abc.others") == {1: date(2026, 3, 4)}


@pytest.mark.parametrize("accepted", [True, False])
def test_a_table_without_notes_is_moved_by_the_next_load_of_any_table(
    place: Place, accepted: bool
) -> None:
    """A version without notes loaded it, and the host that changed the zone does not know it."""
    other = endpoint(name="others")
    both = Catalog({other.table: other, endpoint().table: endpoint()})
    place.load([record(id=1, modifiedOn=NIGHT)], other)
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("DROP TABLE _st.table_zones")
    if accepted:
        owner = {"environment": "sandbox", "tenant_id": "1"}
        accept_timezone(place.warehouse, catalog_of(endpoint()), **owner, timezone=PACIFIC)
    else:
        load(place, timezone=PACIFIC)
    place.load([], catalog=both, timezone=PACIFIC)
    assert days(place, "abc.others") == {1: date(2026, 3, 4)}


def test_a_table_that_lacks_the_cursor_of_a_newer_catalog_stops_no_change_of_the_zone(
    place: Place,
) -> None:
    load(place, record(id=1, modifiedOn=NIGHT))
    newer = endpoint(
        columns=(*endpoint().columns, Field("changedOn", Scalar("TIMESTAMPTZ"))), cursor="changedOn"
    )
    other = endpoint(name="others")
    both = Catalog({newer.table: newer, other.table: other})
    change = place.load([], other, catalog=both, timezone=PACIFIC)[0].zone_change
    assert change == ZoneChange(former=EASTERN, timezone=PACIFIC, rows=0)
    assert days(place) == {1: date(2026, 3, 5)}, "the next load of its days fills the cursor"


def test_a_cursor_in_a_struct_decides_the_day_too(place: Place) -> None:
    call = StructOf((Field("modifiedOn", Scalar("TIMESTAMPTZ")),))
    of = endpoint(
        columns=(Field("id", Scalar("BIGINT")), Field("leadCall", call)),
        cursor="leadCall.modifiedOn",
    )
    place.load([{"id": 1, "leadCall": {"modifiedOn": NIGHT}}], of)
    place.load([], of, timezone=PACIFIC)
    assert days(place) == {1: date(2026, 3, 4)}


def test_a_zone_that_was_used_before_another_one_is_refused(place: Place) -> None:
    """Two hosts with different settings moved every row back and forth with every load."""
    load(place, record(modifiedOn=NIGHT))
    load(place, timezone=PACIFIC)
    with pytest.raises(TimeZoneRefused, match="SERVICETITAN_SANDBOX_TIMEZONE is America/New_York"):
        load(place, timezone=EASTERN)
    assert days(place) == {1: date(2026, 3, 4)}


def test_a_zone_is_refused_that_is_utc_because_the_setting_was_lost(place: Place) -> None:
    load(place, record(modifiedOn=NIGHT))
    with pytest.raises(TimeZoneRefused, match="only the default") as refused:
        load(place, timezone="UTC", timezone_is_default=True)
    assert "--accept-timezone" in str(refused.value)
    assert load(place, timezone="UTC") == ZoneChange(former=EASTERN, timezone="UTC", rows=0)


def test_a_load_that_began_before_the_zone_changed_is_refused_when_it_commits(
    place: Place,
) -> None:
    """It would have moved the rows back, or mixed days of two zones."""
    load(place, record(modifiedOn=NIGHT))
    load(place, timezone=PACIFIC)
    with pytest.raises(TimeZoneRefused):
        load(place, record(id=2, modifiedOn=NIGHT), timezone=EASTERN, sequence=1_000)
    assert days(place) == {1: date(2026, 3, 4)}


def test_a_refused_zone_can_be_accepted(place: Place) -> None:
    load(place, record(modifiedOn=NIGHT))
    load(place, timezone=PACIFIC)
    owner = {"environment": "sandbox", "tenant_id": "1"}
    catalog = catalog_of(endpoint())
    change = accept_timezone(place.warehouse, catalog, **owner, timezone=EASTERN)
    assert change == ZoneChange(former=PACIFIC, timezone=EASTERN, rows=1)
    assert days(place) == {1: date(2026, 3, 5)}
    assert load(place, timezone=EASTERN) is None
    with pytest.raises(TimeZoneRefused):
        load(place, timezone=PACIFIC)
    assert accept_timezone(place.warehouse, catalog, **owner, timezone=EASTERN) is None


def test_a_failed_load_moves_no_row(place: Place) -> None:
    load(place, record(modifiedOn=NIGHT))
    with pytest.raises(Overtaken):  # raised after the rows were moved
        load(place, record(modifiedOn=NIGHT, name="older"), timezone=PACIFIC, sequence=1)
    assert identity(place).timezone == EASTERN
    assert days(place) == {1: date(2026, 3, 5)}


def forget_identity(place: Place) -> None:
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("DROP TABLE _st.warehouse")


def test_a_file_of_an_earlier_version_gets_its_days_right_with_its_next_load(place: Place) -> None:
    load(place, record(modifiedOn=NIGHT), timezone="UTC")
    forget_identity(place)
    change = load(place, timezone=PACIFIC)
    assert change == ZoneChange(former="", timezone=PACIFIC, rows=1)
    assert days(place) == {1: date(2026, 3, 4)}


def test_a_lost_setting_is_noticed_in_a_file_of_an_earlier_version(place: Place) -> None:
    load(place, record(modifiedOn="2026-03-05T02:00:00Z"))
    forget_identity(place)
    with pytest.raises(TimeZoneRefused, match="another time zone"):
        load(place, timezone="UTC", timezone_is_default=True)
    assert days(place) == {1: date(2026, 3, 4)}
    assert load(place) is None


def test_former_start_dates_are_kept(place: Place) -> None:
    for day in (1, 5, 1):
        load(place, start_date=date(2026, 1, day))
    load(place)  # a script without a start date
    stored = identity(place)
    assert stored.start_date == date(2026, 1, 1)
    assert stored.former_start_dates == (date(2026, 1, 5),)


def test_an_aggregate_of_a_day_keeps_its_day_and_has_to_be_read_again(place: Place) -> None:
    """The aggregate of a day in another zone is another aggregate: no cursor tells its day."""
    of = endpoint(name="sums", cursor=None, key=(), by_day=True)
    start = datetime(2026, 3, 5, 5, tzinfo=timezone.utc)
    end = datetime(2026, 3, 6, 5, tzinfo=timezone.utc)
    facts = {"window_start": start, "window_end": end, "default_date": date(2026, 3, 5)}
    place.load([record()], of, mode=MergeMode.REPLACE_DAY, **facts)
    facts |= {"window_start": end, "default_date": date(2026, 3, 6)}
    place.load([], of, mode=MergeMode.REPLACE_DAY, timezone=PACIFIC, **facts)
    assert days(place, "abc.sums") == {1: date(2026, 3, 5)}
    now = datetime(2026, 7, 1, tzinfo=timezone.utc)
    with place.warehouse.read_only() as connection:
        found = read_coverage(connection, [of], environment="sandbox", tenant_id="1", now=now)
    coverage = found[of.table]
    assert coverage.has_day(start, end)
    assert not coverage.has_day(start.replace(hour=8), end.replace(hour=8))
