"""Row rules, and the rows that break them, as pandera names them.

A rule has one meaning, the Polars expression made here. A block is first asked, in one query, which
rules hold for all of it; the rest become a pandera schema, whose failure cases name the rows. Most
rules of most blocks hold, and pandera takes 17 ms to say so of 16 rules, whatever the rows.

A null breaks no rule but `Required`: it is not out of range, not of the wrong shape, and an
expression that gives null counts as true, as in an SQL CHECK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING, Any

from service_core.contract.model import (
    Bound,
    Column,
    ColumnType,
    Contract,
    Holds,
    LengthWithin,
    LogicalType,
    Matches,
    OneOf,
    Required,
    RowRule,
    RowTest,
    Typed,
    Within,
)
from service_core.lexical import typed

if TYPE_CHECKING:
    import polars as pl

    from service_core.curation.distinct import Distinct

_INTEGERS = (-(2**63), 2**63 - 1)
_DECIMAL_DIGITS = 38
_EXACT = Context(prec=400)
_TEXT = frozenset({LogicalType.STRING, LogicalType.JSON})


class UnjudgeableRuleError(Exception):
    """A rule cannot be executed. The contract's loader refuses such rules; this is for contracts
    that were made without it."""


@dataclass(frozen=True, slots=True)
class _Test:
    """A rule as Polars runs it: over the column `place`, under the name that `_judged` gives it."""

    place: str
    passes: pl.Expr


@dataclass(frozen=True, slots=True)
class Judge:
    """A contract's row rules, ready to be run. Made by `compile_judge`, and not picklable.

    Attributes:
        rules: The rules that are run, without `Typed`, which typing itself judges.
        texts: Names of columns that are judged by their text though they are of another type, by
            the name that the text has in the frame.
        expressions: SQL by the name that its outcome has in the frame, for `Holds`.
    """

    rules: tuple[RowRule, ...]
    texts: Mapping[str, str]
    expressions: Mapping[str, str]
    _tests: tuple[_Test, ...] = field(repr=False)

    def failures(
        self, frame: pl.DataFrame, distinct: Mapping[str, Distinct] | None = None
    ) -> list[tuple[int, pl.Series]]:
        """Which rows break which rules.

        Args:
            frame: Typed columns, and beside them those that `texts` and `expressions` name.
            distinct: Of those that repeat, by name.

        Returns:
            Index into `rules` and ascending row indexes, for each rule that a row breaks.

        Raises:
            UnjudgeableRuleError: a rule cannot be executed.
        """
        broken = self._broken(frame, distinct or {})
        return self._named(frame, broken) if broken else []

    def _named(self, frame: pl.DataFrame, broken: Sequence[int]) -> list[tuple[int, pl.Series]]:
        """The rows that break those rules, by pandera's failure cases."""
        import polars as pl
        from pandera.config import ValidationDepth, config_context
        from pandera.errors import SchemaErrors

        # Under names of ours, because pandera has columns of its own (`check_output`).
        places = dict.fromkeys(self._tests[rule].place for rule in broken)
        judged = frame.select(pl.col(name).alias(_judged(name)) for name in places)
        try:
            # The environment can switch pandera off, or to schemas alone; a gate may not be.
            with config_context(
                validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA
            ):
                self._schema(broken).validate(judged, lazy=True)
        except SchemaErrors as errors:
            cases = errors.failure_cases.select("check", "index")
            if cases["index"].null_count():
                raise UnjudgeableRuleError(_why(errors)) from errors
            return [
                (int(rule[0]), rows["index"].cast(pl.UInt32).sort())
                for rule, rows in cases.partition_by("check", as_dict=True).items()
            ]
        return []

    def _broken(self, frame: pl.DataFrame, distinct: Mapping[str, Distinct]) -> list[int]:
        """The rules that do not hold for all of a frame.

        A column that repeats is judged by its distinct values, of which more rules may be said to
        be broken than are: no row may have the value at fault.
        """
        import polars as pl

        of_rows = frame.lazy().select(pl.col(n).alias(_judged(n)) for n in frame.columns)
        asked: dict[str, list[int]] = {}
        for rule, test in enumerate(self._tests):
            asked.setdefault(test.place if test.place in distinct else "", []).append(rule)
        queries = [
            (
                distinct[place].values.alias(_judged(place)).to_frame().lazy() if place else of_rows
            ).select(self._tests[rule].passes.all().alias(str(rule)) for rule in rules)
            for place, rules in asked.items()
        ]
        try:
            answers = pl.collect_all(queries)
        except pl.exceptions.PolarsError as error:
            raise UnjudgeableRuleError(f"A rule cannot be executed: {error}") from error
        return [
            int(rule)
            for answer in answers
            for rule, held in answer.row(0, named=True).items()
            if not held
        ]

    def _schema(self, rules: Sequence[int]) -> Any:
        """Those rules as a pandera schema."""
        import pandera.polars as pandera

        checks: dict[str, list[Any]] = {}
        for rule in rules:
            test = self._tests[rule]
            checks.setdefault(test.place, []).append(
                pandera.Check(
                    _check(test.passes),
                    name=self.rules[rule].name,
                    error=str(rule),
                    ignore_na=not isinstance(self.rules[rule].test, Required),
                )
            )
        return pandera.DataFrameSchema(
            {
                # Null is judged by the checks, because pandera takes NaN for null.
                _judged(name): pandera.Column(checks=of_column, nullable=True)
                for name, of_column in checks.items()
            }
        )


