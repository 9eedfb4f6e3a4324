"""Published rows, read back: whole, or only their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo
from pyiceberg.table import Table

from resources.table_change import Removal
from resources.table_schema import arrow_type
from service_core.canonical import PARTITION, SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW


def shape_of(table: Table, columns: Iterable[str]) -> pa.Schema:
    """The Arrow schema of some of a table's columns."""
    schema = table.schema()
    return pa.schema([(name, arrow_type(schema.find_type(name))) for name in columns])


def row_batches(
    table: Table, shape: pa.Schema, partition: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Rows with the columns of `shape`, in no particular order.

    Args:
        partition: Only this one's.
    """
    everything: BooleanExpression = AlwaysTrue()
    scan = table.scan(
        row_filter=everything if partition is None else EqualTo(PARTITION, partition),
        selected_fields=tuple(shape.names),
    )
    for batch in scan.to_arrow_batch_reader():
        # PyIceberg chooses the layout of strings by the file.
        yield batch.select(shape.names).cast(shape)


def in_shape(batch: pa.RecordBatch, shape: pa.Schema) -> pa.RecordBatch:
    """Rows of a file with the columns of `shape`; one that the file lacks is null."""
    there = batch.schema.names
    return pa.RecordBatch.from_arrays(
        [
            batch.column(one.name).cast(one.type)
            if one.name in there
            else pa.nulls(batch.num_rows, one.type)
            for one in shape
        ],
        schema=shape,
    )


class PublishedDeletesError(Exception):
    """Another engine has deleted rows of a table apart from the files that hold them, so that the
    files alone do not tell what is published."""


def data_files(table: Table, partition: str) -> tuple[str, ...]:
    """The URIs of the files that hold a partition's rows, and no other.

    Raises:
        PublishedDeletesError: some of their rows are deleted elsewhere.
    """
    uris = []
    for task in table.scan(row_filter=EqualTo(PARTITION, partition)).plan_files():
        if task.delete_files:
            name = ".".join(table.name())
            raise PublishedDeletesError(
                f"Partition {partition} of table {name} has deletes that lie apart from its "
                "files, which no engine but the one in process reads. Have the engine that made "
                f"them write the files anew (in Athena: OPTIMIZE {name} REWRITE DATA USING "
                "BIN_PACK), or curate the batch in process."
            )
        uris.append(task.file.file_path)
    return tuple(sorted(uris))


def rows_of(table: Table, partition: str, origin: Removal) -> Iterator[pa.RecordBatch]:
    """A partition's rows of some source keys and source objects, with all their columns."""
    shape = shape_of(table, table.schema().column_names)
    if not origin.objects and not origin.keys:
        return
    for batch in table.scan(row_filter=origin.filter(partition)).to_arrow_batch_reader():
        rows = batch.select(shape.names).cast(shape)
        found = rows.filter(origin.hits(rows))
        if found.num_rows:
            yield found


def key_batches(
    table: Table,
    partition: str,
    columns: Sequence[str],
    *,
    except_source_keys: frozenset[str],
    except_source_objects: frozenset[str],
) -> Iterator[pa.RecordBatch]:
    """See `service_core.ports.Catalog.published_keys`."""
    wanted = list(dict.fromkeys((*columns, SOURCE_KEY, SOURCE_ROW)))
    read = shape_of(table, dict.fromkeys((*wanted, SOURCE_OBJECT_ID)))
    excepted = {
        SOURCE_KEY: pa.array(sorted(except_source_keys), pa.string()),
        SOURCE_OBJECT_ID: pa.array(sorted(except_source_objects), pa.string()),
    }
    for batch in row_batches(table, read, partition):
        kept = batch
        for name, values in excepted.items():
            if len(values):
                kept = kept.filter(pc.invert(pc.is_in(kept.column(name), value_set=values)))
        if kept.num_rows:
            yield kept.select(wanted)
