"""A table whose writes stay in memory: what a rehearsal's ledger stands on.

Everything above the table is the ledger's own code, so a rehearsal moves objects, and is refused
moves, as the real thing would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import RLock
from typing import TypeVar

from resources.dynamodb import Item, Key, Table, as_stored
from service_core.ledger_table import PK, SK

_T = TypeVar("_T")


class OverlayTable(Table):
    """The table beneath as it stands, and on top of it what was written here, which it never gets.

    Args:
        beneath: Only read.
    """

    def __init__(self, beneath: Table) -> None:
        self._beneath = beneath
        self.name = beneath.name
        #: None where an item was deleted.
        self._top: dict[Key, Item | None] = {}
        self._lock = RLock()

    def read(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """The items that are there."""
        wanted = list(dict.fromkeys(keys))
        with self._lock:
            mine = {key: self._top[key] for key in wanted if key in self._top}
        found = self._beneath.read(key for key in wanted if key not in mine)
        return found | {key: dict(item) for key, item in mine.items() if item is not None}

    def present(self, keys: Iterable[Key]) -> frozenset[Key]:
        """The keys of which there is an item."""
        return frozenset(self.read(keys))

    def settle(
        self,
        subjects: Sequence[_T],
        key: Callable[[_T], Key],
        decide: Callable[[_T, Item | None], list[Item]],
        *,
        writes_each: int,
        seen: Mapping[Key, Item | None] | None = None,
    ) -> None:
        """Bring each subject's item to where `decide` wants it; nobody else writes here, and what
        stands is at hand."""
        with self._lock:
            standing = self.read(key(subject) for subject in subjects)
            for subject in subjects:
                for item in decide(subject, standing.get(key(subject))):
                    self.put(item)

    def put(self, item: Item) -> None:
        """Write one item, whatever is there."""
        stored = as_stored(item)
        with self._lock:
            self._top[stored[PK], stored[SK]] = stored

    def delete(self, key: Key) -> None:
        """Delete one item, if it is there."""
        with self._lock:
            self._top[key] = None

    def query(self, pk: str, *, begins_with: str = "", index: tuple[str, str, str] | None = None
              ) -> Iterator[Item]:  # fmt: skip
        """The items of one partition key by ascending sort key; see `Table`."""
        pk_name, sk_name = (index[1], index[2]) if index else (PK, SK)
        with self._lock:
            top = dict(self._top)
        found = [
            item
            for item in self._beneath.query(pk, begins_with=begins_with, index=index)
            if (item[PK], item[SK]) not in top
        ]
        found += [
            dict(item)
            for item in top.values()
            if item is not None
            and item.get(pk_name) == pk
            and str(item.get(sk_name, "")).startswith(begins_with)
            and sk_name in item
        ]
        return iter(sorted(found, key=lambda item: str(item[sk_name])))
