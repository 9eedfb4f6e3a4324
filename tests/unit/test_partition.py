"""Which partition a key names, and when partitions open and close."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from dagster import DailyPartitionsDefinition, HourlyPartitionsDefinition
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service_core.contract.model import Grain, Landing
from service_core.partition import (
    fallback_partition,
    file_name_of,
    is_late,
    open_partitions,
    partition_end,
    partition_of,
    partition_path,
    partition_start,
)

DAYS = Landing(
    prefix="orders/",
    partition_path="dt=%Y-%m-%d",
    grain=Grain.DAY,
    first_partition=date(2026, 1, 1),
    file_name=re.compile(".*"),
)
HOURS = replace(DAYS, partition_path="%Y/%m/%d/h=%H", grain=Grain.HOUR)
NOW = datetime(2026, 11, 21, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("landing", "key", "partition"),
    [
        (DAYS, "orders/dt=2026-11-21/orders_1.csv", "2026-11-21"),
        (DAYS, "orders/dt=2026-11-21/shop/a b/ü.csv", "2026-11-21"),
        (DAYS, "orders/dt=2026-11-21/100%2F.csv", "2026-11-21"),
        (DAYS, "orders/dt=2026-11-21/tab\there.csv", "2026-11-21"),
        (DAYS, "orders/dt=2026-11-21/line\nbreak.csv", "2026-11-21"),
        (DAYS, "orders/dt=2026-01-01/first.csv", "2026-01-01"),
        (DAYS, "orders/dt=2026-11-22/tomorrow.csv", "2026-11-22"),
        (DAYS, "orders/dt=2024-02-29/x.csv", None),
        (HOURS, "orders/2026/11/21/h=05/x.csv", "2026-11-21-05:00"),
        (HOURS, "orders/2026/11/21/h=23/x.csv", "2026-11-21-23:00"),
        (HOURS, "orders/2026/11/21/h=24/x.csv", None),
        (HOURS, "orders/2026/11/22/h=05/x.csv", "2026-11-22-05:00"),
        (HOURS, "orders/2026/11/22/h=06/x.csv", None),
        # no partition of this data set
        (DAYS, "customers/dt=2026-11-21/x.csv", None),
        (DAYS, "Orders/dt=2026-11-21/x.csv", None),
        (DAYS, "orders/x.csv", None),
        (DAYS, "orders/dt=2026-11-21", None),
        (DAYS, "orders/dt=2026-11-21/", None),
        (DAYS, "orders/dt=2026-11-21/sub/", None),
        (DAYS, "orders//dt=2026-11-21/x.csv", None),
        (DAYS, "orders/dt=2026-11-21//x.csv", None),
        (DAYS, "orders/dt=2026-11-21/../x.csv", None),
        (DAYS, "orders/dt=2026-11-21/./x.csv", None),
        (DAYS, "orders/dt=2026-11-21/..", None),
        (DAYS, "orders/../dt=2026-11-21/x.csv", None),
        (DAYS, "orders/dt=2026-11-21x/x.csv", None),
        (DAYS, "orders/dt=2026-11-21%2Fx.csv", None),
        (DAYS, "orders/dt%3D2026-11-21/x.csv", None),
        (DAYS, "orders/dt=2026-1-2/x.csv", None),
        # no date that exists, or none that can be landed
        (DAYS, "orders/dt=2026-02-30/x.csv", None),
        (DAYS, "orders/dt=2026-13-01/x.csv", None),
        (DAYS, "orders/dt=2026-00-10/x.csv", None),
        (DAYS, "orders/dt=0000-01-01/x.csv", None),
        (DAYS, "orders/dt=2025-12-31/x.csv", None),
        (DAYS, "orders/dt=2026-11-23/x.csv", None),
        (DAYS, "orders/dt=9999-12-31/x.csv", None),
        (DAYS, "orders/dt=٢٠٢٦-١١-٢١/x.csv", None),
        (DAYS, "orders/dt=2026-11-2１/x.csv", None),
    ],
)
def test_a_key_names_a_partition_or_none(landing: Landing, key: str, partition: str | None) -> None:
    assert partition_of(landing, key, now=NOW) == partition


def test_a_path_in_which_the_date_has_another_order_is_understood() -> None:
    landing = replace(DAYS, partition_path="%d.%m.%Y")
    assert partition_of(landing, "orders/21.11.2026/x.csv") == "2026-11-21"
    assert partition_of(landing, "orders/21x11x2026/x.csv") is None
    assert partition_path(landing, "2026-11-21") == "21.11.2026"


@pytest.mark.parametrize(
    ("landing", "definition"),
    [
        (DAYS, DailyPartitionsDefinition(start_date="2026-01-01")),
        (HOURS, HourlyPartitionsDefinition(start_date="2026-01-01-00:00")),
    ],
)
def test_partitions_are_named_as_dagster_names_them(
    landing: Landing, definition: DailyPartitionsDefinition | HourlyPartitionsDefinition
) -> None:
    keys = definition.get_partition_keys(current_time=NOW)
    for key in (keys[0], keys[100], keys[-1]):
        path = f"{landing.prefix}{partition_path(landing, key)}/x.csv"
        assert partition_of(landing, path, now=NOW) == key
        window = definition.time_window_for_partition_key(key)
        assert partition_start(landing, key) == window.start
        assert partition_end(landing, key) == window.end


@pytest.mark.parametrize(
    "name", ["", "2026-11-21 ", "2026-2-1", "2026-02-30", "2026-11-21-05:00", "x", "9999-12-31"]
)
def test_what_is_no_partition_is_refused(name: str) -> None:
    for function in (partition_path, partition_start, partition_end):
        with pytest.raises(ValueError, match="2026-11-21"):
            function(DAYS, name)
    with pytest.raises(ValueError, match="expected an hour"):
        partition_start(HOURS, "2026-11-21-05:30")


def test_a_partition_stays_open_for_its_window_after_its_end() -> None:
    landing = replace(DAYS, window=timedelta(days=3))
    end = partition_end(landing, "2026-11-17")
    assert not is_late(landing, "2026-11-17", end + timedelta(days=3))
    assert is_late(landing, "2026-11-17", end + timedelta(days=3, seconds=1))
    assert not is_late(replace(landing, window=None), "2026-01-01", NOW)


def test_open_partitions_are_newest_first_and_begin_with_the_coming_one() -> None:
    landing = replace(DAYS, window=timedelta(days=2))
    assert open_partitions(landing, NOW) == (
        "2026-11-22",
        "2026-11-21",
        "2026-11-20",
        "2026-11-19",
    )
    hours = replace(HOURS, window=timedelta(hours=1))
    assert open_partitions(hours, NOW) == (
        "2026-11-21-06:00",
        "2026-11-21-05:00",
        "2026-11-21-04:00",
    )


def test_open_partitions_do_not_reach_before_the_first_nor_exist_without_a_window() -> None:
    early = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert open_partitions(DAYS, early) == ("2026-01-02", "2026-01-01")
    assert open_partitions(DAYS, datetime(2025, 1, 1, tzinfo=UTC)) == ()
    assert open_partitions(replace(DAYS, window=None), NOW) == ()


@settings(max_examples=50, deadline=None)
@given(
    st.datetimes(datetime(2026, 1, 5), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 100),
    st.sampled_from([DAYS, HOURS]),
)
def test_a_partition_that_has_begun_is_open_exactly_while_arrivals_are_not_late(
    now: datetime, hours: int, landing: Landing
) -> None:
    landing = replace(landing, window=timedelta(hours=hours))
    opened = open_partitions(landing, now)
    assert all(not is_late(landing, name, now) for name in opened)
    before = partition_start(landing, opened[-1]) - timedelta(seconds=1)
    if before.date() >= landing.first_partition:
        assert is_late(landing, fallback_partition(landing, before), now)


def test_a_key_without_partition_is_filed_under_its_arrival() -> None:
    assert fallback_partition(DAYS, NOW) == "2026-11-21"
    assert fallback_partition(HOURS, NOW) == "2026-11-21-05:00"
    elsewhere = datetime(2026, 11, 21, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert fallback_partition(DAYS, elsewhere) == "2026-11-20"
    assert fallback_partition(DAYS, datetime(2020, 5, 5, tzinfo=UTC)) == "2026-01-01"


@pytest.mark.parametrize(
    ("key", "name"),
    [("a/b/c.csv", "c.csv"), ("c.csv", "c.csv"), ("a/", ""), ("", ""), ("a/%2Fb", "%2Fb")],
)
def test_the_file_name_follows_the_last_slash(key: str, name: str) -> None:
    assert file_name_of(key) == name


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from([DAYS, HOURS]))
@example("dt=2026-11-21/\ud800", DAYS)
def test_any_key_names_a_partition_that_exists_or_none(rest: str, landing: Landing) -> None:
    for key in (rest, landing.prefix + rest, f"{landing.prefix}dt=2026-11-21/{rest}"):
        partition = partition_of(landing, key, now=NOW)
        if partition is not None:
            path = f"{landing.prefix}{partition_path(landing, partition)}/"
            assert key.startswith(path)
            assert landing.first_partition <= partition_start(landing, partition).date()
            is_late(landing, partition, NOW)
