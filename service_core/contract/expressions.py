"""SQL expressions over a row: one way to run them, and the test that they are of that kind.

An expression is accepted only if each row's result depends on that row alone and on nothing else,
so that blocks, engines and replays cannot change it. `compute` is the only way in which they are
run: `polars.sql_expr` knows no schema and refuses `amount * quantity`, `a / b` and `IN (…)`
(Polars 2.1), while a query over the frame takes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from service_core.contract.model import Column, ColumnType, LogicalType
from service_core.contract.problem import shown, suggestion

if TYPE_CHECKING:
    import polars as pl

MAX_CHARACTERS = 10_000

_TOKEN = re.compile(
    r"""
    (?P<string>'(?:[^']|'')*')
    | "(?P<quoted>(?:[^"]|"")*)"
    | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    """,
    re.VERBOSE | re.DOTALL,
)
#: Words whose result depends on more than the row.
_OTHER_ROWS = frozenset({"over", "select"})
_OTHER_TIMES = frozenset(
    {
        "now",
        "random",
        "rand",
        "uuid",
        "gen_random_uuid",
        "today",
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
    }
)


def compute(frame: pl.LazyFrame, expressions: Mapping[str, str]) -> pl.LazyFrame:
    """`frame` with one more column for each expression, none of which sees the others' results.

    Args:
        frame: Typed rows.
        expressions: SQL by the name of its column, which must be new to the frame.
    """
    if not expressions:
        return frame
    # The line break keeps a trailing comment from swallowing the bracket.
    columns = ", ".join(f'({sql}\n) AS "{name}"' for name, sql in expressions.items())
    return frame.sql(f"SELECT *, {columns} FROM self")


def polars_type(kind: ColumnType) -> pl.DataType:
    """The Polars type of a typed column."""
    import polars as pl

    match kind.logical:
        case LogicalType.STRING | LogicalType.JSON:
            return pl.String()
        case LogicalType.INTEGER:
            return pl.Int64()
        case LogicalType.DECIMAL:
            return pl.Decimal(kind.precision, kind.scale)
        case LogicalType.DOUBLE:
            return pl.Float64()
        case LogicalType.BOOLEAN:
            return pl.Boolean()
        case LogicalType.DATE:
            return pl.Date()
        case LogicalType.TIME:
            return pl.Time()
        case LogicalType.TIMESTAMP:
            return pl.Datetime("us")
        case LogicalType.TIMESTAMP_TZ:
            return pl.Datetime("us", "UTC")


def columns_named(expression: str, columns: Sequence[Column]) -> tuple[str, ...]:
    """The names of those columns that an expression speaks of, in their order of first mention."""
    known = {column.name for column in columns}
    words = (m["word"] or m["quoted"] for m in _TOKEN.finditer(expression))
    return tuple(dict.fromkeys(word for word in words if word in known))


def rule_problem(expression: str, columns: Sequence[Column]) -> str | None:
    """Why an expression cannot be a rule on rows of these columns; None where it can."""
    return _judge(expression, _shape(columns), None)


def derivation_problem(
    expression: str, columns: Sequence[Column], result: ColumnType
) -> str | None:
    """Why an expression cannot derive a column of type `result`; None where it can."""
    return _judge(expression, _shape(columns), result)


def _shape(columns: Sequence[Column]) -> tuple[tuple[str, ColumnType], ...]:
    return tuple((column.name, column.type) for column in columns)


@lru_cache(maxsize=4096)
def _judge(
    expression: str, shape: tuple[tuple[str, ColumnType], ...], result: ColumnType | None
) -> str | None:
    import polars as pl

    if not expression.strip():
        return "it is empty; write an SQL expression over the row's columns"
    if len(expression) > MAX_CHARACTERS or "\0" in expression:
        return f"it is longer than {MAX_CHARACTERS} characters or holds a NUL; shorten it"
    words = {m["word"].lower() for m in _TOKEN.finditer(expression) if m["word"]}
    if words & _OTHER_ROWS:
        return (
            f"{shown(sorted(words & _OTHER_ROWS)[0].upper())} looks at other rows; "
            "a row rule sees one row only"
        )
    if words & _OTHER_TIMES:
        return (
            f"{shown(sorted(words & _OTHER_TIMES)[0])} gives another result each time, so that a "
            "replay would judge the row differently; use the row's own columns"
        )
    names = [name for name, _ in shape]
    try:
        # By itself, so that brackets and commas cannot reach beyond the expression.
        pl.sql_expr(expression)
    except pl.exceptions.ColumnNotFoundError:
        # It parses; that it needs the columns' types is all that is said (see the docstring).
        pass
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, RecursionError) as error:
        return f"it does not parse as SQL ({_first_line(error)})"
    try:
        frame = _sample(shape)
        rows = frame.lazy().sql(f"SELECT ({expression}\n) AS outcome FROM self").collect()
        back = frame.reverse().lazy().sql(f"SELECT ({expression}\n) AS outcome FROM self").collect()
        first = frame.head(1).lazy().sql(f"SELECT ({expression}\n) AS outcome FROM self").collect()
        none = frame.head(0).lazy().sql(f"SELECT ({expression}\n) AS outcome FROM self").collect()
    except pl.exceptions.ColumnNotFoundError as error:
        missing = re.search(r'"([^"]*)"', str(error))
        name = missing[1] if missing else ""
        return f"it names the column {shown(name)}, which is not there.{suggestion(name, names)}"
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, RecursionError) as error:
        casts = "cast" in words or "::" in expression
        advice = "; a cast that fails would stop the whole batch, so use TRY_CAST" if casts else ""
        return f"it does not run on the columns' types ({_first_line(error)}){advice}"
    alone = (
        rows.height == frame.height
        and none.height == 0
        and rows.head(1).equals(first)
        and rows.reverse().equals(back)
    )
    if not alone or not columns_named_in(expression, names):
        return "its result must depend on the row's own columns, and on each row by itself"
    if _compares_decimal_with_text(expression, shape):
        return "it compares a decimal with text; write the number without quotes"
    outcome = rows.schema["outcome"]
    if result is None:
        return None if outcome == pl.Boolean else f"its result is {outcome}, not true or false"
    return _cast_problem(outcome, result)


def _compares_decimal_with_text(expression: str, shape: tuple[tuple[str, ColumnType], ...]) -> bool:
    """Polars refuses `weight < '40'` for doubles, but compares a decimal as text: 9 is above 40."""
    import polars as pl

    if "'" not in expression or all(k.logical is not LogicalType.DECIMAL for _, k in shape):
        return False
    double = ColumnType(LogicalType.DOUBLE)
    frame = _sample(tuple((n, double if k.logical is LogicalType.DECIMAL else k) for n, k in shape))
    try:
        frame.lazy().sql(f"SELECT ({expression}\n) AS outcome FROM self").collect()
    except pl.exceptions.PolarsError as error:
        return "cannot compare string with numeric" in str(error)
    return False


def columns_named_in(expression: str, names: Sequence[str]) -> tuple[str, ...]:
    """As `columns_named`, by the names alone."""
    words = (m["word"] or m["quoted"] for m in _TOKEN.finditer(expression))
    return tuple(dict.fromkeys(word for word in words if word in set(names)))


def _cast_problem(outcome: pl.DataType, result: ColumnType) -> str | None:
    """Why a computed type cannot become the declared one without loss."""
    import polars as pl

    match result.logical:
        case LogicalType.STRING | LogicalType.JSON:
            fits = outcome == pl.String
        case LogicalType.INTEGER:
            fits = outcome.is_integer() and outcome != pl.UInt64
        case LogicalType.DECIMAL:
            fits = outcome.is_integer() or (
                isinstance(outcome, pl.Decimal) and outcome.scale <= result.scale
            )
        case LogicalType.DOUBLE:
            fits = outcome.is_numeric()
        case _:
            fits = outcome == polars_type(result)
    if fits:
        return None
    return (
        f"its result is {outcome}, which does not become {result.logical} without loss; "
        "change the column's type, or cast inside the expression"
    )


def _sample(shape: tuple[tuple[str, ColumnType], ...]) -> pl.DataFrame:
    """Four typed rows: different values in two, nulls in one, and the first again."""
    import polars as pl

    return pl.DataFrame(
        [
            pl.Series(name, _values(kind), dtype=polars_type(kind), strict=False)
            for name, kind in shape
        ]
    )


def _values(kind: ColumnType) -> list[object]:
    from datetime import UTC, date, datetime, time
    from decimal import Decimal

    one: object
    two: object
    match kind.logical:
        case LogicalType.STRING:
            one, two = "one", "Two 2"
        case LogicalType.JSON:
            one, two = '{"a": 1}', "[]"
        case LogicalType.INTEGER:
            one, two = 3, 5
        case LogicalType.DECIMAL:
            step = Decimal(1).scaleb(-kind.scale)
            one, two = 3 * step, 5 * step
        case LogicalType.DOUBLE:
            one, two = 3.5, 5.25
        case LogicalType.BOOLEAN:
            one, two = True, False
        case LogicalType.DATE:
            one, two = date(2026, 11, 21), date(2025, 2, 28)
        case LogicalType.TIME:
            one, two = time(1, 2, 3), time(23, 59)
        case LogicalType.TIMESTAMP:
            one, two = datetime(2026, 11, 21, 1, 2, 3), datetime(2025, 2, 28)
        case LogicalType.TIMESTAMP_TZ:
            one, two = (
                datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC),
                datetime(2025, 2, 28, tzinfo=UTC),
            )
    return [one, two, None, one]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # A regular expression's error comes last, after a drawing of where it is.
    return next((line for line in lines if line.startswith("error:")), lines[0])[:200]
