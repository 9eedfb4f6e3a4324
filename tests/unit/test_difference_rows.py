"""Rows against rows, judged by an oracle that knows nothing of hashes, files or SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.replay.row_difference import RowDifference, compare_rows

Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("k", pa.string()),
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("_source_object_id", pa.string()),
        ("_source_row", pa.int64()),
        ("_batch_id", pa.string()),
    ]
)


def written(rows: Sequence[Row], folder: Path, schema: pa.Schema = SCHEMA) -> list[Path]:
    """The rows in two files, so that no order and no single file is relied on."""
    folder.mkdir(exist_ok=True, parents=True)
    paths = []
    for number, part in enumerate((rows[::2], rows[1::2])):
        if part:
            path = folder / f"it's part {number}.parquet"
            pq.write_table(pa.Table.from_pylist(list(part), schema), path)
            paths.append(path)
    return paths


def content(row: Row) -> tuple[Any, ...]:
    return (row["k"], row["n"], repr(row["x"]))


def expected(before: Sequence[Row], after: Sequence[Row], keyed: bool) -> Counter[str]:
    """Unchanged, changed, added and removed, for rows whose key is complete, or that have none
    and stand on both sides in places of their own."""
    had, has = Counter(map(content, before)), Counter(map(content, after))
    gone, come = list((had - has).elements()), list((has - had).elements())
    changed = 0
    if keyed:
        lost, gained = Counter(c[0] for c in gone), Counter(c[0] for c in come)
        changed = sum((lost & gained).values())
    return Counter(
        unchanged=len(before) - len(gone),
        changed=changed,
        removed=len(gone) - changed,
        added=len(come) - changed,
    )


def counted(found: RowDifference) -> Counter[str]:
    return Counter(
        unchanged=found.unchanged, changed=found.changed, removed=found.removed, added=found.added
    )


values = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "b", "", "1:a", "~"]),
        "n": st.sampled_from([None, 0, 1, 11]),
        "x": st.sampled_from([None, 0.5, 1.0, float("nan"), float("inf")]),
    }
)


def placed(rows: Sequence[Row], batch: str) -> list[Row]:
    return [
        {**row, "_source_object_id": f"{batch}{number % 2}", "_source_row": number,
         "_batch_id": batch}
        for number, row in enumerate(rows)
    ]  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(values, max_size=12), after=st.lists(values, max_size=12), keyed=st.booleans()
)
def test_rows_are_counted_as_by_hand(
    before: list[Row], after: list[Row], keyed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    # Places that the other side does not have: nothing can be paired by where it comes from.
    was, now = placed(before, "old"), placed(after, "new")
    found = compare_rows(
        written(was, folder / "before"),
        written(now, folder / "after"),
        key=["k"] if keyed else [],
        scratch=folder,
        samples=100,
    )
    assert counted(found) == expected(was, now, keyed)
    assert (found.before, found.after) == (len(was), len(now))
    kinds = Counter(
        "added" if s.before is None else "removed" if s.after is None else "changed"
        for s in found.samples
    )
    assert kinds["changed"] == found.changed
    assert (kinds["added"], kinds["removed"]) == (found.added, found.removed)
    for sample in found.samples:
        if sample.before is not None and sample.after is not None:
            assert content(dict(sample.before)) != content(dict(sample.after))
            assert sample.before["k"] == sample.after["k"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(values, st.one_of(st.none(), values)), max_size=12))
def test_without_a_key_a_row_is_known_by_where_it_comes_from(
    rows: list[tuple[Row, Row | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each row of a file is read once more and comes out alike, otherwise, or not at all; however
    they are matched, what is lost is what there is less of."""
    folder = tmp_path_factory.mktemp("rows")
    was = placed([row for row, _ in rows], "same")
    now = [
        {**old, **new, "_batch_id": "new"}
        for old, (_, new) in zip(was, rows, strict=True)
        if new is not None
    ]
    found = compare_rows(
        written(was, folder / "before"),
        written(now, folder / "after"),
        key=[],
        scratch=folder,
        samples=100,
    )
    by_hand = expected(was, now, keyed=False)
    assert found.unchanged == by_hand["unchanged"]
    assert found.changed + found.removed == by_hand["removed"]
    assert found.changed + found.added == by_hand["added"]
    for sample in found.samples:
        if sample.before is not None and sample.after is not None:
            place = ("_source_object_id", "_source_row")
            assert [sample.before[p] for p in place] == [sample.after[p] for p in place]


def rows_of(*contents: tuple[str | None, int | None], batch: str = "b") -> list[Row]:
    return placed([{"k": k, "n": n, "x": None} for k, n in contents], batch)


