"""SQL over a row: what is accepted gives each row its own result, wherever the row stands."""

from __future__ import annotations

import polars as pl
import pytest

from service_core.contract.expressions import (
    columns_named,
    compute,
    derivation_problem,
    polars_type,
    rule_problem,
)
from service_core.contract.model import Column, ColumnType, LogicalType

KINDS = {
    "word": ColumnType(LogicalType.STRING),
    "count": ColumnType(LogicalType.INTEGER),
    "amount": ColumnType(LogicalType.DECIMAL, 12, 2),
    "ratio": ColumnType(LogicalType.DOUBLE),
    "flag": ColumnType(LogicalType.BOOLEAN),
    "day": ColumnType(LogicalType.DATE),
    "clock": ColumnType(LogicalType.TIME),
    "local": ColumnType(LogicalType.TIMESTAMP),
    "at": ColumnType(LogicalType.TIMESTAMP_TZ),
    "extra": ColumnType(LogicalType.JSON),
}
COLUMNS = [Column(name, kind, name) for name, kind in KINDS.items()]


@pytest.mark.parametrize(
    "sql",
    [
        "count > 1",
        "amount * count <= 100.50",
        "amount / count < 3",
        "ratio BETWEEN 0 AND 1",
        "word IN ('one', 'two')",
        "word NOT IN ('one') OR flag",
        "word LIKE 'o%' AND NOT flag",
        "word ~ '^[a-z]+$'",
        "day >= DATE '2026-01-01'",
        "day >= '2026-01-01'",
        "CAST(at AS DATE) = day",
        "at > TIMESTAMP WITH TIME ZONE '2026-01-01 00:00:00+00'",
        "local > TIMESTAMP '2026-01-01'",
        "EXTRACT(YEAR FROM at) = 2026",
        "LENGTH(word) = 3",
        "COALESCE(count, 0) % 5 = 0",
        "word IS NULL OR count IS NOT NULL",
        "CASE WHEN count > 1 THEN flag ELSE TRUE END",
        '"count" > 1',
        "count > 1 -- with a remark",
        "TRY_CAST(word AS INT) > 1",
        "word = 'select now() over'",
    ],
)
def test_an_expression_over_the_row_is_a_rule(sql: str) -> None:
    assert rule_problem(sql, COLUMNS) is None


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("MAX(count) = count", "it"),
        ("count = COUNT(*)", "it"),
        ("RANK() OVER (ORDER BY count) = 1", "looks at other rows"),
        ("count IN (SELECT count FROM self)", "looks at other rows"),
        ("LAG(count) = 1", "it"),
        ("NOW() > local", "another result each time"),
        ("at > CURRENT_TIMESTAMP", "another result each time"),
        ("TRUE", "own columns"),
        ("count > 1; DROP TABLE self", "does not parse"),
        ("count > 1) AS a, (count > 2", "does not parse"),
        ("*", "does not parse"),
        ("count > 'x'", "does not run"),
        ("COUNT > 1", "which is not there. Did you mean `count`?"),
        ("CAST(word AS DATE) = day", "use TRY_CAST"),
        ("amount = '1.00'", "compares a decimal with text"),
        ("count + 1", "not true or false"),
        (" ", "it is empty"),
        ("count = 1\0", "NUL"),
    ],
)
def test_an_expression_that_sees_more_than_its_row_or_cannot_run_is_refused(
    sql: str, part: str
) -> None:
    problem = rule_problem(sql, COLUMNS)
    assert problem is not None
    assert part in problem


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("amount * count", ColumnType(LogicalType.DECIMAL, 20, 2)),
        ("count", ColumnType(LogicalType.DECIMAL, 20, 2)),
        ("amount", ColumnType(LogicalType.DOUBLE)),
        ("LENGTH(word)", ColumnType(LogicalType.INTEGER)),
        ("UPPER(word)", ColumnType(LogicalType.STRING)),
        ("CAST(at AS DATE)", ColumnType(LogicalType.DATE)),
        ("count IS NULL", ColumnType(LogicalType.BOOLEAN)),
        ("at", ColumnType(LogicalType.TIMESTAMP_TZ)),
    ],
)
def test_a_result_that_becomes_the_column_without_loss_can_be_derived(
    sql: str, kind: ColumnType
) -> None:
    assert derivation_problem(sql, COLUMNS, kind) is None


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("amount * 0.001", ColumnType(LogicalType.DECIMAL, 20, 2)),
        ("ratio", ColumnType(LogicalType.DECIMAL, 20, 2)),
        ("ratio", ColumnType(LogicalType.INTEGER)),
        ("count", ColumnType(LogicalType.STRING)),
        ("at", ColumnType(LogicalType.TIMESTAMP)),
        ("local", ColumnType(LogicalType.DATE)),
        ("NULLIF(count, count)", ColumnType(LogicalType.BOOLEAN)),
    ],
)
def test_a_result_that_would_lose_something_cannot_be_derived(sql: str, kind: ColumnType) -> None:
    problem = derivation_problem(sql, COLUMNS, kind)
    assert problem is not None
    assert "without loss" in problem


def test_compute_adds_each_result_beside_the_rows() -> None:
    frame = pl.LazyFrame({"a": [1, None], "b": [2, 3]})
    result = compute(frame, {"c": "a * b", "d": "a IS NULL -- said"}).collect()
    assert result.rows() == [(1, 2, 2, False), (None, 3, None, True)]
    assert compute(frame, {}) is frame


def test_the_columns_of_an_expression_are_named_in_their_order() -> None:
    assert columns_named("word = 'count' OR amount > 1 AND \"day\" IS NULL", COLUMNS) == (
        "word",
        "amount",
        "day",
    )


def test_every_type_has_a_polars_type() -> None:
    frame = pl.DataFrame(schema={name: polars_type(kind) for name, kind in KINDS.items()})
    assert frame.schema["amount"] == pl.Decimal(12, 2)
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
