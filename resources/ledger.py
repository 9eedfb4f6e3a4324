"""The ledger on DynamoDB: every source object's state, moved only along allowed edges.

An object's state and the line of its history are written in one transaction, on the condition that
the state is still the one that the move was decided from; so two runs that race each other leave
what one after the other would have left. The keys are in `service_core.ledger_table`, the meaning
of a move in `service_core.ledger.step`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any

from resources.dynamodb import REVISION, Item, Key, Table, as_stored
from resources.ledger_claims import claim_content
from resources.ledger_desk import leave_desk, take_desk
from resources.ledger_items import (
    entry_of,
    head_key,
    head_of,
    key_attributes,
    moved_items,
    next_revision,
    note_items,
    state_key,
    timestamp,
    without_keys,
)
from resources.ledger_rollback import (
    is_undone,
    lower_key_heads,
    mark_rolled_back,
    marks_of,
    returned_after_rollback,
    take_back,
)
from resources.overlay_table import OverlayTable
from resources.settings import SettingsResource
from service_core import ledger_table as keys
from service_core.ledger import (
    UNDECIDED,
    Entry,
    HistoryLine,
    KeyHead,
    Move,
    MoveRefusedError,
    Return,
    State,
    Step,
    step,
)
from service_core.manifest import Manifest
from service_core.ports import Desk, PendingBatch
from service_core.rolled_back import RollbackMark, TakenBack
from service_core.source_object import SourceObject

_COUNTS = ("rows_read", "rows_published", "rows_quarantined", "content_hash")
#: Items that a ledger keeps in mind at most: those of a large batch.
_IN_MIND = 10_000
_INDEX = (keys.PARTITION_INDEX, keys.INDEX_PK, keys.INDEX_SK)


class DynamoLedger:
    """Implements `ports.Ledger`.

    Args:
        client: A boto3 DynamoDB client.
        table: The ledger table's name.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._table = Table(client, table)
        #: Items as this ledger last read or wrote them, None where there was none. Never believed:
        #: a write that is decided from one of them proves it, or is decided anew from a reading.
        self._seen: dict[Key, Item | None] = {}

    def rehearsal(self) -> DynamoLedger:
        """See `ports.Ledger`."""
        aside = copy(self)
        aside._table = OverlayTable(self._table)
        aside._seen = {}
        return aside

    def entries(self, object_ids: Iterable[str]) -> dict[str, Entry]:
        """The entries of those ids that the ledger knows, read consistently."""
        found = self._table.read(state_key(object_id) for object_id in object_ids)
        self._keep_in_mind(found)
        return {item["object_id"]: entry_of(item) for item in found.values()}

    def known(self, object_ids: Iterable[str]) -> frozenset[str]:
        """See `ports.Ledger`."""
        wanted = {state_key(object_id): object_id for object_id in object_ids}
        present = self._table.present(wanted)
        self._keep_in_mind({key: None for key in wanted if key not in present})
        return frozenset(wanted[key] for key in present)

    def in_partition(
        self, dataset: str, partition: str, state: State | None = None
    ) -> Iterator[Entry]:
        """A partition's entries, of one state or of all, by way of an index that lags behind by
        moments: for people and replays, not for decisions."""
        found = self._table.query(
            keys.index_pk(dataset, partition),
            begins_with=keys.index_sk(state, "") if state else "",
            index=_INDEX,
        )
        return map(entry_of, found)

    def receive(self, manifest: Manifest, *, run_id: str | None, at: datetime) -> dict[str, str]:
        """Record every object of a manifest as received by its batch; objects that the batch
        already owns, and those from which it has been rolled back, stay as they are.

        Returns:
            By object id, the batch whose rows of the object are in the table, where that is
            another one.
        """
        batch_id = manifest.batch_id
        published: dict[str, str] = {}
        stands: dict[Key, Item | None] = {}

        def decide(source_object: SourceObject, standing: Item | None) -> list[Item]:
            by = standing.get("published_batch_id") if standing else None
            published.pop(source_object.id, None)
            if by not in (None, batch_id):
                published[source_object.id] = str(by)
            if standing is None:
                fresh = {
                    "object_id": source_object.id,
                    "dataset": manifest.dataset,
                    "partition": source_object.partition,
                    "bucket": source_object.bucket,
                    **key_attributes(source_object.key),
                    "version_id": source_object.version_id,
                    "late": source_object.late,
                    "size": source_object.size,
                    "received_at": timestamp(at),
                }
            elif standing["batch_id"] == batch_id or is_undone(standing, batch_id):
                stands[state_key(source_object.id)] = standing
                return []
            else:
                fresh = {**standing, "rows_read": None, "rows_published": None}
            fresh |= {
                "state": State.RECEIVED,
                "batch_id": batch_id,
                "run_id": run_id,
                "reason": None,
                "rows_quarantined": None,
                "contract_version": manifest.contract_version,
                "contract_hash": manifest.contract_hash,
                "updated_at": timestamp(at),
            }
            state, line = moved_items(fresh, standing, by_batch=batch_id, run_id=run_id)
            stands[state_key(source_object.id)] = as_stored(state)
            return [state, line]

        wanted = [state_key(o.id) for o in manifest.objects]
        self._table.settle(
            list(manifest.objects),
            lambda o: state_key(o.id),
            decide,
            writes_each=2,
            seen={k: None for k in wanted if k in self._seen and self._seen[k] is None},
        )
        self._keep_in_mind(stands)
        return published

    def move(
        self, batch_id: str, moves: Sequence[Move], *, run_id: str, at: datetime
    ) -> dict[str, Step]:
        """Move objects by conditional writes; returns what each move amounted to.

        A move that has already been made changes nothing; one of a batch that has lost the object
        leaves a line in its history. Where an object is named twice, its last move counts.

        Raises:
            MoveRefusedError: an edge is not allowed, or the ledger does not know the object.
        """
        amounted: dict[str, Step] = {}

        def decide(move: Move, standing: Item | None) -> list[Item]:
            if standing is None:
                raise MoveRefusedError(
                    f"Source object {move.object_id} cannot move to {move.to}: the ledger does "
                    "not know it. Receive its manifest first."
                )
            current, owner = State(standing["state"]), str(standing["batch_id"])
            amounts_to = step(current, owner, move.to, batch_id)
            amounted[move.object_id] = amounts_to
            if amounts_to is Step.ALREADY_MADE:
                return []
            if amounts_to is Step.REFUSED:
                raise MoveRefusedError(
                    f"Source object {move.object_id} ({standing['key']}) cannot move from "
                    f"{current} to {move.to} within batch {batch_id}: service_core.ledger.EDGES "
                    "has no such edge."
                )
            if amounts_to is Step.NOT_OWNER:
                note = f"Not moved to {move.to}: batch {owner} has taken the object over."
                if move.to is State.PUBLISHED and current in UNDECIDED:
                    # Committed before the other took over, which has yet to decide about it.
                    fresh = {**standing, "published_batch_id": batch_id}
                    return moved_items(fresh, standing, by_batch=batch_id, run_id=run_id, note=note)
                return note_items(standing, batch_id, note, run_id=run_id, at=at)
            fresh = {
                **standing,
                "state": move.to,
                "run_id": run_id,
                "reason": move.reason,
                "updated_at": timestamp(at),
                **{name: value for name in _COUNTS if (value := getattr(move, name)) is not None},
            }
            if move.to is State.PUBLISHED:
                fresh["published_batch_id"] = batch_id
            elif move.to is State.SUPERSEDED:
                fresh["published_batch_id"] = None
            return moved_items(fresh, standing, by_batch=batch_id, run_id=run_id)

        last = {move.object_id: move for move in moves}
        self._table.settle(
            list(last.values()),
            lambda m: state_key(m.object_id),
            decide,
            writes_each=2,
            seen=self._about_to_move(batch_id, last.values()),
        )
        return amounted

    def _about_to_move(self, batch_id: str, moves: Iterable[Move]) -> dict[Key, Item | None]:
        """Items in mind from which a move would be made; each is used once."""
        seen: dict[Key, Item | None] = {}
        for move in moves:
            item = self._seen.pop(state_key(move.object_id), None)
            if item is not None and (
                step(State(item["state"]), str(item["batch_id"]), move.to, batch_id) is Step.MAKE
            ):
                seen[state_key(move.object_id)] = item
        return seen

    def _keep_in_mind(self, items: Mapping[Key, Item | None]) -> None:
        if len(self._seen) + len(items) > _IN_MIND:
            self._seen.clear()
        if len(items) <= _IN_MIND:
            self._seen.update(items)

    def give_back(
        self, batch_id: str, returns: Sequence[Return], *, run_id: str, at: datetime
    ) -> None:
        """Leave objects to the batches that have published them, because `batch_id`, which took
        them over, will not. Objects that it does not own any more stay as they are."""

        def decide(back: Return, standing: Item | None) -> list[Item]:
            if standing is None or standing["batch_id"] != batch_id:
                return []
            if is_undone(standing, back.batch_id):
                return returned_after_rollback(standing, back, batch_id, run_id=run_id, at=at)
            if standing.get("published_batch_id") != back.batch_id:
                return []
            fresh = {
                **standing,
                "state": State.PUBLISHED,
                "reason": None,
                "updated_at": timestamp(at),
                **back.model_dump(exclude={"object_id"}),
                "contract_version": back.contract_version or standing["contract_version"],
                "contract_hash": None,
            }
            note = f"Batch {batch_id} may not be published: the rows of {back.batch_id} stay."
            return moved_items(fresh, standing, by_batch=batch_id, run_id=run_id, note=note)

        self._table.settle(
            list(returns), lambda back: state_key(back.object_id), decide, writes_each=2
        )

    def supersede(
        self, object_ids: Sequence[str], *, by_batch: str, run_id: str, at: datetime
    ) -> None:
        """Mark published objects as superseded by a batch with newer versions of their keys.

        An object that yet another batch has taken over meanwhile keeps its state, and only loses
        its mark of being published. Ids that the ledger does not know are passed over.
        """

        def decide(object_id: str, standing: Item | None) -> list[Item]:
            if standing is None or is_undone(standing, by_batch):
                return []
            fresh = {
                **standing,
                "published_batch_id": None,
                "superseded_by": by_batch,
                "updated_at": timestamp(at),
            }
            if standing["state"] == State.PUBLISHED:
                fresh["state"] = State.SUPERSEDED
            elif "published_batch_id" not in standing:
                return []
            note = f"Superseded by batch {by_batch}."
            return moved_items(fresh, standing, by_batch=by_batch, run_id=run_id, note=note)

        self._table.settle(list(dict.fromkeys(object_ids)), state_key, decide, writes_each=2)

    def rolled_back(self, batch_ids: Iterable[str]) -> dict[str, RollbackMark]:
        """Those of the batches that have been rolled back, read consistently."""
        return marks_of(self._table, batch_ids)

    def mark_rolled_back(self, marks: Sequence[RollbackMark]) -> None:
        """Record that batches have been rolled back; the first mark of a batch stays."""
        mark_rolled_back(self._table, marks)

    def take_back(
        self, returns: Sequence[TakenBack], undone: frozenset[str], *, run_id: str, at: datetime
    ) -> None:
        """Bring objects of undone batches to where the table has them; see
        `service_core.rolled_back.taken_back`. May be repeated."""
        take_back(self._table, returns, undone, run_id=run_id, at=at)

    def lower_key_heads(
        self, dataset: str, heads: Mapping[str, KeyHead | None], undone: frozenset[str]
    ) -> None:
        """Give keys whose heads an undone batch has raised the heads named, or none."""
        lower_key_heads(self._table, dataset, heads, undone)

    def history(self, object_id: str) -> tuple[HistoryLine, ...]:
        """The object's history, oldest first."""
        lines = self._table.query(keys.object_pk(object_id), begins_with=keys.HISTORY)
        return tuple(HistoryLine.model_validate(without_keys(line)) for line in lines)

    def note(self, object_id: str, batch_id: str, note: str, *, run_id: str, at: datetime) -> None:
        """Append a line to an object's history without moving it.

        Raises:
            KeyError: the ledger does not know the object.
        """
        standing = self._table.read([state_key(object_id)]).get(state_key(object_id))
        if standing is None:
            raise KeyError(
                f"The ledger does not know source object {object_id}, so it has no history to "
                "add to. Receive its manifest first."
            )
        for line in note_items(standing, batch_id, note, run_id=run_id, at=at):
            self._table.put(line)

    def open_batch(self, batch: PendingBatch) -> None:
        """Record that a run is wanted for a durable manifest."""
        self._table.put(
            {
                keys.PK: keys.pending_pk(batch.dataset),
                keys.SK: batch.batch_id,
                "dataset": batch.dataset,
                "partition": batch.partition,
                "batch_id": batch.batch_id,
                "manifest_uri": batch.manifest_uri,
                "requested_at": timestamp(batch.requested_at),
                "replay_id": batch.replay_id,
                "size": batch.size,
                "way": batch.way,
            }
        )

    def pending_batches(self, dataset: str) -> tuple[PendingBatch, ...]:
        """The data set's batches whose runs have not begun, oldest first."""
        waiting = [
            PendingBatch(
                dataset=item["dataset"],
                partition=item["partition"],
                batch_id=item["batch_id"],
                manifest_uri=item["manifest_uri"],
                requested_at=datetime.fromisoformat(item["requested_at"]),
                replay_id=item.get("replay_id"),
                size=int(item.get("size", 0)),
                way=str(item.get("way", "")),
            )
            for item in self._table.query(keys.pending_pk(dataset))
        ]
        return tuple(sorted(waiting, key=lambda batch: (batch.requested_at, batch.batch_id)))

    def close_batch(self, dataset: str, batch_id: str) -> None:
        """Record that a batch's run has begun; does nothing where it already has."""
        self._table.delete((keys.pending_pk(dataset), batch_id))

    def take_desk(self, dataset: str, way: str, *, at: datetime, seconds: float) -> Desk | None:
        """See `ports.Ledger`."""
        return take_desk(self._table, dataset, way, at=at, seconds=seconds)

    def leave_desk(self, desk: Desk, *, paid_until: datetime | None) -> None:
        """See `ports.Ledger`."""
        leave_desk(self._table, desk, paid_until=paid_until)

    def claim_content(
        self, dataset: str, claims: Mapping[str, SourceObject]
    ) -> dict[str, tuple[str, str]]:
        """Claim content hashes for objects; returns the (object id, key) that holds each hash.

        The first claim wins. Another version of the same key takes it over; another key only
        once no row of the holder is published, nor may be by the batch that has it.
        """
        return claim_content(self._table, dataset, claims)

    def key_heads(self, dataset: str, wanted: Iterable[str]) -> dict[str, KeyHead]:
        """The newest published (or being published) version of each key that has one."""
        found = self._table.read(head_key(dataset, key) for key in wanted)
        return {head.key: head for head in map(head_of, found.values())}

    def raise_key_heads(self, dataset: str, heads: Sequence[KeyHead]) -> dict[str, KeyHead]:
        """Make each head its key's newest unless a newer stands; returns, for each key, the head
        that stands afterwards."""
        stands: dict[str, KeyHead] = {}

        def decide(head: KeyHead, standing: Item | None) -> list[Item]:
            if standing is not None:
                before = head_of(standing)
                if before.order > head.order or before == head:
                    stands[head.key] = before
                    return []
            stands[head.key] = head
            return [
                {
                    keys.PK: keys.key_pk(dataset, head.key),
                    keys.SK: keys.HEAD,
                    REVISION: next_revision(standing),
                    **key_attributes(head.key),
                    "object_id": head.object_id,
                    "last_modified": timestamp(head.last_modified),
                    "sequence": head.sequence,
                    "batch_id": head.batch_id,
                }
            ]

        newest: dict[str, KeyHead] = {}
        for head in sorted(heads, key=lambda head: head.order):
            newest[head.key] = head
        self._table.settle(
            list(newest.values()), lambda head: head_key(dataset, head.key), decide, writes_each=1
        )
        return stands


class LedgerResource(SettingsResource):
    """The ledger: `LedgerResource.of(settings)`."""

    def ledger(self) -> DynamoLedger:
        """The ledger itself."""
        from resources.aws import client

        settings = self.settings()
        return DynamoLedger(client(settings, "dynamodb"), settings.ledger_table)
