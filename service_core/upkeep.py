"""Upkeep of published tables: what of a table's past goes, and which of its files become one.

Nothing is decided here that changes a row, or what a reader of the table as it is now sees. A
table's past goes from its old end only and without gaps, so that what is left of it is a history:
everything that a batch's snapshot tells, and a rollback needs, is there back to one point in time.
A rollback that the ledger does not know of yet stops it, for nothing but the table tells of that:
whoever finishes it finds the batch's commit and its undoing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

_MIB = 1024**2

#: A compacted file's size. Engines cut larger ones again, and a replaced file is written anew.
TARGET_BYTES = 128 * _MIB
#: Smaller ones are worth being put together.
SMALL_BYTES = TARGET_BYTES * 3 // 4
#: A partition that nothing was committed to for so long counts as closed.
QUIET = timedelta(days=1)
#: So many small files of a closed partition become one. In an open one it takes more: a batch that
#: replaces a row of a file has the whole of it written anew.
FEWEST_CLOSED = 8
FEWEST_OPEN = 100
#: What one run writes anew of one table; the rest waits for the next.
MOST_BYTES = 4 * 1024 * _MIB
#: A publication puts manifests together at this number too, unless it replaces rows.
MANIFESTS = 20
#: Of a table that is seldom published to, its last snapshots stay whatever their age.
LEAST_SNAPSHOTS = 100


class Kept(StrEnum):
    """Why something stays as it is."""

    RETENTION = "within_retention"
    NAMED = "named"
    UNSETTLED = "unsettled_rollback"
    LARGE = "large_enough"
    FEW_CLOSED = "few_in_closed_partition"
    FEW_OPEN = "few_in_open_partition"
    FOREIGN = "changed_by_another_engine"
    LATER = "left_for_next_time"

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Kept.RETENTION: "snapshots within the retention, which rollback and time travel reach",
    Kept.NAMED: "older snapshots that a tag or a branch names",
    Kept.UNSETTLED: "older snapshots, from a batch on that the ledger does not know to be undone",
    Kept.LARGE: "data files that are large enough",
    Kept.FEW_CLOSED: f"small files, fewer than {FEWEST_CLOSED} in their closed partition",
    Kept.FEW_OPEN: f"small files, fewer than {FEWEST_OPEN} in their open partition",
    Kept.FOREIGN: "files that another engine has deleted rows of, or partitioned otherwise",
    Kept.LATER: "small files that the next run puts together",
}


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a table's past is kept.

    Attributes:
        age: Older snapshots go, but for the newest `least`.
        most: So many snapshots, whatever their age.
    """

    age: timedelta
    most: int
    least: int = LEAST_SNAPSHOTS

    def spares(self, number: int, at: datetime, now: datetime) -> bool:
        """Whether a snapshot stays; the newest one is number 0."""
        return number < self.most and (number < self.least or now - at <= self.age)


@dataclass(frozen=True, slots=True)
class Past:
    """A snapshot of a table's line.

    Attributes:
        at: When it was committed.
        batch_id: The batch that it brought.
        undoes: Ids of the batches that it rolls back.
        named: Whether a tag or a branch names it.
    """

    snapshot_id: int
    at: datetime
    batch_id: str | None = None
    undoes: frozenset[str] = frozenset()
    named: bool = False


@dataclass(frozen=True, slots=True)
class Parting:
    """Ids of the snapshots that go, oldest first, and how many stay for which reason."""

    going: tuple[int, ...] = ()
    kept: Mapping[Kept, int] = field(default_factory=dict)


