"""Replays through real ticks and real runs: what is asked for is done, once, and told."""

from __future__ import annotations

from service_core.ledger import State
from service_core.naming import BATCH_TAG, REPLAY_TAG
from service_core.replay.audit import Outcome
from tests.pipeline.conftest import orders
from tests.replay.conftest import ReplayLake


def test_a_file_that_is_named_is_replayed_and_carries_the_replay_id(replays: ReplayLake) -> None:
    key = replays.lake.land("orders_1.csv", orders(range(1, 4)))
    replays.lake.land("orders_2.csv", orders(range(4, 6)))
    (first,) = replays.lake.run_all()
    before = replays.rows()
    replays.ask("r-1", files=[replays.file(key)], options={"force": True})
    (result,) = replays.run_all()
    assert result.success
    tags = result.dagster_run.tags
    assert tags[REPLAY_TAG] == "r-1"
    assert tags[BATCH_TAG] != first.dagster_run.tags[BATCH_TAG]
    assert replays.rows() == before
    mine = {r["_batch_id"] for r in replays.lake.published() if r["_source_key"] == key}
    assert mine == {tags[BATCH_TAG]}
    assert replays.lake.verdict_of(result).replay_id == "r-1"
    done = replays.completed("r-1")
    assert (done.rows_before, done.rows_after) == (3, 3)
    assert done.outcomes == {Outcome.PUBLISHED: 1}
    assert replays.entries()["orders_1.csv"].batch_id == tags[BATCH_TAG]
    assert replays.entries()["orders_2.csv"].state is State.PUBLISHED


def test_what_is_published_wholly_is_passed_over_without_force(replays: ReplayLake) -> None:
    replays.lake.land("orders_1.csv", orders(range(1, 4)))
    replays.lake.run_all()
    span = {"from": replays.lake.today(), "to": replays.lake.today()}
    done = replays.replay("r-1", selector={"partitions": span})
    assert done.detail["passed_over"] == {"published": 1}
    assert done.detail["objects"] == 0
