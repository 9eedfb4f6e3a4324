"""Set rules: figures of many rows, exact and mergeable, and what they must be.

Sums are kept as whole numbers of a fixed unit, of doubles too, so that a figure does not depend on
the order of rows or on where blocks were cut. Distinct values cannot be merged from figures; they
are counted by `service_core.curation.uniqueness`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from service_core.contract.model import (
    Contract,
    LogicalType,
    Metric,
    SetRule,
    Unit,
)
from service_core.curation.judgement import row_test

if TYPE_CHECKING:
    import numpy
    import polars as pl

#: Metrics that are counted over the staged rows, not merged from blocks.
BY_KEYS = frozenset({Metric.DUPLICATE_VALUES, Metric.DISTINCT_COUNT})

#: A double is a whole number of 2**-1074; its 53-bit fraction by `frexp` needs 53 more.
_DOUBLE_UNIT = 1074 + 53


@dataclass(frozen=True, slots=True)
class Figure:
    """A partial figure.

    Attributes:
        count: Rows counted: nulls, invalid values.
        total: A sum, in units of 10**-scale, or of 2**-1127 for doubles.
        special: The sum of what is no finite number.
        latest: The latest value, in UTC.
    """

    count: int = 0
    total: int = 0
    special: float = 0.0
    latest: datetime | None = None

    def merged(self, other: Figure) -> Figure:
        latest = [value for value in (self.latest, other.latest) if value is not None]
        return Figure(
            self.count + other.count,
            self.total + other.total,
            self.special + other.special,
            max(latest, default=None),
        )


def merge_figures(one: Mapping[str, Figure], two: Mapping[str, Figure]) -> Mapping[str, Figure]:
    """Figures by rule name; a rule that only one side knows keeps that side's."""
    if not one or not two:
        return one or two
    return {
        name: one.get(name, Figure()).merged(two.get(name, Figure())) for name in {**one, **two}
    }


def measures(contract: Contract) -> bool:
    """Whether a contract has set rules that need more of a block than its row count."""
    return any(rule.metric in _MEASURED for rule in contract.set_rules)


def measure(contract: Contract, frame: pl.DataFrame, owner: str) -> dict[Any, dict[str, Figure]]:
    """Partial figures of accepted rows.

    Args:
        contract: Whose set rules.
        frame: Accepted rows, typed, with a column that names each row's source object.
        owner: That column.

    Returns:
        By that column's values, then by rule; only for rules that need more than a row count.
    """
    import polars as pl

    rules = [r for r in contract.set_rules if r.metric in _MEASURED]
    if not rules or frame.is_empty():
        return {}
    parts: list[pl.Expr] = []
    for index, rule in enumerate(rules):
        parts += _parts(contract, rule, str(index))
    if (frame[owner] == frame[owner][0]).all():
        # Nearly every block is of one object, and grouping gathers all rows anew.
        table = frame.select(pl.col(owner).first(), *parts)
    else:
        table = frame.group_by(owner, maintain_order=True).agg(parts)
    sums = {
        index: _exact_sums(frame, rule.columns[0], owner)
        for index, rule in enumerate(rules)
        if rule.metric is Metric.SUM and _kind(contract, rule) is LogicalType.DOUBLE
    }
    measured: dict[Any, dict[str, Figure]] = {}
    for row in table.iter_rows(named=True):
        name = row[owner]
        measured[name] = {
            rule.name: sums[index][name] if index in sums else _figure(row.get(str(index)), rule)
            for index, rule in enumerate(rules)
        }
    return measured


