"""Columns that repeat are worked on value by value; every outcome is that of going row by row."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.canonical import accepted_schema, canonical_schema
from service_core.contract.model import (
    Case,
    Column,
    ColumnType,
    Contract,
    Dialect,
    DriftPolicies,
    DriftPolicy,
    Expectation,
    FileFormat,
    Format,
    Holds,
    LengthWithin,
    LogicalType,
    Matches,
    Metric,
    Normalisation,
    OneOf,
    Required,
    RowRule,
    SetRule,
    Within,
)
from service_core.curation.distinct import Columns
from service_core.curation.kernel import CuratedBlock, compile_kernel, curate_block
from service_core.curation.staging import Origins, blocks
from service_core.dictionaries import worth_a_dictionary
from service_core.manifest import Manifest, Origin
from service_core.reasons import ReasonCode, Severity
from service_core.validation.parts import PartWriter as ValidatedParts
from tests.canonical_batches import NOON, PARTITION, canonical, column, landed, orders, shape

A, B = landed("a.csv"), landed("b.csv")
L = LogicalType
TRIMMED = Normalisation(trim=True, case=Case.UPPER, null_if=("n/a",))


def everything(policy: DriftPolicy = DriftPolicy.QUARANTINE_ROWS) -> Contract:
    """A column of every type, and a rule of every kind, on columns that may repeat."""
    kinds = {
        "text": ColumnType(L.STRING),
        "folded": ColumnType(L.STRING),
        "whole": ColumnType(L.INTEGER),
        "exact": ColumnType(L.DECIMAL, 12, 2),
        "double": ColumnType(L.DOUBLE, allow_special=True),
        "truth": ColumnType(L.BOOLEAN),
        "day": ColumnType(L.DATE),
        "clock": ColumnType(L.TIME),
        "local": ColumnType(L.TIMESTAMP),
        "instant": ColumnType(L.TIMESTAMP_TZ),
        "document": ColumnType(L.JSON),
    }
    columns = [column(name, kind.logical, type=kind) for name, kind in kinds.items()]
    columns[1] = replace(columns[1], normalisation=TRIMMED)
    columns[2] = replace(columns[2], normalisation=TRIMMED)
    columns.append(Column(name="next", type=ColumnType(L.INTEGER), derived="whole + 1"))

    def rule(name: str, test: Any, code: ReasonCode = ReasonCode.RULE) -> RowRule:
        return RowRule(f"{name}_{type(test).__name__}", (name,), test, code)

    return Contract(
        dataset="orders",
        version="1.0.0",
        hash="0123456789abcdef",
        path=orders().path,
        landing=orders().landing,
        format=Format(FileFormat.CSV, dialect=Dialect(null_values=("", "NULL"))),
        columns=tuple(columns),
        drift=DriftPolicies(type=policy),
        row_rules=(
            rule("text", Required()),
            rule("text", LengthWithin(1, 5)),
            rule("folded", OneOf(("EUR", "USD"))),
            replace(rule("folded", Matches("[A-Z]*")), severity=Severity.WARNING),
            rule("whole", Within(0, 100)),
            rule("whole", Matches("[0-9]+")),
            rule("exact", Within(Decimal("0.5"))),
            rule("double", Within(-1e6, 1e6)),
            rule("day", Within(date(2000, 1, 1))),
            RowRule("sense", (), Holds("whole > 2 OR text IS NULL"), ReasonCode.RULE),
        ),
        set_rules=(
            SetRule("nulls", Metric.NULL_VALUES, ("folded",), Expectation(maximum=1)),
            SetRule("sum", Metric.SUM, ("exact",), Expectation(maximum=1)),
        ),
    )


TEXTS = (
    ["", " ", "NULL", "null", "1", " 7 ", "12.50", "1e3", "NaN", "eur", " EUR", "n/a", "N/A", "ſ"],
    ["TRUE", "2026-02-28", "2026-02-30", "10:00:00", "2026-01-01T10:00:00", "[1]", "{", "\x00"],
    ["2026-01-01T10:00:00Z", "2026-01-01 10:00:00.5+05:30", "9" * 40, "6", "é" * 6],
)
HOSTILE = st.one_of(
    st.none(), st.sampled_from([text for line in TEXTS for text in line]), st.text(max_size=6)
)


@st.composite
def repeating_rows(draw: st.DrawFn) -> list[dict[str, str | None]]:
    """Rows whose columns have few values each."""
    names = [c.name for c in everything().landed_columns]
    few = {name: draw(st.lists(HOSTILE, min_size=1, max_size=3)) for name in names}
    places = st.fixed_dictionaries({n: st.integers(0, len(v) - 1) for n, v in few.items()})
    chosen = draw(st.lists(places, min_size=1, max_size=10))
    return [{name: few[name][place] for name, place in one.items()} for one in chosen] * 3


def encoded(table: pa.Table, names: list[str], cut: int, unused: list[str | None]) -> pa.Table:
    """A table with columns dictionary-encoded in two chunks, each with a dictionary of its own in
    which values stand that no row has."""
    for name in names:
        chunks = []
        for part in (table.column(name).slice(0, cut), table.column(name).slice(cut)):
            array = pc.dictionary_encode(part.combine_chunks())
            array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
            more = pa.array([u for u in unused if u is not None], pa.string())
            dictionary = pa.concat_arrays([array.dictionary, more])
            chunks.append(pa.DictionaryArray.from_arrays(array.indices, dictionary))
        table = table.set_column(
            table.column_names.index(name), name, pa.chunked_array(chunks, chunks[0].type)
        )
    return table


def plain(block: CuratedBlock, contract: Contract) -> list[dict[str, Any]]:
    schema = accepted_schema(contract)
    types = pa.schema([schema.field(name) for name in block.accepted.column_names])
    rows: list[dict[str, Any]] = block.accepted.cast(types).to_pylist()
    return rows


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=repeating_rows(),
    data=st.data(),
    policy=st.sampled_from([p for p in DriftPolicy if p is not DriftPolicy.QUARANTINE_FILE]),
)
def test_whatever_repeats_every_row_and_figure_is_as_if_nothing_did(
    rows: list[dict[str, str | None]], data: st.DataObject, policy: DriftPolicy
) -> None:
    contract = everything(policy)
    kernel = compile_kernel(contract)
    table = canonical(contract, {A: rows, B: rows[:1]})
    names = [c.name for c in contract.landed_columns]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    cut = data.draw(st.integers(0, table.num_rows))
    unused = data.draw(st.lists(HOSTILE, max_size=2))
    by_row = curate_block(kernel, table)
    by_value = curate_block(kernel, encoded(table, chosen, cut, unused))
    assert repr(plain(by_value, contract)) == repr(plain(by_row, contract))
    assert by_value.diverted.to_pylist() == by_row.diverted.to_pylist()
    assert by_value.diverted.schema == by_row.diverted.schema
    assert by_value.tallies == by_row.tallies
    assert by_value.samples == by_row.samples


def test_a_column_that_repeats_is_indeed_worked_on_by_value() -> None:
    """Else the comparison above compares nothing."""
    table = pa.table({"a": pa.array(["x", None, "x", "x"]).dictionary_encode(), "b": list("wxyz")})
    columns = Columns.of_text(table, ["a", "b"])
    assert list(columns.distinct) == ["a"]
    assert columns.distinct["a"].values.to_list() == ["x", None]
    seen: list[int] = []

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        seen.append(frame.height)
        return frame.select(pl.all().str.to_uppercase())

    assert columns.each(["a", "b"], change).frame.to_dict(as_series=False) == {
        "a": ["X", None, "X", "X"],
        "b": list("WXYZ"),
    }
    assert sorted(seen) == [2, 4]


def test_a_dictionary_as_long_as_the_column_is_no_help_and_not_used() -> None:
    table = pa.table({"a": pa.array(list("abcd")).dictionary_encode()})
    columns = Columns.of_text(table, ["a"])
    assert not columns.distinct
    assert columns.frame["a"].to_list() == list("abcd")


def test_the_text_of_a_unique_key_is_never_left_encoded() -> None:
    """Hashes of keys are compared across blocks; a dictionary's codes mean nothing there."""
    contract = orders(
        columns=tuple(
            replace(c, primary_key=2) if c.name == "currency" else c for c in orders().columns
        )
    )
    assert contract.unique_keys == (("order_id", "currency"),)
    rows = [
        {"order_id": f"O{n}", "amount": "1", "currency": "EUR", "email": "a@b"} for n in range(9)
    ]
    table = canonical(contract, {A: rows})
    names = ["order_id", "currency", "email"]
    accepted = curate_block(compile_kernel(contract), encoded(table, names, 4, [])).accepted
    assert accepted.schema.field("currency").type == pa.string()
    assert pa.types.is_dictionary(accepted.schema.field("email").type)
    assert accepted.column("currency").to_pylist() == ["EUR"] * 9


