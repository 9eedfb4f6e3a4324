"""Tasks over rows: what a worker does with what it is given, from the object store and back to it.

Each is a plain function of an errand and a task, and may run anywhere, twice at once too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service_core.curation.kernel import CuratedBlock
from service_core.curation.key_watch import Key, KeyWatch
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
from service_core.curation.workbench import RowsJudged
from service_core.layout import Zone
from service_core.spark.errand import Errand, scratch
from service_core.spark.reading import BLOCK_BYTES, file_blocks, text_blocks
from service_core.spark.spans import Bundle, Piece, Span

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa


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
    with scratch() as path_of:
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
    with scratch() as path_of, errand.losers(losers) as known:
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
    with scratch() as path_of, errand.losers(losers) as known:
        writer = origins.accepted_writer(path_of("restaged"))
        _rewrite(errand, bundle, writer, lambda rows: left(rows, gone, known))
        return errand.ship(writer, Zone.CURATED, f"restaged-{number:05d}")


def requarantine(
    errand: Errand, task: tuple[int, Bundle], *, gone: frozenset[str]
) -> tuple[Piece, ...]:
    """Write a bundle of diverted rows anew, without those of objects that go whole."""
    number, bundle = task
    origins = Origins.of(errand.batch.contract, errand.batch.manifest)
    with scratch() as path_of:
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
