"""What is said between a rollback and the table: what it holds by whom, what goes and what comes.

The rows that one batch brought of one source object come and go together, in every commit, so that
a rollback is decided for such shares and never for single rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class BatchRolledBackError(Exception):
    """The batch has been rolled back, and is not published again."""


class RollbackRefusedError(Exception):
    """What is asked for cannot be undone; the message says why, and what to do. Nothing has been
    changed."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A batch's commit in the history of its table.

    Attributes:
        committed_at: By the clock of whoever committed it.
        replay_id: The replay, or the backfill, that it was part of.
    """

    batch_id: str
    partition: str
    snapshot_id: int
    committed_at: datetime
    replay_id: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What a table still knows of its past.

    Attributes:
        commits: Of batches, oldest first; of those too that have been rolled back since.
        rolled_back: Ids of the batches that have been, with the snapshot that did it.
        since: Commits before that are forgotten; None where all of them are known.
    """

    commits: tuple[Commit, ...] = ()
    rolled_back: Mapping[str, int] | None = None
    since: datetime | None = None

    @property
    def undone(self) -> frozenset[str]:
        """Ids of the batches that have been rolled back."""
        return frozenset(self.rolled_back or ())


@dataclass(frozen=True, slots=True)
class Share:
    """The rows that one batch brought of one source object."""

    partition: str
    object_id: str
    key: str
    batch_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class KeptOut:
    """Rows that an undone batch took out and that do not come back, with the batch that has
    decided otherwise since."""

    share: Share
    by_batch: str
    withdrawn: bool = False

    @property
    def sentence(self) -> str:
        """Why, for a person."""
        if self.withdrawn:
            return f"Batch {self.by_batch} has put the file in quarantine since."
        return f"Batch {self.by_batch} has decided about the file or its key since."


@dataclass(frozen=True, slots=True)
class Reach:
    """Which published rows the commit of a batch takes out, whoever brought them.

    Attributes:
        keys: Rows of these source keys.
        objects: Rows of these very source objects.
        named: The keys of all the batch's objects.
    """

    keys: frozenset[str]
    objects: frozenset[str]
    named: frozenset[str]

    def takes_out(self, share: Share) -> bool:
        """Whether those rows are among them."""
        return share.object_id in self.objects or share.key in self.keys


class Memory(Protocol):
    """What a table does not know of its batches by itself."""

    def reach(self, batch_id: str, partition: str, withheld: frozenset[str]) -> Reach:
        """What the batch's commit takes out, where those of its objects were withheld.

        Raises:
            RollbackRefusedError: nobody knows any more.
        """

    def rolled_back(self, batch_ids: Iterable[str]) -> frozenset[str]:
        """Those that have been rolled back, however long ago."""

    def withdrawn(self, object_ids: Iterable[str], undone: frozenset[str]) -> Mapping[str, str]:
        """Source objects that a batch which is not undone has in quarantine, with that batch."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What one rollback of batches did to a table, or would do.

    Attributes:
        snapshot_id: The snapshot by which they are undone; None in a dry run.
        committed: Whether this call made it; False where all of them had been undone before.
        batches: Those that this call undoes.
        before: Those that had been undone before.
        undone: All batches of the table that are undone now.
        out, back: Rows that go, and rows that come back; nothing of what had been done before.
        kept_out: Rows that their commits took out and that do not come back.
        rows_out, rows_back: As the snapshot has them, whoever made it.
        table: `database.table`.
        metadata_location: The table's metadata file.
    """

    snapshot_id: int | None
    committed: bool
    batches: tuple[str, ...]
    before: tuple[str, ...]
    undone: frozenset[str]
    out: tuple[Share, ...]
    back: tuple[Share, ...]
    kept_out: tuple[KeptOut, ...]
    rows_out: int
    rows_back: int
    table: str
    metadata_location: str | None
