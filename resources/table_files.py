"""The Parquet files of published tables: read by column, described to Iceberg, written anew.

A file that a snapshot refers to is never written again: what has to change goes into a new file
under a new name, and the old one is left as it was for those who read older snapshots.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from resources.table_io import TableFileIO
from resources.table_schema import TableColumn, plain
from service_core import canonical
from service_core.ports import ObjectMissingError

# It warns of each column that was written without statistics, at each publication; curation leaves
# them out on purpose where nobody asks for a least and a greatest.
logging.getLogger("pyiceberg.io.pyarrow").addFilter(
    lambda record: not record.getMessage().startswith("PyArrow statistics missing")
)

_ROWS_PER_GROUP = 512 * 1024
_ROWS_PER_READ = 64 * 1024


class StagedFileError(Exception):
    """A staged file is not what the verdict and the contract say it is: a defect of the engine."""


@dataclass(frozen=True, slots=True)
class Written:
    """A Parquet file that is written and closed."""

    uri: str
    rows: int
    size: int
    footer: pq.FileMetaData


def _fragment(io: TableFileIO, uri: str, size: int | None) -> ds.ParquetFileFragment:
    files, path = io.file_system(uri)
    # With its size known, a file is opened without asking for it first.
    return ds.ParquetFileFormat().make_fragment(path, filesystem=files, file_size=size or None)


def read_columns(io: TableFileIO, uri: str, size: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file, whole."""
    return _fragment(io, uri, size).to_table(columns=list(columns), use_threads=False)


def is_missing(io: TableFileIO, uri: str) -> bool:
    """Whether there is no such object. For after an error: Arrow's has no type for this, and its
    words differ from server to server."""
    return not io.new_input(uri).exists()


def read_footer(io: TableFileIO, uri: str, size: int) -> pq.FileMetaData:
    """A staged file's footer.

    Raises:
        ObjectMissingError: the file is not there.
        StagedFileError: it is not a Parquet file of that size.
    """
    fragment = _fragment(io, uri, size)
    try:
        fragment.ensure_complete_metadata()
    except pa.ArrowInvalid as invalid:
        raise StagedFileError(
            f"The staged file {uri} is not a Parquet file of {size} bytes: {invalid}"
        ) from invalid
    except OSError as error:
        if is_missing(io, uri):
            raise ObjectMissingError(f"The staged file {uri} is not there.") from error
        raise
    return fragment.metadata


def require_shape(uri: str, shape: pa.Schema, columns: Iterable[TableColumn]) -> None:
    """Refuse a staged file whose columns are not the contract's.

    Raises:
        StagedFileError: a column is not the table's, or has another type.
    """
    wanted: Mapping[str, pa.DataType] = {c.name: c.type for c in columns}
    for field in shape:
        kind = wanted.get(field.name)
        if kind is None or plain(field.type) != kind:
            raise StagedFileError(
                f"Column {field.name} of the staged file {uri} is {field.type}; the contract "
                f"says {kind or 'nothing of it'}."
            )
    names = [name for name in shape.names if name in wanted]
    if len(set(names)) != len(names) or canonical.SOURCE_OBJECT_ID not in names:
        raise StagedFileError(
            f"The staged file {uri} has no column {canonical.SOURCE_OBJECT_ID}, or one column "
            "twice."
        )


def require_partition(io: TableFileIO, uri: str, footer: pq.FileMetaData, partition: str) -> None:
    """Refuse a staged file that holds rows of another partition.

    Raises:
        StagedFileError: it does.
    """
    found: set[Any] = set()
    for group in range(footer.num_row_groups):
        chunks = footer.row_group(group)
        for position in range(chunks.num_columns):
            chunk = chunks.column(position)
            if chunk.path_in_schema != canonical.PARTITION:
                continue
            statistics = chunk.statistics
            if statistics is None or not statistics.has_min_max:
                values = _fragment(io, uri, None).to_table(columns=[canonical.PARTITION])
                found |= set(pc.unique(values.column(0)).to_pylist())
            else:
                found |= {statistics.min, statistics.max}
                if statistics.has_null_count and statistics.null_count:
                    found.add(None)
    if found - {partition}:
        raise StagedFileError(
            f"The staged file {uri} holds rows of partition {sorted(map(str, found))}; its batch "
            f"is of {partition}."
        )


def describe(metadata: TableMetadata, file: Written, partition: str) -> DataFile:
    """A file as Iceberg's manifests name it."""
    schema = metadata.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=file.footer,
        stats_columns=compute_statistics_plan(schema, metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.uri,
        file_format=FileFormat.PARQUET,
        partition=Record(partition),
        file_size_in_bytes=file.size,
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def read_batches(io: TableFileIO, uri: str) -> Iterator[pa.RecordBatch]:
    """A file's rows in order, a bounded number at a time."""
    with io.new_input(uri).open() as stream:
        yield from pq.ParquetFile(stream).iter_batches(batch_size=_ROWS_PER_READ)


def rewrite(
    io: TableFileIO,
    batches: Iterable[pa.RecordBatch],
    target: str,
    transform: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> Written | None:
    """Write what `transform` leaves of some rows to a new file.

    Returns:
        The file, or None where nothing was left and so nothing was written.
    """
    pending: list[pa.RecordBatch] = []
    held = rows = 0
    writer: pq.ParquetWriter | None = None
    stream: Any = None
    try:
        for batch in batches:
            kept = transform(batch)
            if not kept.num_rows:
                continue
            if writer is None:
                stream = io.new_output(target).create()
                writer = pq.ParquetWriter(
                    stream, kept.schema, compression="zstd", store_decimal_as_integer=True
                )
            pending.append(kept)
            held += kept.num_rows
            rows += kept.num_rows
            if held >= _ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_batches(pending), row_group_size=_ROWS_PER_GROUP)
                pending, held = [], 0
        if writer is None:
            return None
        if pending:
            writer.write_table(pa.Table.from_batches(pending), row_group_size=_ROWS_PER_GROUP)
        writer.close()
        size = stream.tell()
        return Written(target, rows, size, writer.writer.metadata)
    finally:
        if writer is not None:
            writer.close()
        if stream is not None:
            stream.close()
