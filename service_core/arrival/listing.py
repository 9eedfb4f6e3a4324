"""Listing: the way in that needs nobody's word, bounded in requests and seconds for each look.

The newest partitions come first and are gone through again with every look; where they hold more
than a look may list, it goes on where the last one ended, and meanwhile asks what has been added
behind the last keys it knows. What is left of a look goes to a sweep over everything. So every
object is seen sooner or later whatever its name, and the cursor holds a few keys and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service_core.arrival.cutting import source_object_of
from service_core.arrival.figures import ArrivalFigures
from service_core.arrival.pressure import (
    LISTING,
    InFlight,
    Runs,
    dead_ticks_batches,
    full_already,
    in_flight,
    nobody_knows,
)
from service_core.arrival.requesting import receive_again
from service_core.arrival.taking import Taken, at_the_desk
from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.partition import open_partitions, partition_path
from service_core.ports import Ledger, ListingPage, ObjectStore, PendingBatch
from service_core.source_object import SourceObject
from service_core.tick import Cursor, mark_after

Resume = tuple[str, str]

#: Open partitions whose last keys are kept. A key has at most 1,024 bytes.
_TAILS = 8
_PAGE = 1_000


class Walk(BaseModel):
    """Where a listing over several prefixes stands: `prefix` is None between two passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str | None = None
    resume: Resume | None = None


class ArrivalCursor(Cursor):
    """What one look leaves for the next. Its size does not grow with the number of objects.

    Attributes:
        ticked_at: When the last completed look began; batches marked pending after it belong to
            one that died.
        open: Where the listing of the open partitions stands.
        sweep: Where the slower listing of everything under the prefix stands.
        tails: The last key of each of the newest open partitions that was listed to its end.
        observed_at: When figures were last recorded for the asset's plot.
    """

    ticked_at: AwareDatetime | None = None
    open: Walk = Walk()
    sweep: Walk = Walk()
    tails: dict[str, str] = Field(default_factory=dict)
    observed_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What one look may spend.

    Attributes:
        seconds: Wall time for listing; the tick limit of Dagster's code server is 60 s.
        taking_seconds: Wall time after which no more batches are made, listing included.
        requests: Pages (of 1,000 versions) listed, those apart that are full of new objects.
        sweep_requests: Those of them that are the sweep's, however much the open partitions hold.
        new_objects: New objects taken in one look.
        batches: Batches requested in one look (Dagster wants a few hundred at most).
    """

    seconds: float = 15.0
    taking_seconds: float = 40.0
    requests: int = 15
    sweep_requests: int = 3
    new_objects: int = 20_000
    batches: int = 100


@dataclass(slots=True)
class Arrivals:
    """What a look found and did.

    Attributes:
        at: When it began.
        mark: The same as pending marks have it: never before that of the look before.
        cursor: For the next look.
        batches: Batches whose runs are to be requested, in this order.
        listed: Versions seen.
        duplicate: Those that the ledger knew.
        new, late, misplaced: New objects; those of them late; those whose key names no partition.
        resumed: Batches of looks that died.
        pending: Batches waiting for their runs, these included.
        oldest_pending: Since when the oldest of them waits.
        stranded: Batches whose runs have all ended without beginning.
        gathering: New objects that wait for others to join them in a batch.
        left: New objects that were left in the bucket; `why_left`, in a clause.
        complete: Whether the open partitions were listed to their end.
    """

    at: datetime
    mark: datetime
    cursor: ArrivalCursor
    batches: list[PendingBatch] = field(default_factory=list)
    listed: int = 0
    duplicate: int = 0
    new: int = 0
    late: int = 0
    misplaced: int = 0
    resumed: int = 0
    pending: int = 0
    oldest_pending: datetime | None = None
    stranded: int = 0
    gathering: list[SourceObject] = field(default_factory=list)
    left: list[SourceObject] = field(default_factory=list)
    why_left: str = ""
    complete: bool = True

    @property
    def held_back(self) -> bool:
        """Whether arrivals were left in the bucket because too much is on its way."""
        return bool(self.why_left)

    def observed(self, yes: bool) -> ArrivalCursor:
        """The cursor for the next look, `yes` if the figures of this one are on the plot."""
        return self.cursor.model_copy(update={"observed_at": self.at}) if yes else self.cursor

    def figures(self) -> ArrivalFigures:
        """For the log, the asset and the tick's sentence."""
        return ArrivalFigures(
            seen=self.listed,
            new=self.new,
            duplicate=self.duplicate,
            late=self.late,
            pending=self.pending,
            oldest_pending=self.oldest_pending,
        ).and_waiting([*self.gathering, *self.left])


