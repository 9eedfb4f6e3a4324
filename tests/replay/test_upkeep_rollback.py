"""Upkeep and undoing: what is within the retention can be undone as before, and nothing is ever
undone by half because a part of it is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.table_snapshots import is_rolled_back
from service_core.gate import GateClosedError
from service_core.ledger import State
from service_core.rollback import TableMemory
from service_core.undo import RollbackRefusedError
from service_core.upkeep import Kept, Retention, Tended
from tests.pipeline.conftest import orders
from tests.replay.undoing import Undoing, ids

ALL = Retention(timedelta(days=30), 1_000)


def tend(undoing: Undoing, retention: Retention = ALL) -> Tended:
    """As it would be in two days, when the partition is closed."""
    ledger = undoing.lake.ledger()
    done = undoing.catalog.tend(
        undoing.lake.contract,
        retention,
        settled=lambda batch_ids: ledger.rolled_back(batch_ids).keys(),
        now=datetime.now(UTC) + timedelta(days=2),
    )
    assert done is not None
    return done


def test_batches_whose_rows_were_put_together_with_others_are_undone_alone(
    undoing: Undoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_core.upkeep.FEWEST_CLOSED", 2)
    undoing.publish("orders_1.csv", orders([1, 2]))
    middle = undoing.publish("orders_2.csv", orders([3]))
    newer = undoing.publish("orders_1.csv", orders([5]))
    before = undoing.lake.published()
    assert tend(undoing).compacted == 2
    after = undoing.lake.published()
    assert sorted(map(str, after)) == sorted(map(str, before))

    assert undoing.undo(batch_id=middle).undone.rows_out == 1
    assert undoing.lake.published_ids() == ids([5])
    done = undoing.undo(batch_id=newer)
    assert (done.undone.rows_out, done.undone.rows_back) == (1, 2)
    assert undoing.lake.published_ids() == ids([1, 2])
    assert undoing.entries()["orders_2.csv"].state is State.ROLLED_BACK
    with pytest.raises(GateClosedError, match="was rolled back at"):
        undoing.publish_again(middle)


def test_a_rollback_that_the_ledger_does_not_know_of_yet_is_not_forgotten(
    undoing: Undoing,
) -> None:
    """Whoever died between the table's commit and the ledger has left nothing else that tells."""
    undoing.publish("orders_2.csv", orders([2]))
    batch = undoing.publish("orders_1.csv", orders([1]))
    lake = undoing.lake
    memory = TableMemory(lake.contract, lake.store(), lake.ledger())
    undoing.catalog.roll_back(lake.contract, [batch], memory, run_id="dead")
    undoing.publish("orders_3.csv", orders([3]))

    few = Retention(timedelta(0), 1, least=1)
    undoing.publish("orders_4.csv", orders([4]))
    done = tend(undoing, few)
    assert (done.expired, done.kept[Kept.UNSETTLED]) == (1, 4), "from the undone batch on"
    table: Any = undoing.catalog.table(lake.contract)
    assert is_rolled_back(table.metadata, batch)
    with pytest.raises(GateClosedError, match="rolled back"):
        undoing.publish_again(batch)

    again = undoing.undo(batch_id=batch)
    assert not again.undone.committed and undoing.entries()["orders_1.csv"].state is (
        State.ROLLED_BACK
    )
    assert tend(undoing, few).expired == 3
    with pytest.raises(GateClosedError, match="was rolled back at"):
        undoing.publish_again(batch)
    assert lake.published_ids() == ids([2, 3, 4])


@pytest.mark.slow
def test_a_replay_is_not_undone_in_part_because_the_rest_is_forgotten(undoing: Undoing) -> None:
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    undoing.publish("orders_1.csv", orders([1, 2]))
    undoing.publish("orders_2.csv", orders([3]), yesterday)
    prefix = undoing.lake.contract.landing.prefix
    undoing.replays.replay("r-all", selector={"keyPrefix": prefix}, options={"force": True})
    before = undoing.lake.published()
    assert tend(undoing, Retention(timedelta(0), 1, least=1)).expired == 3
    with pytest.raises(RollbackRefusedError, match="can only be undone in part, batch by batch"):
        undoing.undo(replay_id="r-all")
    assert sorted(map(str, undoing.lake.published())) == sorted(map(str, before))
