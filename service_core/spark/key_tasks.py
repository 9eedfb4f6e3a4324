"""Tasks about keys: plain functions of an errand and of files that hold keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service_core.canonical import SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW
from service_core.curation.key_watch import Key, among_hashes, key_hashes, with_key
from service_core.curation.passes import left
from service_core.layout import Zone
from service_core.spark.errand import Errand, own_name, scratch
from service_core.spark.reading import file_blocks
from service_core.spark.spans import Piece

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Held:
    """Files of one kind that hold keys, and which of their rows count.

    Attributes:
        uris: The files: accepted rows of this batch, or published ones.
        published: Which of the two.
        without_keys, without_objects: Source keys and objects whose rows do not count.
    """

    uris: tuple[str, ...]
    published: bool
    without_keys: frozenset[str] = frozenset()
    without_objects: frozenset[str] = frozenset()

    def rows(self, errand: Errand, key: Key) -> Iterator[pa.Table]:
        """Rows that have the key, with their origin."""
        import pyarrow as pa
        import pyarrow.compute as pc

        origin = (SOURCE_KEY if self.published else SOURCE_OBJECT_ID, SOURCE_ROW)
        excepted = {
            name: pa.array(sorted(values), pa.string())
            for name, values in (
                (SOURCE_KEY, self.without_keys),
                (SOURCE_OBJECT_ID, self.without_objects),
            )
            if values
        }
        columns = list(dict.fromkeys((*key, *origin, *excepted)))
        for uri in self.uris:
            for block in file_blocks(errand.reach, uri, columns):
                rows = block
                for name, values in excepted.items():
                    found = pc.is_in(rows.column(name).cast(pa.string()), value_set=values)
                    rows = rows.filter(pc.invert(found))
                yield with_key(errand.batch.contract, key, rows, origin)


def hash_rows(errand: Errand, held: Held, *, key: Key) -> Iterator[pa.RecordBatch]:
    """The hash of every key, and whether it is the batch's own: what is shuffled."""
    import numpy
    import pyarrow as pa

    for rows in held.rows(errand, key):
        hashes = key_hashes(rows, key).view(numpy.int64)
        ours = pa.repeat(pa.scalar(int(not held.published), pa.int64()), len(hashes))
        yield pa.RecordBatch.from_arrays([pa.array(hashes), ours], ["hash", "ours"])


def suspect_rows(errand: Errand, held: Held, *, key: Key, hashes: str | None) -> str | None:
    """Write the rows whose key hashes to one of those in a file, or all of them where there is no
    such file; returns the URI, or None where there is no such row."""
    import pyarrow.parquet as pq

    with scratch() as path_of, errand.hashes(hashes) as suspected:
        path = path_of("suspects")(0)
        writer: Any = None
        for block in held.rows(errand, key):
            rows = block if suspected is None else among_hashes(block, key, suspected)
            if not rows.num_rows:
                continue
            if writer is None:
                writer = pq.ParquetWriter(path, rows.schema, compression="zstd")
            writer.write_table(rows)
        if writer is None:
            return None
        writer.close()
        name = f"{errand.work}suspects-{own_name()}-{uuid4().hex[:8]}.parquet"
        return errand.reach.store().upload(path, Zone.CURATED, name)


@dataclass(frozen=True, slots=True)
class Values:
    """A question for the distinct values of some columns.

    Attributes:
        columns: The columns.
        alive: The source objects that count, by id.
        losers: File of the rows that do not.
        by_object: Whether each object is counted by itself.
    """

    columns: Key
    alive: frozenset[str]
    losers: str | None
    by_object: bool


def value_rows(errand: Errand, piece: Piece, *, values: Values) -> Iterator[pa.RecordBatch]:
    """The values of the rows that are left, as text that is equal where they are, and how often
    each occurs in a block: what is shuffled."""
    import polars as pl
    import pyarrow as pa

    batch = errand.batch
    gone = frozenset(batch.owners) - values.alive
    ordinals = {owner: ordinal for ordinal, owner in enumerate(batch.owners)}
    columns = list(dict.fromkeys((*values.columns, SOURCE_OBJECT_ID, SOURCE_ROW)))
    with errand.losers(values.losers) as losers:
        for block in file_blocks(errand.reach, piece.file.uri, columns):
            rows = with_key(
                batch.contract,
                values.columns,
                left(block, gone, losers),
                (SOURCE_OBJECT_ID, SOURCE_ROW),
            )
            owners = pl.Series("owner", [-1], dtype=pl.Int64()).new_from_index(0, rows.num_rows)
            if values.by_object:
                ids = pl.Series(rows.column(SOURCE_OBJECT_ID))
                owners = ids.replace_strict(ordinals, return_dtype=pl.Int64()).alias("owner")
            text = pl.Series("value", key_text(rows, values.columns))
            counted = pl.DataFrame([owners, text]).group_by("owner", "value").len("n")
            shape = pa.schema([("owner", pa.int64()), ("value", pa.string()), ("n", pa.int64())])
            yield from counted.to_arrow().cast(shape).to_batches()


def key_text(rows: pa.Table, key: Key) -> pa.Array:
    """Keys as text, equal where they are equal and only there.

    A decimal's or a time's text has one form for each value; of doubles, both zeros are equal.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = []
    for name in key:
        column = rows.column(name)
        if pa.types.is_floating(column.type):
            column = pc.add(column, 0.0)
        texts.append(column.cast(pa.string()).combine_chunks())
    if len(texts) == 1:
        return texts[0]
    # Each with its length before it, so that ("a", "bc") is not ("ab", "c").
    parts = [part for text in texts for part in (pc.utf8_length(text).cast(pa.string()), text)]
    return pc.binary_join_element_wise(*parts, ":")
