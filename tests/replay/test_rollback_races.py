"""Undoing while others are at work, and what is too long ago to be undone.

Dying on the way is what `tests.replay.kill` is about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from resources.aws import client
from resources.catalog import IcebergCatalog
from service_core.contract.model import Contract, Expectation
from service_core.gate import GateClosedError
from service_core.ledger import State
from service_core.ports import Publication
from service_core.reasons import Severity
from service_core.undo import RollbackRefusedError
from tests.pipeline.conftest import Lake, orders
from tests.replay.undoing import Undoing, ids


class UndoneBeforeItKnows(IcebergCatalog):
    """The catalog of a publisher that is so slow that its batch is undone between its commit and
    its word to the ledger."""

    undo: Callable[[str], None]

    def publish(self, contract: Contract, verdict: Any, withheld: Any) -> Publication:
        done = super().publish(contract, verdict, withheld)
        self.undo(verdict.batch_id)
        return done


def test_a_publisher_that_hears_late_that_its_batch_is_undone_changes_nothing(
    undoing: Undoing,
) -> None:
    before = undoing.publish("orders_1.csv", orders([1, 2]))
    lake = undoing.lake
    lake.land("orders_1.csv", orders([3]))
    (request,) = lake.session.tick("orders").requests
    steps = lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        asset_selection=[dg.AssetKey([zone, "orders"]) for zone in ("raw", "validated", "curated")],
    )
    batch = lake.verdict_of(steps).batch_id
    slow = UndoneBeforeItKnows(lake.settings)
    slow.undo = lambda batch_id: undoing.undo(batch_id=batch_id) and None
    undoing.publish_again(batch, catalog=slow)
    assert lake.published_ids() == ids([1, 2])
    entries = {e.batch_id: e for e in lake.ledger().in_partition("orders", lake.today())}
    assert entries[before].state is State.PUBLISHED
    assert entries[before].published_batch_id == before
    assert entries[batch].state is State.ROLLED_BACK
    assert entries[batch].published_batch_id is None


@pytest.mark.parametrize("replayed", [False, True])
def test_an_object_that_another_batch_has_in_hand_finds_its_way_back(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract, replayed: bool
) -> None:
    """A batch takes an object over, the one that published it is undone, and then the first may
    not be published: the object belongs to whoever has rows of it in the table."""
    batch = first = undoing.publish("orders_1.csv", orders([1, 2]))
    if replayed:
        undoing.force("r-1", undoing.lake.key("orders_1.csv"))
        (batch,) = {row["_batch_id"] for row in undoing.lake.published()}
        assert batch != first
    of_batch = replace(
        next(rule for rule in orders_contract.set_rules if rule.name == "revenue"),
        expectation=Expectation(maximum=0),
        severity=Severity.ERROR,
    )
    impossible = replace(orders_contract, version="9.0.0", hash="e" * 16, set_rules=(of_batch,))
    undoing.wear(impossible, make_lake)
    lake = undoing.lake
    job = lake.session.definitions.resolve_job_def("orders_ingest")
    zones = [dg.AssetKey([zone, "orders"]) for zone in ("raw", "validated")]
    assert job.execute_in_process(
        instance=lake.session.instance, partition_key=lake.today(), asset_selection=zones
    ).success
    taken = undoing.entries()["orders_1.csv"]
    assert taken.state is State.VALIDATED and taken.published_batch_id == batch
    undoing.undo(batch_id=batch)
    still = undoing.entries()["orders_1.csv"]
    assert (still.state, still.batch_id) == (State.VALIDATED, taken.batch_id)
    assert still.published_batch_id == (first if replayed else None)
    assert not job.execute_in_process(
        instance=lake.session.instance,
        partition_key=lake.today(),
        asset_selection=[dg.AssetKey(["curated", "orders"])],
        raise_on_error=False,
    ).success
    entry = undoing.entries()["orders_1.csv"]
    assert entry.state is (State.PUBLISHED if replayed else State.ROLLED_BACK)
    assert entry.published_batch_id == (first if replayed else None)
    assert lake.published_ids() == (ids([1, 2]) if replayed else [])


def test_what_is_too_long_ago_is_refused_and_nothing_changes(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1, 2]))
    newer = undoing.publish("orders_1.csv", orders([3]))
    contract = undoing.lake.contract
    table = undoing.catalog.table(contract)
    (old,) = table.scan(snapshot_id=table.metadata.snapshots[0].snapshot_id).plan_files()
    bucket, key = old.file.file_path.removeprefix("s3://").split("/", 1)
    s3 = client(undoing.lake.settings, "s3")
    kept = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(RollbackRefusedError, match="neither that file nor the snapshot"):
        undoing.undo(batch_id=newer)
    s3.put_object(Bucket=bucket, Key=key, Body=kept)
    first = table.metadata.snapshots[0].snapshot_id
    table.maintenance.expire_snapshots().by_id(first).commit()
    with pytest.raises(RollbackRefusedError, match="neither that file nor the snapshot"):
        undoing.undo(batch_id=newer)
    assert undoing.lake.published_ids() == ids([3])
    assert undoing.entries()["orders_1.csv"].state is State.PUBLISHED


def test_a_batch_stays_undone_when_the_tables_history_is_forgotten(undoing: Undoing) -> None:
    batch = undoing.publish("orders_1.csv", orders([1]))
    undoing.publish("orders_2.csv", orders([2]))
    undoing.undo(batch_id=batch)
    undoing.publish("orders_3.csv", orders([3]))
    table = undoing.catalog.table(undoing.lake.contract)
    for snapshot in table.metadata.snapshots[:-1]:
        table = undoing.catalog.table(undoing.lake.contract)
        table.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()
    with pytest.raises(GateClosedError, match="was rolled back at"):
        undoing.publish_again(batch)
    again = undoing.undo(batch_id=batch)
    assert not again.undone.committed and again.undone.before == (batch,)
    assert undoing.lake.published_ids() == ids([2, 3])


def test_rows_that_another_engine_has_deleted_stay_deleted(undoing: Undoing) -> None:
    """Not by delete files, which PyIceberg cannot write, but by writing a file anew, as Athena's
    OPTIMIZE does: the batch's rows are found by what they are and not by where they were."""
    undoing.publish("orders_1.csv", orders([1, 2]))
    batch = undoing.publish("orders_2.csv", orders([3, 4]))
    table = undoing.catalog.table(undoing.lake.contract)
    rows = table.scan().to_arrow()
    table.overwrite(rows.filter([order != "O000000004" for order in rows["order_id"].to_pylist()]))
    assert undoing.lake.published_ids() == ids([1, 2, 3])
    done = undoing.undo(batch_id=batch)
    assert done.undone.rows_out == 1
    assert undoing.lake.published_ids() == ids([1, 2])