def figure_of(
    contract: Contract, rule: SetRule, partial: Figure, rows: int, now: datetime
) -> float | None:
    """The figure itself, in the rule's unit; None where there is nothing to take it of.

    Args:
        contract: For the column's scale.
        rule: Which figure.
        partial: What was measured; for `BY_KEYS`, its `count`.
        rows: Accepted rows.
        now: For freshness.
    """
    match rule.metric:
        case Metric.ROW_COUNT:
            return float(rows)
        case Metric.FRESHNESS:
            if partial.latest is None:
                return None
            return (now - partial.latest).total_seconds()
        case Metric.SUM:
            if partial.special or partial.special != partial.special:
                return partial.special
            column = contract.column(rule.columns[0])
            match column.type.logical:
                case LogicalType.DECIMAL:
                    return float(Fraction(partial.total, 10**column.type.scale))
                case LogicalType.DOUBLE:
                    return _as_float(Fraction(partial.total, 2**_DOUBLE_UNIT))
                case _:
                    return float(partial.total)
        case _:
            if rule.unit is Unit.PERCENT:
                return 100.0 * partial.count / rows if rows else 0.0
            return float(partial.count)


def holds(rule: SetRule, figure: float | None) -> bool:
    """Whether a figure is as expected; where there is nothing to take it of, it is not."""
    return figure is not None and rule.expectation.holds(figure)


_MEASURED = frozenset({Metric.NULL_VALUES, Metric.INVALID_VALUES, Metric.SUM, Metric.FRESHNESS})


def _kind(contract: Contract, rule: SetRule) -> LogicalType:
    return contract.column(rule.columns[0]).type.logical


def _parts(contract: Contract, rule: SetRule, name: str) -> list[pl.Expr]:
    """The aggregates of one rule, the first of them called `name`."""
    import polars as pl

    column = contract.column(rule.columns[0])
    value = pl.col(column.name)
    match rule.metric:
        case Metric.NULL_VALUES:
            return [value.is_null().sum().alias(name)]
        case Metric.INVALID_VALUES:
            if rule.invalid_if is None:
                return [pl.lit(0).alias(name)]
            passes = row_test(rule.invalid_if, column.type, column.name)
            return [passes.not_().sum().alias(name)]
        case Metric.FRESHNESS:
            return [value.max().alias(name)]
        case Metric.SUM:
            if column.type.logical is LogicalType.INTEGER:
                return [value.cast(pl.Int128()).sum().alias(name)]
            if column.type.logical is LogicalType.DECIMAL:
                # Two halves, because the sum of 38 digits needs more than 128 bits.
                return [
                    pl.struct(
                        high=value.to_physical().floordiv(2**64).sum(),
                        low=value.to_physical().mod(2**64).sum(),
                    ).alias(name)
                ]
    return []


def _figure(value: Any, rule: SetRule) -> Figure:
    match rule.metric:
        case Metric.SUM:
            if isinstance(value, dict):
                return Figure(total=(int(value["high"]) << 64) + int(value["low"]))
            return Figure(total=int(value or 0))
        case Metric.FRESHNESS:
            return Figure(latest=_instant(value))
        case _:
            return Figure(count=int(value or 0))


def _instant(value: date | datetime | None) -> datetime | None:
    """A value as an instant: a date is its midnight, and a timestamp without zone is UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _exact_sums(frame: pl.DataFrame, column: str, owner: str) -> dict[Any, Figure]:
    """Exact sums of doubles, by source object."""
    return {
        key[0]: _exact_sum(rows[column].drop_nulls().to_numpy())
        for key, rows in frame.select(owner, column).partition_by(owner, as_dict=True).items()
    }


def _exact_sum(values: numpy.ndarray[Any, Any]) -> Figure:
    import numpy

    finite = numpy.isfinite(values)
    special = float(values[~finite].sum())
    fractions, exponents = numpy.frexp(values[finite])
    whole = (fractions * 2.0**53).astype(numpy.int64)
    total = 0
    for exponent in numpy.unique(exponents):
        # Halves of 32 bits, so that 2**31 rows cannot overflow their sum.
        of_exponent = whole[exponents == exponent]
        high, low = of_exponent >> 32, of_exponent & 0xFFFFFFFF
        units = (int(high.sum()) << 32) + int(low.sum())
        total += units << (int(exponent) - 53 + _DOUBLE_UNIT)
    return Figure(total=total, special=special)


def _as_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
