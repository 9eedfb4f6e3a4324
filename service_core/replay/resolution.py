"""Resolution: a request becomes a stored list of source objects, cut into batches.

It is taken in stretches, each written down with where the next begins, so that a hundred thousand
objects are resolved in bounded memory over several ticks, and a tick that dies costs a stretch. The
batches are cut from what is stored, at places that depend on nothing but the list; only then is
`resolved.json` written, and nothing is asked for before it is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.arrival import cut_batches
from service_core.contract.model import Contract
from service_core.ports import Ledger
from service_core.replay.folder import BATCHES, RESOLVED, SELECTION, TERMS, ReplayFolder, numbered
from service_core.replay.request import ReplayRequest
from service_core.replay.selection import PassedOver, Why
from service_core.replay.walk import Place, SelectionPart, walk_of
from service_core.source_object import SourceObject

#: Objects in one paper, and objects in hand while batches are cut.
_STRETCH_OBJECTS = 1_000
_WINDOW_OBJECTS = 10_000


class PlannedBatch(BaseModel):
    """The objects of one batch, all of one partition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str
    objects: tuple[SourceObject, ...]


class Terms(BaseModel):
    """What a resolution goes by from its first stretch to its last, whatever changes meanwhile.

    Attributes:
        contract_version, contract_hash: The contract by which is decided what is published
            already.
        max_batch_files, max_batch_bytes: How batches are cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract_version: str
    contract_hash: str
    max_batch_files: int
    max_batch_bytes: int


class Resolution(BaseModel):
    """What a request came to.

    Attributes:
        terms: What was gone by.
        listed: Versions looked at.
        objects, bytes: What is to be processed.
        batches: How many batches it makes.
        passed_over: How many objects were meant and are not processed, by reason.
        parts: How many papers the selection has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    replay_id: str
    dataset: str
    terms: Terms
    listed: int
    objects: int
    bytes: int
    batches: int
    passed_over: dict[Why, int]
    parts: int
    resolved_at: AwareDatetime


def resolve(
    folder: ReplayFolder,
    request: ReplayRequest,
    contract: Contract,
    ledger: Ledger,
    *,
    clock: Callable[[], datetime],
    deadline: datetime,
) -> Resolution | None:
    """Resolve a replay, or go on doing so.

    Args:
        contract: By which its batches will be judged.
        deadline: When to leave the rest to the next call.

    Returns:
        None where the next call has to go on.
    """
    if (done := folder.read(RESOLVED, Resolution)) is not None:
        return done
    terms = _terms(folder, contract)
    if not _select(folder, request, contract, ledger, clock, deadline):
        return None
    return _plan(folder, contract, terms, clock, deadline)


def parts_of(folder: ReplayFolder) -> Iterator[SelectionPart]:
    """The stretches of a selection, one in memory at a time."""
    for number in folder.numbers(SELECTION):
        part = folder.read(numbered(SELECTION, number), SelectionPart)
        if part is not None:
            yield part


def planned_batch(folder: ReplayFolder, number: int) -> PlannedBatch:
    """A batch's objects.

    Raises:
        ValueError: there is no such batch.
    """
    planned = folder.read(numbered(BATCHES, number), PlannedBatch)
    if planned is None:
        raise ValueError(f"{folder.uri(numbered(BATCHES, number))} is not there.")
    return planned


def _terms(folder: ReplayFolder, contract: Contract) -> Terms:
    """Those that the resolution began with, or begins with now."""
    terms = Terms(
        contract_version=contract.version,
        contract_hash=contract.hash,
        max_batch_files=contract.landing.max_batch_files,
        max_batch_bytes=contract.landing.max_batch_bytes,
    )
    return terms if folder.write_once(TERMS, terms) else folder.read(TERMS, Terms) or terms


def _select(
    folder: ReplayFolder,
    request: ReplayRequest,
    contract: Contract,
    ledger: Ledger,
    clock: Callable[[], datetime],
    deadline: datetime,
) -> bool:
    """Write down stretch after stretch; False where time was up."""
    numbers = folder.numbers(SELECTION)
    place: Place | None = Place()
    if numbers:
        last = folder.read(numbered(SELECTION, numbers[-1]), SelectionPart)
        place = last.following if last is not None else None
    if place is None:
        return True
    walk = walk_of(folder.store, request, contract, ledger)
    number = len(numbers)
    selected: list[SourceObject] = []
    passed_over: list[PassedOver] = []
    listed = 0
    while True:
        found = walk.step(place)
        selected += found.selected
        passed_over += found.passed_over
        listed += found.listed
        place = found.following
        late = clock() >= deadline
        if place is None or late or len(selected) + len(passed_over) >= _STRETCH_OBJECTS:
            part = SelectionPart(
                selected=tuple(selected),
                passed_over=tuple(passed_over),
                listed=listed,
                following=place,
            )
            if not folder.write_once(numbered(SELECTION, number), part):
                # Somebody else is at it: what lies there counts, and is gone on from next time.
                return False
            number, selected, passed_over, listed = number + 1, [], [], 0
        if place is None:
            return True
        if late:
            return False


def _plan(
    folder: ReplayFolder,
    contract: Contract,
    terms: Terms,
    clock: Callable[[], datetime],
    deadline: datetime,
) -> Resolution | None:
    """Cut the batches and write them down, and the resolution last; None where time was up."""
    tally: Counter[Why] = Counter()
    listed = parts = objects = size = 0

    def windows() -> Iterator[list[SourceObject]]:
        nonlocal listed, parts, objects, size
        window: dict[str, SourceObject] = {}
        for part in parts_of(folder):
            parts += 1
            listed += part.listed
            tally.update(one.why for one in part.passed_over)
            window.update((one.id, one) for one in part.selected)
            if len(window) >= _WINDOW_OBJECTS:
                yield list(window.values())
                window = {}
        if window:
            yield list(window.values())

    landing = replace(
        contract.landing,
        max_batch_files=terms.max_batch_files,
        max_batch_bytes=terms.max_batch_bytes,
    )
    there = set(folder.numbers(BATCHES))
    number = 0
    for window in windows():
        for batch in cut_batches(window, landing):
            if number not in there:
                if clock() >= deadline:
                    return None
                planned = PlannedBatch(partition=batch[0].partition, objects=batch)
                folder.write_once(numbered(BATCHES, number), planned)
            number += 1
            objects += len(batch)
            size += sum(one.size for one in batch)
    resolution = Resolution(
        replay_id=folder.replay_id,
        dataset=contract.dataset,
        terms=terms,
        listed=listed,
        objects=objects,
        bytes=size,
        batches=number,
        passed_over=dict(sorted(tally.items())),
        parts=parts,
        resolved_at=clock(),
    )
    folder.write_once(RESOLVED, resolution)
    return folder.read(RESOLVED, Resolution)