def test_a_rule_that_only_an_unused_value_breaks_is_kept() -> None:
    contract = orders()
    rows = [{"order_id": f"O{n}", "currency": "EUR"} for n in range(6)]
    table = encoded(canonical(contract, {A: rows}), ["currency"], 3, ["XXX"])
    block = curate_block(compile_kernel(contract), table)
    assert (block.accepted.num_rows, block.diverted.num_rows) == (6, 0)
    assert block.tallies[A.id].broken == {}


def drawn(rows: int, distinct: int) -> list[int]:
    """Values that repeat at random distances, as those of a busy hour do."""
    draw = Random(1)
    return [draw.randrange(distinct) for _ in range(rows)]


COLUMNS: dict[str, tuple[list[Any], bool]] = {
    "two texts": (["a", "b"] * 5_000, True),
    "nulls": ([None] * 100, True),
    "texts all unlike": ([str(n) for n in range(20_000)], False),
    "a fourth of the texts, six in ten of a sample": (
        [str(n) for n in drawn(40_000, 10_000)],
        True,
    ),
    "six in ten of the texts": ([str(n) for n in drawn(20_000, 20_000)], False),
    "texts all unlike, most of them null": (
        [str(n) if n % 7 == 0 else None for n in range(20_000)],
        False,
    ),
    "three numbers": ([n % 3 for n in range(1_000)], True),
    "a fourth of the numbers": ([Decimal(n) for n in drawn(40_000, 10_000)], False),
    "one number in forty": (drawn(100_000, 2_500), True),
    "lists": ([[1], [1]], False),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_worth_a_dictionary_where_its_values_repeat(name: str) -> None:
    values, worth = COLUMNS[name]
    assert worth_a_dictionary(pa.table({"x": values})) == (["x"] if worth else [])


def test_a_column_without_rows_is_no_special_case() -> None:
    assert worth_a_dictionary(pa.table({"x": pa.array([], pa.string())})) == ["x"]


def origins_of(contract: Contract) -> Origins:
    manifest = Manifest(
        dataset=contract.dataset,
        partition=PARTITION,
        contract_version=contract.version,
        contract_hash=contract.hash,
        origin=Origin.SENSOR,
        objects=(A,),
        created_at=NOON,
    )
    return Origins.of(contract, manifest)


def _path(stem: Path, number: int) -> Path:
    return stem.with_suffix(f".{number}")


def test_reading_by_dictionary_and_writing_from_it_change_no_row(tmp_path: Path) -> None:
    contract = everything()
    origins = origins_of(contract)
    rows = [
        {"text": f"t{n % 3}", "whole": str(n), "folded": "EUR" if n < 60 else " eur"}
        for n in range(99)
    ]

    def shipped(_: int, path: Path) -> str:
        shutil.copy(path, tmp_path / "canonical.parquet")
        return ""

    parts = ValidatedParts(
        canonical_schema(contract), lambda number: tmp_path / f"{number}.part", shipped
    )
    parts.add(canonical(contract, {A: rows}))
    parts.finish()
    written = []
    for asked in (False, True):
        writer = origins.accepted_writer(partial(_path, tmp_path / str(asked)))
        for block in blocks([tmp_path / "canonical.parquet"], rows=40, encoded=asked):
            assert pa.types.is_dictionary(block.schema.field("text").type) is asked
            curated = curate_block(compile_kernel(contract), block)
            writer.add(origins.accepted(curated.accepted))
        (part,) = writer.finish()
        written.append(pq.read_table(part.path))
    assert written[0].schema == written[1].schema
    assert shape(written[0].schema) == shape(accepted_schema(contract))
    assert written[0].to_pylist() == written[1].to_pylist()
    # `sense` takes the first three.
    assert written[0].num_rows == 96


def test_files_of_accepted_rows_tell_the_bounds_of_keys_and_origin_and_of_no_free_text(
    tmp_path: Path,
) -> None:
    """Readers pass over files and row groups by them."""
    contract = orders()
    table = canonical(contract, {A: [{"order_id": f"O{n}", "email": "a@b"} for n in range(9)]})
    writer = origins_of(contract).accepted_writer(partial(_path, tmp_path / "accepted"))
    for block in (table, encoded(table, ["email"], 5, [])):
        accepted = curate_block(compile_kernel(contract), block).accepted
        writer.add(origins_of(contract).accepted(accepted))
    (part,) = writer.finish()
    metadata = pq.read_metadata(part.path)
    bounded = {
        column.path_in_schema
        for group in range(metadata.num_row_groups)
        for place in range(metadata.num_columns)
        if (column := metadata.row_group(group).column(place)).is_stats_set
    }
    texts = {"currency", "email", "_extra"}
    assert bounded == set(accepted_schema(contract).names) - texts
