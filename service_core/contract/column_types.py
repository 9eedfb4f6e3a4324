"""The types of columns: the standard's logical and physical types as ours, and values of them."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from service_core.contract.document import Node
from service_core.contract.fields import Fields
from service_core.contract.model import Bound, ColumnType, LogicalType
from service_core.contract.problem import shown

_DECIMAL = re.compile(r"(?:decimal|numeric)\(\s*([0-9]{1,3})\s*(?:,\s*([0-9]{1,3})\s*)?\)\Z", re.I)
_DOUBLE = frozenset({"double", "double precision", "float", "float64", "float8", "real"})
_INTEGER = frozenset({"int", "integer", "int64", "long", "bigint", "int32", "smallint", "tinyint"})
_TEXT = re.compile(r"(?:string|text|char|varchar|character varying)(?:\([0-9]+\))?\Z", re.I)
_MAX_PRECISION = 38


def read_type(fields: Fields, custom: Fields, where: str) -> ColumnType | None:
    """A column's type; None where it has none that is known, with the reason recorded."""
    node = fields.node("logicalType")
    if node is None or not isinstance(node.value, str):
        if node is None:
            fields.problems.add(
                fields.line,
                f"{where} lacks `logicalType`: give string, integer, number, boolean, date, time, "
                "timestamp, object or array.",
            )
        return None
    if node.suspect:
        return None
    logical = node.value
    physical = fields.text("physicalType").strip()
    lower = physical.lower()
    options = fields.fields("logicalTypeOptions")
    kind: ColumnType | None = None
    expected = ""
    match logical:
        case "string" if lower in ("json", "jsonb"):
            kind = ColumnType(LogicalType.JSON)
        case "string":
            expected = "`string`, `varchar` or `json`"
            kind = _if(not lower or _TEXT.match(lower), LogicalType.STRING)
        case "object" | "array":
            expected = "`json`"
            kind = _if(lower in ("", "json", "jsonb", "string"), LogicalType.JSON)
        case "integer":
            expected = "`bigint` or `integer`"
            kind = _if(not lower or lower in _INTEGER, LogicalType.INTEGER)
        case "number":
            return _number(fields, custom, physical, where)
        case "boolean":
            expected = "`boolean`"
            kind = _if(lower in ("", "boolean", "bool"), LogicalType.BOOLEAN)
        case "date":
            expected = "`date`"
            kind = _if(lower in ("", "date"), LogicalType.DATE)
        case "time":
            expected = "`time`"
            kind = _if(lower in ("", "time") and not options.flag("timezone"), LogicalType.TIME)
        case "timestamp":
            zoned = options.flag("timezone")
            expected = f"`timestamp` (or `timestamptz`, and timezone: {str(not zoned).lower()})"
            tz_words = ("timestamptz", "timestamp with time zone")
            if "timezone" not in options and lower in tz_words:
                zoned = True
            fits = lower in ("", "timestamp", *(tz_words if zoned else ("timestamp_ntz",)))
            kind = _if(fits, LogicalType.TIMESTAMP_TZ if zoned else LogicalType.TIMESTAMP)
    if kind is None:
        found = f"`physicalType` {shown(physical)}" if physical else "`timezone`"
        fields.problems.add(
            fields.line_of("physicalType" if physical else "logicalTypeOptions"),
            f"{where} has {found}, which does not go with logicalType {logical}; write {expected}, "
            "or take it out.",
        )
        return None
    _refuse_special(custom, kind, where)
    return kind


def _if(fits: object, logical: LogicalType) -> ColumnType | None:
    return ColumnType(logical) if fits else None


def _refuse_special(custom: Fields, kind: ColumnType, where: str) -> None:
    if "allowSpecial" in custom and kind.logical is not LogicalType.DOUBLE:
        custom.problems.add(
            custom.line_of("allowSpecial"),
            f"{where} has `allowSpecial`, which only a double can have; take it out.",
        )


def _number(fields: Fields, custom: Fields, physical: str, where: str) -> ColumnType | None:
    if physical.lower() in _DOUBLE:
        return ColumnType(LogicalType.DOUBLE, allow_special=custom.flag("allowSpecial"))
    match = _DECIMAL.match(physical)
    if match is None:
        fields.problems.add(
            fields.line_of("physicalType"),
            f"{where} is a number and must say which: physicalType `decimal(18,2)` for exact "
            "numbers, `double` for approximate ones.",
        )
        return None
    precision, scale = int(match[1]), int(match[2] or 0)
    if not 1 <= precision <= _MAX_PRECISION or scale > precision:
        fields.problems.add(
            fields.line_of("physicalType"),
            f"{where} has physicalType {shown(physical)}: a decimal has 1 to {_MAX_PRECISION} "
            "digits, and no more of them after the point than in all.",
        )
        return None
    kind = ColumnType(LogicalType.DECIMAL, precision, scale)
    _refuse_special(custom, kind, where)
    return kind


def bound_of(node: Node, kind: ColumnType) -> Bound | None:
    """A bound as a value of the column's type; None where it is none."""
    value = node.value
    if isinstance(value, bool):
        return None
    match kind.logical:
        case LogicalType.INTEGER:
            return value if isinstance(value, int) and abs(value) < 2**63 else None
        case LogicalType.DECIMAL:
            return Decimal(node.text) if isinstance(value, (int, float)) else None
        case LogicalType.DOUBLE:
            return float(value) if isinstance(value, (int, float)) else None
    return value_of(value, kind) if isinstance(value, str) else None


def value_of(text: str, kind: ColumnType) -> Any:
    """The value that a text spells in a type; None where it spells none."""
    import polars as pl

    from service_core.lexical import typed

    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String()})
    value: int | float | Decimal | bool | str | date | datetime | time | None = frame.select(
        typed(pl.col("text"), kind).alias("value")
    )["value"][0]
    return value
