"""Spans and bundles: how a batch's text is cut into tasks, and their files put together.

Pure: sizes in, plans out. Tasks stand in the batch's order, so that what they report can be merged
in that order. Files come out at 128 to 512 MB where the batch is large enough; a batch that is not
is cut for the cores there are, and never into tiny files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from service_core.curation.key_watch import HASHED_ROWS
from service_core.validation.record import StagedFile

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bounds, in bytes of Parquet.

    Attributes:
        span: The most text that one task is given.
        least: The least that is worth a task of its own. Text that repeats is small in Parquet:
            this much may be a million rows.
        tiny: Files below this are put together with their neighbours.
        here: Passes over less than this run in the driver: Spark's own start costs more.
        hashed_keys: Up to so many keys the driver compares their hashes by itself; those of more
            are shuffled. A hash is eight bytes.
    """

    span: int = 256 * _MIB
    least: int = 8 * _MIB
    tiny: int = 4 * _MIB
    here: int = 8 * _MIB
    hashed_keys: int = HASHED_ROWS


SIZES = Sizes()


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a file: the row groups whose middle lies in it.

    Attributes:
        uri: The file.
        size: Its bytes.
        first, last: The stretch's bytes, `last` not among them.
    """

    uri: str
    size: int
    first: int
    last: int

    def groups(self, metadata: Any) -> list[int]:
        """The row groups that are its own, by the file's footer."""
        sizes = [
            sum(group.column(place).total_compressed_size for place in range(group.num_columns))
            for group in map(metadata.row_group, range(metadata.num_row_groups))
        ]
        whole = max(1, sum(sizes))
        own, before = [], 0
        for number, size in enumerate(sizes):
            middle = (2 * before + size) * self.size
            if 2 * whole * self.first <= middle < 2 * whole * self.last:
                own.append(number)
            before += size
        return own


@dataclass(frozen=True, slots=True)
class Span:
    """What one task is given of a batch's canonical text."""

    number: int
    stretches: tuple[Stretch, ...]


def spans(parts: Sequence[StagedFile], cores: int, sizes: Sizes) -> list[Span]:
    """Cut canonical text evenly, wherever its files end.

    All cores are given the same number of spans, unless these would be too small.
    """
    total = sum(part.bytes for part in parts)
    if not total:
        return []
    waves = -(-total // (cores * sizes.span))
    count = max(1, min(waves * cores, total // sizes.least))
    cuts = [total * number // count for number in range(count + 1)]
    return [
        Span(number, tuple(_stretches(parts, first, last)))
        for number, (first, last) in enumerate(pairwise(cuts))
    ]


def _stretches(parts: Sequence[StagedFile], first: int, last: int) -> Iterator[Stretch]:
    start = 0
    for part in parts:
        low, high = max(first - start, 0), min(last - start, part.bytes)
        if low < high:
            yield Stretch(part.uri, part.bytes, low, high)
        start += part.bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A Parquet file that a task has written, and whose rows it holds."""

    file: StagedFile
    owners: frozenset[str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files, in order, that become one; a single one that is not `anew` stays as it is."""

    pieces: tuple[Piece, ...]
    anew: bool

    @property
    def size(self) -> int:
        return sum(piece.file.bytes for piece in self.pieces)


def bundles(
    pieces: Sequence[Piece], gone: Collection[str], touched: Collection[str], sizes: Sizes
) -> list[Bundle]:
    """What has to be written anew, because rows go or because files are tiny.

    Args:
        gone: Source objects all of whose rows go.
        touched: Those that lose any.
    """
    planned: list[Bundle] = []
    run: list[Piece] = []

    def close() -> None:
        if run:
            changed = any(not piece.owners.isdisjoint(touched) for piece in run)
            planned.append(Bundle(tuple(run), len(run) > 1 or changed))
            run.clear()

    everything_gone = frozenset(gone)
    for piece in pieces:
        if piece.owners <= everything_gone:
            continue
        if piece.owners.isdisjoint(touched) and piece.file.bytes >= sizes.tiny:
            close()
            planned.append(Bundle((piece,), anew=False))
            continue
        run.append(piece)
        if sum(waiting.file.bytes for waiting in run) >= sizes.least:
            close()
    close()
    return planned
