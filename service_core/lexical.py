"""The lexical space of every logical type: the exact spellings that are a value of it.

Text is tested against a pattern before any cast, because libraries' own casts disagree with each
other and with people on ` 12.34 `, `1e3`, `NaN`, `+5`, `2026-02-30`, `infinity` and many more. What
passes the pattern means the same to every engine; what does not is no value of the type. Patterns
are written in ASCII classes, anchored, with explicit ranges, in the syntax that Rust's, Python's
and RE2's regular expressions share but for `\\z`, which Python spells `\\Z`.

`docs/types.md` says the same for people, with examples that are tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service_core.contract.model import ColumnType, LogicalType

if TYPE_CHECKING:
    import polars as pl

_DATE = (
    r"(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
    r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?"
_OFFSET = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_SPECIAL = r"NaN|nan|[+-]?(?:Infinity|infinity|INF|Inf|inf)"

_MICROSECOND = 1_000_000
_SECONDS_OF_DAY = 86_400
#: 0001-01-01 00:00:00 and the first instant of year 10000, in microseconds since 1970.
_FIRST_INSTANT = -62_135_596_800 * _MICROSECOND
_END_OF_TIME = 253_402_300_800 * _MICROSECOND


def pattern(kind: ColumnType) -> str | None:
    """The whole-text pattern of a type; None where no regular expression can say it.

    A text outside of the pattern is no value. A text inside of it may still name none, as
    `2026-02-30` does.
    """
    match kind.logical:
        case LogicalType.STRING | LogicalType.JSON:
            return None
        case LogicalType.INTEGER:
            space = "[+-]?[0-9]{1,19}"
        case LogicalType.DECIMAL:
            whole = kind.precision - kind.scale
            digits = f"[0-9]{{1,{whole}}}" if whole else "0"
            fraction = f"(?:[.][0-9]{{1,{kind.scale}}})?" if kind.scale else ""
            space = f"[+-]?{digits}{fraction}"
        case LogicalType.DOUBLE:
            space = r"[+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
            if kind.allow_special:
                space = f"(?:{space}|{_SPECIAL})"
        case LogicalType.BOOLEAN:
            # Spelled out, because a case-insensitive `s` would take U+017F too.
            space = "(?:[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])"
        case LogicalType.DATE:
            space = _DATE
        case LogicalType.TIME:
            space = _TIME
        case LogicalType.TIMESTAMP:
            space = f"{_DATE}[ T]{_TIME}"
        case LogicalType.TIMESTAMP_TZ:
            space = f"{_DATE}[ T]{_TIME}{_OFFSET}"
    return rf"\A{space}\z"


def typed(expr: pl.Expr, kind: ColumnType) -> pl.Expr:
    """The values that text spells in a type.

    Args:
        expr: Text (`pl.String`).
        kind: The type wanted.

    Returns:
        An expression of the type's Polars dtype (`contract.expressions.polars_type`), null where
        the text is null, is no spelling of the type, or spells a value that does not exist.
    """
    import polars as pl

    if kind.logical is LogicalType.STRING:
        return expr
    if kind.logical is LogicalType.JSON:
        return expr.map_batches(_valid_json, return_dtype=pl.String())
    gate = pattern(kind)
    assert gate is not None
    text = pl.when(expr.str.contains(gate)).then(expr)
    match kind.logical:
        case LogicalType.INTEGER:
            # 19 digits hold more than 64 bits do: the cast gives null beyond them.
            return text.cast(pl.Int64(), strict=False)
        case LogicalType.DECIMAL:
            return text.cast(pl.Decimal(kind.precision, kind.scale), strict=False)
        case LogicalType.DOUBLE:
            value = text.cast(pl.Float64(), strict=False)
            exists = value.is_finite()
            if kind.allow_special:
                # `1e400` is a finite number that no double holds; only the words are infinite.
                exists = exists | expr.str.contains("[nN]")
            return pl.when(exists).then(value)
        case LogicalType.BOOLEAN:
            return text.str.starts_with("t") | text.str.starts_with("T")
        case LogicalType.DATE:
            return text.str.to_date("%Y-%m-%d", strict=False)
        case LogicalType.TIME:
            return (_microseconds_of_day(text, 0) * 1000).cast(pl.Time())
        case LogicalType.TIMESTAMP:
            return text.map_batches(_timestamps, return_dtype=pl.Datetime("us"))
        case _:
            return text.map_batches(_instants, return_dtype=pl.Datetime("us", "UTC"))


def _timestamps(text: pl.Series) -> pl.Series:
    """Gated text without offset as date and time."""
    import polars as pl

    fast = text.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us")
    return _rest(fast, text, _local(pl.col("text")).cast(pl.Datetime("us")))


def _instants(text: pl.Series) -> pl.Series:
    """Gated text with offset as an instant in UTC."""
    import polars as pl

    column = pl.col("text")
    fast = text.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False, time_unit="us")
    sign = pl.when(column.str.slice(-6, 1) == "-").then(-1).otherwise(1)
    minutes = _integer(column.str.slice(-5, 2)) * 60 + _integer(column.str.slice(-2, 2))
    offset = pl.when(column.str.ends_with("Z")).then(0).otherwise(sign * minutes * 60)
    instant = _local(column) - offset * _MICROSECOND
    exists = (instant >= _FIRST_INSTANT) & (instant < _END_OF_TIME)
    slow = pl.when(exists).then(instant).cast(pl.Datetime("us"))
    return _rest(fast, text, slow).dt.replace_time_zone("UTC")


def _rest(fast: pl.Series, text: pl.Series, slow: pl.Expr) -> pl.Series:
    """`fast`, and where it is null though there is text, `slow`.

    The one spelling that nearly every producer uses takes Polars' quick parser; the
    arithmetic that the other spellings need is dearer, and done for those alone.
    """
    if fast.null_count() == text.null_count():
        return fast
    import polars as pl

    frame = pl.DataFrame({"text": text, "fast": fast})
    left = pl.col("fast").is_null() & pl.col("text").is_not_null()
    rows = frame.with_row_index("row").filter(left)
    values = rows.select("row", value=slow)
    return fast.scatter(values["row"], values["value"])


def _local(text: pl.Expr) -> pl.Expr:
    """Microseconds since 1970 of gated date and time text, whatever follows the seconds."""
    import polars as pl

    day = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64())
    return day * _SECONDS_OF_DAY * _MICROSECOND + _microseconds_of_day(text, 11)


def _microseconds_of_day(text: pl.Expr, start: int) -> pl.Expr:
    """Microseconds since midnight of gated `HH:MM:SS[.ffffff]` that begins at `start`."""
    import polars as pl

    hours, minutes, seconds = (_integer(text.str.slice(start + place, 2)) for place in (0, 3, 6))
    fraction = text.str.slice(start + 8).str.extract(r"\A[.]([0-9]{1,6})").str.pad_end(6, "0")
    whole = (hours * 60 + minutes) * 60 + seconds
    return whole * _MICROSECOND + fraction.cast(pl.Int64(), strict=False).fill_null(0)


def _integer(text: pl.Expr) -> pl.Expr:
    import polars as pl

    return text.cast(pl.Int64(), strict=False)


def _valid_json(text: pl.Series) -> pl.Series:
    """Text that is one JSON document; null for the rest."""
    import msgspec
    import polars as pl

    decode = msgspec.json.Decoder(msgspec.Raw).decode

    def valid(document: str | None) -> bool:
        if document is None:
            return False
        try:
            decode(document)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True

    keep = pl.Series([valid(document) for document in text], dtype=pl.Boolean())
    return (
        text
        if keep.all()
        else pl.DataFrame({"text": text, "keep": keep})
        .select(pl.when("keep").then("text").alias(text.name))
        .to_series()
    )
