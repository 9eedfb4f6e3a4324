"""The ledger's items: what stands in them, and how they are written and read back."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from resources.dynamodb import REVISION, Item, Key
from service_core import ledger_table as keys
from service_core.ledger import Entry, KeyHead


def state_key(object_id: str) -> Key:
    return keys.object_pk(object_id), keys.STATE


def head_key(dataset: str, key: str) -> Key:
    return keys.key_pk(dataset, key), keys.HEAD


def rolled_back_key(batch_id: str) -> Key:
    return keys.batch_pk(batch_id), keys.ROLLED_BACK


def next_revision(standing: Item | None) -> int:
    return 1 if standing is None else int(standing[REVISION]) + 1


def moved_items(
    fresh: Item, standing: Item | None, *, by_batch: str, run_id: str | None, note: str = ""
) -> list[Item]:
    """The state's item and the line of its history that says how it came about."""
    revision = next_revision(standing)
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


def note_items(
    standing: Item, batch_id: str, note: str, *, run_id: str, at: datetime
) -> list[Item]:
    """A line of history that follows the object's last move; the same one when repeated."""
    when = timestamp(at)
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


def key_attributes(key: str) -> Item:
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


def key_of(item: Item) -> str:
    if (exact := item.get("key_bytes")) is not None:
        return bytes(exact).decode("utf-8", "surrogatepass")
    return str(item["key"])


def entry_of(item: Item) -> Entry:
    return Entry.model_validate({**item, "key": key_of(item)})


def head_of(item: Item) -> KeyHead:
    return KeyHead.model_validate(
        {
            "key": key_of(item),
            **{name: item[name] for name in ("object_id", "last_modified", "sequence", "batch_id")},
        }
    )


def without_keys(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in {keys.PK, keys.SK}}


def timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
