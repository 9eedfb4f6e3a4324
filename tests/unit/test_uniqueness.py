"""Keys that stand more than once: found whatever their number, and the first one kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.canonical import accepted_schema
from service_core.contract.model import ColumnType, Contract, LogicalType
from service_core.curation.key_watch import Key, KeyWatch, with_key
from service_core.curation.uniqueness import Duplicates
from tests.canonical_batches import column, landed, orders

A, B, C = landed("a.csv"), landed("b.csv"), landed("c.csv")
OBJECTS = [(o.id, o.key) for o in (A, B, C)]

Keys = Sequence[tuple[Any, ...]]


def contract_of(*, composite: bool = False) -> Contract:
    return orders(
        columns=(
            column("id", LogicalType.INTEGER, primary_key=1),
            column("part", LogicalType.STRING, primary_key=2 if composite else None),
            column("email", LogicalType.STRING, unique=not composite),
        ),
        row_rules=(),
    )


class Bench:
    """Staged rows, and what is found among them."""

    def __init__(
        self, contract: Contract, rows: Mapping[Any, Keys], scratch: Path, hashed_rows: int
    ) -> None:
        listed = [
            {
                "id": key[0],
                "part": key[1] if len(key) > 1 else None,
                "email": key[2] if len(key) > 2 else None,
                "_source_object_id": source.id,
                "_source_key": source.key,
                "_source_row": number,
            }
            for source, keys in rows.items()
            for number, key in enumerate(keys, start=1)
        ]
        self.table = pa.Table.from_pylist(listed, accepted_schema(contract))
        path = scratch / "staged [1].parquet"
        pq.write_table(self.table, path)
        self.watch = KeyWatch(contract, hashed_rows=hashed_rows)
        for start in range(0, len(listed), 3):
            self.watch.add(self.table.slice(start, 3))
        self.staged = [path] if listed else []
        self.duplicates = Duplicates(contract, OBJECTS, scratch)

    def lost(
        self, alive: Sequence[Any] = (A, B, C), published: Sequence[dict[str, Any]] = ()
    ) -> list[tuple[str, int]]:
        def ask(key: Key) -> Iterator[pa.RecordBatch]:
            if published:
                yield from pa.Table.from_pylist(
                    [{"_source_key": "old.csv", "_source_row": 9, **row} for row in published]
                ).to_batches()

        self.duplicates.find(lambda key: self.watch.suspects(key, self.staged, ask(key)))
        counted = self.duplicates.settle([o.id for o in alive])
        left = [o.id for o in alive]
        mask, messages, keys = self.duplicates.losers.among(self.table)
        assert int(mask.sum()) == len(messages) == len(keys) == sum(r.count for r in counted)
        names = {o.id: o.key.rsplit("/", 1)[1][0] for o in (A, B, C)}
        found = [
            (owner, row)
            for owner, row, gone in zip(
                self.table.column("_source_object_id").to_pylist(),
                self.table.column("_source_row").to_pylist(),
                mask,
                strict=True,
            )
            if gone
        ]
        assert all(owner in left for owner, _ in found)
        return [(names[owner], row) for owner, row in found]


#: With hashes, and with more rows than are hashed.
LIMITS = pytest.mark.parametrize("hashed_rows", [1000, 0])


@LIMITS
def test_later_rows_lose_a_key_to_the_first(tmp_path: Path, hashed_rows: int) -> None:
    bench = Bench(contract_of(), {A: [(1,), (2,), (1,)], B: [(2,), (3,)]}, tmp_path, hashed_rows)
    assert bench.lost() == [("a", 3), ("b", 1)]


@LIMITS
def test_rows_of_objects_that_are_out_win_nothing(tmp_path: Path, hashed_rows: int) -> None:
    bench = Bench(contract_of(), {A: [(1,)], B: [(1,)], C: [(1,)]}, tmp_path, hashed_rows)
    assert bench.lost() == [("b", 1), ("c", 1)]
    assert bench.lost(alive=(B, C)) == [("c", 1)]
    assert bench.duplicates.lost_to() == {C.id: frozenset({B.id})}


@LIMITS
def test_a_published_key_comes_before_all(tmp_path: Path, hashed_rows: int) -> None:
    bench = Bench(contract_of(), {A: [(1,), (2,)], B: [(1,)]}, tmp_path, hashed_rows)
    published = [{"id": 1, "email": None}, {"id": 7, "email": None}]
    assert bench.lost(published=published) == [("a", 1), ("b", 1)]
    assert bench.lost() == [("b", 1)]


@LIMITS
def test_a_key_with_a_null_is_no_key(tmp_path: Path, hashed_rows: int) -> None:
    contract = contract_of(composite=True)
    rows = {A: [(1, None), (1, None), (None, "x"), (None, "x"), (1, "x"), (1, "x")]}
    assert Bench(contract, rows, tmp_path, hashed_rows).lost() == [("a", 6)]


@LIMITS
def test_columns_of_a_key_are_not_interchangeable(tmp_path: Path, hashed_rows: int) -> None:
    contract = contract_of(composite=True)
    rows = {A: [(1, "2"), (2, "1"), (12, ""), (1, "2")]}
    assert Bench(contract, rows, tmp_path, hashed_rows).lost() == [("a", 4)]


@LIMITS
def test_the_second_key_is_judged_among_what_the_first_has_left(
    tmp_path: Path, hashed_rows: int
) -> None:
    rows = {A: [(1, None, "x"), (1, None, "y"), (2, None, "y"), (3, None, "x")]}
    bench = Bench(contract_of(), rows, tmp_path, hashed_rows)
    assert bench.lost() == [("a", 2), ("a", 4)]
    _, messages, keys = bench.duplicates.losers.among(bench.table)
    assert keys == [("id",), ("email",)]
    assert messages == [f"same id as row 1 of {A.key}", f"same email as row 1 of {A.key}"]


@pytest.mark.parametrize("name", ["ordinal", "row_number", "source_key", "kept_row", "order"])
def test_a_key_may_be_called_as_something_of_ours(tmp_path: Path, name: str) -> None:
    contract = orders(columns=(column(name, LogicalType.STRING, primary_key=1),), row_rules=())
    rows = [
        {name: key, "_source_object_id": A.id, "_source_row": number}
        for number, key in enumerate("xyx", start=1)
    ]
    table = pa.Table.from_pylist(rows, accepted_schema(contract))
    path = tmp_path / "staged.parquet"
    pq.write_table(table, path)
    watch = KeyWatch(contract)
    watch.add(table)
    duplicates = Duplicates(contract, OBJECTS, tmp_path)

    def published(key: Key) -> Iterator[pa.RecordBatch]:
        old = [{name: "y", "_source_key": "old.csv", "_source_row": 1}]
        yield from pa.Table.from_pylist(old).to_batches()

    duplicates.find(lambda key: watch.suspects(key, [path], published(key)))
    assert [(one.count, one.row) for one in duplicates.settle([A.id])] == [(2, 2)]
    assert duplicates.distinct((name,), [path], by_object=False) == {None: (1, 1)}


def test_distinct_values_are_counted_of_the_rows_that_are_left(tmp_path: Path) -> None:
    rows = {A: [(1, "x"), (1, "y"), (2, None)], B: [(3, "x"), (4, "z")]}
    bench = Bench(contract_of(), rows, tmp_path, 1000)
    bench.lost()
    distinct = bench.duplicates.distinct
    assert distinct(("part",), bench.staged, by_object=True) == {A.id: (1, 1), B.id: (2, 2)}
    assert distinct(("part",), bench.staged, by_object=False) == {None: (3, 2)}


def test_a_published_decimal_that_the_contract_no_longer_holds_is_no_rows_key(
    tmp_path: Path,
) -> None:
    """A table's decimals stay as wide as they were when the contract narrows its own."""
    narrow = column("price", LogicalType.DECIMAL, primary_key=1)
    contract = orders(
        columns=(replace(narrow, type=ColumnType(LogicalType.DECIMAL, 4, 2)),), row_rules=()
    )
    wide = pa.decimal128(12, 2)
    values = [Decimal("12345.00"), Decimal("12.50"), None, Decimal("-99.99"), Decimal("-100")]
    published = pa.table(
        {
            "price": pa.array(values, wide),
            "_source_key": ["old.csv"] * 5,
            "_source_row": range(5),
        }
    )
    held = with_key(contract, ("price",), published, ("_source_key", "_source_row"))
    assert held.schema.field("price").type == pa.decimal128(4, 2)
    assert held["_source_row"].to_pylist() == [1, 3]


