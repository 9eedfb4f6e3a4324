"""Figures of many rows: exact, mergeable, and judged as the contract says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.contract.expressions import polars_type
from service_core.contract.model import (
    ColumnType,
    Contract,
    Expectation,
    LogicalType,
    Matches,
    Metric,
    OneOf,
    SetRule,
    Unit,
)
from service_core.curation.set_rules import Figure, figure_of, holds, measure, merge_figures
from tests.canonical_batches import NOON, column, orders

L = LogicalType


def contract_of(kind: ColumnType, rule: SetRule) -> Contract:
    return orders(
        columns=(column("value", kind.logical, type=kind),), row_rules=(), set_rules=(rule,)
    )


def rule(metric: Metric, **changes: Any) -> SetRule:
    known: dict[str, Any] = {"columns": ("value",), "expectation": Expectation(minimum=0)}
    return SetRule("r", metric, **known | changes)


def figure(
    kind: ColumnType, of: SetRule, parts: Sequence[Sequence[Any]], now: datetime = NOON
) -> float | None:
    """The figure of values that came in several blocks."""
    contract = contract_of(kind, of)
    merged: Any = {}
    for values in parts:
        frame = pl.DataFrame(
            {"value": pl.Series(values, dtype=polars_type(kind)), "owner": ["a"] * len(values)}
        )
        merged = merge_figures(merged, measure(contract, frame, "owner").get("a", {}))
    rows = sum(len(values) for values in parts)
    return figure_of(contract, of, merged.get("r", Figure()), rows, now)


TEXT, INT = ColumnType(L.STRING), ColumnType(L.INTEGER)
DEC, DOUBLE = ColumnType(L.DECIMAL, 38, 2), ColumnType(L.DOUBLE)


@pytest.mark.parametrize(
    ("kind", "of", "parts", "wanted"),
    [
        (TEXT, rule(Metric.ROW_COUNT, columns=()), [["a", None], ["b"]], 3.0),
        (TEXT, rule(Metric.NULL_VALUES), [["a", None], [None]], 2.0),
        (TEXT, rule(Metric.NULL_VALUES, unit=Unit.PERCENT), [["a", None], [None, "b"]], 50.0),
        (TEXT, rule(Metric.NULL_VALUES, unit=Unit.PERCENT), [], 0.0),
        (TEXT, rule(Metric.INVALID_VALUES, invalid_if=OneOf(("a",))), [["a", "b", None]], 1.0),
        (TEXT, rule(Metric.INVALID_VALUES, invalid_if=Matches("[a-z]")), [["a"], ["ab"]], 1.0),
        (INT, rule(Metric.SUM), [[2**62, 2**62], [2**62, 2**62]], float(2**64)),
        (INT, rule(Metric.SUM), [[None], [1]], 1.0),
        (INT, rule(Metric.SUM), [], 0.0),
        (DEC, rule(Metric.SUM), [[Decimal("0.10")] * 3, [Decimal("-0.30")]], 0.0),
        (DEC, rule(Metric.SUM), [[Decimal("9" * 36)] * 300], float(Decimal("9" * 36) * 300)),
        (DOUBLE, rule(Metric.SUM), [[0.1] * 10], 1.0),
        (DOUBLE, rule(Metric.SUM), [[1e308, 1e308], [-1e308, -1e308]], 0.0),
        (DOUBLE, rule(Metric.SUM), [[1e308, 1e308]], float("inf")),
        (ColumnType(L.DOUBLE, allow_special=True), rule(Metric.SUM), [[float("inf"), 1.0]],
         float("inf")),
    ],
)  # fmt: skip
def test_a_figure_is_exact(
    kind: ColumnType, of: SetRule, parts: list[list[Any]], wanted: float
) -> None:
    assert figure(kind, of, parts) == wanted


@pytest.mark.parametrize(
    ("kind", "values", "seconds"),
    [
        (ColumnType(L.TIMESTAMP_TZ), [NOON - timedelta(hours=2), NOON - timedelta(hours=1)], 3600),
        (ColumnType(L.TIMESTAMP), [datetime(2026, 11, 21, 11)], 3600),
        (ColumnType(L.DATE), [date(2026, 11, 21), date(2026, 11, 20), None], 12 * 3600),
    ],
)
def test_freshness_is_the_age_of_the_latest_value(
    kind: ColumnType, values: list[Any], seconds: float
) -> None:
    of = rule(Metric.FRESHNESS, unit=Unit.SECONDS)
    assert figure(kind, of, [values[:1], values[1:]]) == seconds


def test_no_value_is_never_fresh() -> None:
    of = rule(Metric.FRESHNESS, unit=Unit.SECONDS, expectation=Expectation(maximum=1e12))
    found = figure(ColumnType(L.DATE), of, [[None]])
    assert found is None
    assert not holds(of, found)


@pytest.mark.parametrize(
    ("expectation", "found", "held"),
    [
        (Expectation(minimum=1), 1.0, True),
        (Expectation(minimum=1, exclusive_minimum=True), 1.0, False),
        (Expectation(maximum=1), 1.5, False),
        (Expectation(maximum=1, exclusive_maximum=True), 1.0, False),
        (Expectation(equal=0.3), 0.3, True),
        (Expectation(unequal=3), 3.0, False),
        (Expectation(outside=(1, 2)), 1.5, False),
        (Expectation(outside=(1, 2)), 2.5, True),
    ],
)
def test_a_figure_is_compared_as_declared(
    expectation: Expectation, found: float, held: bool
) -> None:
    assert holds(rule(Metric.ROW_COUNT, expectation=expectation), found) is held


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(FINITE, max_size=20), cut=st.integers(0, 20))
def test_the_sum_of_doubles_does_not_depend_on_where_blocks_were_cut(
    values: list[float], cut: int
) -> None:
    whole = figure(DOUBLE, rule(Metric.SUM), [values])
    assert whole == figure(DOUBLE, rule(Metric.SUM), [values[:cut], values[cut:]])
    assert whole == figure(DOUBLE, rule(Metric.SUM), [values[::-1]])
    exact = sum((Fraction(value) for value in values), Fraction())
    try:
        assert whole == float(exact)
    except OverflowError:
        assert whole in (float("inf"), float("-inf"))


def test_source_objects_of_one_block_are_measured_apart() -> None:
    contract = contract_of(INT, rule(Metric.SUM))
    frame = pl.DataFrame({"value": [1, 2, 3], "owner": ["a", "b", "a"]})
    measured = measure(contract, frame, "owner")
    assert {owner: figures["r"].total for owner, figures in measured.items()} == {"a": 4, "b": 2}
