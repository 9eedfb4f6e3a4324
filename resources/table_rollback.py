"""What undoing batches changes in their table: which rows go, and which come back.

The table becomes what it would be if the undone batches had never been committed, as far as it
follows from what others have committed. The rows that they brought go. Rows that their commits took
out come back, out of the files of the snapshot before, unless they are there already, their own
batch is undone too, or the commit of a batch that stands has come after: that would have taken them
out as well, because it brought the same object or another version of its key, or quarantined it.

Everything is planned against one reading of the table and stands or falls with it. Nothing is
planned that would leave two rows with one unique key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.expressions import And, EqualTo, In
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from resources.table_change import Removal, table_io
from resources.table_files import is_missing
from resources.table_rows import in_shape, row_batches, shape_of
from resources.table_shares import (
    Group,
    Piece,
    among,
    holders,
    merged,
    origin_of,
    rows_of_file,
    shares_in,
)
from resources.table_snapshots import SUMMARY_WITHHELD, history, lineage
from service_core.canonical import (
    BATCH_ID,
    PARTITION,
    SOURCE_KEY,
    SOURCE_OBJECT_ID,
    SOURCE_ROW,
)
from service_core.contract.model import Contract
from service_core.undo import (
    Commit,
    History,
    KeptOut,
    Memory,
    Reach,
    RollbackRefusedError,
    Share,
)

if TYPE_CHECKING:
    import polars as pl

_READERS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollback changes in a table.

    Attributes:
        history: The table's, before it.
        out: Files of the current snapshot that hold rows to go.
        back: Files of earlier snapshots that hold rows to come back.
        kept_out: Rows that the undone batches took out and that do not come back.
    """

    history: History
    out: tuple[Piece, ...]
    back: tuple[Piece, ...]
    kept_out: tuple[KeptOut, ...]

    @property
    def shares_out(self) -> tuple[Share, ...]:
        return merged(share for piece in self.out for share in piece.shares)

    @property
    def shares_back(self) -> tuple[Share, ...]:
        return merged(share for piece in self.back for share in piece.shares)


def plan_rollback(
    table: Table, contract: Contract, batches: frozenset[str], memory: Memory
) -> Plan:
    """Plan the undoing of batches that are in the table's history and have not been undone.

    Raises:
        RollbackRefusedError: it cannot be done.
    """
    past = history(table.metadata)
    out: list[Piece] = []
    back: list[Piece] = []
    kept_out: list[KeptOut] = []
    for partition in sorted({c.partition for c in past.commits if c.batch_id in batches}):
        at = _Partition(table, partition, past, batches, memory)
        leaving = at.leaving()
        coming, kept = at.coming()
        at.require_unique(contract, coming)
        out += leaving
        back += coming
        kept_out += kept
    return Plan(past, tuple(out), tuple(back), tuple(kept_out))


