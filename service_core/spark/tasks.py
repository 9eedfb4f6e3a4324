"""Tasks: what a worker does with what it is given, from the object store and back to it.

Each is a plain function of an errand and a task, and may run anywhere, twice at once too: a file
that a task writes has the task attempt's own name, so nothing that another attempt wrote is ever
written over, and only files that a report names exist for the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service_core.canonical import SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW
from service_core.curation.kernel import CuratedBlock
from service_core.curation.key_watch import (
    Key,
    KeyWatch,
    among_hashes,
    key_hashes,
    with_key,
)
from service_core.curation.losers import Losers
from service_core.curation.passes import (
    Firsts,
    GaveWay,
    judge_rows,
    left,
    measure_left,
    without,
)
from service_core.curation.set_rules import Figure
from service_core.curation.staging import BLOCK_ROWS, Origins, PartWriter
from service_core.curation.tally import Samples
from service_core.curation.workbench import Batch, RowsJudged
from service_core.layout import Zone, quarantined_rows_prefix, staged_prefix
from service_core.spark.reach import Reach
from service_core.spark.reading import BLOCK_BYTES, file_blocks, text_blocks
from service_core.spark.spans import Bundle, Piece, Span
from service_core.validation.record import StagedFile

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Errand:
    """What every task of a batch is told.

    Attributes:
        batch: Whose rows.
        reach: How to get at them.
        attempt: Names what this judgement of the batch stages, and no other does.
    """

    batch: Batch
    reach: Reach
    attempt: str

    @property
    def staged(self) -> str:
        """Curated bucket: the prefix of what is staged."""
        return staged_prefix(*self._place, self.attempt)

    @property
    def quarantined(self) -> str:
        """Quarantine bucket: the prefix of diverted rows."""
        return quarantined_rows_prefix(*self._place, self.attempt)

    @property
    def work(self) -> str:
        """Curated bucket: the prefix of what passes hand to each other."""
        return f"{self.staged}_work/"

    @property
    def _place(self) -> tuple[str, str, str]:
        manifest = self.batch.manifest
        return (manifest.dataset, manifest.partition, manifest.batch_id)

    def ship(self, writer: PartWriter, zone: Zone, stem: str) -> tuple[Piece, ...]:
        """Bring what was written to where it stays."""
        prefix = self.staged if zone is Zone.CURATED else self.quarantined
        store, own = self.reach.store(), _own_name()
        pieces = []
        for number, part in enumerate(writer.finish()):
            size = part.path.stat().st_size
            uri = store.upload(part.path, zone, f"{prefix}{stem}-{own}-{number:03d}.parquet")
            part.path.unlink()
            pieces.append(Piece(StagedFile(uri=uri, rows=part.rows, bytes=size), part.owners))
        return tuple(pieces)

    @contextmanager
    def losers(self, uri: str | None) -> Iterator[Losers]:
        """The rows that gave way, from the file in which the driver keeps them."""
        with TemporaryDirectory(prefix="losers-") as folder:
            path = None
            if uri is not None:
                path = Path(folder) / "losers.parquet"
                self.reach.store().download(uri, path)
            yield Losers.kept(self.batch.contract, self.batch.owners, path)

    @contextmanager
    def hashes(self, uri: str | None) -> Iterator[numpy.ndarray[Any, Any] | None]:
        """Ascending hashes, from a file; mapped, so that the workers of a machine share them."""
        import numpy

        if uri is None:
            yield None
            return
        with TemporaryDirectory(prefix="hashes-") as folder:
            path = Path(folder) / "hashes.npy"
            self.reach.store().download(uri, path)
            yield numpy.load(path, mmap_mode="r")


def _own_name() -> str:
    """A name that no other attempt at any task has: Spark's own id of it where there is one."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return f"t{context.taskAttemptId()}" if context is not None else f"d{uuid4().hex[:8]}"


# --- Judging -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpanJudged:
    """What became of a span.

    Attributes:
        rows: What the kernel said.
        accepted, diverted: Files.
        hashed: How many keys were hashed.
        hashes: Of accepted rows, ascending, by key; empty if they were not wanted.
    """

    rows: RowsJudged
    accepted: tuple[Piece, ...]
    diverted: tuple[Piece, ...]
    hashed: int
    hashes: Mapping[Key, numpy.ndarray[Any, Any]]


