"""The desk of a data set in the ledger: one way in cuts its batches at a time.

Listing and notifications see the same objects at the same moment. If both cut batches of them,
each object would still be published once, but two runs would work on it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from resources.dynamodb import REVISION, Item, Table
from resources.ledger_items import next_revision, timestamp
from service_core import ledger_table as keys
from service_core.ports import Desk


def take_desk(table: Table, dataset: str, way: str, *, at: datetime, seconds: float) -> Desk | None:
    """See `ports.Ledger`."""
    until = at + timedelta(seconds=seconds)
    taken: list[Desk] = []

    def decide(dataset: str, standing: Item | None) -> list[Item]:
        taken.clear()
        paid = standing.get("paid_until") if standing else None
        if standing is not None and _held_by_another(standing, way, at, until):
            return []
        taken.append(Desk(dataset, way, until, datetime.fromisoformat(paid) if paid else None))
        return [_item(taken[0], standing, paid)]

    table.settle([dataset], _key, decide, writes_each=1)
    return taken[0] if taken else None


def leave_desk(table: Table, desk: Desk, *, paid_until: datetime | None) -> None:
    """See `ports.Ledger`."""
    paid = timestamp(paid_until) if paid_until is not None else None

    def decide(dataset: str, standing: Item | None) -> list[Item]:
        if standing is None or standing["way"] != desk.way:
            return []
        return [_item(Desk(dataset, "", desk.until), standing, paid)]

    table.settle([desk.dataset], _key, decide, writes_each=1)


def _key(dataset: str) -> tuple[str, str]:
    return keys.desk_pk(dataset), keys.DESK


def _held_by_another(standing: Item, way: str, at: datetime, until: datetime) -> bool:
    """A desk that is taken for longer than anybody takes one was taken by a clock that is wrong."""
    held_until = datetime.fromisoformat(standing["until"])
    return standing["way"] not in ("", way) and at < held_until <= until


def _item(desk: Desk, standing: Item | None, paid: str | None) -> Item:
    pk, sk = _key(desk.dataset)
    return {
        keys.PK: pk,
        keys.SK: sk,
        REVISION: next_revision(standing),
        "dataset": desk.dataset,
        "way": desk.way,
        "until": timestamp(desk.until),
        "paid_until": paid,
    }
