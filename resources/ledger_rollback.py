"""What a rollback writes in the ledger, and how what comes late for an undone batch is told apart.

Nothing here overwrites what another batch has made of an object since: each entry is decided from
as it stands, in the write itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from resources.dynamodb import REVISION, Item, Table
from resources.ledger_items import (
    head_key,
    head_of,
    key_attributes,
    moved_items,
    next_revision,
    rolled_back_key,
    state_key,
    timestamp,
    without_keys,
)
from service_core import ledger_table as keys
from service_core.ledger import KeyHead, Return, State
from service_core.rolled_back import RollbackMark, TakenBack, lowered, taken_back


def is_undone(standing: Item, batch_id: str) -> bool:
    """Whether a batch of an object has been rolled back."""
    return batch_id in str(standing.get("rolled_back") or "").split()


def marks_of(table: Table, batch_ids: Iterable[str]) -> dict[str, RollbackMark]:
    """The marks of those batches that have one."""
    found = table.read(rolled_back_key(batch_id) for batch_id in batch_ids)
    marks = [RollbackMark.model_validate(without_keys(item)) for item in found.values()]
    return {mark.batch_id: mark for mark in marks}


def mark_rolled_back(table: Table, marks: Sequence[RollbackMark]) -> None:
    """Write marks where there are none."""

    def decide(mark: RollbackMark, standing: Item | None) -> list[Item]:
        if standing is not None:
            return []
        pk, sk = rolled_back_key(mark.batch_id)
        item = {**mark.model_dump(), "at": timestamp(mark.at)}
        return [{keys.PK: pk, keys.SK: sk, REVISION: 1, **item}]

    table.settle(
        list({mark.batch_id: mark for mark in marks}.values()),
        lambda mark: rolled_back_key(mark.batch_id),
        decide,
        writes_each=1,
    )


def take_back(
    table: Table,
    returns: Sequence[TakenBack],
    undone: frozenset[str],
    *,
    run_id: str,
    at: datetime,
) -> None:
    """See `service_core.ports.Ledger.take_back`."""

    def decide(back: TakenBack, standing: Item | None) -> list[Item]:
        if standing is None:
            return []
        changes = taken_back(standing, back, undone)
        if not changes:
            return []
        fresh = {**standing, **changes, "run_id": run_id, "updated_at": timestamp(at)}
        by_batch = back.batches[0]
        return moved_items(fresh, standing, by_batch=by_batch, run_id=run_id, note=back.note)

    last = {back.object_id: back for back in returns}
    table.settle(list(last.values()), lambda b: state_key(b.object_id), decide, writes_each=2)


def lower_key_heads(
    table: Table, dataset: str, heads: Mapping[str, KeyHead | None], undone: frozenset[str]
) -> None:
    """See `service_core.ports.Ledger.lower_key_heads`."""

    def decide(key: str, standing: Item | None) -> list[Item]:
        if standing is None:
            return []
        before = head_of(standing)
        head = lowered(before, heads[key], undone)
        if head is None or head == before:
            return []
        return [
            {
                keys.PK: keys.key_pk(dataset, key),
                keys.SK: keys.HEAD,
                REVISION: next_revision(standing),
                **key_attributes(key),
                "object_id": head.object_id,
                "last_modified": timestamp(head.last_modified),
                "sequence": head.sequence,
                "batch_id": head.batch_id,
            }
        ]

    table.settle(list(heads), lambda key: head_key(dataset, key), decide, writes_each=1)


def returned_after_rollback(
    standing: Item, back: Return, batch_id: str, *, run_id: str, at: datetime
) -> list[Item]:
    """An object that `batch_id` gives back to a batch which has been rolled back meanwhile: it
    goes to whoever has rows of it in the table now, or is rolled back."""
    published = standing.get("published_batch_id")
    fresh = {
        **standing,
        "state": State.PUBLISHED if published else State.ROLLED_BACK,
        "batch_id": published or back.batch_id,
        "reason": None,
        "rows_read": None,
        "rows_published": None if published else 0,
        "rows_quarantined": None,
        "contract_hash": None,
        "updated_at": timestamp(at),
    }
    note = (
        f"Batch {batch_id} may not be published, and batch {back.batch_id} has been rolled back: "
        + (f"the rows of {published} stay." if published else "no rows of it are published.")
    )
    return moved_items(fresh, standing, by_batch=batch_id, run_id=run_id, note=note)
