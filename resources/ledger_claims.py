"""Who holds a content: the source object through which the same bytes have been taken first.

A claim holds as long as its object may be seen by a reader of the table, or is on its way there.
Content that nobody sees is no reason to refuse the same bytes under another key: its rows would be
nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from resources.dynamodb import REVISION, Item, Table
from resources.ledger_items import (
    entry_of,
    head_key,
    head_of,
    key_attributes,
    key_of,
    next_revision,
    state_key,
)
from service_core import ledger_table as keys
from service_core.ledger import Entry, State
from service_core.source_object import SourceObject

_UNSEEN = frozenset({State.QUARANTINED, State.SUPERSEDED, State.ROLLED_BACK})

#: Object id and key of who holds a content.
Holder = tuple[str, str]


def claim_content(
    table: Table, dataset: str, claims: Mapping[str, SourceObject]
) -> dict[str, Holder]:
    """See `ports.Ledger.claim_content`."""
    held = _claim(table, dataset, claims, frozenset())
    foreign = {sha: held[sha] for sha, claim in claims.items() if held[sha][1] != claim.key}
    if foreign and (unseen := _unseen(table, dataset, foreign)):
        again = {sha: claims[sha] for sha, (holder, _) in foreign.items() if holder in unseen}
        held |= _claim(table, dataset, again, unseen)
    return held


def _claim(
    table: Table, dataset: str, claims: Mapping[str, SourceObject], unseen: Collection[str]
) -> dict[str, Holder]:
    """Claim what nobody holds, what another version of the key does, or one of `unseen`."""
    held: dict[str, Holder] = {}

    def decide(claim: tuple[str, SourceObject], standing: Item | None) -> list[Item]:
        content_hash, source_object = claim
        if standing is not None:
            holder, key = str(standing["object_id"]), key_of(standing)
            if holder == source_object.id or (key != source_object.key and holder not in unseen):
                held[content_hash] = (holder, key)
                return []
        held[content_hash] = (source_object.id, source_object.key)
        return [
            {
                keys.PK: keys.content_pk(dataset, content_hash),
                keys.SK: keys.CLAIM,
                REVISION: next_revision(standing),
                "object_id": source_object.id,
                **key_attributes(source_object.key),
            }
        ]

    table.settle(
        list(claims.items()),
        lambda claim: (keys.content_pk(dataset, claim[0]), keys.CLAIM),
        decide,
        writes_each=1,
    )
    return held


def _unseen(table: Table, dataset: str, held: Mapping[str, Holder]) -> frozenset[str]:
    """Holders of which no row is published or may yet be, and of whose key neither is any with
    that content: an older version that is processed again takes the claim over, too."""
    heads = {
        head.key: head.object_id
        for head in map(
            head_of, table.read(head_key(dataset, key) for _, key in held.values()).values()
        )
    }
    wanted = {holder for holder, _ in held.values()} | set(heads.values())
    entries = {
        entry.object_id: entry
        for entry in map(entry_of, table.read(map(state_key, sorted(wanted))).values())
    }

    def seen(entry: Entry | None) -> bool:
        # Of an object that has no entry nothing is known, so its claim stands.
        return entry is None or entry.state not in _UNSEEN or entry.published_batch_id is not None

    unseen = set()
    for content_hash, (holder, key) in held.items():
        head = entries.get(heads.get(key, ""))
        by_head = head is not None and head.content_hash == content_hash and seen(head)
        if not seen(entries.get(holder)) and not by_head:
            unseen.add(holder)
    return frozenset(unseen)
