"""What `docs/types.md` says, read once more in plain Python: an opinion of no engine's.

Engines that agree may still be wrong together. So the corpus and the made-up tables are also
compared with this, which shares neither a pattern nor a library with `service_core`: it is slow,
goes value by value, and knows only the contract.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

from service_core.contract.model import (
    Case,
    Column,
    ColumnType,
    Contract,
    LengthWithin,
    LogicalType,
    Matches,
    OneOf,
    Required,
    RowRule,
    Within,
)
from service_core.reasons import Severity

_EXACT = Context(prec=100)
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?", re.ASCII)


class NoSpellingError(ValueError):
    """The text is no value of the type."""


def read_value(text: str, kind: ColumnType) -> Any:
    """The value that text spells in a type, as Arrow gives it to Python.

    Raises:
        NoSpellingError: none.
    """
    try:
        return _READERS[kind.logical](text, kind)
    except (ValueError, OverflowError, ArithmeticError, RecursionError) as error:
        raise NoSpellingError(text) from error


def _integer(text: str, kind: ColumnType) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (_all_digits(digits) and 1 <= len(digits) <= 19):
        raise NoSpellingError(text)
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise NoSpellingError(text)
    return value


def _decimal(text: str, kind: ColumnType) -> Decimal:
    digits = text[1:] if text[:1] in ("+", "-") else text
    whole, point, fraction = digits.partition(".")
    if not _all_digits(whole) or (point and not _all_digits(fraction)):
        raise NoSpellingError(text)
    if len(fraction) > kind.scale:
        raise NoSpellingError(text)
    # A decimal of as many digits as its scale has still one before the point, which is 0.
    room = kind.precision - kind.scale
    if len(whole) > room and not (room == 0 and whole == "0"):
        raise NoSpellingError(text)
    value = Decimal(text).quantize(Decimal(1).scaleb(-kind.scale), context=_EXACT)
    # Zero has no sign in a decimal.
    return value if value else abs(value)


def _double(text: str, kind: ColumnType) -> float:
    if kind.allow_special and text in _NOT_FINITE:
        return float(text)
    digits = text[1:] if text[:1] in ("+", "-") else text
    number, mark, exponent = digits.replace("E", "e").partition("e")
    whole, _, fraction = number.partition(".")
    if not _all_digits(whole + fraction):
        raise NoSpellingError(text)
    if mark:
        exponent = exponent[1:] if exponent[:1] in ("+", "-") else exponent
        if not (_all_digits(exponent) and len(exponent) <= 3):
            raise NoSpellingError(text)
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NoSpellingError(text)
    return value


_NOT_FINITE = {"NaN", "nan"} | {
    sign + word for sign in ("", "+", "-") for word in ("Infinity", "infinity", "Inf", "inf", "INF")
}


def _boolean(text: str, kind: ColumnType) -> bool:
    if not text.isascii() or text.lower() not in ("true", "false"):
        raise NoSpellingError(text)
    return text.lower() == "true"


def _date(text: str, kind: ColumnType) -> date:
    parts = text.split("-")
    if [len(part) for part in parts] != [4, 2, 2] or not all(map(_all_digits, parts)):
        raise NoSpellingError(text)
    return date(*map(int, parts))


def _time(text: str, kind: ColumnType) -> time:
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise NoSpellingError(text)
    hours, minutes, seconds, fraction = found.groups()
    return time(int(hours), int(minutes), int(seconds), int((fraction or "").ljust(6, "0")))


def _timestamp(text: str, kind: ColumnType) -> datetime:
    if text[10:11] not in ("T", " "):
        raise NoSpellingError(text)
    return datetime.combine(_date(text[:10], kind), _time(text[11:], kind))


def _instant(text: str, kind: ColumnType) -> datetime:
    if text.endswith("Z"):
        return _timestamp(text[:-1], kind).replace(tzinfo=UTC)
    sign, offset = text[-6:-5], text[-5:]
    if sign not in ("+", "-") or offset[2:3] != ":":
        raise NoSpellingError(text)
    minutes = _time(offset + ":00", kind)
    shift = timedelta(hours=minutes.hour, minutes=minutes.minute)
    zone = timezone(-shift if sign == "-" else shift)
    return _timestamp(text[:-6], kind).replace(tzinfo=zone).astimezone(UTC)


def _json(text: str, kind: ColumnType) -> str:
    def refuse(word: str) -> Any:
        raise NoSpellingError(word)

    # Numbers stay text, because Python refuses to convert very long ones.
    document = json.loads(text, parse_constant=refuse, parse_int=str, parse_float=str)
    # Half a surrogate pair is no text, and cannot be written as UTF-8.
    json.dumps(document, ensure_ascii=False).encode()
    return text


def _string(text: str, kind: ColumnType) -> str:
    return text


_READERS: Mapping[LogicalType, Callable[[str, ColumnType], Any]] = {
    LogicalType.STRING: _string,
    LogicalType.INTEGER: _integer,
    LogicalType.DECIMAL: _decimal,
    LogicalType.DOUBLE: _double,
    LogicalType.BOOLEAN: _boolean,
    LogicalType.DATE: _date,
    LogicalType.TIME: _time,
    LogicalType.TIMESTAMP: _timestamp,
    LogicalType.TIMESTAMP_TZ: _instant,
    LogicalType.JSON: _json,
}


def _all_digits(text: str) -> bool:
    return text != "" and text.isascii() and text.isdigit()


# --- Columns and rows ----------------------------------------------------------------------------


def normalised(text: str | None, contract: Contract, column: Column) -> str | None:
    """A cell's text after trim, case and null spellings."""
    if text is None:
        return None
    shape = column.normalisation

    def folded(raw: str) -> str:
        raw = raw.strip(" \t\n\r\x0b\x0c") if shape.trim else raw
        match shape.case:
            case Case.UPPER:
                return raw.upper()
            case Case.LOWER:
                return raw.lower()
            case _:
                return raw

    spellings = (*contract.format.dialect.null_values, *shape.null_if)
    known = {*spellings, *map(folded, spellings)}
    return None if folded(text) in known else folded(text)


