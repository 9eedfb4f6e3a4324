"""How a batch's text is cut into tasks, and files are put together: decisions without a Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.spark.spans import Piece, Sizes, Span, bundles, spans
from service_core.validation.record import StagedFile

MIB = 1024 * 1024
SIZES = Sizes()


def files(*sizes: int) -> list[StagedFile]:
    return [
        StagedFile(uri=f"s3://b/{number}", rows=1, bytes=size) for number, size in enumerate(sizes)
    ]


def lengths(cut: list[Span]) -> list[int]:
    return [sum(s.last - s.first for s in span.stretches) for span in cut]


@pytest.mark.parametrize(
    ("sizes", "cores", "tasks"),
    [
        ([], 4, 0),
        ([1], 4, 1),
        ([15 * MIB], 4, 1),
        ([20 * MIB], 2, 2),
        ([40 * MIB], 16, 5),
        ([300 * MIB], 16, 16),
        ([1024 * MIB, 5 * MIB], 4, 8),
        ([1024 * MIB] * 100, 32, 416),
    ],
)
def test_a_batch_is_cut_for_its_cores_but_never_small(
    sizes: list[int], cores: int, tasks: int
) -> None:
    cut = spans(files(*sizes), cores, SIZES)
    assert len(cut) == tasks
    assert sum(lengths(cut)) == sum(sizes)
    assert max(lengths(cut), default=0) <= SIZES.span
    if tasks > 1:
        assert min(lengths(cut)) >= SIZES.least
        assert max(lengths(cut)) - min(lengths(cut)) <= 1


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    cores=st.integers(1, 5),
    span=st.integers(200, 5000),
)
def test_every_row_group_is_in_exactly_one_span_and_in_order(
    groups: list[int], cores: int, span: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    parts, footers = [], {}
    for number in range(2):
        path = folder / f"{number}.parquet"
        _write(path, groups[number::2])
        uri = f"s3://b/{number}"
        parts.append(StagedFile(uri=uri, rows=1, bytes=path.stat().st_size))
        footers[uri] = pq.read_metadata(path)
    cut = spans(parts, cores, Sizes(span=span, least=1))
    taken = [
        (stretch.uri, group)
        for one in cut
        for stretch in one.stretches
        for group in stretch.groups(footers[stretch.uri])
    ]
    assert taken == [
        (uri, group) for uri, footer in footers.items() for group in range(footer.num_row_groups)
    ]


def _write(path: Path, groups: list[int]) -> None:
    schema = pa.schema([("a", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in groups:
            writer.write_table(pa.table({"a": [f"{n:050d}" for n in range(rows)]}))


def pieces(*given_: tuple[int, str]) -> list[Piece]:
    """Files of so many bytes that hold rows of these objects."""
    return [
        Piece(file, frozenset(owners))
        for file, (_, owners) in zip(files(*(s for s, _ in given_)), given_, strict=True)
    ]


def plan(of: list[Piece], gone: str = "", touched: str = "") -> list[Any]:
    """Numbers of files: alone as they stay, in a list where they are written anew."""
    planned = []
    for bundle in bundles(of, frozenset(gone), frozenset(gone + touched), SIZES):
        numbers = [int(piece.file.uri[-1]) for piece in bundle.pieces]
        planned.append(numbers if bundle.anew else numbers[0])
    return planned


@pytest.mark.parametrize(
    ("of", "gone", "touched", "planned"),
    [
        ([(20 * MIB, "a"), (90 * MIB, "b")], "", "", [0, 1]),
        ([(10, "a")], "", "", [0]),
        ([(10, "a"), (20, "b"), (30, "c")], "", "", [[0, 1, 2]]),
        ([(20 * MIB, "a"), (90 * MIB, "b")], "", "b", [0, [1]]),
        ([(20 * MIB, "a"), (90 * MIB, "bc")], "b", "", [0, [1]]),
        ([(20 * MIB, "a"), (90 * MIB, "b")], "b", "", [0]),
        ([(20 * MIB, "a"), (90 * MIB, "b")], "ab", "", []),
        ([(5 * MIB, "a"), (5 * MIB, "a"), (5 * MIB, "b")], "", "a", [[0, 1], 2]),
        ([(10, "a"), (90 * MIB, "b"), (10, "c"), (10, "d")], "", "", [0, 1, [2, 3]]),
        ([(10, "a"), (90 * MIB, "b")], "", "b", [[0, 1]]),
    ],
)
def test_only_files_that_lose_rows_or_are_tiny_are_written_anew(
    of: list[tuple[int, str]], gone: str, touched: str, planned: list[Any]
) -> None:
    assert plan(pieces(*of), gone, touched) == planned
