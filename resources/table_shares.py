"""Shares of a table: the rows that one batch brought of one source object, in the files that hold
them.

A file that a snapshot refers to is never written again. Rows of it that go or come are told by who
brought them, whatever else the file holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

from resources.table_change import Removal, table_io
from resources.table_files import Written, rewrite
from service_core.canonical import BATCH_ID, SOURCE_KEY, SOURCE_OBJECT_ID
from service_core.undo import Share

_ROWS_PER_READ = 64 * 1024

#: Object and batch: what comes and goes together.
Group = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A data file and the shares in it that are meant; `whole`, whether it holds no others."""

    task: FileScanTask
    shares: tuple[Share, ...]
    whole: bool

    @property
    def groups(self) -> frozenset[Group]:
        """The shares, as rows name them."""
        return frozenset((share.object_id, share.batch_id) for share in self.shares)


def holders(table: Table, partition: str, origin: Removal) -> tuple[Share, ...]:
    """Who brought the published rows of some source keys and source objects."""
    if not origin.keys and not origin.objects:
        return ()
    found: list[Share] = []
    for task in table.scan(row_filter=origin.filter(partition)).plan_files():
        rows = origin_of(table, task)
        found += shares_in(rows.filter(origin.hits(rows)), partition)
    return merged(found)


@dataclass(slots=True)
class RollbackWorkshop:
    """The new files of one rollback, kept from attempt to attempt.

    Attributes:
        folder: The table's own.
    """

    folder: str
    _written: dict[tuple[str, frozenset[Group], bool], Written | None] = field(default_factory=dict)

    def without(self, table: Table, piece: Piece, partition: str) -> Written | None:
        """What is left of a file of the current snapshot; None where that is nothing."""
        return None if piece.whole else self._make(table, piece, partition, inverted=True)

    def only(self, table: Table, piece: Piece, partition: str) -> Written | None:
        """Rows of an earlier file, in a file of their own."""
        return self._make(table, piece, partition, inverted=False)

    def discard(self, table: Table, used: frozenset[str]) -> None:
        """Delete the new files that no snapshot came to refer to."""
        for file in self._written.values():
            if file is not None and file.uri not in used:
                table.io.delete(file.uri)

    def _make(
        self, table: Table, piece: Piece, partition: str, *, inverted: bool
    ) -> Written | None:
        made = (piece.task.file.file_path, piece.groups, inverted)
        if made not in self._written:

            def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
                hits = among(batch, piece.groups)
                return batch.filter(pc.invert(hits) if inverted else hits)

            self._written[made] = rewrite(
                table_io(table),
                rows_of_file(table, piece.task, None),
                f"{self.folder}/data/{partition}/{uuid4().hex}.parquet",
                keep,
            )
        return self._written[made]


def origin_of(table: Table, task: FileScanTask) -> pa.Table:
    names = [SOURCE_OBJECT_ID, SOURCE_KEY, BATCH_ID]
    shape = pa.schema([(name, pa.string()) for name in names])
    return pa.Table.from_batches(
        [batch.select(names).cast(shape) for batch in rows_of_file(table, task, names)], shape
    )


def rows_of_file(
    table: Table, task: FileScanTask, names: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """A file's rows; those of `names` that it has, or all its columns."""
    if task.delete_files:
        # Another engine has deleted rows of the file without writing it anew.
        schema = table.schema() if names is None else table.schema().select(*names)
        scan = ArrowScan(table.metadata, table.io, schema, AlwaysTrue())
        yield from scan.to_record_batches([task])
        return
    with table.io.new_input(task.file.file_path).open() as stream:
        file = pq.ParquetFile(stream)
        there = file.schema_arrow.names
        columns = there if names is None else [name for name in names if name in there]
        yield from file.iter_batches(batch_size=_ROWS_PER_READ, columns=columns)


def shares_in(rows: pa.Table, partition: str) -> list[Share]:
    counted = rows.group_by([SOURCE_OBJECT_ID, SOURCE_KEY, BATCH_ID]).aggregate([([], "count_all")])
    return [
        Share(
            partition=partition,
            object_id=row[SOURCE_OBJECT_ID],
            key=row[SOURCE_KEY],
            batch_id=row[BATCH_ID],
            rows=row["count_all"],
        )
        for row in counted.to_pylist()
    ]


def merged(shares: Iterable[Share]) -> tuple[Share, ...]:
    """One share for each, with the rows of all files, in the order of their keys."""
    merged: dict[tuple[str, str, str], Share] = {}
    for share in shares:
        place = (share.partition, share.object_id, share.batch_id)
        before = merged.get(place)
        merged[place] = share if before is None else replace(share, rows=share.rows + before.rows)
    return tuple(sorted(merged.values(), key=lambda s: (s.partition, s.key, s.batch_id)))


def among(batch: pa.RecordBatch, groups: frozenset[Group]) -> pa.BooleanArray:
    """Which rows are of those objects by those batches."""
    by_batch: dict[str, list[str]] = {}
    for object_id, batch_id in groups:
        by_batch.setdefault(batch_id, []).append(object_id)
    objects = batch.column(SOURCE_OBJECT_ID).cast(pa.string())
    batches = batch.column(BATCH_ID).cast(pa.string())
    hits = pa.repeat(pa.scalar(False), batch.num_rows)
    for batch_id, ids in by_batch.items():
        of_batch = pc.is_in(batches, value_set=pa.array([batch_id], pa.string()))
        of_object = pc.is_in(objects, value_set=pa.array(sorted(ids), pa.string()))
        hits = pc.or_(hits, pc.and_(of_batch, of_object))
    return hits
