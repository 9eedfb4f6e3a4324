"""Which landed objects are new, and how they are cut into batches: decisions without I/O."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from service_core.arrival import ArrivalCursor, cut_batches
from service_core.contract.model import Grain, Landing
from service_core.manifest import Manifest, Origin
from service_core.source_object import SourceObject

LANDING = Landing(
    prefix="orders/",
    partition_path="dt=%Y-%m-%d",
    grain=Grain.DAY,
    first_partition=date(2026, 1, 1),
    file_name=re.compile(r"orders_.*\.csv"),
    max_batch_files=3,
    max_batch_bytes=100,
)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def an_object(key: str, *, size: int = 10, partition: str = "2026-11-20", after: int = 0,
              sequence: int = 0) -> SourceObject:  # fmt: skip
    return SourceObject(
        bucket="raw",
        key=key,
        version_id=f"{key}-{after}-{sequence}",
        etag="e",
        size=size,
        last_modified=NOON + timedelta(seconds=after),
        sequence=sequence,
        partition=partition,
    )


def keys_of(batches: object) -> list[list[str]]:
    return [[o.key for o in batch] for batch in batches]  # type: ignore[attr-defined]


def test_a_batch_holds_no_more_files_than_the_bound() -> None:
    objects = [an_object(f"orders/{n}") for n in range(7)]
    assert [len(batch) for batch in cut_batches(objects, LANDING)] == [3, 3, 1]


def test_a_batch_holds_no_more_bytes_than_the_bound() -> None:
    objects = [an_object(f"orders/{n}", size=60) for n in range(3)]
    assert [len(batch) for batch in cut_batches(objects, LANDING)] == [1, 1, 1]


def test_a_file_larger_than_the_bound_is_a_batch_of_its_own() -> None:
    objects = [an_object("orders/big", size=1000), an_object("orders/bigger", size=2000)]
    assert keys_of(cut_batches(objects, LANDING)) == [["orders/big"], ["orders/bigger"]]


def test_small_and_large_files_are_not_mixed() -> None:
    sizes = [1, 40, 2, 30, 3]
    objects = [an_object(f"orders/{n}", size=size) for n, size in enumerate(sizes)]
    assert keys_of(cut_batches(objects, LANDING)) == [
        ["orders/0", "orders/2", "orders/4"],
        ["orders/1", "orders/3"],
    ]


def test_partitions_are_never_mixed() -> None:
    objects = [an_object("orders/a"), an_object("orders/b", partition="2026-11-21")]
    assert keys_of(cut_batches(objects, LANDING)) == [["orders/a"], ["orders/b"]]


def test_two_versions_of_a_key_come_in_two_batches_the_older_first() -> None:
    newer, older = an_object("orders/a", after=1), an_object("orders/a", after=0)
    batches = list(cut_batches([newer, older], LANDING))
    assert batches == [(older,), (newer,)]


def test_versions_of_one_second_are_told_apart_by_their_sequence() -> None:
    newer, older = an_object("orders/a", sequence=1), an_object("orders/a", sequence=0)
    assert list(cut_batches([newer, older], LANDING)) == [(older,), (newer,)]


def test_nothing_new_makes_no_batch() -> None:
    assert list(cut_batches([], replace(LANDING))) == []


def test_a_cursor_that_cannot_be_read_costs_a_listing_and_not_an_arrival() -> None:
    assert ArrivalCursor.parse("{broken") == ArrivalCursor()
    assert ArrivalCursor.parse('{"of": "another kind"}') == ArrivalCursor()
    assert ArrivalCursor.parse(None) == ArrivalCursor()


def test_a_cursor_survives_its_own_text() -> None:
    cursor = ArrivalCursor(ticked_at=NOON)
    assert ArrivalCursor.parse(cursor.model_dump_json()) == cursor


def test_the_same_objects_under_another_contract_are_another_batch() -> None:
    def under(contract_hash: str) -> str:
        return Manifest(
            dataset="orders",
            partition="2026-11-20",
            contract_version="1.0.0",
            contract_hash=contract_hash,
            origin=Origin.SENSOR,
            objects=(an_object("orders/a"),),
            created_at=NOON,
        ).batch_id

    assert under("a") == under("a") != under("b")