def test_without_staged_rows_there_is_nothing_to_find(tmp_path: Path) -> None:
    bench = Bench(contract_of(), {}, tmp_path, 1000)
    bench.duplicates.find(lambda key: bench.watch.suspects(key, bench.staged, None))
    assert bench.duplicates.settle([A.id]) == ()
    assert bench.duplicates.distinct(("id",), bench.staged, by_object=False) == {}


KEYS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 4)),
        st.none(),
        st.one_of(st.none(), st.sampled_from("xyz")),
    ),
    max_size=8,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(a=KEYS, b=KEYS, taken=st.sets(st.integers(0, 4), max_size=2), hashed=st.booleans())
def test_what_is_left_repeats_nothing_and_no_more_than_that_is_lost(
    a: Keys, b: Keys, taken: set[int], hashed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("keys")
    bench = Bench(contract_of(), {A: a, B: b}, scratch, 1000 if hashed else 0)
    published = [{"id": key, "email": None} for key in sorted(taken)]
    lost = set(bench.lost(published=published))
    bench.duplicates.close()
    order = [("a", n, k) for n, k in enumerate(a, 1)] + [("b", n, k) for n, k in enumerate(b, 1)]
    expected: set[tuple[str, int]] = set()
    for place, before in ((0, set(taken)), (2, set())):
        seen: set[Any] = set(before)
        for name, number, key in order:
            if (name, number) in expected or key[place] is None:
                continue
            if key[place] in seen:
                expected.add((name, number))
            seen.add(key[place])
    assert lost == expected
