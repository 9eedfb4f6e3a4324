"""A backfill of partitions is a replay of them, and both end in the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from service_core.contract.model import Contract, Expectation, Metric, SetRule, SetScope
from service_core.gate import read_verdict
from service_core.ledger import State
from service_core.naming import ingest_job
from service_core.verdict import Verdict
from tests.pipeline.conftest import Lake, order, orders
from tests.replay.conftest import ReplayLake


def days(count: int) -> list[str]:
    return [f"{datetime.now(UTC) - timedelta(days=n):%Y-%m-%d}" for n in range(count)]


def backfill(
    replays: ReplayLake, partition: str, backfill_id: str = "abcdefgh"
) -> dg.ExecuteInProcessResult:
    """One run of a backfill, as Dagster's daemon launches it."""
    job = replays.lake.session.definitions.resolve_job_def(ingest_job("orders"))
    return job.execute_in_process(
        instance=replays.lake.session.instance,
        partition_key=partition,
        tags={"dagster/backfill": backfill_id},
        raise_on_error=False,
    )


def judged_in(replays: ReplayLake, result: dg.ExecuteInProcessResult, partition: str) -> Verdict:
    """The verdict of a run that was asked for without a batch."""
    last = result.get_asset_materialization_events()[-1].materialization
    batch_id = str(last.metadata["batch_id"].value)
    return read_verdict(replays.lake.store(), "orders", partition, batch_id)


def land_history(replays: ReplayLake, partitions: list[str]) -> None:
    """Good files, bad rows, a bad file, and a key that is overwritten, in every partition."""
    for number, partition in enumerate(partitions):
        base = number * 1_000
        bad_row = order(base + 60, amount="ten").encode() + b"\n"
        replays.lake.land("orders_1.csv", orders(range(base, base + 5)), partition)
        replays.lake.run_all()
        replays.lake.land("orders_1.csv", orders(range(base + 1, base + 8)), partition)
        replays.lake.land("orders_2.csv", orders(range(base + 50, base + 60)) + bad_row, partition)
        replays.lake.land("orders_3.csv", b"order_id\nO000000001\n", partition)
        replays.lake.run_all()


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_a_backfill_gives_what_replaying_every_file_of_its_partitions_gives(
    make_lake: Callable[..., Lake], orders_contract: Contract, replays: ReplayLake, partitions: int
) -> None:
    span = days(3)[:partitions]
    land_history(replays, days(3))
    before = replays.rows()

    wanted = ReplayLake(make_lake(orders_contract, version="2", hash="2" * 16))
    wanted.replay("by-replay", selector={"partitions": {"from": span[-1], "to": span[0]}})
    by_replay = wanted.rows()
    states = {(e.key, e.state, e.rows_published) for e in wanted.entries().values()}

    other = ReplayLake(make_lake(orders_contract, version="3", hash="3" * 16))
    for partition in span:
        result = backfill(other, partition)
        assert result.success
        assert judged_in(other, result, partition).replay_id == "abcdefgh"
    assert other.rows() == by_replay == before
    assert {(e.key, e.state, e.rows_published) for e in other.entries().values()} == states
    judged = {r["_contract_version"] for r in other.lake.published()}
    assert judged == ({"3"} if partitions == 3 else {"1.0.0", "3"})


TOO_FEW = SetRule(
    name="row_count_at_least_100",
    metric=Metric.ROW_COUNT,
    columns=(),
    expectation=Expectation(minimum=100),
    scopes=frozenset({SetScope.BATCH}),
)


def test_a_backfill_over_a_standing_failed_verdict_ends_as_that_did(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    blocked = ReplayLake(make_lake(orders_contract, set_rules=(TOO_FEW,), hash="f" * 16))
    blocked.lake.land("orders_1.csv", orders(range(1, 4)))
    first, second = (backfill(blocked, blocked.lake.today()) for _ in range(2))
    assert not first.success and not second.success
    (entry,) = blocked.entries().values()
    assert entry.state is State.QUARANTINED
    assert blocked.lake.published() == []


def test_a_backfill_does_not_quarantine_what_a_later_batch_has_published(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    """The partition's batch was judged, and failed, when nothing was published; its verdict does
    not know of the rows that are in the table now."""
    blocked = ReplayLake(make_lake(orders_contract, set_rules=(TOO_FEW,), hash="f" * 16))
    blocked.lake.land("orders_1.csv", orders(range(1, 4)))
    assert not backfill(blocked, blocked.lake.today()).success
    open_again = ReplayLake(make_lake(orders_contract, version="2", hash="2" * 16))
    open_again.replay("release", selector={"reasonCodes": ["BATCH_BLOCKED"]})
    assert len(open_again.rows()) == 3

    # The contract goes back to what it was.
    back = ReplayLake(make_lake(orders_contract, set_rules=(TOO_FEW,), hash="f" * 16))
    assert not backfill(back, back.lake.today()).success
    assert len(back.rows()) == 3
    (entry,) = back.entries().values()
    assert (entry.state, entry.contract_version) == (State.PUBLISHED, "2")


def test_a_backfill_brings_back_rows_that_another_contract_had_taken_out(
    make_lake: Callable[..., Lake], orders_contract: Contract, replays: ReplayLake
) -> None:
    """The partition's batch was committed once; that its commit is found in the table's history
    must not pass for its rows being there."""
    replays.lake.land("orders_1.csv", orders(range(1, 11)))
    replays.lake.land("orders_2.csv", orders([20]))
    assert backfill(replays, replays.lake.today()).success
    rows = replays.rows()
    landing = replace(orders_contract.landing, max_bytes=300)
    strict = ReplayLake(make_lake(orders_contract, landing=landing, version="2", hash="2" * 16))
    assert backfill(strict, strict.lake.today()).success
    assert len(strict.rows()) == 1
    back = ReplayLake(make_lake(orders_contract))
    assert backfill(back, back.lake.today(), "ijklmnop").success
    assert back.rows() == rows
    assert {e.state for e in back.entries().values()} == {State.PUBLISHED}
