"""Back-pressure: how much of a data set is on its way, and so how much more may be taken.

What may not be taken stays where it is, in the bucket or in the queue, which keep it for as long
as it takes. Nothing is taken faster than its runs end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from service_core.contract.model import Contract, Pace
from service_core.ports import Desk, Ledger, PendingBatch

#: How long a data set may take nothing and then make up for it at once.
_BURST = timedelta(seconds=60)
#: By then Dagster's daemon has made the run of every request of a tick.
_REQUESTED = timedelta(minutes=10)

#: The ways in, as pending marks and desks name them.
LISTING = "listing"
NOTIFICATIONS = "notifications"


class Runs(Protocol):
    """Who knows the runs of batches: Dagster."""

    def active(self, dataset: str) -> frozenset[str]:
        """Ids of the batches that have a run which has not ended; those of replays apart."""

    def ever(self, batch_ids: Sequence[str]) -> frozenset[str]:
        """Those of the batches that have, or had, a run."""


class _Nobody:
    """Where there is nobody to ask about runs, the pending marks alone say what is on its way."""

    def active(self, dataset: str) -> frozenset[str]:
        return frozenset()

    def ever(self, batch_ids: Sequence[str]) -> frozenset[str]:
        return frozenset()


nobody_knows: Runs = _Nobody()


@dataclass(frozen=True, slots=True)
class InFlight:
    """What of a data set is on its way.

    Attributes:
        waiting: Batches whose runs have not begun, oldest first.
        stranded: Those of them whose runs have all ended without beginning. They hold nothing
            back: somebody has to look at the runs.
        unasked: Those of them of which there is no run though one was requested long ago.
        batches: Batches whose runs have not ended.
        queued_bytes: Bytes of the batches whose runs have not begun.
    """

    waiting: tuple[PendingBatch, ...]
    stranded: frozenset[str]
    unasked: tuple[PendingBatch, ...]
    batches: int
    queued_bytes: int

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest batch waits for its run."""
        return min((b.requested_at for b in self.waiting), default=None)


def in_flight(dataset: str, ledger: Ledger, runs: Runs, now: datetime) -> InFlight:
    """Look at what is on its way. Replays keep their own count, and hold no arrival back."""
    waiting = tuple(b for b in ledger.pending_batches(dataset) if b.replay_id is None)
    active = runs.active(dataset)
    without = [b for b in waiting if b.batch_id not in active]
    ever = runs.ever([b.batch_id for b in without]) if without else frozenset()
    queued = [b for b in waiting if b.batch_id not in ever]
    unasked = (b for b in without if b.batch_id not in ever and b.way)
    return InFlight(
        waiting=waiting,
        stranded=ever,
        # A mark from the future was left by a clock that is wrong.
        unasked=tuple(b for b in unasked if abs(now - b.requested_at) > _REQUESTED),
        batches=len(active | {b.batch_id for b in queued}),
        queued_bytes=sum(b.size for b in queued),
    )


class Room:
    """How much of a data set may be taken now.

    Args:
        flight: What is on its way.
        desk: The data set's desk, which knows how much was taken before.
        most: Batches of one look at most.
    """

    def __init__(
        self, contract: Contract, flight: InFlight, desk: Desk, *, now: datetime, most: int
    ) -> None:
        self._pace = contract.pace
        self._runs = flight.batches
        self._bytes = flight.queued_bytes
        self._left = most
        self._now = now
        longest_debt = _BURST + _seconds(contract.landing.max_batch_files, contract.pace)
        paid = desk.paid_until
        if paid is None or paid < now - _BURST or paid > now + longest_debt:
            # The last of these was left by a clock that is wrong.
            paid = now - _BURST
        self.paid_until = paid

    def refusal(self, size: int) -> str | None:
        """Why a batch of so many bytes may not be taken now; None where it may."""
        if (why := _full(self._pace, self._runs, self._bytes, size)) is not None:
            return why
        if self.paid_until >= self._now:
            return f"more than {self._pace.max_files_per_second} files a second have come"
        if self._left <= 0:
            return "this look has requested as many runs as it may"
        return None

    def take(self, files: int, size: int) -> None:
        """Count a batch that was taken."""
        self._runs += 1
        self._bytes += size
        self._left -= 1
        self.paid_until += _seconds(files, self._pace)


def full_already(contract: Contract, flight: InFlight) -> str | None:
    """Why nothing may be taken, where so much is known without the desk."""
    return _full(contract.pace, flight.batches, flight.queued_bytes, 1)


def _full(pace: Pace, batches: int, queued_bytes: int, size: int) -> str | None:
    """Why a batch of so many bytes may not join those on their way. Where nothing waits, one of
    any size may."""
    if batches >= pace.max_runs:
        return f"{batches} runs are in flight (pace.maxRuns is {pace.max_runs})"
    if queued_bytes and queued_bytes + size > pace.max_queued_bytes:
        return (
            f"{queued_bytes:,} bytes wait for their runs (pace.maxQueuedBytes is "
            f"{pace.max_queued_bytes:,})"
        )
    return None


def _seconds(files: int, pace: Pace) -> timedelta:
    return timedelta(seconds=files / pace.max_files_per_second)


def dead_ticks_batches(
    waiting: Iterable[PendingBatch], way: str, ticked_at: datetime | None
) -> list[PendingBatch]:
    """Batches that a look of this way in has marked, but not lived to request."""
    return [
        b for b in waiting if b.way == way and (ticked_at is None or b.requested_at > ticked_at)
    ]