def compile_judge(contract: Contract) -> Judge:
    """Build the tests of a contract's row rules.

    Raises:
        UnjudgeableRuleError: a rule cannot be executed.
    """
    rules = tuple(r for r in contract.row_rules if not isinstance(r.test, Typed))
    texts: dict[str, str] = {}
    expressions: dict[str, str] = {}
    tests: list[_Test] = []
    for index, rule in enumerate(rules):
        if isinstance(rule.test, Holds):
            place = f"_holds:{index}"
            expressions[place] = rule.test.expression
            passes = _outcome(_judged(place))
        else:
            column = _column(contract, rule)
            place = column.name
            if isinstance(rule.test, Matches | LengthWithin) and column.type.logical not in _TEXT:
                place = texts.setdefault(column.name, f"_text:{column.name}")
            passes = row_test(rule.test, column.type, _judged(place))
        tests.append(_Test(place, passes))
    return Judge(rules, texts, expressions, tuple(tests))


def _judged(name: str) -> str:
    """A column's name in what pandera is given."""
    return f"judged:{name}"


def row_test(test: RowTest, kind: ColumnType, name: str) -> pl.Expr:
    """Whether the value in a frame's column passes a test: true, false, or null for a null.

    Args:
        test: Any test but `Holds` and `Typed`.
        kind: The column's type.
        name: Its name in the frame; for `Matches` and `LengthWithin`, a column of text.

    Raises:
        UnjudgeableRuleError: the test has no meaning for the type.
    """
    import polars as pl

    value = pl.col(name)
    match test:
        case Required():
            return value.is_not_null()
        case Matches(pattern):
            whole = rf"\A(?:{pattern})\z"
            try:
                pl.select(pl.lit("").str.contains(whole))
            except pl.exceptions.PolarsError as error:
                column = name.removeprefix(_judged(""))
                raise UnjudgeableRuleError(
                    f"The pattern {pattern!r} of {column} does not compile: {error}"
                ) from error
            return value.str.contains(whole)
        case OneOf(values):
            allowed = pl.Series("allowed", values, dtype=pl.String())
            of_type = pl.select(typed(pl.lit(allowed), kind)).to_series()
            if of_type.null_count():
                wrong = values[of_type.is_null().arg_max() or 0]
                raise UnjudgeableRuleError(
                    f"The allowed value {wrong!r} of {name.removeprefix(_judged(''))} "
                    f"is no {type_name(kind)}."
                )
            return value.is_in(of_type.to_list())
        case LengthWithin(minimum, maximum):
            length = value.str.len_chars()
            return _all([
                *([] if minimum is None else [length >= minimum]),
                *([] if maximum is None else [length <= maximum]),
            ], value)  # fmt: skip
        case Within():
            return _within(test, kind, value)
        case _:
            raise UnjudgeableRuleError(f"{type(test).__name__} is no test of one column.")


def type_name(kind: ColumnType) -> str:
    """A type as the documentation names it, such as `decimal(12,2)`."""
    if kind.logical is LogicalType.DECIMAL:
        return f"decimal({kind.precision},{kind.scale})"
    return kind.logical.value


