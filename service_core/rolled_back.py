"""What the ledger is told of a rollback: of each batch that it is undone, of each object where it
stands now.

An object's own entry names the batches of it that have been undone, so that whoever worked for such
a batch and comes late (a reception, a commit recorded at last, an object given back) changes
nothing: that is decided in the same write, and not by looking first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.ledger import UNDECIDED, HistoryLine, KeyHead, Return, State
from service_core.reasons import ReasonCode

_WAY_BACK = "To publish its files after all, replay them with --force, which makes another batch."
#: What is said of a batch where the table knows of its rollback and the ledger does not yet.
UNMARKED = f"it has been rolled back. {_WAY_BACK}"
#: Stands where a key has no version in the table any more: any version is newer.
NO_HEAD_OBJECT = "none"


class RollbackMark(BaseModel):
    """That a batch has been rolled back.

    Attributes:
        partition: The batch's.
        snapshot_id: The snapshot that undid it.
        rollback_id: Which rollback; the run id in the objects' histories.
        replay_id: The replay that was undone with it, where one was named.
        reason: Why, as whoever asked for it said.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    batch_id: str
    dataset: str
    partition: str
    at: AwareDatetime
    snapshot_id: int | None = None
    rollback_id: str
    replay_id: str | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """For those who wanted to publish the batch."""
        why = f" ({self.reason})" if self.reason else ""
        return f"it was rolled back at {self.at:%Y-%m-%d %H:%M} UTC{why}. {_WAY_BACK}"


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Where an object stands once batches are undone.

    Attributes:
        batches: The undone batches that the object, or another version of its key, is of.
        published: Whose rows of it are in the table now, with that batch's counts; None where
            there are none.
        state, batch_id, reason: Where it goes then: rolled back, or to a decision before.
        note: For its history.
    """

    object_id: str
    batches: tuple[str, ...]
    published: Return | None
    published_hash: str | None
    state: State
    batch_id: str | None
    reason: ReasonCode | None
    note: str


def standing_before(
    lines: Sequence[HistoryLine], undone: frozenset[str]
) -> tuple[State, str | None, ReasonCode | None]:
    """Where an object without rows in the table stood before the undone batches: in quarantine,
    superseded, or else nowhere, which is `rolled_back`.

    Only lines that moved it count; a note has no state before it.
    """
    for line in reversed(lines):
        if line.previous is None or line.batch_id in undone or line.state in UNDECIDED:
            continue
        if line.state in (State.QUARANTINED, State.SUPERSEDED):
            return line.state, line.batch_id, line.reason
        break
    return State.ROLLED_BACK, None, None


def taken_back(
    standing: Mapping[str, Any], back: TakenBack, undone: frozenset[str]
) -> dict[str, Any]:
    """The attributes of an object's entry that a rollback changes; none where it stands well.

    An object that a batch which stands has taken over stays with it, and only loses the mark of
    being published by a batch that is undone.
    """
    state, owner = State(standing["state"]), str(standing["batch_id"])
    published = standing.get("published_batch_id")
    changes: dict[str, Any] = {}
    superseded = state is State.SUPERSEDED and standing.get("superseded_by") in (None, *undone)
    mine = owner in undone and state is not State.SUPERSEDED
    if back.published is not None and (superseded or mine):
        changes = {
            "state": State.PUBLISHED,
            "reason": None,
            "published_batch_id": back.published.batch_id,
            "superseded_by": None,
            **back.published.model_dump(exclude={"object_id", "contract_version"}),
            "contract_version": back.published.contract_version or standing["contract_version"],
            "contract_hash": back.published_hash,
        }
    elif mine and state is not State.QUARANTINED:
        changes = {
            "state": back.state,
            "batch_id": back.batch_id or owner,
            "reason": back.reason,
            "published_batch_id": None,
            "rows_published": 0,
        }
    elif published in undone:
        changes = {
            "published_batch_id": back.published.batch_id if back.published is not None else None
        }
    known = str(standing.get("rolled_back") or "").split()
    added = [batch_id for batch_id in back.batches if batch_id not in known]
    if added:
        changes["rolled_back"] = " ".join([*known, *added])
    return {name: value for name, value in changes.items() if standing.get(name) != value}


def lowered(head: KeyHead, to: KeyHead | None, undone: Iterable[str]) -> KeyHead | None:
    """The head that takes the place of one that an undone batch has raised; None where the one
    that stands was raised by another, or stays."""
    if head.batch_id not in frozenset(undone):
        return None
    if to is not None:
        return to
    return head.model_copy(
        update={
            "object_id": NO_HEAD_OBJECT,
            "last_modified": datetime(1970, 1, 1, tzinfo=UTC),
            "sequence": 0,
        }
    )
