"""Arrival at scale, scaled where a test has no time: what holds for hundreds holds by the same
bounds for a hundred thousand. The million is a million; its bucket is a stand-in that computes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service_core.arrival import (
    ArrivalCursor,
    Budget,
    hear_notifications,
    look_for_arrivals,
    read_manifest,
)
from service_core.arrival.looking_up import look_up
from service_core.contract.model import Contract, Pace
from service_core.layout import Zone
from service_core.ports import Notice, QueueDepth
from tests.pipeline.conftest import Lake

TICK = Path(__file__).parents[2] / "benchmarks" / "sensor_tick.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "objects"),
    [("days", 1_000_000), pytest.param("one_day_random", 15_000, marks=pytest.mark.soak)],
)
def test_a_tick_costs_no_more_than_what_is_new_however_much_lies_in_the_bucket(
    layout: str, objects: int
) -> None:
    command = [sys.executable, str(TICK), "--layout", layout, "--objects", str(objects)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    cost = json.loads(done.stdout.splitlines()[-1])
    assert cost["s3_requests"] <= 100 / 1000 + 20
    assert cost["peak_mb"] <= 200
    assert cost["new"] == 100, "missed"


def land(lake: Lake, keys: list[str]) -> None:
    for key in keys:
        lake.s3.put_object(Bucket=lake.settings.bucket(Zone.RAW), Key=key, Body=b"x")


def taken_keys(lake: Lake, batches: Any) -> list[str]:
    return [o.key for b in batches for o in read_manifest(lake.store(), b.manifest_uri).objects]


def test_a_flood_is_taken_in_several_looks_in_full_batches_and_each_file_once(
    lake: Lake,
) -> None:
    """120 files for 100,000: bounded per look by new objects, per batch by files, in flight by
    runs; and the cursor does not grow."""
    landing = replace(lake.contract.landing, max_batch_files=20)
    lake.contract = replace(lake.contract, landing=landing, pace=Pace(max_runs=2))
    # In no order: consecutive numbers lie far apart.
    land(lake, [lake.key(f"orders_{n * 7919 % 100_003:06d}.csv") for n in range(120)])
    cursor, taken, looks, longest = ArrivalCursor(), [], 0, 0
    while len(taken) < 120:
        found = look_for_arrivals(
            lake.contract, lake.store(), lake.ledger(), cursor,
            clock=lambda: datetime.now(UTC), budget=Budget(new_objects=60),
        )  # fmt: skip
        assert len(found.batches) <= 2
        taken += taken_keys(lake, found.batches)
        for batch in found.batches:
            lake.ledger().close_batch("orders", batch.batch_id)
        cursor, looks = found.cursor, looks + 1
        longest = max(longest, len(cursor.model_dump_json()))
        assert looks <= 10
    assert len(set(taken)) == len(taken) == 120
    assert looks == 3, "each look requests as much as may be in flight, in full batches"
    assert longest < 600


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_is_wrong_and_then_right_loses_delays_and_doubles_nothing(
    lake: Lake, off: timedelta
) -> None:
    lake.contract = replace(lake.contract, pace=Pace(max_wait=timedelta(minutes=10)))
    ledger, store = lake.ledger(), lake.store()
    cursor, batches = ArrivalCursor(), {}
    for name, wrong in (("a", timedelta(0)), ("b", off), ("c", timedelta(minutes=11))):
        land(lake, [lake.key(f"orders_{name}.csv")])
        found = look_for_arrivals(
            lake.contract, store, ledger, cursor, clock=lambda by=wrong: datetime.now(UTC) + by
        )
        cursor = found.cursor
        # What is requested twice, for nobody here knows of runs, is one request to Dagster.
        batches.update((batch.batch_id, batch) for batch in found.batches)
    taken = taken_keys(lake, batches.values())
    assert sorted(key[-5] for key in taken) == ["a", "b", "c"]
    # Nor does a mark of the wrong time keep the other way in from the desk.
    assert ledger.take_desk("orders", "notifications", at=datetime.now(UTC), seconds=90)


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(days=400)])
def test_what_is_told_while_the_clock_is_wrong_is_neither_lost_delayed_nor_doubled(
    lake: Lake, off: timedelta
) -> None:
    lake.contract = replace(lake.contract, pace=Pace(max_wait=timedelta(minutes=10)))
    queue = _Queue([])
    since, batches = None, {}
    for name, wrong in (("a", timedelta(0)), ("b", off), ("c", timedelta(minutes=11))):
        key = lake.key(f"orders_{name}.csv")
        land(lake, [key])
        queue.ready = [*queue.postponed, Notice(name, told(lake, key))]
        queue.postponed = []
        heard = hear_notifications(
            [lake.contract], lake.store(), lake.ledger(), queue, since=since,
            clock=lambda by=wrong: datetime.now(UTC) + by,
        )  # fmt: skip
        since = heard.mark
        batches.update((batch.batch_id, batch) for batch in heard.batches)
    taken = taken_keys(lake, batches.values())
    assert sorted(key[-5] for key in taken) == ["a", "b", "c"]
    assert queue.postponed == []


def told(lake: Lake, key: str) -> str:
    """A notification as S3 sends it straight to a queue."""
    about = {"bucket": {"name": lake.settings.bucket(Zone.RAW)}, "object": {"key": key}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": about}]})


class _Queue:
    """Messages that are there, in memory: how many come at once is the test's to say."""

    def __init__(self, bodies: list[str]) -> None:
        self.ready = [Notice(str(n), body) for n, body in enumerate(bodies)]
        self.postponed: list[Notice] = []
        self.deleted: list[Notice] = []

    def receive(self, *, most: int, wait_seconds: float) -> list[Notice]:
        given, self.ready = self.ready[:most], self.ready[most:]
        return given

    def in_hand(self, notices: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def delete(self, notices: list[Notice]) -> None:
        self.deleted += notices

    def postpone(self, notices: list[Notice], seconds: float) -> None:
        self.postponed += notices

    def depth(self) -> QueueDepth:
        return QueueDepth(len(self.ready), 0, len(self.postponed))


def test_one_data_set_flooded_keeps_nine_that_trickle_from_nothing(lake: Lake) -> None:
    """By notifications, of which there is one queue for all; by listing, each has its own look."""

    def of(number: int) -> Contract:
        landing = replace(lake.contract.landing, prefix=f"set{number}/", max_batch_files=10)
        return replace(lake.contract, dataset=f"set{number}", landing=landing,
                       pace=Pace(max_runs=3))  # fmt: skip

    contracts = [of(number) for number in range(10)]
    day = lake.today()
    flood = [f"set0/dt={day}/orders_{n:03}.csv" for n in range(100)]
    trickle = [f"set{n}/dt={day}/orders_1.csv" for n in range(1, 10)]
    land(lake, [*flood, *trickle])
    queue = _Queue([told(lake, key) for key in [*flood, *trickle]])
    heard = hear_notifications(
        contracts, lake.store(), lake.ledger(), queue, clock=lambda: datetime.now(UTC)
    )
    taken = taken_keys(lake, heard.batches)
    assert set(trickle) <= set(taken)
    assert [b.dataset for b in heard.batches].count("set0") == 3
    assert len(set(taken)) == len(taken) == 30 + 9
    waiting = heard.figures["set0"]
    assert (waiting.new, waiting.waiting, len(queue.postponed)) == (30, 70, 70)
    assert heard.why_left == {"set0": "3 runs are in flight (pace.maxRuns is 3)"}
    listed = look_for_arrivals(
        contracts[0], lake.store(), lake.ledger(), ArrivalCursor(),
        clock=lambda: datetime.now(UTC),
    )  # fmt: skip
    assert (listed.new, listed.figures().waiting) == (0, 70)


def test_keys_are_looked_up_with_all_their_versions_whatever_lies_between_them(
    lake: Lake,
) -> None:
    keys = [lake.key(name) for name in ("a", "a-", "a.csv", "b", "b/b", "ü", "ü\U0001f600")]
    crowd = [lake.key(f"c{n:02}") for n in range(60)]
    land(lake, [*keys, *keys, *crowd, *([crowd[30]] * 25)])
    wanted = [keys[0], keys[3], keys[6], crowd[30], crowd[59], lake.key("none")]
    found = look_up(lake.store(), "orders/", wanted)
    listed: dict[str, int] = {}
    for one in lake.store().list_versions("orders/").objects:
        listed[one.key] = listed.get(one.key, 0) + 1
    assert {key: len(versions) for key, versions in found.items()} == {
        key: listed[key] for key in wanted if key in listed
    }
    assert [v.sequence for v in found[keys[0]]] == sorted(
        (v.sequence for v in found[keys[0]]), reverse=True
    )
