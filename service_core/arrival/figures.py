"""The figures of a look for arrivals: what the tick's sentence, the log line and the asset's plot
say, in one place, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service_core.source_object import SourceObject


@dataclass(frozen=True, slots=True)
class ArrivalFigures:
    """What one look at a data set's arrivals came to.

    Attributes:
        seen: Versions listed, or notified.
        new: Objects that are in batches now and were not before.
        duplicate: Objects that the ledger knew already.
        late: New objects that came after their partition's window.
        ignored: Notifications that are no arrivals: of deletions, of what is gone.
        pending: Batches whose runs have not begun.
        oldest_pending: Since when the oldest of them waits.
        waiting: Objects that were left in the bucket, or in the queue: at least so many.
        waiting_bytes: Their bytes.
        oldest_waiting: When the oldest of them landed.
    """

    seen: int = 0
    new: int = 0
    duplicate: int = 0
    late: int = 0
    ignored: int = 0
    pending: int = 0
    oldest_pending: datetime | None = None
    waiting: int = 0
    waiting_bytes: int = 0
    oldest_waiting: datetime | None = None

    def and_waiting(self, objects: Iterable[SourceObject]) -> ArrivalFigures:
        """With these objects, too, among those that wait."""
        left = list(objects)
        if not left:
            return self
        landed = [o.last_modified for o in left]
        if self.oldest_waiting is not None:
            landed.append(self.oldest_waiting)
        return replace(
            self,
            waiting=self.waiting + len(left),
            waiting_bytes=self.waiting_bytes + sum(o.size for o in left),
            oldest_waiting=min(landed),
        )

    def numbers(self, now: datetime) -> dict[str, int | float]:
        """All of it as numbers, ages in seconds."""
        return {
            "seen": self.seen,
            "new": self.new,
            "duplicate": self.duplicate,
            "late": self.late,
            "ignored": self.ignored,
            "pending": self.pending,
            "oldest_pending_seconds": _age(self.oldest_pending, now),
            "waiting": self.waiting,
            "waiting_bytes": self.waiting_bytes,
            "oldest_waiting_seconds": _age(self.oldest_waiting, now),
        }


def _age(since: datetime | None, now: datetime) -> float:
    return round(max((now - since).total_seconds(), 0.0), 1) if since is not None else 0.0


def how_old(since: datetime | None, now: datetime) -> str:
    """An age for people: `4 min`, `2 h 10 min`."""
    if since is None:
        return "no time"
    seconds = int(max(now - since, timedelta(0)).total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return f"{hours // 24} days"
