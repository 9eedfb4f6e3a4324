"""Files that vanish, or become others, between being listed and being read: the rest of their
batch is published, and what is known of them is never lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.ledger import State
from service_core.reasons import ReasonCode
from service_core.replay.audit import Outcome
from service_core.replay.held import held_files
from service_core.settings import Settings
from tests.pipeline.conftest import Lake, orders
from tests.replay.conftest import ReplayLake


def states(replays: ReplayLake, *ids: str) -> list[tuple[State, ReasonCode | None]]:
    entries = replays.lake.ledger().entries(ids)
    return [(entries[i].state, entries[i].reason) for i in ids]


def objects_of(replays: ReplayLake) -> dict[str, str]:
    """The source object id of each key's latest version, by its file's name."""
    return {name: entry.object_id for name, entry in replays.entries().items()}


def wipe(lake: Lake, key: str) -> None:
    """Delete every version of a key for ever."""
    bucket = lake.settings.bucket(Zone.RAW)
    versions = lake.s3.list_object_versions(Bucket=bucket, Prefix=key)
    for version in versions["Versions"]:
        lake.s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])


def test_a_version_that_is_gone_before_its_turn_costs_nobody_else_anything(
    replays: ReplayLake,
) -> None:
    lake = replays.lake
    for number, name in enumerate("abc"):
        lake.land(f"orders_{name}.csv", orders([number]))
    requests = lake.session.tick("orders").requests
    ids = objects_of(replays)
    wipe(lake, lake.key("orders_a.csv"))
    # Deleted as one deletes: the version that was listed is still there, under the marker.
    lake.s3.delete_object(Bucket=replays.raw, Key=lake.key("orders_b.csv"))

    results = [replays.execute(request) for request in requests]

    assert [result.success for result in results] == [True]
    assert lake.published_ids() == ["O000000001", "O000000002"]
    assert states(replays, ids["orders_a.csv"]) == [(State.QUARANTINED, ReasonCode.OBJECT_MISSING)]
    (held,) = held_files(lake.store(), lake.ledger(), "orders")
    assert held.record.content_uri is None
    assert "land it again" in held.record.replay

    # What is published, and then gone from raw for ever, can never be had again: a replay that
    # meets it keeps its rows, in whatever company.
    replays.ask("again", selector={"keyPrefix": "orders/"}, options={"force": True})
    lake.land("orders_d.csv", orders([3]))
    requests = [*lake.session.tick("orders").requests, *replays.tick().requests]
    rows = replays.rows()
    wipe(lake, lake.key("orders_c.csv"))
    for request in requests:
        replays.execute(request)
    replays.run_all()

    assert rows < replays.rows()
    assert lake.published_ids() == ["O000000001", "O000000002", "O000000003"]
    assert replays.fates("again")["orders_c.csv"].outcome is Outcome.KEPT
    assert states(replays, ids["orders_c.csv"]) == [(State.PUBLISHED, None)]
    kept = lake.ledger().entries([ids["orders_c.csv"]])[ids["orders_c.csv"]]
    assert (kept.rows_read, kept.rows_published, kept.batch_id) == (1, 1, kept.published_batch_id)


def test_without_versions_a_key_that_grew_is_read_as_what_it_has_become(
    settings: Settings, aws: Callable[[str], Any], make_lake: Any, orders_contract: Contract
) -> None:
    """What was listed is gone; what took its place is another source object, which the next
    listing finds."""
    s3, raw = aws("s3"), settings.bucket(Zone.RAW)
    s3.delete_bucket(Bucket=raw)
    s3.create_bucket(Bucket=raw)
    replays = ReplayLake(make_lake(orders_contract))
    lake = replays.lake
    for number, name in enumerate("abc"):
        lake.land(f"orders_{name}.csv", orders([number]))
    requests = lake.session.tick("orders").requests
    ids = objects_of(replays)
    lake.land("orders_a.csv", orders([0, 10]))
    s3.delete_object(Bucket=raw, Key=lake.key("orders_b.csv"))

    results = [replays.execute(request) for request in requests]

    assert [result.success for result in results] == [True]
    assert lake.published_ids() == ["O000000002"]
    gone = (State.QUARANTINED, ReasonCode.OBJECT_MISSING)
    assert states(replays, ids["orders_a.csv"], ids["orders_b.csv"]) == [gone, gone]

    lake.run_all()

    assert lake.published_ids() == ["O000000000", "O000000002", "O000000010"]
    assert [record.content_uri for record in records_of(lake)] == [None, None]


def records_of(lake: Lake) -> list[Any]:
    return [held.record for held in held_files(lake.store(), lake.ledger(), "orders")]