def look_for_arrivals(
    contract: Contract,
    store: ObjectStore,
    ledger: Ledger,
    cursor: ArrivalCursor,
    *,
    clock: Callable[[], datetime],
    budget: Budget | None = None,
    runs: Runs = nobody_knows,
) -> Arrivals:
    """One look: list, compare with the ledger, cut, write manifests, mark and receive.

    Every batch returned is durable; requesting its run twice is harmless, since the batch id is
    the run key.
    """
    budget = budget or Budget()
    now = clock()
    mark = mark_after(cursor.ticked_at, now)
    flight = in_flight(contract.dataset, ledger, runs, now)
    arrivals = Arrivals(at=now, mark=mark, cursor=cursor, pending=len(flight.waiting))
    arrivals.oldest_pending = flight.oldest
    arrivals.stranded = len(flight.stranded)
    _resume(arrivals, flight, store, ledger, budget)

    listing = _Listing(contract, store, ledger, cursor, clock, budget, now)
    following = listing.look().model_copy(update={"ticked_at": mark})
    arrivals.listed, arrivals.duplicate = len(listing.seen), len(listing.seen) - len(listing.new)
    arrivals.complete = following.open.prefix is None
    until = now + timedelta(seconds=budget.taking_seconds)
    taken = _take(
        arrivals, listing, contract, store, ledger, flight, budget, lambda: clock() >= until
    )
    arrivals.gathering = taken.gathering
    arrivals.left, arrivals.why_left = taken.held, taken.why
    arrivals.batches += taken.batches
    arrivals.pending += len(taken.batches)
    if taken.batches and arrivals.oldest_pending is None:
        arrivals.oldest_pending = now
    arrivals.new = len(taken.objects)
    arrivals.late = sum(o.late for o in taken.objects)
    arrivals.misplaced = sum(not o.partition_valid for o in taken.objects)
    if taken.held:
        # What was left lies where this look has listed, and the next has to find it there.
        following = following.model_copy(update={"open": cursor.open, "sweep": cursor.sweep})
    arrivals.cursor = following
    return arrivals


def _resume(
    arrivals: Arrivals, flight: InFlight, store: ObjectStore, ledger: Ledger, budget: Budget
) -> None:
    """Request again what a look has marked and not lived to request; of notifications, too."""
    died = dead_ticks_batches(flight.waiting, LISTING, arrivals.cursor.ticked_at)
    lost = list(dict.fromkeys([*died, *flight.unasked]))[: budget.batches]
    arrivals.batches += [receive_again(b, store, ledger, at=arrivals.mark) for b in lost]
    arrivals.resumed = len(lost)


def _take(
    arrivals: Arrivals,
    listing: _Listing,
    contract: Contract,
    store: ObjectStore,
    ledger: Ledger,
    flight: InFlight,
    budget: Budget,
    time_is_up: Callable[[], bool],
) -> Taken:
    new = list(listing.new.values())
    if not new:
        return Taken()
    if (why := full_already(contract, flight)) is not None:
        return Taken(held=new, why=why)
    with at_the_desk(contract, store, ledger, LISTING, now=arrivals.at) as desk:
        if desk is None:
            return Taken(held=new, why="the notifications' sensor is cutting batches")
        return desk.take(
            desk.unknown(new),
            flight,
            now=arrivals.at,
            mark=arrivals.mark,
            most=budget.batches - len(arrivals.batches),
            time_is_up=time_is_up,
            at_once=frozenset(listing.new) - listing.seen_again,
        )


