"""The folder of one replay in the manifests bucket: all that is known of it, each paper once.

How far a replay is follows from which papers lie here, and from nothing that a process remembers:

    request.json            what was asked for
    terms.json              what the resolution goes by
    selection/00000.json    a stretch of the listing: what was selected of it and what passed over
    batches/00000.json      the objects of one batch
    resolved.json           what it came to; written after all of those
    before/00000.json       the ledger's entries of a batch's objects, before the replay took them
    asked/00000.json        that a batch's run is asked for, and by which manifest
    audit/<time>-<fact>.json
    difference.json         what a dry run would change
    completed.json          the replay's end
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from service_core.layout import OPEN_REPLAYS, Zone, replay_prefix
from service_core.ports import ObjectMissingError, ObjectStore

_Paper = TypeVar("_Paper", bound=BaseModel)

REQUEST = "request.json"
TERMS = "terms.json"
RESOLVED = "resolved.json"
COMPLETED = "completed.json"
DIFFERENCE = "difference.json"
SELECTION = "selection"
BATCHES = "batches"
BEFORE = "before"
ASKED = "asked"
AUDIT = "audit"

_JSON = "application/json"


class ReplayFolder:
    """Reads and writes one replay's papers.

    Args:
        store: The zones.
        replay_id: Which replay.
    """

    def __init__(self, store: ObjectStore, replay_id: str) -> None:
        self.store = store
        self.replay_id = replay_id
        self._prefix = replay_prefix(replay_id)

    def uri(self, name: str) -> str:
        """Where a paper lies, or would."""
        return self.store.uri(Zone.MANIFESTS, self._prefix + name)

    def read(self, name: str, kind: type[_Paper]) -> _Paper | None:
        """A paper, or None where it has not been written.

        Raises:
            ValueError: what lies there is no such paper.
        """
        try:
            body = self.store.read(Zone.MANIFESTS, self._prefix + name)
        except ObjectMissingError:
            return None
        return kind.model_validate_json(body)

    def has(self, name: str) -> bool:
        """Whether a paper is there."""
        key = self._prefix + name
        return key in self.store.keys(Zone.MANIFESTS, key)

    def write_once(self, name: str, paper: BaseModel) -> bool:
        """Write a paper unless it is there; False where it was."""
        return self.store.write_once(
            Zone.MANIFESTS,
            self._prefix + name,
            paper.model_dump_json(indent=1).encode(),
            content_type=_JSON,
        )

    def names(self, folder: str) -> list[str]:
        """The names of a sub-folder's papers, in order and without the folder."""
        prefix = f"{self._prefix}{folder}/"
        return [key[len(prefix) :] for key in self.store.keys(Zone.MANIFESTS, prefix)]

    def numbers(self, folder: str) -> list[int]:
        """The numbers of a sub-folder's numbered papers, in order."""
        return [int(name.removesuffix(".json")) for name in self.names(folder)]

    def open(self) -> None:
        """Mark the replay as one that has not come to its end."""
        self.store.write(Zone.MANIFESTS, OPEN_REPLAYS + self.replay_id, b"")

    def close(self) -> None:
        """Take the mark away."""
        self.store.remove(Zone.MANIFESTS, [OPEN_REPLAYS + self.replay_id])


def numbered(folder: str, number: int) -> str:
    """The name of a numbered paper."""
    return f"{folder}/{number:05d}.json"


def open_replays(store: ObjectStore) -> tuple[str, ...]:
    """Ids of the replays that have not come to their end, in the order of their names."""
    return tuple(key.removeprefix(OPEN_REPLAYS) for key in store.keys(Zone.MANIFESTS, OPEN_REPLAYS))
