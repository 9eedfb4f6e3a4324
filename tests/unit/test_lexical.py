"""Every spelling that counts, and every one that people and libraries disagree about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.contract.expressions import polars_type
from service_core.contract.model import ColumnType, LogicalType
from service_core.lexical import pattern, typed

L = LogicalType
DECIMAL = ColumnType(L.DECIMAL, precision=12, scale=2)
PAGE = Path(__file__).parents[2] / "docs" / "types.md"
ORACLE = Path(__file__).parent / "data" / "hostile_values.json"
EVERY = [ColumnType(logical) for logical in L if logical is not L.DECIMAL] + [DECIMAL]


def values(kind: ColumnType, *texts: str | None) -> list[Any]:
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    return frame.select(typed(pl.col("text"), kind)).to_series().to_list()


def value(kind: ColumnType, text: str) -> Any:
    return values(kind, text)[0]


#: The oracle's columns, and where we know better than it: it has no integers of 19 digits, and
#: takes a number that no double holds for infinity.
ORACLE_TYPES = {
    "dec": DECIMAL,
    "bigint": ColumnType(L.INTEGER),
    "double": ColumnType(L.DOUBLE),
    "date": ColumnType(L.DATE),
    "ts": ColumnType(L.TIMESTAMP),
    "tsz": ColumnType(L.TIMESTAMP_TZ),
}
BEYOND_THE_ORACLE = {
    ("bigint", "-9223372036854775808"): "-9223372036854775808",
    ("double", "1e400"): None,
    ("double", "1.8e308"): None,
}


@pytest.mark.parametrize("name", ORACLE_TYPES)
def test_hostile_spellings_mean_what_four_engines_agreed_on(name: str) -> None:
    rows = json.loads(ORACLE.read_text())["rows"]
    assert len(rows) == 112
    for row, found in zip(
        rows, values(ORACLE_TYPES[name], *(r["value"] for r in rows)), strict=True
    ):
        wanted = BEYOND_THE_ORACLE.get((name, row["value"]), row[name])
        assert _as_oracle(found) == wanted, row["value"]


def _as_oracle(found: Any) -> str | None:
    match found:
        case None:
            return None
        case datetime():
            naive = found.replace(tzinfo=None)
            return str(round((naive - datetime(1970, 1, 1)).total_seconds() * 1_000_000))
        case date():
            return str((found - date(1970, 1, 1)).days)
        case float():
            return repr(found)
        case _:
            return str(found)


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        (ColumnType(L.INTEGER), "9223372036854775807", 9223372036854775807),
        (ColumnType(L.INTEGER), "0000000000000000001", 1),
        (ColumnType(L.INTEGER), "00000000000000000001", None),
        (ColumnType(L.INTEGER), "", None),
        (ColumnType(L.INTEGER), "+", None),
        (ColumnType(L.INTEGER), "--1", None),
        (ColumnType(L.DECIMAL, 38, 0), "9" * 38, Decimal("9" * 38)),
        (ColumnType(L.DECIMAL, 38, 0), "9" * 39, None),
        (ColumnType(L.DECIMAL, 38, 0), "1.0", None),
        (ColumnType(L.DECIMAL, 38, 38), "0." + "9" * 38, Decimal("0." + "9" * 38)),
        (ColumnType(L.DECIMAL, 38, 38), "1.0", None),
        (ColumnType(L.DECIMAL, 38, 10), "-" + "9" * 28 + "." + "9" * 10,
         Decimal("-" + "9" * 28 + "." + "9" * 10)),
        (ColumnType(L.DECIMAL, 2, 2), "0.99", Decimal("0.99")),
        (ColumnType(L.DECIMAL, 2, 2), "00.99", None),
        (ColumnType(L.DECIMAL, 1, 0), "9", Decimal(9)),
        (ColumnType(L.BOOLEAN), "faLse", False),
        (ColumnType(L.BOOLEAN), "fal\u017fe", None),
        (ColumnType(L.BOOLEAN), "true ", None),
        (ColumnType(L.TIME), "00:00:00", time(0)),
        (ColumnType(L.TIME), "23:59:59.999999", time(23, 59, 59, 999999)),
        (ColumnType(L.TIME), "23:59:59.", None),
        (ColumnType(L.TIME), "10:00:00Z", None),
        (ColumnType(L.TIMESTAMP), "9999-12-31T23:59:59.999999",
         datetime(9999, 12, 31, 23, 59, 59, 999999)),
        (ColumnType(L.TIMESTAMP), "1969-12-31 23:59:59.5",
         datetime(1969, 12, 31, 23, 59, 59, 500000)),
        (ColumnType(L.TIMESTAMP), "2026-11-21  10:00:00", None),
        (ColumnType(L.TIMESTAMP_TZ), "9999-12-31T23:59:59.999999Z",
         datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        (ColumnType(L.TIMESTAMP_TZ), "9999-12-31T23:59:59-00:01", None),
        (ColumnType(L.TIMESTAMP_TZ), "0001-01-01T00:00:00-00:01",
         datetime(1, 1, 1, 0, 1, tzinfo=UTC)),
        (ColumnType(L.TIMESTAMP_TZ), "2026-02-30T10:00:00+01:00", None),
        (ColumnType(L.TIMESTAMP_TZ), "2026-11-21T10:00:00z", None),
        (ColumnType(L.TIMESTAMP_TZ), "2026-11-21T10:00:00+24:00", None),
        (ColumnType(L.DOUBLE, allow_special=True), "-inf", float("-inf")),
        (ColumnType(L.DOUBLE, allow_special=True), "1e400", None),
        (ColumnType(L.DOUBLE, allow_special=True), "iNF", None),
        (ColumnType(L.DOUBLE, allow_special=True), "-NaN", None),
        (ColumnType(L.JSON), '"\\ud800"', None),
        (ColumnType(L.JSON), "[" * 100_000, None),
        (ColumnType(L.JSON), "\ufeff{}", None),
        (ColumnType(L.JSON), " [1e999] ", " [1e999] "),
    ],
)  # fmt: skip
def test_a_spelling_is_taken_for_exactly_one_value(
    kind: ColumnType, text: str, wanted: Any
) -> None:
    found = value(kind, text)
    assert found == wanted
    assert type(found) is type(wanted)


def test_nan_is_a_number_only_where_it_is_allowed() -> None:
    assert value(ColumnType(L.DOUBLE), "NaN") is None
    assert value(ColumnType(L.DOUBLE, allow_special=True), "NaN") != 0
    assert str(value(ColumnType(L.DOUBLE, allow_special=True), "nan")) == "nan"


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.logical.value)
def test_null_is_null_and_the_type_is_as_declared(kind: ColumnType) -> None:
    frame = pl.DataFrame({"text": [None, None]}, schema={"text": pl.String})
    found = frame.select(typed(pl.col("text"), kind)).to_series()
    assert found.to_list() == [None, None]
    assert found.dtype == polars_type(kind)
    assert frame.head(0).select(typed(pl.col("text"), kind)).to_series().dtype == found.dtype


def test_spellings_of_one_column_may_differ_from_row_to_row() -> None:
    """The quick way that most rows take must not change what the others mean."""
    texts = [
        "2026-11-21T10:00:00Z",
        "2026-11-21 10:00:00Z",
        "2026-11-21T10:00:00.25Z",
        "2026-11-21T15:30:00+05:30",
        "2026-02-30T10:00:00Z",
        None,
    ]
    ten = datetime(2026, 11, 21, 10, tzinfo=UTC)
    quarter = ten.replace(microsecond=250_000)
    assert values(ColumnType(L.TIMESTAMP_TZ), *texts) == [ten, ten, quarter, ten, None, None]


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(st.text(max_size=30), st.from_regex(r"[-+0-9.:eTZ ]{0,30}", fullmatch=True)))
def test_any_text_is_a_value_or_none_and_never_an_error(text: str) -> None:
    for kind in EVERY:
        found = value(kind, text)
        gate = pattern(kind)
        if gate is not None and found is not None:
            assert re.fullmatch(gate.replace(r"\z", r"\Z"), text)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(), st.integers(-23 * 60, 23 * 60), st.sampled_from(["T", " "]))
def test_every_instant_is_read_as_python_reads_it(at: datetime, minutes: int, between: str) -> None:
    sign, offset = "-" if minutes < 0 else "+", abs(minutes)
    text = f"{at.isoformat(between)}{sign}{offset // 60:02d}:{offset % 60:02d}"
    try:
        wanted = datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        wanted = None
    assert value(ColumnType(L.TIMESTAMP_TZ), text) == wanted


@settings(max_examples=100, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, max_value=10**9))
def test_a_decimal_is_exact_or_refused(number: Decimal) -> None:
    found = value(DECIMAL, f"{number:f}")
    assert found == (number if abs(number) < 10**10 else None)


# --- The page ------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[ColumnType, str, str, str]]:
    """(type, accepted or refused, text, value or reason) of every example of docs/types.md."""
    kind, column = EVERY[0], ""
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"## (\w+)", line):
            logical = L(heading[1])
            kind = DECIMAL if logical is L.DECIMAL else ColumnType(logical)
        elif head := re.match(r"\| (accepted|refused) \|", line):
            column = head[1]
        elif cells := re.fullmatch(r"\| `(.*?)` \| (.*) \|", line):
            yield kind, column, cells[1], cells[2]


def test_the_page_speaks_of_every_type() -> None:
    assert {kind.logical for kind, *_ in examples()} == set(L)
    for logical in L:
        shown = {column for kind, column, *_ in examples() if kind.logical is logical}
        assert shown == ({"accepted"} if logical is L.STRING else {"accepted", "refused"})


@pytest.mark.parametrize(("kind", "column", "text", "said"), list(examples()))
def test_an_example_of_the_page_is_true(
    kind: ColumnType, column: str, text: str, said: str
) -> None:
    found = value(kind, text)
    if column == "refused":
        assert found is None
    else:
        assert str(found) == said