def _within(test: Within, kind: ColumnType, value: pl.Expr) -> pl.Expr:
    import polars as pl

    match kind.logical:
        case LogicalType.INTEGER | LogicalType.DECIMAL:
            return _all(_exact_bounds(test, kind, value), value)
        case LogicalType.DOUBLE:
            # NaN lies in no range; Polars sorts it above infinity.
            conditions = [value.is_not_nan()]
            convert: Callable[[Any], Any] = float
        case LogicalType.DATE:
            conditions, convert = [], _as_datetime
            value = value.cast(pl.Datetime("us"))
        case LogicalType.TIMESTAMP:
            conditions, convert = [], _as_datetime
        case LogicalType.TIME:
            conditions, convert = [], _as_time
        case LogicalType.TIMESTAMP_TZ:
            conditions, convert = [], lambda bound: _as_datetime(bound).replace(tzinfo=UTC)
        case _:
            raise UnjudgeableRuleError(f"A {type_name(kind)} has no range.")
    if test.minimum is not None:
        low = convert(test.minimum)
        conditions.append(value > low if test.exclusive_minimum else value >= low)
    if test.maximum is not None:
        high = convert(test.maximum)
        conditions.append(value < high if test.exclusive_maximum else value <= high)
    return _all(conditions, value)


def _exact_bounds(test: Within, kind: ColumnType, value: pl.Expr) -> list[pl.Expr]:
    """Bounds moved inwards to the nearest value that the type can hold, so that nothing is
    compared as a double."""
    import polars as pl

    integer = kind.logical is LogicalType.INTEGER
    scale = 0 if integer else kind.scale
    unit = Decimal(1).scaleb(-scale)
    least, most = _INTEGERS if integer else (1 - 10**_DECIMAL_DIGITS, 10**_DECIMAL_DIGITS - 1)
    conditions = []
    for bound, exclusive, lower in (
        (test.minimum, test.exclusive_minimum, True),
        (test.maximum, test.exclusive_maximum, False),
    ):
        if bound is None:
            continue
        wanted = _as_decimal(bound)
        held = wanted.quantize(unit, ROUND_CEILING if lower else ROUND_FLOOR, context=_EXACT)
        if exclusive and held == wanted:
            held = _EXACT.add(held, unit if lower else -unit)
        units = int(held.scaleb(scale, context=_EXACT))
        if (units > most) if lower else (units < least):
            conditions.append(value.is_null())
        elif least <= units <= most:
            limit = (
                pl.lit(units, dtype=pl.Int64())
                if integer
                else pl.lit(held, dtype=pl.Decimal(_DECIMAL_DIGITS, scale))
            )
            conditions.append(value >= limit if lower else value <= limit)
    return conditions


def _as_decimal(bound: Bound) -> Decimal:
    if isinstance(bound, date | time):
        raise UnjudgeableRuleError(f"The bound {bound} is no number.")
    # By way of its shortest text: the author of `0.1` means a tenth.
    return Decimal(repr(bound)) if isinstance(bound, float) else Decimal(bound)


def _as_datetime(bound: Bound) -> datetime:
    """A bound as naive UTC."""
    if isinstance(bound, datetime):
        return bound.astimezone(UTC).replace(tzinfo=None) if bound.tzinfo else bound
    if isinstance(bound, date):
        return datetime.combine(bound, time())
    raise UnjudgeableRuleError(f"The bound {bound} is no date or time.")


def _as_time(bound: Bound) -> time:
    if isinstance(bound, time):
        return bound.replace(tzinfo=None)
    raise UnjudgeableRuleError(f"The bound {bound} is no time of day.")


def _all(conditions: Sequence[pl.Expr], value: pl.Expr) -> pl.Expr:
    import polars as pl

    if not conditions:
        return pl.when(value.is_not_null()).then(True)
    outcome = conditions[0]
    for condition in conditions[1:]:
        outcome = outcome & condition
    return pl.when(value.is_not_null()).then(outcome)


def _outcome(name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name)


def _check(outcome: pl.Expr) -> Callable[[Any], pl.LazyFrame | bool]:
    """A check as pandera runs it: true where no row fails, else the outcome of each row.

    Given a column of outcomes, pandera goes over it eight times even where all of them are true.
    """

    def check(data: Any) -> pl.LazyFrame | bool:
        frame: pl.LazyFrame = data.lazyframe
        if frame.select(outcome.all()).collect().item():
            return True
        return frame.select(outcome)

    return check


def _column(contract: Contract, rule: RowRule) -> Column:
    if not rule.columns:
        raise UnjudgeableRuleError(f"Rule {rule.name} names no column.")
    try:
        return contract.column(rule.columns[0])
    except KeyError:
        raise UnjudgeableRuleError(
            f"Rule {rule.name} speaks of the column {rule.columns[0]!r}, "
            f"which {contract.dataset} does not have."
        ) from None


def _why(errors: Any) -> str:
    cases = errors.failure_cases.filter(errors.failure_cases["index"].is_null())
    case = cases.row(0, named=True)
    column = str(case["column"]).removeprefix(_judged(""))
    return f"A rule of column {column} cannot be executed: {case['failure_case']}"