def parting(
    line: Sequence[Past], retention: Retention, now: datetime, settled: frozenset[str]
) -> Parting:
    """Which snapshots of a table's line go.

    Args:
        line: The newest first.
        settled: Of the batches that the line's rollbacks undo, those of which the ledger knows.
    """
    going: list[int] = []
    kept: Counter[Kept] = Counter()
    unsettled = frozenset[str]().union(*(past.undoes for past in line)) - settled
    for number in range(len(line) - 1, -1, -1):
        past = line[number]
        if retention.spares(number, past.at, now):
            kept[Kept.RETENTION] = number + 1
            break
        if past.batch_id in unsettled or not past.undoes.isdisjoint(unsettled):
            kept[Kept.UNSETTLED] = number + 1
            break
        if past.named:
            kept[Kept.NAMED] += 1
        else:
            going.append(past.snapshot_id)
    return Parting(tuple(going), dict(kept))


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A data file of a table, as its manifest describes it.

    Attributes:
        first_key: The lowest source key in it, as far as its bounds tell.
        foreign: Whether another engine has deleted rows of it elsewhere, or partitioned it
            otherwise.
    """

    uri: str
    partition: str
    bytes: int
    rows: int
    first_key: str = ""
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Packing:
    """Groups of files of one partition that become one file each, and how many files stay for
    which reason."""

    groups: tuple[tuple[FileFacts, ...], ...] = ()
    kept: Mapping[Kept, int] = field(default_factory=dict)


def packing(
    files: Iterable[FileFacts],
    last_commits: Mapping[str, datetime],
    now: datetime,
    *,
    most_bytes: int = MOST_BYTES,
) -> Packing:
    """Which files of a table are put together.

    Neighbours by source key come together, so that a batch passes by files that hold none of its
    keys. Older partitions come first.

    Args:
        last_commits: By partition, when a batch was last committed to it, where that is known.
        most_bytes: What may be written anew in one run.
    """
    kept: Counter[Kept] = Counter()
    small: dict[str, list[FileFacts]] = {}
    for file in files:
        if file.foreign:
            kept[Kept.FOREIGN] += 1
        elif file.bytes >= SMALL_BYTES:
            kept[Kept.LARGE] += 1
        else:
            small.setdefault(file.partition, []).append(file)
    groups: list[tuple[FileFacts, ...]] = []
    room = most_bytes
    for partition in sorted(small):
        last = last_commits.get(partition)
        closed = last is None or now - last > QUIET
        for group in _groups(small[partition]):
            if len(group) < (FEWEST_CLOSED if closed else FEWEST_OPEN):
                kept[Kept.FEW_CLOSED if closed else Kept.FEW_OPEN] += len(group)
            elif (size := sum(file.bytes for file in group)) > room:
                kept[Kept.LATER] += len(group)
            else:
                room -= size
                groups.append(group)
    return Packing(tuple(groups), dict(kept))


def scattered(sizes: Sequence[int], large: int) -> bool:
    """Whether a snapshot's manifests are many, and would be at most half as many together.

    Args:
        sizes: Theirs, in bytes.
        large: What a manifest is filled up to.
    """
    small = [size for size in sizes if size < large]
    return len(small) > MANIFESTS and sum(small) * 2 < len(small) * large // 2


def _groups(files: Sequence[FileFacts]) -> Iterable[tuple[FileFacts, ...]]:
    group: list[FileFacts] = []
    size = 0
    for file in sorted(files, key=lambda one: (one.first_key, one.uri)):
        if group and size + file.bytes > TARGET_BYTES:
            yield tuple(group)
            group, size = [], 0
        group.append(file)
        size += file.bytes
    if group:
        yield tuple(group)


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a table is.

    Attributes:
        manifests: Of the current snapshot.
        data_files, data_bytes, rows: That a reader of the current snapshot reads.
        metadata_bytes: Of the metadata file, which every commit writes anew.
    """

    snapshots: int = 0
    manifests: int = 0
    data_files: int = 0
    small_files: int = 0
    data_bytes: int = 0
    rows: int = 0
    metadata_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tended:
    """What upkeep did to one table, or would.

    Attributes:
        table: `database.table`.
        expired: Snapshots that went.
        compacted: Files that were put together, into `written` new ones.
        merged: Whether its manifests were put together.
        kept: How many snapshots and files stayed, and why.
        outrun: What was left for next time because others kept committing.
    """

    dataset: str
    table: str
    before: Extent
    after: Extent
    expired: int = 0
    compacted: int = 0
    written: int = 0
    merged: bool = False
    kept: Mapping[Kept, int] = field(default_factory=dict)
    outrun: tuple[str, ...] = ()
