"""What a notification says, in both of S3's forms; and what is none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service_core.arrival.cutting import ripe_and_waiting, ripens_in
from service_core.arrival.looking_up import just_before
from service_core.arrival.notification import NotUnderstoodError, read_notification
from service_core.arrival.pressure import InFlight, Room, full_already
from service_core.contract import load_contract
from service_core.contract.model import Pace
from service_core.ports import Desk, PendingBatch
from service_core.source_object import SourceObject, source_object_id

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORDERS = load_contract(Path(__file__).parents[2] / "contracts" / "orders.yaml")


def straight(key: str = "orders/a.csv", event: str = "ObjectCreated:Put", **about: Any) -> str:
    told = {
        "eventVersion": "2.1",
        "eventTime": "2026-11-20T12:00:00.123Z",
        "eventName": event,
        "s3": {"bucket": {"name": "raw"}, "object": {"key": key, "size": 3, "eTag": "e", **about}},
    }
    return json.dumps({"Records": [told]})


def by_bus(kind: str = "Object Created", **about: Any) -> str:
    found = {"key": "orders/a b+c.csv", "size": 3, "etag": "e", "version-id": "v1", **about}
    detail = {"bucket": {"name": "raw"}, "object": found, "reason": "PutObject"}
    return json.dumps({"source": "aws.s3", "detail-type": kind, "time": "2026-11-20T12:00:00Z",
                       "detail": detail})  # fmt: skip


def test_a_key_that_comes_straight_is_decoded_and_one_by_eventbridge_is_taken_as_it_is() -> None:
    (first,) = read_notification(straight("orders/a+b%2Bc%C3%BC.csv", versionId="v1"), "raw")
    (second,) = read_notification(by_bus(), "raw")
    assert (first.key, first.version_id) == ("orders/a b+cü.csv", "v1")
    assert (second.key, second.version_id) == ("orders/a b+c.csv", "v1")
    assert first.at == datetime(2026, 11, 20, 12, 0, 0, 123_000, tzinfo=UTC)


def test_the_object_is_known_by_the_id_that_listing_gives_it() -> None:
    (told,) = read_notification(straight(versionId="v1"), "raw")
    (unversioned,) = read_notification(straight(), "raw")
    assert told.object_id == source_object_id("raw", "orders/a.csv", "v1", "e", 3)
    assert unversioned.object_id == source_object_id("raw", "orders/a.csv", None, "e", 3)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "raw"}),
        straight(event="ObjectRemoved:Delete"),
        straight(event="ObjectRestore:Completed"),
        by_bus(kind="Object Deleted"),
        json.dumps({"Records": []}),
    ],
)
def test_what_is_no_news_of_a_creation_is_ignored(body: str) -> None:
    assert read_notification(body, "raw") == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "JSON list"),
        ("{}", "neither"),
        (json.dumps({"Records": 3}), "no list"),
        (json.dumps({"Records": [3]}), "eventName"),
        (json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": 3}]}), "`s3`"),
        (straight(key=""), "`key`"),
        (straight().replace('"raw"', '"another"'), "the bucket 'another'"),
        (json.dumps({"source": "shop", "detail-type": "Order"}), "'Order'"),
        (json.dumps({"source": "aws.s3", "detail-type": "Object Created"}), "`detail`"),
    ],
)
def test_what_nobody_understands_is_said_to_be_so(body: str, reason: str) -> None:
    with pytest.raises(NotUnderstoodError, match=reason):
        read_notification(body, "raw")


@pytest.mark.parametrize("key", ["orders/a", "orders/a0", "a/\ue000", "b/" + "x" * 1022, "c/ü"])
def test_what_sorts_just_before_a_key_leaves_the_key_behind_it(key: str) -> None:
    before = just_before(key)
    assert before < key and len(before.encode()) <= 1_024
    assert key[:-1] + chr(ord(key[-1]) - 1) <= before or len(key.encode()) > 1_020 \
        or not before.endswith("\U0010ffff")  # fmt: skip


# --- Waiting for others --------------------------------------------------------------------------


def an_object(name: str, *, landed: datetime = NOON, size: int = 10) -> SourceObject:
    return SourceObject(bucket="raw", key=name, version_id=name, etag="e", size=size,
                        last_modified=landed, partition=f"{date(2026, 11, 20)}")  # fmt: skip


def test_objects_of_one_window_ripen_together_and_none_waits_longer_than_a_window() -> None:
    gathering = replace(ORDERS, pace=Pace(max_wait=timedelta(minutes=10)))
    early, late = NOON + timedelta(minutes=1), NOON + timedelta(minutes=9)
    objects = [an_object("a", landed=early), an_object("b", landed=late)]
    before_end = NOON + timedelta(minutes=9, seconds=59)
    assert ripe_and_waiting(objects, gathering, before_end)[0] == []
    assert len(ripe_and_waiting(objects, gathering, NOON + timedelta(minutes=10))[0]) == 1
    assert ripens_in(early, timedelta(minutes=10), early) == timedelta(minutes=9)


def test_a_full_batch_does_not_wait_nor_does_what_may_not() -> None:
    gathering = replace(ORDERS, landing=replace(ORDERS.landing, max_batch_files=2),
                        pace=Pace(max_wait=timedelta(minutes=10)))  # fmt: skip
    ripe, waiting = ripe_and_waiting([an_object(name) for name in "abc"], gathering, NOON)
    assert ([len(batch) for batch in ripe], len(waiting)) == ([2], 1)
    alone = an_object("a")
    assert ripe_and_waiting([alone], gathering, NOON, frozenset({alone.id}))[1] == []


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(days=400)])
def test_where_clocks_disagree_nothing_waits(off: timedelta) -> None:
    assert ripens_in(NOON, timedelta(minutes=10), NOON + off) == timedelta(0)


# --- Back-pressure -------------------------------------------------------------------------------


def in_flight(batches: int = 0, queued_bytes: int = 0) -> InFlight:
    return InFlight((), frozenset(), (), batches, queued_bytes)


def room(pace: Pace, *, paid_until: datetime | None = None, most: int = 100, **flight: int) -> Room:
    desk = Desk("orders", "listing", NOON, paid_until)
    return Room(replace(ORDERS, pace=pace), in_flight(**flight), desk, now=NOON, most=most)


def test_runs_bytes_and_ledger_writes_are_bounded_each() -> None:
    assert room(Pace()).refusal(1) is None
    assert "2 runs are in flight" in str(room(Pace(max_runs=2), batches=2).refusal(1))
    assert "9 bytes wait" in str(room(Pace(max_queued_bytes=10), queued_bytes=9).refusal(2))
    assert "as many runs as it may" in str(room(Pace(), most=0).refusal(1))
    slow = room(Pace(max_files_per_second=1))
    slow.take(files=60, size=1)
    assert "more than 1 files a second" in str(slow.refusal(1))
    assert full_already(ORDERS, in_flight(batches=ORDERS.pace.max_runs)) is not None


def test_a_batch_larger_than_the_bound_of_bytes_is_taken_where_nothing_else_waits() -> None:
    assert room(Pace(max_queued_bytes=10)).refusal(1_000) is None


def test_what_was_written_before_counts_and_a_debt_that_no_clock_can_have_made_does_not() -> None:
    pace = Pace(max_files_per_second=100)
    assert room(pace, paid_until=NOON + timedelta(seconds=5)).refusal(1) is not None
    assert room(pace, paid_until=NOON - timedelta(seconds=5)).refusal(1) is None
    assert room(pace, paid_until=NOON + timedelta(days=365)).refusal(1) is None


def test_pending_marks_know_by_which_way_their_objects_came() -> None:
    mark = PendingBatch("orders", "2026-11-20", "b", "s3://m/b.json", NOON)
    assert (mark.way, mark.size) == ("", 0)
