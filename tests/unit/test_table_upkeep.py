"""What upkeep decides: which snapshots go, which files become one, and which manifests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service_core.upkeep import (
    FEWEST_CLOSED,
    FEWEST_OPEN,
    MANIFESTS,
    SMALL_BYTES,
    TARGET_BYTES,
    FileFacts,
    Kept,
    Past,
    Retention,
    packing,
    parting,
    scattered,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOBODY: frozenset[str] = frozenset()


def line(*days: float) -> list[Past]:
    """Snapshots of so many days ago; the newest first, numbered from the oldest."""
    return [
        Past(len(days) - place, NOW - timedelta(days=ago), f"b{len(days) - place}")
        for place, ago in enumerate(days)
    ]


@pytest.mark.parametrize(
    ("days", "retention", "going"),
    [
        ((), Retention(timedelta(30), 5), ()),
        ((1, 2, 3), Retention(timedelta(30), 5), ()),
        ((1, 2, 3), Retention(timedelta(30), 2), (1,)),
        ((1, 29, 31, 32), Retention(timedelta(30), 9, least=1), (1, 2)),
        ((31, 32, 33, 34), Retention(timedelta(30), 9, least=3), (1,)),
        ((31, 32, 33, 34), Retention(timedelta(0), 1), (1, 2, 3)),
        # A clock that was wrong leaves no gap: the oldest stays, and so does what came after it.
        ((1, 40, 2), Retention(timedelta(30), 9, least=1), ()),
    ],
)
def test_snapshots_go_from_the_old_end_only(
    days: tuple[float, ...], retention: Retention, going: tuple[int, ...]
) -> None:
    found = parting(line(*days), retention, NOW, NOBODY)
    assert found.going == going
    assert sum(found.kept.values()) == len(days) - len(going)


def test_a_named_snapshot_stays_and_holds_up_no_other() -> None:
    past = line(1, 2, 3, 4)
    past[2] = Past(2, past[2].at, named=True)
    found = parting(past, Retention(timedelta(0), 1), NOW, NOBODY)
    assert found.going == (1, 3)
    assert found.kept == {Kept.RETENTION: 1, Kept.NAMED: 1}


def test_a_rollback_holds_up_the_batch_that_it_undoes_until_the_ledger_knows() -> None:
    past = line(1, 2, 3, 4, 5)
    past[1] = Past(4, past[1].at, None, frozenset({"b2"}))
    few = Retention(timedelta(0), 1)
    held = parting(past, few, NOW, NOBODY)
    assert held.going == (1,) and held.kept == {Kept.UNSETTLED: 4}
    assert parting(past, few, NOW, frozenset({"b2"})).going == (1, 2, 3, 4)


def small(count: int, partition: str = "2026-11-01", size: int = 1_000) -> list[FileFacts]:
    return [
        FileFacts(f"{partition}/{n:03d}", partition, size, 10, first_key=f"k{n:03d}")
        for n in range(count)
    ]


def test_a_few_files_of_a_closed_partition_are_put_together_and_many_of_an_open_one() -> None:
    today = "2026-11-21"
    commits = {today: NOW, "2026-11-01": NOW - timedelta(days=3)}
    files = [*small(FEWEST_CLOSED), *small(FEWEST_OPEN - 1, today), *small(2, "2026-10-01")]
    found = packing(files, commits, NOW)
    assert [len(group) for group in found.groups] == [FEWEST_CLOSED]
    assert found.kept == {Kept.FEW_OPEN: FEWEST_OPEN - 1, Kept.FEW_CLOSED: 2}
    many = packing(small(FEWEST_OPEN, today), commits, NOW)
    assert [len(group) for group in many.groups] == [FEWEST_OPEN]


def test_what_is_large_or_of_another_engine_stays_and_groups_have_neighbouring_keys() -> None:
    part = TARGET_BYTES // 10
    files = small(25, size=part)
    files += [FileFacts("large", "2026-11-01", SMALL_BYTES, 1)]
    files += [FileFacts("foreign", "2026-11-01", 1, 1, foreign=True)]
    found = packing(reversed(files), {}, NOW)
    assert [[f.first_key for f in group][:: len(group) - 1] for group in found.groups] == [
        ["k000", "k009"],
        ["k010", "k019"],
    ]
    assert found.kept == {Kept.LARGE: 1, Kept.FOREIGN: 1, Kept.FEW_CLOSED: 5}


def test_one_run_writes_no_more_than_it_may_and_leaves_the_rest() -> None:
    files = [*small(10, "2026-11-01"), *small(10, "2026-11-02")]
    found = packing(files, {}, NOW, most_bytes=10_000)
    assert [group[0].partition for group in found.groups] == ["2026-11-01"]
    assert found.kept == {Kept.LATER: 10}


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([10] * MANIFESTS, False),
        ([10] * (MANIFESTS + 1), True),
        ([1_000] * 100, False),
        ([10] * MANIFESTS + [1_000], False),
        # Together they would not be fewer by much.
        ([900] * 100, False),
    ],
)
def test_manifests_are_put_together_where_it_makes_them_few(sizes: list[int], wanted: bool) -> None:
    assert scattered(sizes, 1_000) is wanted
