"""A look at the replays may die at any of its writes; the next ones end as if it had not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from sensors.replays import runs_of
from service_core.contract.model import Contract
from service_core.ledger import State
from service_core.naming import REPLAY_TAG, ingest_job, run_key, run_tags
from service_core.ports import PendingBatch
from service_core.replay.audit import Outcome
from service_core.replay.progress import BatchRun, Budget, Replays, RunStanding, look_at_replays
from tests.conftest import EventsLog
from tests.pipeline.conftest import Lake, orders
from tests.replay.conftest import ReplayLake

WRITES = frozenset(
    {"write", "write_once", "remove", "open_batch", "receive", "close_batch", "send"}
)


class Died(BaseException):
    """As SIGKILL: nothing in the code under test may catch it."""


class Mortal:
    """Hands every call on, and dies before or after the n-th write."""

    def __init__(self, inner: Any, clock: list[int], at: int, after: bool) -> None:
        self._inner, self._clock, self._at, self._after = inner, clock, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in WRITES:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._clock[0] += 1
            mine = self._clock[0] == self._at
            if mine and not self._after:
                raise Died
            answer = found(*args, **kwargs)
            if mine:
                raise Died
            return answer

        return call


@pytest.fixture
def three(make_lake: Callable[..., Lake], orders_contract: Contract) -> ReplayLake:
    """Three published files that will be replayed in three batches."""
    landing = replace(orders_contract.landing, max_batch_files=1)
    replays = ReplayLake(make_lake(orders_contract, landing=landing))
    for number in range(3):
        replays.lake.land(f"orders_{number}.csv", orders([number]))
    replays.lake.run_all()
    return replays


@pytest.mark.soak
def test_a_look_that_dies_at_any_write_is_made_up_for(
    three: ReplayLake, events_log: EventsLog
) -> None:
    """Each round kills one look at its n-th write, before or after it; then the sensor goes on as
    if nothing had happened. The rounds share a table, so each starts where the last ended."""
    contracts = {"orders": three.lake.contract}
    points = 0
    for at in range(1, 60):
        for after in (False, True):
            replay_id = f"r-{at}-{'after' if after else 'before'}"
            three.ask(replay_id, selector={"keyPrefix": "orders/"}, options={"force": True})
            count = [0]
            try:
                look_at_replays(
                    contracts,
                    Mortal(three.lake.store(), count, at, after),
                    Mortal(three.lake.ledger(), count, at, after),
                    Mortal(events_log, count, at, after),
                    clock=lambda: datetime.now(UTC),
                )
            except Died:
                points += 1
            asked: list[PendingBatch] = []
            since = None
            for _ in range(5):
                found: Replays = look_at_replays(
                    contracts,
                    three.lake.store(),
                    three.lake.ledger(),
                    events_log,
                    clock=lambda: datetime.now(UTC),
                    since=since,
                    run_of=done_where_closed(three),
                )
                since = found.at
                asked += found.batches
                for batch in found.batches:
                    pretend_to_run(three, batch)
                if replay_id in found.completed:
                    break
            done = three.completed(replay_id)
            assert done.outcomes == {Outcome.PUBLISHED: 3}, (at, after)
            assert len({batch.batch_id for batch in asked}) == 3, (at, after)
            assert three.open() == []
            assert three.lake.ledger().pending_batches("orders") == ()
        if count[0] < at:
            break
    assert points > 30


def done_where_closed(replays: ReplayLake) -> Callable[[str, str | None], BatchRun]:
    """Runs succeed at once."""

    def run_of(replay_id: str, batch_id: str | None) -> BatchRun:
        waiting = {b.batch_id for b in replays.lake.ledger().pending_batches("orders")}
        standing = RunStanding.UNKNOWN if batch_id in waiting else RunStanding.SUCCEEDED
        return BatchRun(standing)

    return run_of


def pretend_to_run(replays: ReplayLake, batch: PendingBatch) -> None:
    """What a run leaves in the ledger. The runs themselves are killed elsewhere."""
    from service_core.arrival import read_manifest
    from service_core.ledger import Move

    ledger, at = replays.lake.ledger(), datetime.now(UTC)
    manifest = read_manifest(replays.lake.store(), batch.manifest_uri)
    ledger.receive(manifest, run_id="run", at=at)
    ledger.close_batch("orders", batch.batch_id)
    for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
        moves = [
            Move(object_id=o.id, to=state, rows_read=1, rows_published=1, rows_quarantined=0)
            for o in manifest.objects
        ]
        ledger.move(manifest.batch_id, moves, run_id="run", at=at)


def test_a_large_replay_goes_out_over_several_ticks_and_leaves_room(
    three: ReplayLake, events_log: EventsLog
) -> None:
    three.ask("r", selector={"keyPrefix": "orders/"}, options={"force": True})
    seen: list[str] = []
    since = None
    for tick in range(1, 8):
        found = look_at_replays(
            {"orders": three.lake.contract},
            three.lake.store(),
            three.lake.ledger(),
            events_log,
            clock=lambda: datetime.now(UTC),
            since=since,
            budget=Budget(batches=2, pending=1),
            run_of=done_where_closed(three),
        )
        since = found.at
        assert len(found.batches) <= 1
        seen += [batch.batch_id for batch in found.batches]
        if tick == 1:
            continue  # its run has not begun yet, so nothing more may be asked for
        for batch in three.lake.ledger().pending_batches("orders"):
            pretend_to_run(three, batch)
        if "r" in found.completed:
            break
    assert len(seen) == len(set(seen)) == 3
    assert three.completed("r").outcomes == {Outcome.PUBLISHED: 3}


def test_arrivals_do_not_take_a_replay_s_batches_for_their_own(three: ReplayLake) -> None:
    three.ask("r", selector={"keyPrefix": "orders/"}, options={"force": True})
    requests = three.tick().requests
    assert len(requests) == 3
    assert three.lake.session.tick("orders").requests == ()
    assert {r.tags[REPLAY_TAG] for r in requests} == {"r"}
    assert {r.job_name for r in requests} == {ingest_job("orders")}
    assert all(r.run_key.startswith("r/") for r in requests)


def test_a_lost_cursor_asks_for_the_same_runs_again(three: ReplayLake) -> None:
    three.ask("r", selector={"keyPrefix": "orders/"}, options={"force": True})
    first = three.tick().requests
    three.lake.session._cursors.clear()
    assert sorted(r.run_key for r in three.tick().requests) == sorted(r.run_key for r in first)
    assert three.tick().requests == ()


def test_a_batch_whose_run_failed_does_not_keep_the_replay_open_for_ever(
    three: ReplayLake,
) -> None:
    """And it says so: its object is unfinished, and the run is named."""
    three.ask("r", selector={"keyPrefix": "orders/"}, options={"force": True})
    first, *others = three.tick().requests
    instance = three.lake.session.instance
    job = three.lake.session.definitions.resolve_job_def(ingest_job("orders"))
    run = instance.create_run_for_job(
        job, tags=dict(first.tags), status=dg.DagsterRunStatus.FAILURE
    )
    for request in others:
        three.execute(request)
    three.run_all()
    done = three.completed("r")
    assert done.outcomes == {Outcome.PUBLISHED: 2, Outcome.UNFINISHED: 1}
    assert done.detail["failed_batches"] == [first.tags["lakegate/batch_id"]]
    assert any(run.run_id in record.said for record in three.records("r").values())
    assert len(three.rows()) == 3, "what was published stays"


def test_a_run_that_will_be_retried_is_waited_for(three: ReplayLake) -> None:
    batch = PendingBatch("orders", "2026-11-21", "b" * 32, "s3://m/x", datetime.now(UTC), "r")
    assert run_key(batch) == f"r/{'b' * 32}"
    instance = three.lake.session.instance
    job = three.lake.session.definitions.resolve_job_def(ingest_job("orders"))
    tags = {**run_tags(batch), "dagster/will_retry": "true"}
    instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.FAILURE)
    assert runs_of(instance)("r", batch.batch_id).standing is RunStanding.ACTIVE
