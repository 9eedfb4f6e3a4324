"""Progress: one look at everything that is to be replayed, and one step further with each.

How far a replay is follows from its folder and the ledger. A look that dies anywhere is made up for
by the next: what was asked for is found asked for, and a batch whose run was not requested is found
by its pending mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from service_core.arrival import receive_again
from service_core.contract.model import Contract
from service_core.ledger import UNDECIDED, Entry
from service_core.naming import REPLAYS_SENSOR
from service_core.ports import Events, Ledger, ObjectMissingError, ObjectStore, PendingBatch
from service_core.replay import audit
from service_core.replay.asking import (
    Asked,
    ask,
    asked_batch,
    contract_for,
    entries_before,
)
from service_core.replay.folder import (
    ASKED,
    COMPLETED,
    DIFFERENCE,
    REQUEST,
    ReplayFolder,
    open_replays,
)
from service_core.replay.intake import House, Intake, TakenRequest, take_in
from service_core.replay.milestones import complete, end, start
from service_core.replay.request import ReplayRequest
from service_core.replay.resolution import Resolution, planned_batch, resolve
from service_core.source_object import SourceObject
from service_core.telemetry import logger
from service_core.tick import mark_after

_LOOKED_UP = 100


class RunStanding(StrEnum):
    """How a batch's runs stand: none is known, one is on its way, the last one ended."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BatchRun:
    """The newest run of a replay's batch."""

    standing: RunStanding
    run_id: str | None = None


#: Answers, for a replay's id and a batch's, how its run stands; with None, that of the dry run.
RunOf = Callable[[str, str | None], BatchRun]