@dataclass(slots=True)
class _Partition:
    """One partition of a rollback."""

    table: Table
    name: str
    past: History
    batches: frozenset[str]
    memory: Memory
    _gone: frozenset[str] = frozenset()
    _commits: tuple[Commit, ...] = ()
    _snapshots: dict[int, Snapshot] = field(default_factory=dict)
    _reaches: dict[int, Reach] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._gone = self.batches | self.past.undone
        self._commits = tuple(c for c in self.past.commits if c.partition == self.name)
        self._snapshots = {s.snapshot_id: s for s in lineage(self.table.metadata)}

    def leaving(self) -> list[Piece]:
        """The files that hold rows of the batches."""
        here = And(EqualTo(PARTITION, self.name), In(BATCH_ID, self.batches))
        return self._pieces(
            self.table.scan(row_filter=here).plan_files(),
            lambda share: share.batch_id in self.batches,
        )

    def coming(self) -> tuple[list[Piece], list[KeptOut]]:
        """The files that hold rows to come back, and the rows that might but do not."""
        last: dict[Group, int] = {}
        shares: dict[Group, Share] = {}
        taken_out: dict[int, list[Piece]] = {}
        for number, commit in enumerate(self._commits):
            if not self._counts(number):
                continue
            taken_out[number] = self._taken_out(commit)
            for share in merged(s for piece in taken_out[number] for s in piece.shares):
                group = (share.object_id, share.batch_id)
                last[group], shares[group] = number, share
        self._gone |= self.memory.rolled_back({batch for _, batch in shares} - self._gone)
        self._require_known(shares.values())

        kept: list[KeptOut] = []
        wanted: dict[Group, int] = {}
        objects = frozenset(share.object_id for share in shares.values())
        there = {
            (share.object_id, share.batch_id)
            for share in holders(self.table, self.name, Removal(frozenset(), objects))
        }
        withdrawn = self.memory.withdrawn(objects, self._gone) if objects else {}
        for group, share in shares.items():
            if share.batch_id in self._gone or group in there:
                continue
            if (by := self._decided_since(share, last[group])) is not None:
                kept.append(KeptOut(share, by))
            elif (by := withdrawn.get(share.object_id)) is not None:
                kept.append(KeptOut(share, by, withdrawn=True))
            else:
                wanted[group] = last[group]
        pieces = []
        for number, found in taken_out.items():
            for piece in found:
                mine = tuple(
                    s for s in piece.shares if wanted.get((s.object_id, s.batch_id)) == number
                )
                if mine:
                    whole = piece.whole and len(mine) == len(piece.shares)
                    pieces.append(replace(piece, shares=mine, whole=whole))
        return pieces, kept

    def require_unique(self, contract: Contract, coming: Sequence[Piece]) -> None:
        """Refuse rows that would come back beside others with their unique key.

        Raises:
            RollbackRefusedError: there are such.
        """
        import polars as pl

        known = set(self.table.schema().column_names)
        for columns in contract.unique_keys if coming else ():
            if set(columns) - known:
                continue
            mine = pl.concat([self._keys(piece, columns) for piece in coming])
            mine = mine.drop_nulls(list(columns))
            twice = mine.filter(pl.struct(columns).is_duplicated())
            if twice.height:
                first = twice.sort([*columns, SOURCE_KEY, SOURCE_ROW])[:2]
                raise self._doubled(contract, columns, first[:1], first[1:])
            wanted = shape_of(self.table, [*columns, BATCH_ID, SOURCE_KEY, SOURCE_ROW])
            for batch in row_batches(self.table, wanted, self.name):
                theirs = pl.DataFrame(batch).filter(~pl.col(BATCH_ID).is_in(sorted(self.batches)))
                met = mine.join(theirs, on=list(columns), how="inner", suffix="_theirs")
                if met.height:
                    other = met[:1].select(
                        *columns, pl.col(r"^.*_theirs$").name.map(_without_suffix)
                    )
                    raise self._doubled(contract, columns, met[:1], other)

    def _doubled(
        self,
        contract: Contract,
        columns: Sequence[str],
        mine: pl.DataFrame,
        theirs: pl.DataFrame,
    ) -> RollbackRefusedError:
        hidden = {c.name for c in contract.columns if c.personal}
        key = ", ".join(
            f"{name} (hidden, as it is personal)" if name in hidden else f"{name} {mine[name][0]}"
            for name in columns
        )
        return RollbackRefusedError(
            f"The rollback would bring back row {mine[SOURCE_ROW][0]} of {mine[SOURCE_KEY][0]!r}, "
            f"of batch {mine[BATCH_ID][0]}, with {key}; row {theirs[SOURCE_ROW][0]} of "
            f"{theirs[SOURCE_KEY][0]!r}, of batch {theirs[BATCH_ID][0]}, has the same key. Roll "
            f"back batch {theirs[BATCH_ID][0]} first, or mend the file and replay it."
        )

    def _keys(self, piece: Piece, columns: Sequence[str]) -> pl.DataFrame:
        """The key columns of the rows to come back; a column that their file lacks is null."""
        import polars as pl

        shape = shape_of(self.table, [*columns, BATCH_ID, SOURCE_KEY, SOURCE_ROW])
        parts = []
        for batch in rows_of_file(self.table, piece.task, [*shape.names, SOURCE_OBJECT_ID]):
            parts.append(in_shape(batch.filter(among(batch, piece.groups)), shape))
        return pl.DataFrame(pa.Table.from_batches(parts, shape))

    def _counts(self, number: int) -> bool:
        """Whether what a commit took out may come back by this rollback: it is undone by it, or
        was before and a batch that is undone now has kept its rows out."""
        commit = self._commits[number]
        if commit.batch_id in self.batches:
            return True
        if commit.batch_id not in self._gone:
            return False
        named = self._reach(commit).named
        return any(
            later.batch_id in self.batches and not named.isdisjoint(self._reach(later).named)
            for later in self._commits[number + 1 :]
        )

    def _decided_since(self, share: Share, number: int) -> str | None:
        """The batch that stands and whose commit, after that one, would have taken rows out."""
        for commit in self._commits[number + 1 :]:
            if commit.batch_id not in self._gone and self._reach(commit).takes_out(share):
                return commit.batch_id
        return None

    def _reach(self, commit: Commit) -> Reach:
        if commit.snapshot_id not in self._reaches:
            said = self._snapshots[commit.snapshot_id].summary
            withheld = str(said[SUMMARY_WITHHELD] or "") if said is not None else ""
            self._reaches[commit.snapshot_id] = self.memory.reach(
                commit.batch_id, self.name, frozenset(withheld.split())
            )
        return self._reaches[commit.snapshot_id]

    def _require_known(self, shares: Iterable[Share]) -> None:
        """Refuse where what is to come back would be rows of a batch that was undone so long ago
        that nobody knows any more what they had taken the place of."""
        known = {commit.batch_id for commit in self._commits}
        for share in shares:
            if share.batch_id in self._gone and share.batch_id not in known:
                raise RollbackRefusedError(
                    f"The rows of {share.key!r} that would come back are those of batch "
                    f"{share.batch_id}, which has been rolled back itself, and its snapshot is no "
                    "longer kept. Replay the file with --force."
                )

    def _taken_out(self, commit: Commit) -> list[Piece]:
        """The files of the snapshot before a commit that hold rows which it took out."""
        snapshot = self._snapshots[commit.snapshot_id]
        deleted: set[str] = set()
        written: list[str] = []
        for manifest in snapshot.manifests(self.table.io):
            if manifest.added_snapshot_id != snapshot.snapshot_id:
                continue
            for entry in manifest.fetch_manifest_entry(self.table.io, discard_deleted=False):
                if entry.snapshot_id != snapshot.snapshot_id:
                    continue
                path = entry.data_file.file_path
                if entry.status is ManifestEntryStatus.DELETED:
                    deleted.add(path)
                elif entry.status is ManifestEntryStatus.ADDED:
                    written.append(path)
        if not deleted:
            return []
        before = self._tasks(snapshot.parent_snapshot_id)
        if missing := deleted - before.keys():
            raise self._forgotten(commit, min(missing))
        # What was left of those files was written anew beside the batch's own.
        own = f"/{commit.batch_id}/"
        now = self._tasks(snapshot.snapshot_id)
        left = {
            (share.object_id, share.batch_id)
            for path in written
            if own not in path
            for share in shares_in(self._origin(now[path], commit), self.name)
        }
        return self._pieces(
            [before[path] for path in sorted(deleted)],
            lambda share: (share.object_id, share.batch_id) not in left,
            commit,
        )

    def _tasks(self, snapshot_id: int | None) -> dict[str, FileScanTask]:
        if snapshot_id not in self._snapshots:
            return {}
        scan = self.table.scan(row_filter=EqualTo(PARTITION, self.name), snapshot_id=snapshot_id)
        return {task.file.file_path: task for task in scan.plan_files()}

    def _pieces(
        self,
        tasks: Iterable[FileScanTask],
        meant: Callable[[Share], bool],
        commit: Commit | None = None,
    ) -> list[Piece]:
        def look(task: FileScanTask) -> Piece | None:
            rows = self._origin(task, commit) if commit else origin_of(self.table, task)
            found = shares_in(rows, self.name)
            mine = tuple(share for share in found if meant(share))
            return Piece(task, mine, len(mine) == len(found)) if mine else None

        with ThreadPoolExecutor(_READERS) as readers:
            return [piece for piece in readers.map(look, tasks) if piece is not None]

    def _origin(self, task: FileScanTask, commit: Commit) -> pa.Table:
        try:
            return origin_of(self.table, task)
        except OSError as error:
            if is_missing(table_io(self.table), task.file.file_path):
                raise self._forgotten(commit, task.file.file_path) from error
            raise

    def _forgotten(self, commit: Commit, path: str) -> RollbackRefusedError:
        return RollbackRefusedError(
            f"Batch {commit.batch_id} took rows out of {path}, and neither that file nor the "
            "snapshot before the batch's is kept any more, so its rows cannot come back. Replay "
            "the files that it replaced with --force instead."
        )


def _without_suffix(name: str) -> str:
    return name.removesuffix("_theirs")