class _Listing:
    """One look's listing.

    Attributes:
        seen: Ids of the versions seen.
        new: Those of them that the ledger does not know, by id.
        seen_again: Ids that the next look is certain to see again, because this one could list
            all of where they lie.
    """

    def __init__(
        self,
        contract: Contract,
        store: ObjectStore,
        ledger: Ledger,
        cursor: ArrivalCursor,
        clock: Callable[[], datetime],
        budget: Budget,
        now: datetime,
    ) -> None:
        self.seen: set[str] = set()
        self.new: dict[str, SourceObject] = {}
        self.seen_again: frozenset[str] = frozenset()
        self._contract = contract
        self._store = store
        self._ledger = ledger
        self._cursor = cursor
        self._clock = clock
        self._budget = budget
        self._now = now
        self._deadline = now + timedelta(seconds=budget.seconds)
        self._pages = 0
        self._tails: dict[str, str] = {}

    def look(self) -> ArrivalCursor:
        """List what the budget allows; returns the cursor for the next look."""
        landing, cursor, budget = self._contract.landing, self._cursor, self._budget
        open_prefixes = tuple(
            landing.prefix + partition_path(landing, partition) + "/"
            for partition in open_partitions(landing, self._now)
        )
        newest = open_prefixes[:_TAILS]
        self._tails = {p: key for p, key in cursor.tails.items() if p in newest}
        most = budget.requests - budget.sweep_requests
        if cursor.open.prefix is not None:
            self._probe_tails(newest, most // 2)
        opened = self._walk(open_prefixes, cursor.open, most)
        if cursor.open.prefix is None and opened.prefix is None:
            self.seen_again = frozenset(self.seen)
        swept = self._walk((landing.prefix,), cursor.sweep, budget.requests)
        if cursor.sweep.prefix is None and swept.prefix is None:
            self.seen_again = frozenset(self.seen)
        return cursor.model_copy(
            update={
                "open": opened,
                "sweep": swept,
                "tails": {p: key for p, key in self._tails.items() if p in newest},
            }
        )

    def _probe_tails(self, prefixes: tuple[str, ...], most: int) -> None:
        """Look for names that sort behind the last ones known: most producers name files so."""
        for prefix in prefixes:
            tail = self._tails.get(prefix)
            resume = (tail, "") if tail is not None else None
            while resume is not None and not self._spent(most):
                resume = self._list(prefix, resume).resume

    def _walk(self, prefixes: tuple[str, ...], walk: Walk, most: int) -> Walk:
        """List on from where a walk stands; returns where it stands then."""
        start = prefixes.index(walk.prefix) if walk.prefix in prefixes else 0
        resume = walk.resume if walk.prefix in prefixes else None
        for prefix in prefixes[start:]:
            while True:
                if self._spent(most):
                    return Walk(prefix=prefix, resume=resume)
                resume = self._list(prefix, resume).resume
                if resume is None:
                    break
        return Walk()

    def _spent(self, most: int) -> bool:
        """Whether nothing more may be listed. A page full of new objects is not the listing's
        expense: that many have to be taken."""
        return (
            self._pages - len(self.new) // _PAGE >= most
            or len(self.new) >= self._budget.new_objects
            or self._clock() >= self._deadline
        )

    def _list(self, prefix: str, resume: Resume | None) -> ListingPage:
        page = self._store.list_versions(prefix, resume=resume)
        self._pages += 1
        bucket = self._store.bucket(Zone.RAW)
        unseen = {i: o for o in page.objects if (i := o.id_in(bucket)) not in self.seen}
        self.seen.update(unseen)
        for object_id in unseen.keys() - self._ledger.known(unseen):
            new = source_object_of(self._contract, bucket, unseen[object_id])
            self.new[object_id] = new
        self._mind_tail(prefix, page)
        return page

    def _mind_tail(self, prefix: str, page: ListingPage) -> None:
        """Keep the last key of a partition, once it is known. Python orders text as S3 does."""
        if not page.objects or prefix == self._contract.landing.prefix:
            return
        last, tail = page.objects[-1].key, self._tails.get(prefix)
        if page.resume is None or tail is not None:
            self._tails[prefix] = max(last, tail or last)
