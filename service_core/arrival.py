"""Arrival: which landed objects are new, and which batches are cut from them.

Nothing is lost and nothing is doubled, because what is new is decided by the ledger and not by a
watermark: a slow upload, an overwritten key or two files of one second are simply versions that
the ledger does not know yet. Three writes make a batch, in this order: its manifest, a pending
mark, and the reception of its objects. A tick that dies between any two of them is finished by
the next one, from the pending mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.contract.kept import keep_contract
from service_core.contract.model import Contract, Landing
from service_core.layout import Zone, manifest_key
from service_core.manifest import Manifest, Origin
from service_core.partition import (
    fallback_partition,
    is_late,
    open_partitions,
    partition_of,
    partition_path,
)
from service_core.ports import Ledger, Listed, ObjectStore, PendingBatch
from service_core.source_object import SourceObject

Resume = tuple[str, str]


class Walk(BaseModel):
    """Where a listing over several prefixes stands: `prefix` is None between two passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str | None = None
    resume: Resume | None = None


class ArrivalCursor(BaseModel):
    """What one tick leaves for the next. Its size does not grow with the number of objects.

    Attributes:
        ticked_at: When the last completed tick began; batches marked pending after it belong to
            a tick that died.
        open: Where the listing of the open partitions stands.
        sweep: Where the slower listing of everything under the prefix stands.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticked_at: AwareDatetime | None = None
    open: Walk = Walk()
    sweep: Walk = Walk()

    @classmethod
    def parse(cls, text: str | None) -> ArrivalCursor:
        """The cursor in `text`, or a fresh one: a lost cursor costs a listing, not an arrival."""
        if not text:
            return cls()
        try:
            return cls.model_validate_json(text)
        except ValueError:
            return cls()


@dataclass(frozen=True, slots=True)
class Budget:
    """What one tick may spend.

    Attributes:
        seconds: Wall time for listing; the tick limit of Dagster's code server is 60 s.
        sweep_pages: Pages (of 1,000 versions) that the sweep may read where open partitions are
            listed beside it; a data set without a window has nothing but the sweep.
        new_objects: New objects taken in one tick.
        batches: Batches requested in one tick (Dagster wants a few hundred at most).
        pending: Batches whose runs have not begun; at so many, arrivals wait in the bucket.
    """

    seconds: float = 20.0
    sweep_pages: int = 5
    new_objects: int = 20_000
    batches: int = 100
    pending: int = 200


@dataclass(slots=True)
class Arrivals:
    """What a tick found and did.

    Attributes:
        batches: Batches whose runs are to be requested, oldest mark first.
        cursor: For the next tick.
        listed: Versions seen.
        new, late, misplaced: New objects; those of them late; those whose key names no partition.
        resumed: Batches of a tick that died.
        pending: Batches waiting for their runs, these included.
        complete: Whether the listing reached its end within the budget.
        held_back: Whether arrivals were left in the bucket because too much is waiting.
    """

    cursor: ArrivalCursor
    batches: list[PendingBatch] = field(default_factory=list)
    listed: int = 0
    new: int = 0
    late: int = 0
    misplaced: int = 0
    resumed: int = 0
    pending: int = 0
    complete: bool = True
    held_back: bool = False


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


def cut_batches(
    objects: Iterable[SourceObject], landing: Landing
) -> Iterator[tuple[SourceObject, ...]]:
    """Cut objects into micro-batches: of one partition, at most one version of a key in each,
    bounded by files and bytes. Older versions of a key come in earlier batches.

    A file larger than the bound is a batch of its own.
    """
    ordered = sorted(objects, key=lambda o: (o.partition, o.order, o.key))
    for _, in_partition in groupby(ordered, key=lambda o: o.partition):
        batch: list[SourceObject] = []
        keys: set[str] = set()
        size = 0
        for source_object in in_partition:
            full = (
                len(batch) >= landing.max_batch_files
                or size + source_object.size > landing.max_batch_bytes
            )
            if batch and (full or source_object.key in keys):
                yield tuple(batch)
                batch, keys, size = [], set(), 0
            batch.append(source_object)
            keys.add(source_object.key)
            size += source_object.size
        if batch:
            yield tuple(batch)


def look_for_arrivals(
    contract: Contract,
    store: ObjectStore,
    ledger: Ledger,
    cursor: ArrivalCursor,
    *,
    clock: Callable[[], datetime],
    budget: Budget | None = None,
) -> Arrivals:
    """One tick: list, compare with the ledger, cut, write manifests, mark and receive.

    Every batch returned is durable; requesting its run twice is harmless, since the batch id is
    the run key.
    """
    budget = budget or Budget()
    now = clock()
    if cursor.ticked_at is not None and now <= cursor.ticked_at:
        # A clock that went backwards must not make an unfinished tick look finished.
        now = cursor.ticked_at + timedelta(microseconds=1)
    arrivals = Arrivals(cursor=cursor)

    # Those of a replay are the replay's own to ask for, and hold no arrival back.
    waiting = [b for b in ledger.pending_batches(contract.dataset) if b.replay_id is None]
    arrivals.pending = len(waiting)
    for batch in waiting:
        if cursor.ticked_at is None or batch.requested_at > cursor.ticked_at:
            ledger.receive(read_manifest(store, batch.manifest_uri), run_id=None, at=now)
            arrivals.batches.append(batch)
            arrivals.resumed += 1

    if arrivals.pending >= budget.pending:
        arrivals.held_back = True
        arrivals.cursor = cursor.model_copy(update={"ticked_at": now})
        return arrivals

    found = _find_new(contract, store, ledger, arrivals, now, clock, budget)
    room = budget.batches - len(arrivals.batches)
    if found and room > 0:
        keep_contract(store, contract)
    for objects in list(cut_batches(found, contract.landing))[: max(room, 0)]:
        manifest = Manifest(
            dataset=contract.dataset,
            partition=objects[0].partition,
            contract_version=contract.version,
            contract_hash=contract.hash,
            origin=Origin.SENSOR,
            objects=objects,
            created_at=now,
        )
        batch = request_batch(manifest, store, ledger, at=now)
        arrivals.batches.append(batch)
        arrivals.pending += 1
        arrivals.new += len(objects)
        arrivals.late += sum(o.late for o in objects)
        arrivals.misplaced += sum(not o.partition_valid for o in objects)
    return arrivals


def request_batch(
    manifest: Manifest, store: ObjectStore, ledger: Ledger, *, at: datetime
) -> PendingBatch:
    """Make a manifest durable, mark its batch pending, and receive its objects, in that order."""
    batch = PendingBatch(
        dataset=manifest.dataset,
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        manifest_uri=write_manifest(store, manifest),
        requested_at=at,
        replay_id=manifest.replay_id,
    )
    ledger.open_batch(batch)
    ledger.receive(manifest, run_id=None, at=at)
    return batch


def write_manifest(store: ObjectStore, manifest: Manifest) -> str:
    """Put a manifest where its batch's manifest lies; returns the URI."""
    return store.write(
        Zone.MANIFESTS,
        manifest_key(manifest.dataset, manifest.partition, manifest.batch_id),
        manifest.model_dump_json().encode(),
        content_type="application/json",
    )