def judge_span(errand: Errand, span: Span, *, hashed: bool) -> SpanJudged:
    """Put a span through the kernel, and write what is accepted and what is not."""
    contract = errand.batch.contract
    origins = Origins.of(contract, errand.batch.manifest)
    watch = KeyWatch(contract)
    keys = contract.unique_keys if hashed else ()
    hashed_rows = 0
    with _scratch() as path_of:
        accepted = origins.accepted_writer(path_of("accepted"))
        diverted = origins.quarantine_writer(path_of("diverted"))

        def keep(curated: CuratedBlock) -> None:
            nonlocal hashed_rows
            if keys:
                watch.add(curated.accepted)
                hashed_rows += curated.accepted.num_rows
            accepted.add(origins.accepted(curated.accepted))
            diverted.add(origins.quarantined(curated.diverted))

        rows = judge_rows(contract, text_blocks(errand.reach, span, encoded=True), keep)
        stem = f"part-{span.number:05d}"
        return SpanJudged(
            rows,
            errand.ship(accepted, Zone.CURATED, stem),
            errand.ship(diverted, Zone.QUARANTINE, stem),
            hashed_rows,
            {key: watch.hashes(key) for key in keys},
        )


# --- Keys ----------------------------------------------------------------------------------------


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

    with _scratch() as path_of, errand.hashes(hashes) as suspected:
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
        name = f"{errand.work}suspects-{_own_name()}-{uuid4().hex[:8]}.parquet"
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


# --- After the decision --------------------------------------------------------------------------


def measure_pieces(
    errand: Errand, pieces: Sequence[Piece], *, owners: frozenset[str], losers: str | None
) -> Mapping[str, Mapping[str, Figure]]:
    """Figures of what is left of some objects."""
    with errand.losers(losers) as gave_way:
        rows = (b for piece in pieces for b in file_blocks(errand.reach, piece.file.uri))
        return measure_left(errand.batch.contract, rows, owners, gave_way)


@dataclass(frozen=True, slots=True)
class SpanGaveWay:
    """Rows of a span that gave way: files of them, samples, and the first of each."""

    diverted: tuple[Piece, ...]
    samples: Samples
    firsts: Firsts


def divert_span(errand: Errand, span: Span, *, losers: str) -> SpanGaveWay:
    """Write the rows that gave way as they arrived."""
    origins = Origins.of(errand.batch.contract, errand.batch.manifest)
    with _scratch() as path_of, errand.losers(losers) as known:
        writer = origins.quarantine_writer(path_of("duplicates"))
        gave_way = GaveWay(errand.batch.contract)
        for rows in gave_way.diverted(text_blocks(errand.reach, span), known):
            writer.add(origins.quarantined(rows))
        stem = f"duplicates-{span.number:05d}"
        pieces = errand.ship(writer, Zone.QUARANTINE, stem)
        return SpanGaveWay(pieces, gave_way.samples, gave_way.firsts)


def restage(
    errand: Errand, task: tuple[int, Bundle], *, gone: frozenset[str], losers: str | None
) -> tuple[Piece, ...]:
    """Write a bundle of accepted rows anew, without those that go."""
    number, bundle = task
    origins = Origins.of(errand.batch.contract, errand.batch.manifest)
    with _scratch() as path_of, errand.losers(losers) as known:
        writer = origins.accepted_writer(path_of("restaged"))
        _rewrite(errand, bundle, writer, lambda rows: left(rows, gone, known))
        return errand.ship(writer, Zone.CURATED, f"restaged-{number:05d}")


def requarantine(
    errand: Errand, task: tuple[int, Bundle], *, gone: frozenset[str]
) -> tuple[Piece, ...]:
    """Write a bundle of diverted rows anew, without those of objects that go whole."""
    number, bundle = task
    origins = Origins.of(errand.batch.contract, errand.batch.manifest)
    with _scratch() as path_of:
        writer = origins.quarantine_writer(path_of("quarantined"))
        _rewrite(errand, bundle, writer, lambda rows: without(rows, gone))
        return errand.ship(writer, Zone.QUARANTINE, f"quarantined-{number:05d}")


def _rewrite(
    errand: Errand,
    bundle: Bundle,
    writer: PartWriter,
    kept: Callable[[pa.Table], pa.Table],
) -> None:
    for rows in _gathered(
        block for piece in bundle.pieces for block in file_blocks(errand.reach, piece.file.uri)
    ):
        writer.add(kept(rows))


def _gathered(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Small blocks put together, so that a file of many small ones has no small row groups."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows = size = 0
    for block in blocks:
        if waiting and (rows + block.num_rows > BLOCK_ROWS or size + block.nbytes > BLOCK_BYTES):
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting, rows, size = [], 0, 0
        waiting.append(block)
        rows, size = rows + block.num_rows, size + block.nbytes
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries()


@contextmanager
def _scratch() -> Iterator[Callable[[str], Callable[[int], Path]]]:
    """A folder of the task's own, as a namer of the files in it."""
    with TemporaryDirectory(prefix="curated-") as folder:

        def path_of(stem: str) -> Callable[[int], Path]:
            return lambda number: Path(folder) / f"{stem}-{number:05d}.parquet"

        yield path_of
