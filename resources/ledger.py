"""The ledger on DynamoDB: every source object's state, moved only along allowed edges.

An object's state and the line of its history are written in one transaction, on the condition that
the state is still the one that the move was decided from; so two runs that race each other leave
what one after the other would have left. The keys are in `service_core.ledger_table`, the meaning
of a move in `service_core.ledger.step`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from resources.dynamodb import REVISION, Item, Key, Table
from resources.settings import SettingsResource
from service_core import ledger_table as keys
from service_core.ledger import (
    Entry,
    HistoryLine,
    KeyHead,
    Move,
    MoveRefusedError,
    State,
    Step,
    step,
)
from service_core.manifest import Manifest
from service_core.ports import PendingBatch
from service_core.source_object import SourceObject

_COUNTS = ("rows_read", "rows_published", "rows_quarantined", "content_hash")
_INDEX = (keys.PARTITION_INDEX, keys.INDEX_PK, keys.INDEX_SK)


class DynamoLedger:
    """Implements `ports.Ledger`.

    Args:
        client: A boto3 DynamoDB client.
        table: The ledger table's name.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._table = Table(client, table)

    def entries(self, object_ids: Iterable[str]) -> dict[str, Entry]:
        """The entries of those ids that the ledger knows, read consistently."""
        found = self._table.read(_state_key(object_id) for object_id in object_ids)
        return {item["object_id"]: _entry(item) for item in found.values()}

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
        return map(_entry, found)

    def receive(self, manifest: Manifest, *, run_id: str | None, at: datetime) -> None:
        """Record every object of a manifest as received by its batch; objects that the batch
        already owns stay as they are."""
        batch_id = manifest.batch_id

        def decide(source_object: SourceObject, standing: Item | None) -> list[Item]:
            if standing is None:
                fresh = {
                    "object_id": source_object.id,
                    "dataset": manifest.dataset,
                    "partition": source_object.partition,
                    "bucket": source_object.bucket,
                    **_key_attributes(source_object.key),
                    "version_id": source_object.version_id,
                    "late": source_object.late,
                    "size": source_object.size,
                    "received_at": _time(at),
                }
            elif standing["batch_id"] == batch_id:
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
                "updated_at": _time(at),
            }
            return _moved(fresh, standing, by_batch=batch_id, run_id=run_id)

        self._table.settle(
            list(manifest.objects), lambda o: _state_key(o.id), decide, writes_each=2
        )

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
                return _noted(standing, batch_id, note, run_id=run_id, at=at)
            fresh = {
                **standing,
                "state": move.to,
                "run_id": run_id,
                "reason": move.reason,
                "updated_at": _time(at),
                **{name: value for name in _COUNTS if (value := getattr(move, name)) is not None},
            }
            if move.to is State.PUBLISHED:
                fresh["published_batch_id"] = batch_id
            elif move.to is State.SUPERSEDED:
                fresh["published_batch_id"] = None
            return _moved(fresh, standing, by_batch=batch_id, run_id=run_id)

        last = {move.object_id: move for move in moves}
        self._table.settle(
            list(last.values()), lambda m: _state_key(m.object_id), decide, writes_each=2
        )
        return amounted

    def supersede(
        self, object_ids: Sequence[str], *, by_batch: str, run_id: str, at: datetime
    ) -> None:
        """Mark published objects as superseded by a batch with newer versions of their keys.

        An object that yet another batch has taken over meanwhile keeps its state, and only loses
        its mark of being published. Ids that the ledger does not know are passed over.
        """

        def decide(object_id: str, standing: Item | None) -> list[Item]:
            if standing is None:
                return []
            fresh = {
                **standing,
                "published_batch_id": None,
                "superseded_by": by_batch,
                "updated_at": _time(at),
            }
            if standing["state"] == State.PUBLISHED:
                fresh["state"] = State.SUPERSEDED
            elif "published_batch_id" not in standing:
                return []
            note = f"Superseded by batch {by_batch}."
            return _moved(fresh, standing, by_batch=by_batch, run_id=run_id, note=note)

        self._table.settle(list(dict.fromkeys(object_ids)), _state_key, decide, writes_each=2)

    def history(self, object_id: str) -> tuple[HistoryLine, ...]:
        """The object's history, oldest first."""
        lines = self._table.query(keys.object_pk(object_id), begins_with=keys.HISTORY)
        return tuple(HistoryLine.model_validate(_without_keys(line)) for line in lines)

    def note(self, object_id: str, batch_id: str, note: str, *, run_id: str, at: datetime) -> None:
        """Append a line to an object's history without moving it.

        Raises:
            KeyError: the ledger does not know the object.
        """
        standing = self._table.read([_state_key(object_id)]).get(_state_key(object_id))
        if standing is None:
            raise KeyError(
                f"The ledger does not know source object {object_id}, so it has no history to "
                "add to. Receive its manifest first."
            )
        for line in _noted(standing, batch_id, note, run_id=run_id, at=at):
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
                "requested_at": _time(batch.requested_at),
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
            )
            for item in self._table.query(keys.pending_pk(dataset))
        ]
        return tuple(sorted(waiting, key=lambda batch: (batch.requested_at, batch.batch_id)))

    def close_batch(self, dataset: str, batch_id: str) -> None:
        """Record that a batch's run has begun; does nothing where it already has."""
        self._table.delete((keys.pending_pk(dataset), batch_id))

    def claim_content(
        self, dataset: str, claims: Mapping[str, SourceObject]
    ) -> dict[str, tuple[str, str]]:
        """Claim content hashes for objects; returns the (object id, key) that holds each hash.

        The first claim wins and is never lost to another key; another version of the same key
        takes it over.
        """
        held: dict[str, tuple[str, str]] = {}

        def decide(claim: tuple[str, SourceObject], standing: Item | None) -> list[Item]:
            content_hash, source_object = claim
            if standing is not None:
                holder, key = str(standing["object_id"]), _key_of(standing)
                if key != source_object.key or holder == source_object.id:
                    held[content_hash] = (holder, key)
                    return []
            held[content_hash] = (source_object.id, source_object.key)
            return [
                {
                    keys.PK: keys.content_pk(dataset, content_hash),
                    keys.SK: keys.CLAIM,
                    REVISION: _next(standing),
                    "object_id": source_object.id,
                    **_key_attributes(source_object.key),
                }
            ]

        self._table.settle(
            list(claims.items()),
            lambda claim: (keys.content_pk(dataset, claim[0]), keys.CLAIM),
            decide,
            writes_each=1,
        )
        return held

    def key_heads(self, dataset: str, wanted: Iterable[str]) -> dict[str, KeyHead]:
        """The newest published (or being published) version of each key that has one."""
        found = self._table.read(_head_key(dataset, key) for key in wanted)
        return {head.key: head for head in map(_head, found.values())}

    def raise_key_heads(self, dataset: str, heads: Sequence[KeyHead]) -> dict[str, KeyHead]:
        """Make each head its key's newest unless a newer stands; returns, for each key, the head
        that stands afterwards."""
        stands: dict[str, KeyHead] = {}

        def decide(head: KeyHead, standing: Item | None) -> list[Item]:
            if standing is not None:
                before = _head(standing)
                if before.order > head.order or before == head:
                    stands[head.key] = before
                    return []
            stands[head.key] = head
            return [
                {
                    keys.PK: keys.key_pk(dataset, head.key),
                    keys.SK: keys.HEAD,
                    REVISION: _next(standing),
                    **_key_attributes(head.key),
                    "object_id": head.object_id,
                    "last_modified": _time(head.last_modified),
                    "sequence": head.sequence,
                    "batch_id": head.batch_id,
                }
            ]

        newest: dict[str, KeyHead] = {}
        for head in sorted(heads, key=lambda head: head.order):
            newest[head.key] = head
        self._table.settle(
            list(newest.values()), lambda head: _head_key(dataset, head.key), decide, writes_each=1
        )
        return stands


