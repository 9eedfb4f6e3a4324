"""Reading on a worker: Parquet straight from the object store, by range, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from service_core.canonical import SOURCE_OBJECT_ID
from service_core.curation.staging import BLOCK_ROWS, stored_dictionaries
from service_core.spark.reach import Reach
from service_core.spark.spans import Span

if TYPE_CHECKING:
    import pyarrow as pa

#: Unpacked bytes of a block.
BLOCK_BYTES = 128 * 1024 * 1024
#: A row group above this is not read whole but in batches. Validation writes none.
_HUGE_BYTES = 2 * BLOCK_BYTES
_BUFFER_BYTES = 4 * 1024 * 1024


def text_blocks(reach: Reach, span: Span, *, encoded: bool = False) -> Iterator[pa.Table]:
    """A span's canonical text, in order.

    Args:
        encoded: Whether all text that is stored under a dictionary comes so, as the kernel likes
            it best; the source object's id always does.
    """
    for stretch in span.stretches:
        with _opened(reach, stretch.uri, encoded=encoded) as file:
            groups = stretch.groups(file.metadata)
            yield from _blocks(reach, stretch.uri, file, groups, None, encoded=encoded)


def file_blocks(reach: Reach, uri: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A file's rows, or some of their columns, in order; nothing where it lacks one of them."""
    with _opened(reach, uri) as file:
        if columns is not None and not set(columns) <= set(file.schema_arrow.names):
            return
        groups = range(file.metadata.num_row_groups)
        yield from _blocks(reach, uri, file, groups, columns)


def _opened(reach: Reach, uri: str, *, encoded: bool = False, **options: Any) -> Any:
    import pyarrow.parquet as pq

    source = reach.open(uri)
    metadata = pq.read_metadata(source)
    return pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=stored_dictionaries(metadata) if encoded else [SOURCE_OBJECT_ID],
        **{"pre_buffer": True, **options},
    )


def _blocks(
    reach: Reach,
    uri: str,
    file: Any,
    groups: Sequence[int],
    columns: Sequence[str] | None,
    *,
    encoded: bool = False,
) -> Iterator[pa.Table]:
    bundle: list[int] = []
    rows = size = 0
    for number in groups:
        group = file.metadata.row_group(number)
        if group.total_byte_size > _HUGE_BYTES or group.num_rows > 2 * BLOCK_ROWS:
            if bundle:
                yield file.read_row_groups(bundle, columns=columns)
                bundle, rows, size = [], 0, 0
            yield from _batches(reach, uri, number, group, columns, encoded=encoded)
            continue
        full = rows + group.num_rows > BLOCK_ROWS or size + group.total_byte_size > BLOCK_BYTES
        if bundle and full:
            yield file.read_row_groups(bundle, columns=columns)
            bundle, rows, size = [], 0, 0
        bundle.append(number)
        rows, size = rows + group.num_rows, size + group.total_byte_size
    if bundle:
        yield file.read_row_groups(bundle, columns=columns)


def _batches(
    reach: Reach,
    uri: str,
    number: int,
    group: Any,
    columns: Sequence[str] | None,
    *,
    encoded: bool,
) -> Iterator[pa.Table]:
    """A huge row group, page by page: with a buffer and without reading ahead, Arrow holds no
    more of it than a batch."""
    import pyarrow as pa

    of_row = max(1, group.total_byte_size // max(1, group.num_rows))
    rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // of_row))
    options = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
    with _opened(reach, uri, encoded=encoded, **options) as file:
        for batch in file.iter_batches(rows, row_groups=[number], columns=columns):
            yield pa.Table.from_batches([batch])