def read_manifest(store: ObjectStore, uri: str) -> Manifest:
    """Read a manifest by its URI.

    Raises:
        ObjectMissingError: there is none.
        ValueError: it is no manifest, or lies outside the manifests zone.
    """
    prefix = store.uri(Zone.MANIFESTS, "")
    if not uri.startswith(prefix):
        raise ValueError(f"{uri} is not in the manifests zone ({prefix}).")
    return Manifest.model_validate_json(store.read(Zone.MANIFESTS, uri.removeprefix(prefix)))


def _find_new(
    contract: Contract,
    store: ObjectStore,
    ledger: Ledger,
    arrivals: Arrivals,
    now: datetime,
    clock: Callable[[], datetime],
    budget: Budget,
) -> list[SourceObject]:
    """List the open partitions, then sweep; the new objects, each once."""
    landing = contract.landing
    deadline = now + timedelta(seconds=budget.seconds)
    bucket = store.bucket(Zone.RAW)
    found: dict[str, SourceObject] = {}

    def walk(prefixes: tuple[str, ...], walk: Walk, pages: int | None) -> Walk:
        start = prefixes.index(walk.prefix) if walk.prefix in prefixes else 0
        resume = walk.resume if walk.prefix in prefixes else None
        read = 0
        for prefix in prefixes[start:]:
            while True:
                if read == pages or clock() >= deadline or len(found) >= budget.new_objects:
                    arrivals.complete = False
                    return Walk(prefix=prefix, resume=resume)
                page = store.list_versions(prefix, resume=resume)
                read += 1
                arrivals.listed += len(page.objects)
                seen = [source_object_of(contract, bucket, o) for o in page.objects]
                known = ledger.entries([o.id for o in seen])
                found.update((o.id, o) for o in seen if o.id not in known)
                resume = page.resume
                if resume is None:
                    break
        return Walk()

    open_prefixes = tuple(
        landing.prefix + partition_path(landing, partition) + "/"
        for partition in open_partitions(landing, now)
    )
    opened = walk(open_prefixes, arrivals.cursor.open, None)
    sweep_pages = budget.sweep_pages if open_prefixes else None
    swept = walk((landing.prefix,), arrivals.cursor.sweep, sweep_pages)
    arrivals.cursor = ArrivalCursor(ticked_at=now, open=opened, sweep=swept)
    return list(found.values())
