"""Taking: what is new becomes batches, by whichever way in it was noticed.

One way in takes a data set's new objects at a time, and asks the ledger about them once more while
it has the desk; so no object is in two batches, however the two ways race.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from service_core.arrival.cutting import ripe_and_waiting
from service_core.arrival.pressure import InFlight, Room
from service_core.arrival.requesting import request_batch
from service_core.contract.kept import keep_contract
from service_core.contract.model import Contract
from service_core.manifest import Manifest, Origin
from service_core.ports import Desk, Ledger, ObjectStore, PendingBatch
from service_core.source_object import SourceObject

#: Longer than a tick of a sensor may take, after which the daemon gives up on it.
_DESK_SECONDS = 90.0


@dataclass(slots=True)
class Taken:
    """What became of new objects.

    Attributes:
        batches: Requested, in this order.
        objects: Those that are in batches now.
        gathering: Those that wait for others to join them, for no longer than a window.
        held: Those that back-pressure leaves where they are; `why`, in a clause.
    """

    batches: list[PendingBatch] = field(default_factory=list)
    objects: list[SourceObject] = field(default_factory=list)
    gathering: list[SourceObject] = field(default_factory=list)
    held: list[SourceObject] = field(default_factory=list)
    why: str = ""


class AtTheDesk:
    """One way in, while it has a data set's desk.

    Attributes:
        paid_until: See `Desk`.
    """

    def __init__(self, contract: Contract, store: ObjectStore, ledger: Ledger, desk: Desk) -> None:
        self._contract = contract
        self._store = store
        self._ledger = ledger
        self._desk = desk
        self.paid_until = desk.paid_until

    def unknown(self, objects: Sequence[SourceObject]) -> list[SourceObject]:
        """Those that the ledger does not know. Nobody else can make it know them meanwhile."""
        by_id = {o.id: o for o in objects}
        known = self._ledger.known(by_id)
        return [o for object_id, o in by_id.items() if object_id not in known]

    def take(
        self,
        new: Sequence[SourceObject],
        flight: InFlight,
        *,
        now: datetime,
        mark: datetime,
        most: int,
        time_is_up: Callable[[], bool],
        at_once: frozenset[str] = frozenset(),
    ) -> Taken:
        """Request batches of objects that the ledger does not know.

        Args:
            flight: What is on its way.
            mark: When the batches are requested, as their pending marks are to have it.
            most: Batches at most.
            time_is_up: Whether no more batches may be begun, but for the first.
            at_once: Ids of objects that may not wait for others.
        """
        contract = self._contract
        room = Room(contract, flight, self._desk, now=now, most=most)
        ripe, gathering = ripe_and_waiting(new, contract, now, at_once)
        taken = Taken(gathering=gathering)
        for number, objects in enumerate(ripe):
            size = sum(o.size for o in objects)
            late = "this look's time is up" if taken.batches and time_is_up() else None
            refusal = room.refusal(size) or late
            if refusal is not None:
                taken.why = refusal
                taken.held = [o for batch in ripe[number:] for o in batch]
                break
            if not taken.batches:
                keep_contract(self._store, contract)
            taken.batches.append(self._request(objects, mark))
            taken.objects += objects
            room.take(len(objects), size)
            self.paid_until = room.paid_until
        return taken

    def _request(self, objects: tuple[SourceObject, ...], mark: datetime) -> PendingBatch:
        contract = self._contract
        manifest = Manifest(
            dataset=contract.dataset,
            partition=objects[0].partition,
            contract_version=contract.version,
            contract_hash=contract.hash,
            origin=Origin.SENSOR,
            objects=objects,
            created_at=mark,
        )
        return request_batch(manifest, self._store, self._ledger, at=mark, way=self._desk.way)


@contextmanager
def at_the_desk(
    contract: Contract, store: ObjectStore, ledger: Ledger, way: str, *, now: datetime
) -> Iterator[AtTheDesk | None]:
    """Have a data set's desk for the length of a block; None where the other way in has it."""
    desk = ledger.take_desk(contract.dataset, way, at=now, seconds=_DESK_SECONDS)
    if desk is None:
        yield None
        return
    sitting = AtTheDesk(contract, store, ledger, desk)
    try:
        yield sitting
    finally:
        ledger.leave_desk(desk, paid_until=sitting.paid_until)
