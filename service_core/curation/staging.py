"""Rows in hand: reading canonical text in blocks, and writing Parquet in parts of bounded size.

What is read and written stays in bounded memory whatever the size of the batch. Parts are written
to scratch and counted by their own footers; nothing here knows of a zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_core.canonical import (
    BATCH_ID,
    CONTRACT_VERSION,
    INGESTED_AT,
    PARTITION,
    REASONS,
    SOURCE_KEY,
    SOURCE_OBJECT_ID,
    accepted_schema,
    quarantined_schema,
    text_schema,
)
from service_core.contract.model import Contract
from service_core.dictionaries import worth_a_dictionary
from service_core.full_columns import full_columns, requiring
from service_core.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

#: A row group of canonical text: blocks of half of it take the kernel a sixth more CPU, because
#: what a block costs whatever its size (planning) is paid twice as often; and a sixth less memory.
BLOCK_ROWS = 245_760
#: Unpacked bytes of a block, for data sets of wide rows.
_BLOCK_BYTES = 128 * 1024 * 1024
_DIGITS_OF_64_BITS = 18
_PART_BYTES = 384 * 1024 * 1024
#: Text of the origin, by which files and row groups are passed over.
_ORIGIN = frozenset({SOURCE_OBJECT_ID, SOURCE_KEY, BATCH_ID, CONTRACT_VERSION, PARTITION})


def blocks(
    paths: Sequence[Path],
    *,
    columns: Sequence[str] | None = None,
    rows: int = BLOCK_ROWS,
    encoded: bool = False,
) -> Iterator[pa.Table]:
    """The rows of Parquet files, in order, in blocks of about `rows`.

    The source object's id comes dictionary-encoded.

    Args:
        columns: Only these.
        encoded: Whether all text that is stored under a dictionary comes so too, as the kernel
            likes it best. Reading 2M orders then takes 0.25 s of CPU, and 0.42 s otherwise.
    """
    import pyarrow.parquet as pq

    for path in paths:
        metadata = pq.read_metadata(path)
        dictionaries = stored_dictionaries(metadata) if encoded else [SOURCE_OBJECT_ID]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=dictionaries) as file:
            for groups in _bundles(metadata, rows):
                bundle = file.read_row_groups(groups, columns=columns)
                for start in range(0, bundle.num_rows, rows):
                    yield bundle.slice(start, rows)


def stored_dictionaries(metadata: Any) -> list[str]:
    """The text columns that a file stores under dictionaries."""
    if not metadata.num_row_groups:
        return []
    first = metadata.row_group(0)
    columns = (first.column(place) for place in range(first.num_columns))
    return [
        column.path_in_schema
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page
    ]


def _bundles(metadata: Any, rows: int) -> Iterator[list[int]]:
    """Row groups to be read together."""
    bundle: list[int] = []
    held = size = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if bundle and (held + group.num_rows > rows or size + group.total_byte_size > _BLOCK_BYTES):
            yield bundle
            bundle, held, size = [], 0, 0
        bundle.append(index)
        held, size = held + group.num_rows, size + group.total_byte_size
    if bundle:
        yield bundle


def ahead(blocks_read: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same blocks, the next being read while one is in use: reading releases the GIL."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks_read, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks_read, None)
            yield block


def counted(path: Path) -> int:
    """Rows of a Parquet file, by its footer."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file in scratch, and whose rows it holds."""

    path: Path
    rows: int
    owners: frozenset[str]


class PartWriter:
    """Writes rows to Parquet files of bounded size.

    Args:
        schema: Of the file. Rows that are given may be dictionary-encoded where it is not.
        path_of: The path of the n-th part.
        measured: Columns whose least and greatest value are recorded; None for all.
    """

    def __init__(
        self,
        schema: pa.Schema,
        path_of: Callable[[int], Path],
        *,
        measured: Sequence[str] | None = None,
    ) -> None:
        self._schema = schema
        self._path_of = path_of
        self._measured: Any = True if measured is None else list(measured)
        self._written = schema
        self._full = frozenset(schema.names)
        self._writer: Any = None
        self._owners: set[str] = set()
        self._parts: list[Part] = []

    def add(self, table: pa.Table) -> None:
        """Append rows as one row group."""
        import pyarrow.parquet as pq

        if not table.num_rows:
            return
        # A writer gives up a dictionary that changes within a row group.
        table = table.unify_dictionaries()
        if lost := self._full - full_columns(table):
            self._full -= lost
            self._close()
        path = self._path_of(len(self._parts))
        if self._writer is None:
            self._written = requiring(_encoded_alike(self._schema, table.schema), self._full)
            dictionaries = worth_a_dictionary(table)
            self._writer = pq.ParquetWriter(
                path,
                self._written,
                compression="zstd",
                compression_level=1,
                use_dictionary=dictionaries,
                # On 2M orders 0.55 s of CPU and 27 MB, where numbers as they are take 0.7 and 31.
                column_encoding={
                    name: "DELTA_BINARY_PACKED"
                    for name in _whole_numbers(self._written)
                    if name not in dictionaries
                },
                # As Iceberg wants it.
                store_decimal_as_integer=True,
                write_statistics=self._measured,
                # The stored Arrow schema would bring the dictionary types back to a reader.
                store_schema=False,
            )
        self._writer.write_table(table.cast(self._written), row_group_size=table.num_rows)
        self._owners.update(table.column(SOURCE_OBJECT_ID).unique().to_pylist())
        if path.stat().st_size >= _PART_BYTES:
            self._close()

    @property
    def owners(self) -> frozenset[str]:
        """Whose rows were given so far."""
        return frozenset(self._owners).union(*(part.owners for part in self._parts))

    def finish(self) -> tuple[Part, ...]:
        """Close the last part; returns all of them, in order."""
        self._close()
        return tuple(self._parts)

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        path = self._path_of(len(self._parts))
        self._parts.append(Part(path, counted(path), frozenset(self._owners)))
        self._owners = set()


