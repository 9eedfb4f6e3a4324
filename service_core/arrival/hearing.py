"""Hearing: the way in by which S3 tells of what was created.

A message leaves the queue only when the manifest of what it tells of is durable, or the ledger
knows that object already. Messages come twice, late, in no order, and not at all: what is new is
for the ledger to say, and listing finds what was never told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service_core.arrival.cutting import ripens_in, source_object_of
from service_core.arrival.figures import ArrivalFigures
from service_core.arrival.looking_up import look_up
from service_core.arrival.notification import Created, NotUnderstoodError, read_notification
from service_core.arrival.pressure import (
    NOTIFICATIONS,
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
from service_core.ports import (
    Ledger,
    Notice,
    Notifications,
    ObjectStore,
    PendingBatch,
    QueueDepth,
)
from service_core.tick import mark_after

#: For how long messages of a data set are put off of which too much is on its way.
_HELD_SECONDS = 60.0
#: Messages for which it is worth asking the queue once more in a look: fewer make small batches.
_WORTH_ANOTHER = 1_000
#: The same as `_HELD_SECONDS` while listing cuts batches of it, which takes moments.
_DESK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Hearing:
    """What one look at the queue may spend.

    Attributes:
        seconds: Wall time after which no more messages are received; the tick limit of Dagster's
            code server is 60 s.
        taking_seconds: Wall time after which no more batches are made.
        wait_seconds: How long to wait for a first message.
        messages: Messages in hand at a time.
        batches: Batches requested in one look.
    """

    seconds: float = 25.0
    taking_seconds: float = 45.0
    wait_seconds: float = 5.0
    messages: int = 10_000
    batches: int = 100


@dataclass(slots=True)
class Heard:
    """What a look at the queue came to.

    Attributes:
        at: When it began.
        mark: The same as pending marks have it: never before that of the look before.
        messages: Messages received.
        batches: Batches whose runs are to be requested, in this order.
        figures: By data set.
        why_left: By data set of which something was left in the queue, why, in a clause.
        ignored: Messages that tell of no arrival under any contract.
        given_up: Messages that nobody understands, in the dead-letter queue now.
        resumed: Batches of looks that died.
        depth: What the queue holds afterwards.
    """

    at: datetime
    mark: datetime
    messages: int = 0
    batches: list[PendingBatch] = field(default_factory=list)
    figures: dict[str, ArrivalFigures] = field(default_factory=dict)
    why_left: dict[str, str] = field(default_factory=dict)
    ignored: int = 0
    given_up: int = 0
    resumed: int = 0
    depth: QueueDepth | None = None


def hear_notifications(
    contracts: Sequence[Contract],
    store: ObjectStore,
    ledger: Ledger,
    queue: Notifications,
    *,
    clock: Callable[[], datetime],
    since: datetime | None = None,
    hearing: Hearing | None = None,
    runs: Runs = nobody_knows,
) -> Heard:
    """One look at the queue: receive, look up, compare with the ledger, cut, write manifests, mark
    and receive; then delete.

    Args:
        since: The mark of the last look that was completed.
    """
    hearing = hearing or Hearing()
    now = clock()
    heard = Heard(now, mark_after(since, now))
    look = _Look(contracts, store, ledger, queue, clock, since, hearing, runs, heard)
    deadline = now + timedelta(seconds=hearing.seconds)
    wait = hearing.wait_seconds
    while True:
        notices = queue.receive(most=hearing.messages, wait_seconds=wait)
        heard.messages += len(notices)
        if notices:
            with queue.in_hand(notices):
                look.at(notices)
        heard.depth = queue.depth()
        # A queue that is all but empty is not asked again: each time would make small batches.
        if not notices or heard.depth.ready < _WORTH_ANOTHER or clock() >= deadline:
            return heard
        wait = 0.0


@dataclass(slots=True)
class _Look:
    """One look at the queue."""

    contracts: Sequence[Contract]
    store: ObjectStore
    ledger: Ledger
    queue: Notifications
    clock: Callable[[], datetime]
    since: datetime | None
    hearing: Hearing
    runs: Runs
    heard: Heard

    def at(self, notices: Sequence[Notice]) -> None:
        """Do with messages in hand what is to be done, and let go of them."""
        told: dict[str, list[tuple[Notice, Created]]] = {}
        unclear: list[tuple[Notice, str]] = []
        bucket = self.store.bucket(Zone.RAW)
        for notice in notices:
            try:
                created = read_notification(notice.body, bucket)
            except NotUnderstoodError as reason:
                unclear.append((notice, str(reason)))
                continue
            under = [(c, found) for c in created if (found := self._dataset(c.key))]
            self.heard.ignored += not under
            for one, dataset in under:
                told.setdefault(dataset, []).append((notice, one))
        if unclear:
            self.queue.give_up(unclear)
            self.heard.given_up += len(unclear)

        put_off: dict[str, float] = {}
        # Those with little to say first: they must not wait for a flood.
        for dataset, theirs in sorted(told.items(), key=lambda its: len(its[1])):
            seconds = self._hear(self._contract(dataset), [created for _, created in theirs])
            for notice, one in theirs:
                if (put := seconds.get(one.key)) is not None:
                    put_off[notice.handle] = min(put, put_off.get(notice.handle, put))
        self._let_go(notices, put_off, {notice.handle for notice, _ in unclear})

    def _let_go(
        self, notices: Sequence[Notice], put_off: Mapping[str, float], gone: set[str]
    ) -> None:
        self.queue.delete([n for n in notices if n.handle not in put_off and n.handle not in gone])
        by_seconds: dict[float, list[Notice]] = {}
        for notice in notices:
            if notice.handle in put_off:
                by_seconds.setdefault(put_off[notice.handle], []).append(notice)
        for seconds, theirs in by_seconds.items():
            self.queue.postpone(theirs, seconds)

    def _hear(self, contract: Contract, created: Sequence[Created]) -> dict[str, float]:
        """Take what is new of a data set. Returns, by key, for how many seconds the messages about
        it are to be put off."""
        now = self.clock()
        flight = in_flight(contract.dataset, self.ledger, self.runs, now)
        self._resume(flight)
        told = [(c, c.object_id) for c in created]
        known = self.ledger.known({i for _, i in told if i is not None})
        news = [c for c, object_id in told if object_id not in known]
        outcome = self._outcome(contract, news, flight, now) if news else _Outcome()
        taken = outcome.taken
        self.heard.batches += taken.batches
        if taken.why:
            self.heard.why_left[contract.dataset] = taken.why
        self._count(contract, len(created), flight, outcome)
        return outcome.put_off

    def _outcome(
        self, contract: Contract, news: Sequence[Created], flight: InFlight, now: datetime
    ) -> _Outcome:
        keys = {c.key for c in news}
        if (why := full_already(contract, flight)) is not None:
            return _Outcome(Taken(why=why), dict.fromkeys(keys, _HELD_SECONDS), unseen=news)
        with at_the_desk(contract, self.store, self.ledger, NOTIFICATIONS, now=now) as desk:
            if desk is None:
                why = "listing is cutting batches"
                return _Outcome(Taken(why=why), dict.fromkeys(keys, _DESK_SECONDS), unseen=news)
            versions = look_up(self.store, contract.landing.prefix, keys)
            bucket = self.store.bucket(Zone.RAW)
            found = [
                source_object_of(contract, bucket, listed)
                for of_key in versions.values()
                for listed in of_key
            ]
            taken = desk.take(
                desk.unknown(found),
                flight,
                now=now,
                mark=self.heard.mark,
                most=self.hearing.batches - len(self.heard.batches),
                time_is_up=self._time_is_up,
            )
        put_off = {o.key: _HELD_SECONDS for o in taken.held}
        for gathering in taken.gathering:
            left = ripens_in(gathering.last_modified, contract.pace.max_wait, now)
            put_off[gathering.key] = max(left.total_seconds(), 1.0)
        return _Outcome(taken, put_off, gone=sum(c.key not in versions for c in news))

    def _time_is_up(self) -> bool:
        until = self.heard.at + timedelta(seconds=self.hearing.taking_seconds)
        return self.clock() >= until

    def _resume(self, flight: InFlight) -> None:
        """Request again what a look has marked and not lived to request."""
        asked = {batch.batch_id for batch in self.heard.batches}
        died = dead_ticks_batches(flight.waiting, NOTIFICATIONS, self.since)
        lost = [batch for batch in died if batch.batch_id not in asked]
        self.heard.batches += [
            receive_again(b, self.store, self.ledger, at=self.heard.mark) for b in lost
        ]
        self.heard.resumed += len(lost)

    def _count(
        self, contract: Contract, messages: int, flight: InFlight, outcome: _Outcome
    ) -> None:
        before = self.heard.figures.get(contract.dataset, ArrivalFigures())
        taken = outcome.taken
        waits = [*taken.gathering, *taken.held]
        once = len(taken.objects) + len(waits) + len(outcome.unseen) + outcome.gone
        oldest_pending = flight.oldest or (self.heard.at if taken.batches else None)
        figures = replace(
            before,
            seen=before.seen + messages,
            new=before.new + len(taken.objects),
            duplicate=before.duplicate + max(messages - once, 0),
            late=before.late + sum(o.late for o in taken.objects),
            ignored=before.ignored + outcome.gone,
            pending=len(flight.waiting) + len(taken.batches),
            oldest_pending=oldest_pending,
        ).and_waiting(waits)
        told = [c.at for c in outcome.unseen if c.at is not None]
        if figures.oldest_waiting is not None:
            told.append(figures.oldest_waiting)
        self.heard.figures[contract.dataset] = replace(
            figures,
            waiting=figures.waiting + len(outcome.unseen),
            waiting_bytes=figures.waiting_bytes + sum(c.size or 0 for c in outcome.unseen),
            oldest_waiting=min(told, default=None),
        )

    def _contract(self, dataset: str) -> Contract:
        return next(c for c in self.contracts if c.dataset == dataset)

    def _dataset(self, key: str) -> str | None:
        """The data set under whose prefix a key lies: no prefix lies in another."""
        for contract in self.contracts:
            if key.startswith(contract.landing.prefix):
                return contract.dataset
        return None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a data set's news.

    Attributes:
        put_off: By key, for how many seconds the messages about it are put off.
        unseen: What was put off without having been looked up.
        gone: News of objects that are not there any more.
    """

    taken: Taken = field(default_factory=Taken)
    put_off: dict[str, float] = field(default_factory=dict)
    unseen: Sequence[Created] = ()
    gone: int = 0