def nobody_knows(replay_id: str, batch_id: str | None) -> BatchRun:
    """Where there is nobody to ask about runs, the ledger alone says when a batch is done."""
    return BatchRun(RunStanding.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Budget:
    """What one look may spend.

    Attributes:
        seconds: Wall time; the tick limit of Dagster's code server is 60 s.
        requests: Requests answered.
        batches: Batches asked for.
        pending: Batches of a data set's replays whose runs have not begun. At so many no more are
            asked for, so that a large replay does not fill the queue before new arrivals.
    """

    seconds: float = 20.0
    requests: int = 50
    batches: int = 50
    pending: int = 50


@dataclass(slots=True)
class Replays:
    """What a look found and did.

    Attributes:
        intake: Requests answered.
        batches: Batches whose runs are to be requested.
        rehearsals: Resolved dry runs whose runs are to be requested, with their data sets.
        completed: Ids of the replays that came to their end.
        said: A sentence for each replay that is open.
        at: When it began.
    """

    intake: Intake
    at: datetime
    batches: list[PendingBatch] = field(default_factory=list)
    rehearsals: list[tuple[str, str]] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def look_at_replays(
    contracts: Mapping[str, Contract],
    store: ObjectStore,
    ledger: Ledger,
    events: Events,
    *,
    clock: Callable[[], datetime],
    since: datetime | None = None,
    budget: Budget | None = None,
    rehearsals: bool = False,
    run_of: RunOf = nobody_knows,
) -> Replays:
    """Answer requests, and take every open replay as far as it goes now.

    Args:
        contracts: Those that are loaded, by data set.
        since: When the last look that was completed began: what was asked for after it has to be
            requested again.
        rehearsals: Whether dry runs can be made.
        run_of: Knows how the runs of batches stand.
    """
    budget = budget or Budget()
    now = mark_after(since, clock())
    house = House(contracts, rehearsals)
    found = Replays(take_in(house, store, events, at=now, most=budget.requests), now)
    look = _Look(contracts, store, ledger, events, clock, since, budget, run_of, found)
    for replay_id in open_replays(store):
        if clock() >= now + timedelta(seconds=budget.seconds):
            found.said.append("Time was up; the rest follows at the next tick.")
            break
        try:
            look.at(replay_id)
        except (ValueError, ObjectMissingError) as problem:
            # Its own papers are at fault, or what they name is gone: others must not wait for it.
            found.said.append(f"{replay_id} cannot go on: {problem}")
            logger().error(
                "replay stopped", replay_id=replay_id, run_id=REPLAYS_SENSOR, because=str(problem)
            )
    return found


@dataclass(slots=True)
class _Look:
    """One look at the open replays."""

    contracts: Mapping[str, Contract]
    store: ObjectStore
    ledger: Ledger
    events: Events
    clock: Callable[[], datetime]
    since: datetime | None
    budget: Budget
    run_of: RunOf
    found: Replays
    _pending: dict[str, list[PendingBatch]] = field(default_factory=dict)

    def at(self, replay_id: str) -> None:
        """Take one replay as far as it goes."""
        folder = ReplayFolder(self.store, replay_id)
        taken = folder.read(REQUEST, TakenRequest)
        if taken is None or folder.read(COMPLETED, audit.AuditRecord) is not None:
            folder.close()
            return
        request = taken.request
        loaded = self.contracts.get(request.dataset)
        if loaded is None:
            self._say(replay_id, f"waits: no contract describes {request.dataset} any more")
            return
        with TemporaryDirectory(prefix="lakegate-") as scratch:
            contract = contract_for(request, loaded, self.store, Path(scratch))
            self._carry_out(folder, request, contract)

    def _carry_out(self, folder: ReplayFolder, request: ReplayRequest, contract: Contract) -> None:
        resolution = resolve(
            folder,
            request,
            contract,
            self.ledger,
            clock=self.clock,
            deadline=self._deadline,
        )
        if resolution is None:
            self._say(folder.replay_id, "is being resolved")
            return
        facts = audit.facts(folder)
        if audit.RESOLVED not in facts:
            start(folder, request, resolution, self.events, at=self.clock())
        if request.options.dry_run:
            self._rehearse(folder, request, resolution)
            return
        asked = folder.numbers(ASKED)
        ended = [n for n in asked if audit.batch_fact(n) in facts]
        under_way = [n for n in asked if audit.batch_fact(n) not in facts]
        ended += self._look_after(folder, under_way)
        under_way = [n for n in under_way if n not in ended]
        for number in range(len(asked), resolution.batches):
            if not self._room(request.dataset):
                break
            self._ask(folder, request, contract, number)
            under_way.append(number)
        if len(ended) == resolution.batches:
            said = complete(folder, request, resolution, self.events, at=self.clock())
            self._ended(folder, said)
        else:
            self._say(
                folder.replay_id,
                f"{len(ended)} of {resolution.batches} batches done, {len(under_way)} under way",
            )

    def _rehearse(
        self, folder: ReplayFolder, request: ReplayRequest, resolution: Resolution
    ) -> None:
        """Have a dry run made, which touches nothing but its own report."""
        report = folder.uri(DIFFERENCE)
        run = self.run_of(folder.replay_id, None)
        if folder.has(DIFFERENCE):
            said = f"The dry run is done and has changed nothing; its report is {report}."
            detail = {"dry_run": True, "report": report}
        elif run.standing is RunStanding.UNKNOWN:
            self.found.rehearsals.append((folder.replay_id, request.dataset))
            self._say(folder.replay_id, "a dry run is asked for")
            return
        elif run.standing is RunStanding.ACTIVE:
            self._say(folder.replay_id, "its dry run is under way")
            return
        else:
            said = f"Run {run.run_id} ended without a report; see why there, and ask again."
            detail = {"dry_run": True, "failed": said}
        end(folder, request, resolution, self.events, said, detail, at=self.clock())
        self._ended(folder, said)

    @property
    def _deadline(self) -> datetime:
        return self.found.at + timedelta(seconds=self.budget.seconds)

    def _say(self, replay_id: str, what: str) -> None:
        self.found.said.append(f"{replay_id}: {what}.")

    def _ended(self, folder: ReplayFolder, said: str) -> None:
        self.found.completed.append(folder.replay_id)
        self.found.said.append(f"{folder.replay_id}: {said}")

    def _pending_of(self, dataset: str) -> list[PendingBatch]:
        if dataset not in self._pending:
            waiting = self.ledger.pending_batches(dataset)
            self._pending[dataset] = [b for b in waiting if b.replay_id is not None]
        return self._pending[dataset]

    def _room(self, dataset: str) -> bool:
        return (
            len(self._pending_of(dataset)) < self.budget.pending
            and len(self.found.batches) < self.budget.batches
            and self.clock() < self._deadline
        )

    def _ask(
        self, folder: ReplayFolder, request: ReplayRequest, contract: Contract, number: int
    ) -> None:
        batch = ask(folder, request, contract, self.ledger, number, at=self.found.at)
        self._pending_of(request.dataset).append(batch)
        self.found.batches.append(batch)

    def _look_after(self, folder: ReplayFolder, numbers: list[int]) -> list[int]:
        """Request runs that a dead tick did not, and record the batches that have ended; returns
        these."""
        asked = [asked_batch(folder, number) for number in numbers]
        dataset = asked[0].dataset if asked else ""
        waiting = {
            batch.batch_id: batch
            for batch in (self._pending_of(dataset) if asked else ())
            if batch.replay_id == folder.replay_id
        }
        ended = []
        for one in asked:
            batch = waiting.pop(one.batch_id, None)
            if batch is not None and (self.since is None or one.asked_at > self.since):
                again = receive_again(batch, self.store, self.ledger, at=self.found.at)
                self.found.batches.append(again)
                continue
            if self._has_ended(folder, one, pending=batch is not None):
                ended.append(one.number)
        return ended

    def _has_ended(self, folder: ReplayFolder, asked: Asked, *, pending: bool) -> bool:
        """Whether a batch has come to its end; where it has, that is recorded."""
        run = self.run_of(folder.replay_id, asked.batch_id)
        if run.standing is RunStanding.ACTIVE:
            return False
        if pending and run.standing in (RunStanding.UNKNOWN, RunStanding.SUCCEEDED):
            return False
        planned = planned_batch(folder, asked.number)
        decided = self._decided(planned.objects)
        failed = None
        if not decided:
            if run.standing is RunStanding.UNKNOWN:
                return False
            if run.standing is RunStanding.FAILED:
                failed = f"Run {run.run_id} failed before all of it was decided; re-execute it."
        record = audit.batch_record(
            folder.replay_id,
            asked.number,
            asked.batch_id,
            asked.partition,
            planned.objects,
            entries_before(folder, asked.number),
            self.ledger.entries(o.id for o in planned.objects),
            at=self.clock(),
            run_id=run.run_id,
            failed=failed,
        )
        audit.append(folder, record)
        if pending:
            self.ledger.close_batch(asked.dataset, asked.batch_id)
        return True

    def _decided(self, objects: tuple[SourceObject, ...]) -> bool:
        """Whether every object of a batch is in an end state. Stops at the first that is not."""
        for first in range(0, len(objects), _LOOKED_UP):
            chunk = [o.id for o in objects[first : first + _LOOKED_UP]]
            entries: Mapping[str, Entry] = self.ledger.entries(chunk)
            if any(i not in entries or entries[i].state in UNDECIDED for i in chunk):
                return False
        return True
