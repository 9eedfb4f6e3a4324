"""Published rows, read back: whole, or only their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo
from pyiceberg.table import Table

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
