"""The ledger's states and the edges between them. The table itself is in `resources.ledger`.

A source object moves only along the edges below, and only by conditional writes. Its entry names
the batch that owns it; a batch that took over a published object, and then may not publish, gives
it back to the batch whose rows are in the table. A rollback takes it back from the batch that is
undone. A step of the owning batch that runs again finds
its move already made, which is no error; a step of a batch that has lost the object to another
leaves a line in the history and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, field_validator

from service_core.reasons import ReasonCode


class State(StrEnum):
    """Where a source object stands."""

    RECEIVED = "received"
    VALIDATED = "validated"
    CURATED = "curated"
    PUBLISHED = "published"
    QUARANTINED = "quarantined"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"


#: Edges within one batch. `received` is also entered from any state by another batch: a replay.
EDGES: Mapping[State, frozenset[State]] = {
    State.RECEIVED: frozenset({State.VALIDATED, State.QUARANTINED, State.SUPERSEDED}),
    State.VALIDATED: frozenset(
        {State.CURATED, State.PUBLISHED, State.QUARANTINED, State.SUPERSEDED}
    ),
    State.CURATED: frozenset({State.PUBLISHED, State.QUARANTINED, State.SUPERSEDED}),
    State.PUBLISHED: frozenset({State.SUPERSEDED, State.ROLLED_BACK}),
    State.QUARANTINED: frozenset({State.SUPERSEDED}),
    State.SUPERSEDED: frozenset(),
    State.ROLLED_BACK: frozenset({State.SUPERSEDED}),
}

#: States of an object about which its batch has yet to decide.
UNDECIDED = frozenset({State.RECEIVED, State.VALIDATED, State.CURATED})


class MoveRefusedError(Exception):
    """A move along no allowed edge was asked for: a defect of the caller, not of data."""


class Step(StrEnum):
    """What a requested move amounts to."""

    MAKE = "make"
    ALREADY_MADE = "already_made"
    NOT_OWNER = "not_owner"
    REFUSED = "refused"


class Move(BaseModel):
    """A request to move one source object to a state.

    Attributes:
        object_id: Which source object.
        to: Which state.
        reason: Why, for `quarantined`.
        rows_read, rows_published, rows_quarantined: Counts known by then.
        content_hash: SHA-256 of the landed bytes, once known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_id: str
    to: State
    reason: ReasonCode | None = None
    rows_read: int | None = None
    rows_published: int | None = None
    rows_quarantined: int | None = None
    content_hash: str | None = None


class Return(BaseModel):
    """One source object that goes back to the batch that has published it.

    Attributes:
        object_id: Which source object.
        batch_id: The batch whose rows of it are in the table.
        contract_version, rows_read, rows_published, rows_quarantined: As that batch had them;
            None where nobody knows any more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_id: str
    batch_id: str
    contract_version: str | None = None
    rows_read: int | None = None
    rows_published: int | None = None
    rows_quarantined: int | None = None


class Entry(BaseModel):
    """The ledger's item of one source object."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    object_id: str
    dataset: str
    partition: str
    bucket: str
    key: str
    version_id: str | None = None
    state: State
    batch_id: str
    run_id: str | None = None
    reason: ReasonCode | None = None
    contract_version: str
    #: None in entries that are older than this field, or were given back by another batch.
    contract_hash: str | None = None
    late: bool = False
    size: int = 0
    rows_read: int | None = None
    rows_published: int | None = None
    rows_quarantined: int | None = None
    content_hash: str | None = None
    received_at: AwareDatetime
    updated_at: AwareDatetime
    #: The batch whose rows of this object are in the table, whatever has been tried since.
    published_batch_id: str | None = None
    #: The batch whose newer version of the key took the place of this one.
    superseded_by: str | None = None
    #: Batches of this object that have been rolled back.
    rolled_back: tuple[str, ...] = ()

    @field_validator("rolled_back", mode="before")
    @classmethod
    def _listed(cls, stored: object) -> object:
        return stored.split() if isinstance(stored, str) else stored


class HistoryLine(BaseModel):
    """One line of an object's append-only history."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    object_id: str
    at: AwareDatetime
    state: State
    previous: State | None = None
    batch_id: str
    run_id: str | None = None
    reason: ReasonCode | None = None
    note: str = ""


class KeyHead(BaseModel):
    """The newest version of a key that publication has taken in hand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    object_id: str
    last_modified: AwareDatetime
    sequence: int
    batch_id: str

    @property
    def order(self) -> tuple[datetime, int]:
        """As `SourceObject.order`."""
        return (self.last_modified, self.sequence)


def step(current: State, owner: str, to: State, batch_id: str) -> Step:
    """What moving an object that `owner` holds in `current` to `to` amounts to, for `batch_id`."""
    if owner != batch_id:
        if to is State.RECEIVED or (current is State.PUBLISHED and to is State.SUPERSEDED):
            return Step.MAKE
        return Step.NOT_OWNER
    if to in EDGES[current]:
        return Step.MAKE
    if to is current or current in _reachable(to):
        return Step.ALREADY_MADE
    return Step.REFUSED


def _reachable(state: State) -> frozenset[State]:
    """Every state that can follow `state` within one batch."""
    seen: set[State] = set()
    front = {state}
    while front:
        front = {after for before in front for after in EDGES[before]} - seen
        seen |= front
    return frozenset(seen)
