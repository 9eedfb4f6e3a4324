"""Upkeep of a published table: small files and manifests are put together, old snapshots go.

Each of the three is one commit against one reading of the table. Whoever else commits in between
wins, and the reading is made anew; after some attempts it is left for the next run. A new file
holds the rows of those that it takes the place of, every column as it was, so that a batch's rows
are found by what they are, as rollback and publication look for them; the old files stay for those
who read older snapshots. Nothing is deleted here: what nobody refers to any more is a left-over,
and goes once it is old enough, as does what an upkeep that died has written.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import FileScanTask, Table, TableProperties
from pyiceberg.types import StringType

from resources.table_change import table_io
from resources.table_files import Written, describe, read_batches, rewrite
from resources.table_parting import remember
from resources.table_rows import in_shape, shape_of
from resources.table_schema import require_partitioned
from resources.table_snapshots import SUMMARY_UPKEEP, batch_of, history, lineage, undoes
from service_core.canonical import SOURCE_KEY
from service_core.upkeep import (
    MOST_BYTES,
    SMALL_BYTES,
    Extent,
    FileFacts,
    Packing,
    Parting,
    Past,
    Retention,
    Tended,
    packing,
    parting,
    scattered,
)

_ATTEMPTS = 12
_LONGEST_WAIT_SECONDS = 2.0

#: What is left for next time where others kept committing.
Part = Literal["compaction", "manifests", "expiry"]


class RowsLostError(Exception):
    """A file that takes the place of others does not hold as many rows as they do. It is not
    committed. This is a defect: keep the files, and report it."""


@dataclass(slots=True)
class TableUpkeep:
    """One run's upkeep of one table.

    Attributes:
        read: Reads the table anew.
        settle: Makes a commit; whether it stands for certain. A commit whose answer was lost is
            found made, or not, by reading the table anew.
        settled: Of batches that are rolled back, those of which the ledger knows.
        most_bytes: What may be written anew.
    """

    dataset: str
    read: Callable[[], Table | None]
    settle: Callable[[Callable[[], object]], bool]
    retention: Retention
    settled: Callable[[Collection[str]], Collection[str]]
    now: datetime
    most_bytes: int = MOST_BYTES
    _outrun: list[str] = field(default_factory=list)

    def tend(self, *, dry_run: bool = False) -> Tended | None:
        """Do what is to be done, or only say what it would be; None where there is no table.

        Raises:
            RowsLostError: a compacted file would lose rows.
            TableSchemaError: the table is not partitioned as ours are.
        """
        table = self.read()
        if table is None or table.metadata.current_snapshot_id is None:
            return None
        require_partitioned(".".join(table.name()), table.schema(), table.spec())
        tasks = _tasks(table)
        before = after = extent(table, tasks)
        packed, parted = self._packing(table, tasks), self._parting(table)
        compacted = sum(len(group) for group in packed.groups)
        written, merged = len(packed.groups), _scattered(table)
        expired = len(parted.going)
        if not dry_run:
            compacted, written = self._compact(packed)
            merged = self._merge()
            parted, expired = self._expire()
            if compacted or merged or expired:
                table = self._again()
                after = extent(table, _tasks(table))
        return Tended(
            dataset=self.dataset,
            table=".".join(table.name()),
            before=before,
            after=after,
            expired=expired,
            compacted=compacted,
            written=written,
            merged=merged,
            kept={**packed.kept, **parted.kept},
            outrun=tuple(self._outrun),
        )

    # --- Small files -----------------------------------------------------------------------------

    def _packing(self, table: Table, tasks: Iterable[FileScanTask]) -> Packing:
        last = {commit.partition: commit.committed_at for commit in history(table.metadata).commits}
        files = [_facts(table, task) for task in tasks]
        return packing(files, last, self.now, most_bytes=self.most_bytes)

    def _compact(self, packed: Packing) -> tuple[int, int]:
        """Put each group of files together, in one commit. The new files are written before the
        table is read that they are committed against, so that few commits can come between."""
        if not packed.groups:
            return 0, 0
        start = self._again()
        made = {group: _together(start, group) for group in packed.groups}
        done: list[tuple[FileFacts, ...]] = []

        def attempt() -> Callable[[], object] | bool:
            table = self._again()
            tasks = {task.file.file_path: task for task in _tasks(table)}
            if any(made[group].uri in tasks for group in done):
                # The answer to a commit was lost, and it stands.
                return True
            # Where a batch has replaced rows of a file meanwhile, its group is packed anew next
            # time.
            done[:] = [
                group
                for group in made
                if all(one.uri in tasks and not tasks[one.uri].delete_files for one in group)
            ]
            if not done:
                return False
            transaction = table.transaction()
            update = transaction.update_snapshot(snapshot_properties={SUMMARY_UPKEEP: "compaction"})
            producer = update.overwrite()
            for group in done:
                partition = group[0].partition
                new = describe(transaction.table_metadata, made[group], partition)
                producer.append_data_file(new)
                for one in group:
                    producer.delete_data_file(tasks[one.uri].file)
            return lambda: (producer.commit(), transaction.commit_transaction())

        if not self._tried("compaction", attempt):
            return 0, 0
        return sum(len(group) for group in done), len(done)

    # --- Manifests -------------------------------------------------------------------------------

    def _merge(self) -> bool:
        """Put manifests together; publications that replace rows never do."""
        return self._tried("manifests", self._merge_attempt)

    def _merge_attempt(self) -> Callable[[], object] | bool:
        table = self._again()
        if not _scattered(table):
            return False
        least = TableProperties.MANIFEST_MIN_MERGE_COUNT
        usual = table.properties.get(least, str(TableProperties.MANIFEST_MIN_MERGE_COUNT_DEFAULT))
        enabled = TableProperties.MANIFEST_MERGE_ENABLED
        transaction = table.transaction()
        # PyIceberg merges where it appends, by the table's properties, and only then.
        transaction.set_properties({least: "2", enabled: "true"})
        update = transaction.update_snapshot(snapshot_properties={SUMMARY_UPKEEP: "manifests"})
        producer = update.merge_append()

        def commit() -> None:
            producer.commit()
            transaction.set_properties({least: usual})
            transaction.commit_transaction()

        return commit

    # --- Snapshots -------------------------------------------------------------------------------

    def _parting(self, table: Table) -> Parting:
        metadata = table.metadata
        named = {r.snapshot_id for name, r in metadata.refs.items() if name != "main"}
        line = [
            Past(
                snapshot.snapshot_id,
                datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                batch_of(snapshot),
                undoes(snapshot),
                snapshot.snapshot_id in named,
            )
            for snapshot in lineage(metadata)
        ]
        undone = frozenset[str]().union(*(past.undoes for past in line))
        settled = frozenset(self.settled(undone)) if undone else undone
        return parting(line, self.retention, self.now, settled)

    def _expire(self) -> tuple[Parting, int]:
        """Let the table go of its oldest snapshots, once there is a note of them."""
        parted, gone = Parting(), 0
        noted: set[int] = set()

        def attempt() -> Callable[[], object] | bool:
            nonlocal parted, gone
            table = self._again()
            parted = self._parting(table)
            if not parted.going:
                return bool(noted)
            going = set(parted.going)
            if going - noted:
                remember(table, [s for s in table.metadata.snapshots if s.snapshot_id in going])
                noted.update(going)
            gone = len(going)
            expiry = table.maintenance.expire_snapshots().by_ids(list(parted.going))

            def commit() -> None:
                try:
                    expiry.commit()
                except ValueError as error:
                    # PyIceberg's word for a snapshot that another upkeep has expired meanwhile.
                    raise CommitFailedException(str(error)) from error

            return commit

        done = self._tried("expiry", attempt)
        return parted, gone if done else 0

    # --- Attempts --------------------------------------------------------------------------------

    def _tried(self, part: Part, attempt: Callable[[], Callable[[], object] | bool]) -> bool:
        """Try a commit until it stands.

        Args:
            attempt: Reads the table and gives what commits; or, where there is nothing (more) to
                commit, whether it has been done.

        Returns:
            Whether it has been done.
        """
        wait = 0.05
        for _ in range(_ATTEMPTS):
            commit = attempt()
            if isinstance(commit, bool):
                return commit
            if self.settle(commit):
                return True
            # Full jitter: whoever was met once must not be met again and again.
            time.sleep(random.uniform(0, wait))
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
        self._outrun.append(part)
        return False

    def _again(self) -> Table:
        table = self.read()
        if table is None:
            raise NoSuchTableError("The table was dropped in the middle of its upkeep.")
        return table


def extent(table: Table, tasks: Sequence[FileScanTask]) -> Extent:
    """How large a table is, by its current snapshot.

    Args:
        tasks: Of a read of all of it.
    """
    snapshot = table.metadata.current_snapshot()
    files = [task.file for task in tasks]
    return Extent(
        snapshots=len(table.metadata.snapshots),
        manifests=len(snapshot.manifests(table.io)) if snapshot is not None else 0,
        data_files=len(files),
        small_files=sum(file.file_size_in_bytes < SMALL_BYTES for file in files),
        data_bytes=sum(file.file_size_in_bytes for file in files),
        rows=sum(file.record_count for file in files),
        metadata_bytes=len(table.io.new_input(table.metadata_location)),
    )


def _tasks(table: Table) -> list[FileScanTask]:
    return list(table.scan().plan_files())


def _facts(table: Table, task: FileScanTask) -> FileFacts:
    file = task.file
    lowest = (file.lower_bounds or {}).get(table.schema().find_field(SOURCE_KEY).field_id)
    value = file.partition[0] if file.spec_id == table.metadata.default_spec_id else None
    return FileFacts(
        uri=file.file_path,
        partition=value or "",
        bytes=file.file_size_in_bytes,
        rows=file.record_count,
        first_key="" if lowest is None else str(from_bytes(StringType(), lowest)),
        foreign=bool(task.delete_files) or not value,
    )


def _scattered(table: Table) -> bool:
    """Whether the current snapshot's manifests are to be put together."""
    snapshot = table.metadata.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot is not None else []
    large = table.properties.get(
        TableProperties.MANIFEST_TARGET_SIZE_BYTES,
        TableProperties.MANIFEST_TARGET_SIZE_BYTES_DEFAULT,
    )
    sizes = [m.manifest_length for m in manifests if m.content is ManifestContent.DATA]
    return scattered(sizes, int(large))


def _together(table: Table, group: tuple[FileFacts, ...]) -> Written:
    """The rows of some files in a file of their own, with the table's columns of today."""
    io, shape = table_io(table), shape_of(table, table.schema().column_names)

    def rows() -> Iterator[pa.RecordBatch]:
        for one in group:
            yield from read_batches(io, one.uri)

    target = f"{table.metadata.location}/data/{group[0].partition}/{uuid4().hex}.parquet"
    written = rewrite(io, rows(), target, lambda batch: in_shape(batch, shape))
    found, wanted = written.rows if written is not None else 0, sum(one.rows for one in group)
    if written is None or found != wanted:
        raise RowsLostError(
            f"{len(group)} files of partition {group[0].partition} hold {wanted} rows by their "
            f"manifests, and {found} were read. They stay as they are."
        )
    return written