class LedgerResource(SettingsResource):
    """The ledger: `LedgerResource.of(settings)`."""

    def ledger(self) -> DynamoLedger:
        """The ledger itself."""
        from resources.aws import client

        settings = self.settings()
        return DynamoLedger(client(settings, "dynamodb"), settings.ledger_table)


def _state_key(object_id: str) -> Key:
    return keys.object_pk(object_id), keys.STATE


def _head_key(dataset: str, key: str) -> Key:
    return keys.key_pk(dataset, key), keys.HEAD


def _next(standing: Item | None) -> int:
    return 1 if standing is None else int(standing[REVISION]) + 1


def _moved(
    fresh: Item, standing: Item | None, *, by_batch: str, run_id: str | None, note: str = ""
) -> list[Item]:
    """The state's item and the line of its history that says how it came about."""
    revision = _next(standing)
    pk = keys.object_pk(str(fresh["object_id"]))
    state = {
        **fresh,
        keys.PK: pk,
        keys.SK: keys.STATE,
        REVISION: revision,
        keys.INDEX_PK: keys.index_pk(fresh["dataset"], fresh["partition"]),
        keys.INDEX_SK: keys.index_sk(fresh["state"], fresh["object_id"]),
    }
    line = {
        keys.PK: pk,
        keys.SK: keys.history_sk(revision),
        "object_id": fresh["object_id"],
        "at": fresh["updated_at"],
        "state": fresh["state"],
        "previous": standing["state"] if standing else None,
        "batch_id": by_batch,
        "run_id": run_id,
        "reason": fresh.get("reason"),
        "note": note or None,
    }
    return [state, line]


def _noted(standing: Item, batch_id: str, note: str, *, run_id: str, at: datetime) -> list[Item]:
    """A line of history that follows the object's last move; the same one when repeated."""
    when = _time(at)
    told = hashlib.sha256(f"{batch_id}\x1f{run_id}\x1f{note}".encode()).hexdigest()[:12]
    return [
        {
            keys.PK: standing[keys.PK],
            keys.SK: keys.history_sk(int(standing[REVISION]), f"#{when}#{told}"),
            "object_id": standing["object_id"],
            "at": when,
            "state": standing["state"],
            "batch_id": batch_id,
            "run_id": run_id,
            "note": note,
        }
    ]


def _key_attributes(key: str) -> Item:
    """A key as text for people; and, where text would not bring it back, as its bytes too.

    DynamoDB's strings are UTF-8, which lone surrogates have no place in, and a control character
    in a console helps nobody.
    """
    if key.isprintable():
        return {"key": key, "key_bytes": None}
    return {
        "key": key.encode("unicode_escape").decode("ascii"),
        "key_bytes": key.encode("utf-8", "surrogatepass"),
    }


def _key_of(item: Item) -> str:
    if (exact := item.get("key_bytes")) is not None:
        return bytes(exact).decode("utf-8", "surrogatepass")
    return str(item["key"])


def _entry(item: Item) -> Entry:
    return Entry.model_validate({**item, "key": _key_of(item)})


def _head(item: Item) -> KeyHead:
    return KeyHead.model_validate(
        {
            "key": _key_of(item),
            **{name: item[name] for name in ("object_id", "last_modified", "sequence", "batch_id")},
        }
    )


def _without_keys(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in {keys.PK, keys.SK}}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
