"""Release from quarantine: what passes after a fix is published and marked, what fails stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from service_core.contract.model import Contract
from service_core.gate import read_verdict
from service_core.layout import Zone
from service_core.ledger import State
from service_core.replay.audit import Outcome
from service_core.replay.release import released_file, released_rows
from tests.pipeline.conftest import Lake, order, orders
from tests.replay.conftest import ReplayLake

HEADER_ONLY_TWO = b"order_id,amount\nO000000900,1.00\n"


@pytest.fixture
def small(make_lake: Callable[..., Lake], orders_contract: Contract) -> ReplayLake:
    """A lake whose contract, by mistake, takes only the smallest files."""
    landing = replace(orders_contract.landing, max_bytes=300)
    return ReplayLake(make_lake(orders_contract, landing=landing, hash="a" * 16))


def fixed(make_lake: Callable[..., Lake], contract: Contract) -> ReplayLake:
    return ReplayLake(make_lake(contract, version="1.0.1", hash="b" * 16))


def test_files_that_pass_under_the_fixed_contract_leave_quarantine_and_others_stay(
    small: ReplayLake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    small.lake.land("orders_good.csv", orders(range(1, 11)))
    small.lake.land("orders_bad.csv", HEADER_ONLY_TWO * 20)
    small.lake.land("orders_small.csv", orders([50]))
    small.lake.run_all()
    entries = small.entries()
    assert {name: entry.state for name, entry in entries.items()} == {
        "orders_good.csv": State.QUARANTINED,
        "orders_bad.csv": State.QUARANTINED,
        "orders_small.csv": State.PUBLISHED,
    }
    refused_by = entries["orders_bad.csv"].batch_id

    after = fixed(make_lake, orders_contract)
    done = after.replay("release-1", selector={"reasonCodes": ["TOO_LARGE"]})
    assert done.outcomes == {Outcome.PUBLISHED: 1, Outcome.QUARANTINED: 1}
    assert (done.rows_before, done.rows_after) == (0, 10)
    assert len(after.lake.published_ids()) == 11

    entries = after.entries()
    good, bad = entries["orders_good.csv"], entries["orders_bad.csv"]
    assert good.state is State.PUBLISHED and bad.state is State.QUARANTINED
    store, today = after.lake.store(), after.lake.today()
    note = released_file(store, "orders", today, good.object_id)
    assert note is not None
    assert (note.replay_id, note.code, note.quarantined_by, note.rows_published) == (
        "release-1", "TOO_LARGE", refused_by, 10,
    )  # fmt: skip
    content = store.read(Zone.QUARANTINE, f"orders/files/{today}/{good.object_id}/content")
    assert content == orders(range(1, 11)), "what was quarantined is never deleted"
    assert released_file(store, "orders", today, bad.object_id) is None
    record = json.loads(
        store.read(Zone.QUARANTINE, f"orders/files/{today}/{bad.object_id}/record.json")
    )
    assert record["replay_id"] == "release-1" and record["code"] == "COLUMN_MISSING"
    for batch_id in (refused_by, bad.batch_id):
        verdict = read_verdict(store, "orders", today, batch_id)
        assert bad.object_id in {f.source_object.id for f in verdict.files}, "both verdicts stay"
    assert any("Released" in line.note for line in after.lake.ledger().history(good.object_id))


def test_diverted_rows_that_pass_are_published_and_their_release_is_noted(
    replays: ReplayLake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    """A file that is published in part is meant by the reasons of its diverted rows."""
    body = (
        orders(range(1, 19))
        + "\n".join([order(19, quantity=1001), order(20, amount="ten"), ""]).encode()
    )
    replays.lake.land("orders_1.csv", body)
    replays.lake.land("orders_2.csv", orders([30]))
    (first,) = replays.lake.run_all()
    assert len(replays.lake.published_ids()) == 19

    rules = tuple(r for r in orders_contract.row_rules if "quantity" not in r.columns)
    after = ReplayLake(make_lake(orders_contract, row_rules=rules, version="2", hash="c" * 16))
    done = after.replay("release-rows", selector={"reasonCodes": ["RANGE"]})
    assert done.detail["objects"] == 1
    assert done.outcomes == {Outcome.PARTIAL: 1}
    assert (done.rows_before, done.rows_after) == (18, 19)
    earlier = first.dagster_run.tags["lakegate/batch_id"]
    (note,) = released_rows(after.lake.store(), "orders", after.lake.today(), earlier)
    (one,) = note.objects
    assert note.replay_id == "release-rows"
    assert (one.rows, one.still_quarantined, one.reasons) == (2, 1, ("RANGE", "TYPE"))


def test_a_replay_that_fails_leaves_quarantine_and_table_as_they_were(
    small: ReplayLake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    small.lake.land("orders_bad.csv", HEADER_ONLY_TWO * 20)
    small.lake.run_all()
    after = fixed(make_lake, orders_contract)
    done = after.replay("again", selector={"state": "quarantined"})
    assert done.outcomes == {Outcome.QUARANTINED: 1}
    (entry,) = after.entries().values()
    assert entry.state is State.QUARANTINED
    assert after.lake.published() == []
    assert released_file(after.lake.store(), "orders", after.lake.today(), entry.object_id) is None


def test_a_release_that_was_not_marked_is_marked_by_the_next_run_of_the_batch(
    small: ReplayLake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    small.lake.land("orders_good.csv", orders(range(1, 11)))
    small.lake.run_all()
    after = fixed(make_lake, orders_contract)
    after.ask("release-1", selector={"reasonCodes": ["TOO_LARGE"]})
    (request,) = after.tick().requests
    after.execute(request)
    (entry,) = after.entries().values()
    key = f"orders/files/{after.lake.today()}/{entry.object_id}/released.json"
    after.lake.store().remove(Zone.QUARANTINE, [key])
    assert after.execute(request).success
    assert after.lake.store().read(Zone.QUARANTINE, key)
