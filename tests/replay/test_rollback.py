"""Undo: a table goes back to the state before a batch or a replay, and nothing else is undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from dagster_project.cli import main
from resources.catalog import IcebergCatalog
from service_core.contract.model import Contract, Processing, PublicationMode
from service_core.events import EventName
from service_core.gate import GateClosedError
from service_core.ledger import State
from service_core.undo import RollbackRefusedError
from tests.pipeline.conftest import HEADER, Lake, order, orders
from tests.replay.undoing import Undoing, ids


def test_the_middle_batch_goes_and_the_commits_after_it_survive(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders(range(1, 4)))
    middle = undoing.publish("orders_2.csv", orders(range(10, 13)))
    undoing.publish("orders_3.csv", orders(range(20, 22)))
    preview = undoing.undo(batch_id=middle, dry_run=True)
    assert (preview.undone.rows_out, preview.undone.rows_back) == (3, 0)
    assert undoing.lake.published_ids() == ids([1, 2, 3, 10, 11, 12, 20, 21])
    assert undoing.bus.sent == [] and undoing.entries()["orders_2.csv"].state is State.PUBLISHED

    done = undoing.undo(batch_id=middle, reason="the feed was wrong")
    assert done.undone.committed and (done.undone.rows_out, done.undone.rows_back) == (3, 0)
    assert undoing.lake.published_ids() == ids([1, 2, 3, 20, 21])
    entry = undoing.entries()["orders_2.csv"]
    assert (entry.state, entry.batch_id, entry.published_batch_id, entry.rows_published) == (
        State.ROLLED_BACK, middle, None, 0,
    )  # fmt: skip
    assert "the feed was wrong" in undoing.lake.ledger().history(entry.object_id)[-1].note
    (event,) = undoing.bus.named(EventName.ROLLED_BACK)
    assert event.batch_id == middle and event.detail["rows_removed"] == 3

    # The file is known: no arrival is made of it.
    assert undoing.lake.run_all() == []


@pytest.mark.slow
def test_a_batch_that_was_rolled_back_is_not_published_again_but_may_be_replayed(
    undoing: Undoing,
) -> None:
    undoing.lake.land("orders_1.csv", orders(range(1, 4)))
    (first,) = undoing.lake.run_all()
    batch = undoing.lake.verdict_of(first).batch_id
    undoing.undo(batch_id=batch)
    with pytest.raises(GateClosedError, match=r"was rolled back at .* replay them with --force"):
        undoing.publish_again(batch)
    tags = {k: v for k, v in first.dagster_run.tags.items() if k.startswith("lakegate/")}
    asked = dg.RunRequest(partition_key=undoing.lake.today(), tags=tags)
    again = undoing.lake.session.execute("orders", asked)
    assert not again.success
    assert undoing.lake.published() == []
    assert undoing.entries()["orders_1.csv"].state is State.ROLLED_BACK

    undoing.replays.replay("r-back", selector={"state": "rolled_back"})
    assert undoing.lake.published_ids() == ids([1, 2, 3])
    entry = undoing.entries()["orders_1.csv"]
    assert entry.state is State.PUBLISHED and entry.batch_id != batch


@pytest.mark.slow
def test_an_overwritten_key_gets_its_version_before_back(undoing: Undoing) -> None:
    before = undoing.publish("orders_1.csv", orders([1, 2, 3]))
    undoing.publish("orders_2.csv", orders([7]))
    newer = undoing.publish("orders_1.csv", orders([2, 4], amount="99.00"))
    old = next(
        e for e in undoing.lake.ledger().in_partition("orders", undoing.lake.today())
        if e.state is State.SUPERSEDED
    )  # fmt: skip
    assert undoing.lake.published_ids() == ids([2, 4, 7])
    done = undoing.undo(batch_id=newer)
    assert (done.undone.rows_out, done.undone.rows_back) == (2, 3)
    assert undoing.lake.published_ids() == ids([1, 2, 3, 7])
    assert set(undoing.amounts().values()) == {"10.50"}
    ledger = undoing.lake.ledger()
    back = ledger.entries([old.object_id])[old.object_id]
    assert (back.state, back.batch_id, back.published_batch_id, back.rows_published) == (
        State.PUBLISHED, before, before, 3,
    )  # fmt: skip
    assert back.superseded_by is None
    assert undoing.entries()["orders_1.csv"].state is State.ROLLED_BACK
    # The key's newest version is the one that is there: it can be replayed, and so can the other.
    assert ledger.key_heads("orders", [old.key])[old.key].object_id == old.object_id
    undoing.replays.replay(
        "r-old",
        files=[undoing.replays.file(old.key, versionId=old.version_id)],
        options={"force": True},
    )
    assert undoing.lake.published_ids() == ids([1, 2, 3, 7])
    undoing.replays.replay("r-new", files=[undoing.replays.file(old.key)])
    assert undoing.lake.published_ids() == ids([2, 4, 7])


def test_what_a_later_batch_has_replaced_does_not_come_back(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1, 2]))
    second = undoing.publish("orders_1.csv", orders([3]))
    third = undoing.publish("orders_1.csv", orders([4]))
    done = undoing.undo(batch_id=second)
    assert undoing.lake.published_ids() == ids([4])
    (kept,) = done.undone.kept_out
    assert kept.by_batch == third and "decided about the file or its key" in kept.sentence
    # Now that nothing stands in its way, what both had replaced comes back.
    undoing.undo(batch_id=third)
    assert undoing.lake.published_ids() == ids([1, 2])


@pytest.mark.soak
def test_undoing_a_chain_from_its_end_gives_the_same(undoing: Undoing) -> None:
    first = undoing.publish("orders_1.csv", orders([1, 2]))
    second = undoing.publish("orders_1.csv", orders([3]))
    third = undoing.publish("orders_1.csv", orders([4]))
    undoing.undo(batch_id=third)
    assert undoing.lake.published_ids() == ids([3])
    undoing.undo(batch_id=second)
    assert undoing.lake.published_ids() == ids([1, 2])
    undoing.undo(batch_id=first)
    assert undoing.lake.published_ids() == []
    states = {e.state for e in undoing.lake.ledger().in_partition("orders", undoing.lake.today())}
    assert states == {State.ROLLED_BACK}


@pytest.mark.soak
def test_a_replay_of_several_batches_and_partitions_is_undone_in_one_snapshot(
    undoing: Undoing,
) -> None:
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    first = undoing.publish("orders_1.csv", orders([1, 2]))
    second = undoing.publish("orders_2.csv", orders([3]), yesterday)
    prefix = undoing.lake.contract.landing.prefix
    undoing.replays.replay("r-all", selector={"keyPrefix": prefix}, options={"force": True})
    undoing.publish("orders_3.csv", orders([9]))
    before = len(undoing.catalog.table(undoing.lake.contract).metadata.snapshots)
    owners = {row["_batch_id"] for row in undoing.lake.published()}
    assert len(owners) == 3 and not owners & {first, second}

    done = undoing.undo(replay_id="r-all")
    assert len(done.undone.batches) == 2
    assert set(done.partitions.values()) == {yesterday, undoing.lake.today()}
    assert len(undoing.catalog.table(undoing.lake.contract).metadata.snapshots) == before + 1
    assert undoing.lake.published_ids() == ids([1, 2, 3, 9])
    owners = {row["_source_key"][-12:]: row["_batch_id"] for row in undoing.lake.published()}
    assert (owners["orders_1.csv"], owners["orders_2.csv"]) == (first, second)
    entries = undoing.entries()
    assert {e.state for e in entries.values()} == {State.PUBLISHED}
    assert entries["orders_1.csv"].batch_id == entries["orders_1.csv"].published_batch_id == first
    assert "rolled_back" in undoing.replays.records("r-all")


def test_repeating_a_rollback_finds_it_done(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1]))
    batch = undoing.publish("orders_1.csv", orders([2]))
    undoing.undo(batch_id=batch)
    snapshot = undoing.catalog.current_snapshot(undoing.lake.contract)
    entries = undoing.entries()
    again = undoing.undo(batch_id=batch)
    assert not again.undone.committed and again.undone.snapshot_id == snapshot
    assert (again.undone.rows_out, again.undone.rows_back) == (1, 1)
    assert undoing.catalog.current_snapshot(undoing.lake.contract) == snapshot
    assert undoing.entries() == entries
    assert undoing.lake.published_ids() == ids([1])
    repeated = [e.detail["repeated"] for e in undoing.bus.named(EventName.ROLLED_BACK)]
    assert repeated == [False, True]


class Died(Exception):
    """The process is gone."""


def test_a_rollback_that_dies_after_its_commit_is_made_up_for(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1]))
    batch = undoing.publish("orders_1.csv", orders([2]))

    class Dies(IcebergCatalog):
        def roll_back(self, *args: Any, **options: Any) -> Any:
            super().roll_back(*args, **options)
            raise Died

    with pytest.raises(Died):
        undoing.undo(batch_id=batch, catalog=Dies(undoing.lake.settings))
    assert undoing.lake.published_ids() == ids([1])
    assert undoing.entries()["orders_1.csv"].state is State.PUBLISHED, (
        "the ledger has not been told"
    )
    with pytest.raises(GateClosedError, match="has been rolled back"):
        undoing.publish_again(batch)
    undoing.undo(batch_id=batch)
    assert undoing.entries()["orders_1.csv"].state is State.ROLLED_BACK
    assert undoing.lake.published_ids() == ids([1])


def test_in_append_mode_versions_stand_beside_each_other(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    undoing.wear(replace(orders_contract, publication=PublicationMode.APPEND), make_lake)
    undoing.publish("orders_1.csv", orders([1, 2]))
    newer = undoing.publish("orders_1.csv", orders([3]))
    undoing.undo(batch_id=newer)
    assert undoing.lake.published_ids() == ids([1, 2])


def test_a_table_of_text_is_rolled_back_alike(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    undoing.wear(replace(orders_contract, processing=Processing.ELT), make_lake)
    undoing.publish("orders_1.csv", orders([1, 2]))
    newer = undoing.publish("orders_1.csv", orders([3]))
    undoing.publish("orders_2.csv", orders([4]))
    undoing.undo(batch_id=newer)
    assert undoing.lake.published_ids() == ids([1, 2, 4])
    assert undoing.entries()["orders_1.csv"].state is State.ROLLED_BACK


@pytest.mark.soak
def test_what_a_later_batch_has_put_in_quarantine_stays_there(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    tainted = orders(range(1, 10)) + orders([10], amount="ten").split(b"\n", 1)[1]
    undoing.publish("orders_1.csv", tainted)
    undoing.publish("orders_2.csv", orders([20]))
    key = undoing.lake.key("orders_1.csv")
    undoing.force("r-1", key)
    (replayed,) = {r["_batch_id"] for r in undoing.lake.published() if r["_source_key"] == key}
    stricter = replace(orders_contract, version="9.0.0", hash="f" * 16, tolerated_share=0.0)
    undoing.wear(stricter, make_lake)
    job = undoing.lake.session.definitions.resolve_job_def("orders_ingest")
    assert job.execute_in_process(
        instance=undoing.lake.session.instance, partition_key=undoing.lake.today()
    ).success
    assert undoing.entries()["orders_1.csv"].state is State.QUARANTINED
    assert undoing.lake.published_ids() == ids([20])
    done = undoing.undo(batch_id=replayed)
    assert undoing.lake.published_ids() == ids([20]) and len(done.undone.kept_out) == 1
    assert undoing.entries()["orders_1.csv"].state is State.QUARANTINED


def test_undoing_the_batch_that_put_a_published_file_in_quarantine_publishes_it_again(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    tainted = orders(range(1, 10)) + orders([10], amount="ten").split(b"\n", 1)[1]
    first = undoing.publish("orders_1.csv", tainted)
    undoing.publish("orders_2.csv", orders([20]))
    stricter = replace(orders_contract, version="9.0.0", hash="f" * 16, tolerated_share=0.0)
    undoing.wear(stricter, make_lake)
    job = undoing.lake.session.definitions.resolve_job_def("orders_ingest")
    job.execute_in_process(
        instance=undoing.lake.session.instance, partition_key=undoing.lake.today()
    )
    entry = undoing.entries()["orders_1.csv"]
    assert entry.state is State.QUARANTINED
    undoing.undo(batch_id=entry.batch_id)
    assert undoing.lake.published_ids() == ids([*range(1, 10), 20])
    entry = undoing.entries()["orders_1.csv"]
    assert (entry.state, entry.batch_id, entry.reason) == (State.PUBLISHED, first, None)
    assert (entry.rows_read, entry.rows_published, entry.rows_quarantined) == (10, 9, 1)


def test_undoing_a_release_puts_the_file_back_in_quarantine(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    strict = replace(orders_contract, version="0.9.0", hash="f" * 16, tolerated_share=0.0)
    undoing.wear(strict, make_lake)
    undoing.lake.land("orders_1.csv", orders([1, 2]) + orders([3], amount="ten").split(b"\n", 1)[1])
    undoing.lake.run_all()
    refused = undoing.entries()["orders_1.csv"]
    assert refused.state is State.QUARANTINED
    undoing.wear(replace(orders_contract, tolerated_share=1.0), make_lake)
    undoing.replays.replay("r-release", selector={"state": "quarantined"})
    assert undoing.lake.published_ids() == ids([1, 2])
    undoing.undo(replay_id="r-release")
    assert undoing.lake.published() == []
    entry = undoing.entries()["orders_1.csv"]
    assert (entry.state, entry.batch_id, entry.reason) == (
        State.QUARANTINED, refused.batch_id, refused.reason,
    )  # fmt: skip


def test_rows_from_before_a_new_column_come_back_with_it_empty(
    undoing: Undoing, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    undoing.publish("orders_1.csv", orders([1, 2]))
    columns = orders_contract.columns
    note = next(column for column in columns if column.name == "note")
    added = replace(note, name="channel", source="channel")
    wider = replace(orders_contract, version="2.0.0", hash="a" * 16, columns=(*columns, added))
    undoing.wear(wider, make_lake)
    body = "\n".join([HEADER + ",channel", *(f"{order(n)},web" for n in (2, 5)), ""]).encode()
    newer = undoing.publish("orders_1.csv", body)
    assert {r["order_id"]: r["channel"] for r in undoing.lake.published()} == dict.fromkeys(
        ids([2, 5]), "web"
    )
    undoing.publish("orders_2.csv", body.replace(b"O00000000", b"O00000009"))
    undoing.undo(batch_id=newer)
    found = {r["order_id"]: r["channel"] for r in undoing.lake.published()}
    assert found == {**dict.fromkeys(ids([1, 2])), **dict.fromkeys(ids([92, 95]), "web")}


def test_a_key_that_would_be_doubled_refuses_the_rollback(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1, 2]))
    newer = undoing.publish("orders_1.csv", orders([3]))
    other = undoing.publish("orders_2.csv", orders([2]))
    before = undoing.lake.published()
    with pytest.raises(RollbackRefusedError, match=f"order_id O000000002.*{other}"):
        undoing.undo(batch_id=newer)
    assert undoing.lake.published() == before
    assert undoing.entries()["orders_1.csv"].state is State.PUBLISHED
    undoing.undo(batch_id=other)
    undoing.undo(batch_id=newer)
    assert undoing.lake.published_ids() == ids([1, 2])


@pytest.mark.slow
def test_a_rollback_and_publishers_at_once_lose_and_double_nothing(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1, 2]))
    newer = undoing.publish("orders_1.csv", orders([3]))
    for n in range(4):
        undoing.lake.land(f"orders_1{n}.csv", orders([100 + n]))
    undoing.lake.contract = replace(
        undoing.lake.contract,
        landing=replace(undoing.lake.contract.landing, max_batch_files=1),
    )
    with ThreadPoolExecutor(3) as pool:
        rollbacks = [
            pool.submit(undoing.undo, batch_id=newer, catalog=IcebergCatalog(undoing.lake.settings))
            for _ in range(2)
        ]
        undoing.lake.run_all()
        done = [one.result().undone for one in rollbacks]
    assert sorted(one.committed for one in done) == [False, True]
    assert undoing.lake.published_ids() == ids([1, 2, 100, 101, 102, 103])


def test_what_is_not_in_the_history_is_refused_with_a_sentence(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1]))
    with pytest.raises(RollbackRefusedError, match="is not in the history of orders's table"):
        undoing.undo(batch_id="0" * 32)
    with pytest.raises(RollbackRefusedError, match="No batch of replay r-none"):
        undoing.undo(replay_id="r-none")


def test_the_command_shows_what_would_go_and_come_and_then_does_it(undoing: Undoing) -> None:
    undoing.publish("orders_1.csv", orders([1, 2]))
    newer = undoing.publish("orders_1.csv", orders([3]))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["rollback", "--dataset", "orders", *arguments])

    shown = command("--batch", newer, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "would take out 1 rows and bring back 2" in shown.output
    assert undoing.lake.published_ids() == ids([3])
    told = command("--batch", newer, "--reason", "test data", "--json")
    done = json.loads(told.output)
    assert (done["rows_out"], done["rows_back"], done["undone"]) == (1, 2, [newer])
    assert [share["rows"] for share in done["back"]] == [2] and done["committed"]
    assert undoing.lake.published_ids() == ids([1, 2])
    again = command("--batch", newer)
    assert again.exit_code == 0 and "had been rolled back before" in again.output
    unknown = command("--batch", "0" * 32)
    assert unknown.exit_code == 3 and "is not in the history" in unknown.output
    assert command().exit_code == 2
