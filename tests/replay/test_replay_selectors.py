"""What a selector means: from the listing, the ledger and the verdicts together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service_core.contract.model import Contract
from service_core.ledger import State
from service_core.replay.audit import Outcome
from service_core.replay.request import ReplayRequest
from service_core.replay.resolution import parts_of, planned_batch, resolve
from tests.pipeline.conftest import Lake, order, orders
from tests.replay.conftest import ReplayLake

TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
YESTERDAY = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
EARLIER = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"


@pytest.fixture
def full(replays: ReplayLake) -> ReplayLake:
    """Three partitions: good, partly good, and refused files."""
    lake = replays.lake
    tainted = orders(range(20, 29)) + order(29, amount="ten").encode() + b"\n"
    lake.land("orders_a.csv", orders([1, 2]), EARLIER)
    lake.land("orders_b.csv", tainted, EARLIER)
    lake.land("orders_c.csv", b"order_id\nO000000001\n", YESTERDAY)
    lake.land("orders_d.csv", orders([3]), YESTERDAY)
    lake.run_all()
    lake.land("orders_e.csv", b"", TODAY)
    lake.run_all()
    return replays


def selected(replays: ReplayLake, replay_id: str = "r", **what: Any) -> set[str]:
    """The files that a replay selects; nothing is asked for."""
    request = ReplayRequest.model_validate_json(
        json.dumps({"replayId": replay_id, "reason": "?", "dataset": "orders", **what})
    )
    folder = replays.folder(replay_id)
    now = datetime.now(UTC)
    resolution = resolve(
        folder,
        request,
        replays.lake.contract,
        replays.lake.ledger(),
        clock=lambda: now,
        deadline=now + timedelta(seconds=60),
    )
    assert resolution is not None
    found = [
        source_object.key.rsplit("/", 1)[1]
        for number in range(resolution.batches)
        for source_object in planned_batch(folder, number).objects
    ]
    assert len(set(found)) == len(found) == resolution.objects
    return set(found)


def passed_over(replays: ReplayLake) -> dict[str, str]:
    return {
        one.key.rsplit("/", 1)[1]: one.why.value
        for part in parts_of(replays.folder("r"))
        for one in part.passed_over
    }


SELECTORS: list[tuple[dict[str, Any], str]] = [
    ({"partitions": {"from": YESTERDAY, "to": TODAY}}, "cde"),
    ({"partitions": {"from": EARLIER, "to": EARLIER}}, "ab"),
    ({"reasonCodes": ["TYPE"]}, "b"),
    ({"reasonCodes": ["COLUMN_MISSING", "EMPTY"]}, "ce"),
    ({"reasonCodes": ["EMPTY"], "partitions": {"from": EARLIER, "to": YESTERDAY}}, ""),
    ({"state": "quarantined"}, "ce"),
    ({"state": "published", "keyPrefix": f"orders/dt={YESTERDAY}/"}, "d"),
    ({"keyPrefix": f"orders/dt={YESTERDAY}/orders_c"}, "c"),
    ({"keyPrefix": "ord"}, "abcde"),
    ({"contractVersion": "1.0.0"}, "abcde"),
    ({"contractVersion": "0.9"}, ""),
    ({"partitions": {"from": EARLIER, "to": TODAY}, "keyPrefix": "orders/dt=1999"}, ""),
]


def test_everything_that_a_selector_says_must_hold(full: ReplayLake) -> None:
    for number, (selector, wanted) in enumerate(SELECTORS):
        found = selected(full, f"r-{number}", selector=selector, options={"force": True})
        assert found == {f"orders_{letter}.csv" for letter in wanted}, selector


def test_the_files_of_a_batch_are_found_by_its_id(full: ReplayLake) -> None:
    batch_id = full.entries()["orders_c.csv"].batch_id
    selector = {"batchId": batch_id}
    assert selected(full, selector=selector, options={"force": True}) == {
        "orders_c.csv", "orders_d.csv",
    }  # fmt: skip


def test_what_is_published_only_in_part_is_replayed_without_force(full: ReplayLake) -> None:
    span = {"from": EARLIER, "to": TODAY}
    found = selected(full, selector={"partitions": span})
    assert found == {"orders_b.csv", "orders_c.csv", "orders_e.csv"}
    assert passed_over(full) == {"orders_a.csv": "published", "orders_d.csv": "published"}


def test_what_is_published_under_another_version_is_replayed_unless_skipped(
    full: ReplayLake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    newer = ReplayLake(make_lake(orders_contract, version="2.0.0", hash="2" * 16))
    selector = {"state": "published"}
    assert selected(newer, selector=selector) == {"orders_a.csv", "orders_b.csv", "orders_d.csv"}
    newer.ask("skips", selector=selector, options={"skipIfPublished": True})
    newer.tick()
    assert newer.completed("skips").detail["passed_over"] == {"published": 3}


def test_a_file_that_the_ledger_does_not_know_yet_is_replayed(full: ReplayLake) -> None:
    full.lake.land("orders_new.csv", orders([90]), YESTERDAY)
    done = full.replay("r", selector={"keyPrefix": f"orders/dt={YESTERDAY}/orders_new"})
    assert done.outcomes == {Outcome.PUBLISHED: 1}
    assert "O000000090" in full.lake.published_ids()
    full.lake.run_all()
    assert full.lake.published_ids().count("O000000090") == 1, "the arrival finds it done"


def test_only_the_latest_version_is_meant_unless_one_is_named(full: ReplayLake) -> None:
    lake = full.lake
    key = lake.land("orders_c.csv", orders([7]), YESTERDAY)
    lake.run_all()
    listed = {o.is_latest: o for o in lake.store().list_versions(key).objects}
    found = selected(full, selector={"keyPrefix": key}, options={"force": True})
    assert found == {"orders_c.csv"}
    assert passed_over(full) == {"orders_c.csv": "not_latest"}
    old = full.file(key, versionId=listed[False].version_id)
    full.ask("named", files=[old])
    full.run_all()
    done = full.completed("named")
    assert done.detail["passed_over"] == {"superseded": 1}, "the newer version is published"


def test_a_version_that_is_named_is_replayed_where_nothing_newer_is_published(
    replays: ReplayLake,
) -> None:
    key = replays.lake.land("orders_1.csv", orders([1, 2]))
    replays.lake.run_all()
    first = replays.lake.store().list_versions(key).objects[0]
    replays.lake.land("orders_1.csv", b"")
    replays.lake.run_all()
    done = replays.replay(
        "r",
        files=[replays.file(key, versionId=first.version_id)],
        options={"force": True},
    )
    assert done.outcomes == {Outcome.PUBLISHED: 1}
    assert len(replays.rows()) == 2


def test_what_is_superseded_is_not_brought_back(replays: ReplayLake) -> None:
    for body in (orders([1]), orders([2])):
        replays.lake.land("orders_1.csv", body)
        replays.lake.run_all()
    before = replays.rows()
    done = replays.replay("r", selector={"state": "superseded"}, options={"force": True})
    assert done.detail["passed_over"] == {"superseded": 1}
    assert replays.rows() == before


def test_what_is_not_there_is_said_to_be_missing(replays: ReplayLake) -> None:
    key = replays.lake.land("orders_1.csv", orders([1]))
    gone = replays.lake.land("orders_2.csv", orders([2]))
    replays.lake.s3.delete_object(Bucket=replays.raw, Key=gone)
    files = [replays.file(k) for k in (key, gone, "orders/dt=2026-11-21/orders_never.csv")]
    done = replays.replay("r", files=[*files, replays.file(key, versionId="no-such-version")])
    assert done.detail["passed_over"] == {"not_there": 3}
    assert done.outcomes == {Outcome.PUBLISHED: 1}


def test_a_file_under_no_partition_is_found_under_the_one_it_is_filed_in(
    replays: ReplayLake,
) -> None:
    replays.lake.s3.put_object(
        Bucket=replays.raw, Key="orders/dt=2026-13-45/orders_1.csv", Body=orders([1])
    )
    replays.lake.run_all()
    (entry,) = replays.entries().values()
    assert entry.state is State.QUARANTINED
    span = {"from": entry.partition, "to": entry.partition}
    done = replays.replay("r", selector={"partitions": span})
    assert done.outcomes == {Outcome.QUARANTINED: 1}


def test_batches_are_cut_by_partition_and_by_the_bounds_of_the_contract(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    landing = replace(orders_contract.landing, max_batch_files=2)
    replays = ReplayLake(make_lake(orders_contract, landing=landing))
    for number in range(6):
        day = (YESTERDAY, TODAY)[number % 2]
        replays.lake.land(f"orders_{number}.csv", orders([number]), day)
    span = {"from": YESTERDAY, "to": TODAY}
    done = replays.replay("r", selector={"partitions": span})
    assert (done.detail["objects"], done.detail["batches"]) == (6, 4)
    assert len(replays.rows()) == 6
