"""Cutting: which new objects go together in a batch, and which wait for others.

A batch holds objects of one partition, at most one version of a key, and either small files or
large ones. An object waits at most for the end of its window, so that a trickle comes in few
batches and none of it late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

from service_core.contract.model import Contract, Landing
from service_core.partition import fallback_partition, is_late, partition_of
from service_core.ports import Listed
from service_core.source_object import SourceObject

Batch = tuple[SourceObject, ...]

#: A file of more than this part of a batch's bytes is a large one. A batch of small files beside
#: it would take as long as the large one does.
_LARGE_PART = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def source_object_of(contract: Contract, bucket: str, listed: Listed) -> SourceObject:
    """A listed version as a source object of a data set, filed under its partition."""
    landing = contract.landing
    named = partition_of(landing, listed.key, now=listed.last_modified)
    partition = named or fallback_partition(landing, listed.last_modified)
    return listed.filed_under(
        bucket,
        partition,
        valid=named is not None,
        late=named is not None and is_late(landing, named, listed.last_modified),
    )


def cut_batches(objects: Iterable[SourceObject], landing: Landing) -> Iterator[Batch]:
    """Cut objects into micro-batches: of one partition, at most one version of a key in each,
    small files or large ones, bounded by files and bytes. Older versions of a key come in earlier
    batches.

    A file larger than the bound is a batch of its own.
    """
    large = landing.max_batch_bytes // _LARGE_PART
    ages = _ages(objects)
    placed = sorted(
        ((o.partition, age, o.size > large, o.order, o.key, o) for o, age in ages),
        key=lambda place: place[:-1],
    )
    for _, alike in groupby(placed, key=lambda place: place[:3]):
        batch: list[SourceObject] = []
        size = 0
        for *_, source_object in alike:
            full = (
                len(batch) >= landing.max_batch_files
                or size + source_object.size > landing.max_batch_bytes
            )
            if batch and full:
                yield tuple(batch)
                batch, size = [], 0
            batch.append(source_object)
            size += source_object.size
        if batch:
            yield tuple(batch)


def newest_first(batches: Iterable[Batch]) -> list[Batch]:
    """Batches of the newest partition first, and those of one partition as they were."""
    return sorted(batches, key=lambda batch: batch[0].partition, reverse=True)


def is_ripe(batch: Batch, contract: Contract, now: datetime) -> bool:
    """Whether a batch is to be requested now, and not kept back for more to join it.

    It is where it is full, or the window of one of its objects has ended. Windows lie on a fixed
    grid of time, so that objects of one window, seen by different looks, become ripe together.
    """
    landing, wait = contract.landing, contract.pace.max_wait
    if not wait or len(batch) >= landing.max_batch_files:
        return True
    # Where another file of its size would not fit any more.
    size = sum(o.size for o in batch)
    if size + size // len(batch) > landing.max_batch_bytes:
        return True
    return any(ripens_in(o.last_modified, wait, now) <= timedelta(0) for o in batch)


def ripens_in(landed: datetime, wait: timedelta, now: datetime) -> timedelta:
    """How long an object that landed at `landed` has yet to wait; nothing, where clocks disagree
    so much that it would have to wait for longer than a window."""
    if not wait:
        return timedelta(0)
    windows = (landed - _EPOCH) // wait
    left = _EPOCH + (windows + 1) * wait - now
    return left if timedelta(0) < left <= wait else timedelta(0)


def _ages(objects: Iterable[SourceObject]) -> Iterator[tuple[SourceObject, int]]:
    """Each object with how many older versions of its key are among them."""
    by_key: dict[str, list[SourceObject]] = {}
    for source_object in objects:
        by_key.setdefault(source_object.key, []).append(source_object)
    for versions in by_key.values():
        for age, source_object in enumerate(sorted(versions, key=lambda o: o.order)):
            yield source_object, age


def ripe_and_waiting(
    objects: Iterable[SourceObject],
    contract: Contract,
    now: datetime,
    at_once: frozenset[str] = frozenset(),
) -> tuple[list[Batch], list[SourceObject]]:
    """The batches to request, newest partition first, and the objects that wait for others.

    Args:
        at_once: Ids of objects that may not wait.
    """
    ripe: list[Batch] = []
    waiting: list[SourceObject] = []
    for batch in cut_batches(objects, contract.landing):
        if is_ripe(batch, contract, now) or any(o.id in at_once for o in batch):
            ripe.append(batch)
        else:
            waiting += batch
    return newest_first(ripe), waiting