def read_row(
    contract: Contract, row: Mapping[str, str | None]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A row's typed values, and the codes and columns of the reasons that divert it.

    Derived columns and rules with an expression are beyond this reading; contracts that are
    compared with it have none.
    """
    values: dict[str, Any] = {}
    reasons: list[tuple[str, str]] = []
    for column in contract.landed_columns:
        text = normalised(row.get(column.name), contract, column)
        try:
            values[column.name] = None if text is None else read_value(text, column.type)
        except NoSpellingError:
            values[column.name] = None
            if contract.drift.type.value.startswith("quarantine"):
                reasons.append(("TYPE", column.name))
    told = {name for _, name in reasons}
    for rule in contract.row_rules:
        name = rule.columns[0]
        if (
            rule.severity is Severity.ERROR
            and name not in told
            and not _kept(rule, contract.column(name).type, values[name])
        ):
            reasons.append((rule.code.value, name))
    return values, reasons


def _kept(rule: RowRule, kind: ColumnType, value: Any) -> bool:
    match rule.test:
        case Required():
            return value is not None
        case _ if value is None:
            return True
        case Within(low, high, above, below):
            return not (
                value != value
                or (low is not None and (value <= low if above else value < low))
                or (high is not None and (value >= high if below else value > high))
            )
        case OneOf(allowed):
            return value in [read_value(text, kind) for text in allowed]
        case Matches(pattern):
            return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value) is not None
        case LengthWithin(low, high):
            return (low is None or len(value) >= low) and (high is None or len(value) <= high)
        case _:
            return True


def assert_as_written(
    contract: Contract,
    canonical: Iterable[Mapping[str, Any]],
    accepted: Iterable[Mapping[str, Any]],
    quarantined: Iterable[Mapping[str, Any]],
    *,
    whole: Collection[str] = (),
    same: Callable[[Any, Any], bool],
) -> None:
    """Each row of canonical text ended where this reading puts it, with its values or its reasons.

    Args:
        accepted, quarantined: What an engine made of them.
        whole: Ids of source objects that went whole, whose rows are nowhere.
        same: Whether two values are the same.
    """
    kept = {(row["_source_object_id"], row["_source_row"]): row for row in accepted}
    gone = {
        (row["_source_object_id"], row["_source_row"]): row
        for row in quarantined
        if row["_raw"] is None
    }
    wrong = []
    for row in canonical:
        origin = (row["_source_object_id"], row["_source_row"])
        if origin[0] in whole:
            continue
        values, reasons = read_row(contract, row)
        shown = {name: row[name] for name in values if row[name] is not None}
        if origin in gone:
            told = [(r["code"], r["column"]) for r in gone[origin]["_reasons"]]
            told = [reason for reason in told if reason[0] not in _BEYOND]
            if told != reasons or any(gone[origin][name] != row[name] for name in values):
                wrong.append(f"{shown!r:.300}: {told}, expected {reasons}")
        elif reasons or origin not in kept:
            wrong.append(f"{shown!r:.300} was accepted or lost, expected {reasons}")
        else:
            wrong += [
                f"{shown!r:.300}, {name}: {kept[origin][name]!r}, expected {value!r}"
                for name, value in values.items()
                if not same(kept[origin][name], value)
            ]
    assert not wrong, "\n".join([f"{len(wrong)} rows are not as they were written", *wrong[:40]])


#: Reasons that take more than the row's own text to find.
_BEYOND = ("DERIVATION", "RULE", "DUPLICATE_KEY")