def test_a_row_that_only_moved_to_another_file_is_no_difference(tmp_path: Path) -> None:
    found = compare_rows(
        written(rows_of(("a", 1), ("b", 2), batch="one"), tmp_path / "before"),
        written(rows_of(("b", 2), ("a", 1), batch="two"), tmp_path / "after"),
        key=[],
        scratch=tmp_path,
    )
    assert counted(found) == Counter(unchanged=2)
    assert found.samples == ()


def test_a_changed_row_names_its_changed_columns(tmp_path: Path) -> None:
    found = compare_rows(
        written(rows_of(("a", 1), ("b", 2)), tmp_path / "before"),
        written(rows_of(("a", 1), ("b", 3)), tmp_path / "after"),
        key=["k"],
        scratch=tmp_path,
    )
    assert counted(found) == Counter(unchanged=1, changed=1)
    assert found.changed_columns == {"n": 1}
    (sample,) = found.samples
    assert sample.before is not None and sample.after is not None
    assert (sample.before["n"], sample.after["n"]) == (2, 3)


def test_a_key_with_a_null_in_it_is_no_key(tmp_path: Path) -> None:
    found = compare_rows(
        written(rows_of((None, 1), (None, 2), batch="x"), tmp_path / "before"),
        written(rows_of((None, 3), (None, 4), batch="y"), tmp_path / "after"),
        key=["k"],
        scratch=tmp_path,
    )
    assert counted(found) == Counter(removed=2, added=2)


def test_one_key_that_stands_more_often_than_before_changes_as_often_as_it_can(
    tmp_path: Path,
) -> None:
    found = compare_rows(
        written(rows_of(("a", 1), ("a", 2), ("a", 3)), tmp_path / "before"),
        written(rows_of(("a", 2), ("a", 9)), tmp_path / "after"),
        key=["k"],
        scratch=tmp_path,
    )
    assert counted(found) == Counter(unchanged=1, changed=1, removed=1)


def test_a_new_column_a_gone_column_and_a_wider_decimal_compare_by_value(tmp_path: Path) -> None:
    old = pa.schema(
        [
            ("k", pa.string()), ("d", pa.decimal128(12, 2)), ("gone", pa.string()),
            ("_source_object_id", pa.string()), ("_source_row", pa.int64()),
        ]
    )  # fmt: skip
    new = pa.schema(
        [
            ("k", pa.string()), ("d", pa.decimal128(14, 2)), ("fresh", pa.string()),
            ("_source_object_id", pa.string()), ("_source_row", pa.int64()),
        ]
    )  # fmt: skip
    origin = {"_source_object_id": "o", "_source_row": 1}
    price = Decimal("1.50")
    was = [{"k": k, "d": price, "gone": g, **origin} for k, g in (("a", None), ("b", "x"))]
    now = [{"k": k, "d": price, "fresh": f, **origin} for k, f in (("a", None), ("b", "y"))]
    found = compare_rows(
        written(was, tmp_path / "before", old),
        written(now, tmp_path / "after", new),
        key=["k"],
        scratch=tmp_path,
    )
    assert counted(found) == Counter(unchanged=1, changed=1)
    assert found.changed_columns == {"fresh": 1, "gone": 1}


def test_a_key_of_which_a_side_has_no_column_is_none(tmp_path: Path) -> None:
    """Otherwise every row under a new key would be lost and another gained."""
    without = pa.schema([field for field in SCHEMA if field.name != "k"])
    was = [{name: row[name] for name in without.names} for row in rows_of(("a", 1), ("b", 2))]
    found = compare_rows(
        written(was, tmp_path / "before", without),
        written(rows_of(("a", 1), ("b", 2)), tmp_path / "after"),
        key=["k"],
        scratch=tmp_path,
    )
    assert counted(found) == Counter(changed=2)
    assert found.changed_columns == {"k": 2}


@pytest.mark.parametrize("side", ["before", "after", "neither"])
def test_a_side_without_rows_is_all_added_or_all_removed(tmp_path: Path, side: str) -> None:
    rows = written(rows_of(("a", 1), ("b", 2)), tmp_path / "given")
    found = compare_rows(
        rows if side == "before" else [],
        rows if side == "after" else [],
        key=["k"],
        scratch=tmp_path,
    )
    wanted = {"before": Counter(removed=2), "after": Counter(added=2), "neither": Counter()}[side]
    assert counted(found) == wanted


def test_no_more_samples_are_given_than_were_asked_for(tmp_path: Path) -> None:
    many = [(f"k{n}", n) for n in range(50)]
    found = compare_rows(
        [], written(rows_of(*many), tmp_path / "after"), key=["k"], scratch=tmp_path, samples=3
    )
    assert (found.added, len(found.samples)) == (50, 3)