@dataclass(frozen=True, slots=True)
class Origins:
    """What a batch adds to each of its rows.

    `_ingested_at` is when the batch was asked for, so that judging it again writes the same.
    """

    contract: Contract
    manifest: Manifest
    keys: Mapping[str, str]

    @classmethod
    def of(cls, contract: Contract, manifest: Manifest) -> Origins:
        return cls(contract, manifest, {o.id: o.key for o in manifest.objects})

    def accepted(self, rows: pa.Table) -> pa.Table:
        """Rows of the kernel's `accepted`, with the columns of `canonical.accepted_schema`."""
        return self._complete(rows, accepted_schema(self.contract))

    def text(self, rows: pa.Table) -> pa.Table:
        """Canonical text, with the columns of `canonical.text_schema`."""
        return self._complete(rows, text_schema(self.contract))

    def quarantined(self, rows: pa.Table) -> pa.Table:
        """Rows of the kernel's `diverted`, or malformed ones with their reasons, with the
        columns of `canonical.quarantined_schema`."""
        return self._complete(rows, quarantined_schema(self.contract))

    def accepted_writer(
        self,
        path_of: Callable[[int], Path],
        *,
        text: bool = False,
    ) -> PartWriter:
        """For rows of `accepted`, or of `text`.

        Args:
            path_of: The path of the n-th part.
            text: Whether they are of `text`.
        """
        import pyarrow as pa

        schema = text_schema(self.contract) if text else accepted_schema(self.contract)
        texts = {f.name for f in schema if pa.types.is_string(f.type)} - _ORIGIN
        keys = {name for key in self.contract.unique_keys for name in key}
        return PartWriter(
            schema,
            path_of,
            # A reader skips files by these. For free text they are a cost without a use.
            measured=[name for name in schema.names if name not in texts - keys],
        )

    def quarantine_writer(self, path_of: Callable[[int], Path]) -> PartWriter:
        """For rows of `quarantined`."""
        return PartWriter(quarantined_schema(self.contract), path_of)

    def _complete(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        import pyarrow as pa

        count = rows.num_rows
        ids = _encoded(rows.column(SOURCE_OBJECT_ID))
        keys = pa.array([self.keys[i] for i in ids.dictionary.to_pylist()], pa.string())
        added = {
            SOURCE_OBJECT_ID: ids,
            SOURCE_KEY: pa.DictionaryArray.from_arrays(ids.indices, keys),
            BATCH_ID: _constant(self.manifest.batch_id, count),
            CONTRACT_VERSION: _constant(self.contract.version, count),
            PARTITION: _constant(self.manifest.partition, count),
            INGESTED_AT: pa.repeat(
                pa.scalar(self.manifest.created_at, pa.timestamp("us", tz="UTC")), count
            ),
        }
        columns = []
        for field in schema:
            if field.name in added:
                columns.append(added[field.name])
            elif field.name in rows.column_names:
                columns.append(rows.column(field.name))
            else:
                columns.append(pa.nulls(count, field.type))
        return pa.table(columns, names=schema.names)


def _encoded_alike(schema: pa.Schema, rows: pa.Schema) -> pa.Schema:
    """A schema, dictionary-encoded where rows are."""
    import pyarrow as pa

    return pa.schema(
        [
            rows.field(f.name) if pa.types.is_dictionary(rows.field(f.name).type) else f
            for f in schema
        ]
    )


def _whole_numbers(schema: pa.Schema) -> list[str]:
    """The columns that Parquet stores as whole numbers of 64 bits, or of 32."""
    import pyarrow as pa

    return [
        f.name
        for f in schema
        if pa.types.is_integer(f.type)
        or (pa.types.is_decimal(f.type) and f.type.precision <= _DIGITS_OF_64_BITS)
    ]


def malformed_rows(path: Path) -> Iterator[pa.Table]:
    """Rows without shape, with their reasons as lists, ready for `Origins.quarantined`."""
    import pyarrow as pa

    from service_core.canonical import REASON_TYPE

    for block in blocks([path]):
        reason = pa.StructArray.from_arrays(
            [_array(block.column(name)) for name in ("code", "column", "message")],
            fields=list(REASON_TYPE),
        )
        offsets = pa.array(range(block.num_rows + 1), pa.int32())
        reasons = pa.ListArray.from_arrays(offsets, reason)
        yield block.drop_columns(["code", "column", "message"]).append_column(
            pa.field(REASONS, pa.list_(REASON_TYPE)), reasons.cast(pa.list_(REASON_TYPE))
        )


def _encoded(ids: pa.ChunkedArray) -> pa.DictionaryArray:
    import pyarrow as pa

    if not pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_encode()
    if not ids.num_chunks:
        return pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
    whole = ids.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _array(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _constant(value: str, count: int) -> pa.DictionaryArray:
    import pyarrow as pa

    indices = pa.repeat(pa.scalar(0, pa.int32()), count)
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))
