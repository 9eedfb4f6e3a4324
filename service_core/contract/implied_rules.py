"""The rules that a column implies: its type, its being required, its pattern, length and range."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from service_core.contract.column_types import bound_of
from service_core.contract.fields import Fields
from service_core.contract.keys import COLUMN_PROPERTIES
from service_core.contract.model import (
    Column,
    ColumnType,
    LengthWithin,
    LogicalType,
    Matches,
    Required,
    RowRule,
    RowTest,
    Typed,
    Within,
)
from service_core.contract.problem import shown
from service_core.reasons import ReasonCode, Severity

_RANGED = frozenset(
    {
        LogicalType.INTEGER,
        LogicalType.DECIMAL,
        LogicalType.DOUBLE,
        LogicalType.DATE,
        LogicalType.TIME,
        LogicalType.TIMESTAMP,
        LogicalType.TIMESTAMP_TZ,
    }
)


def implied_rules(column: Column, fields: Fields, custom: Fields, where: str) -> Iterator[RowRule]:
    """The rules of a column, in a fixed order: type, required, pattern, length, range."""
    severities = custom.fields("severity", COLUMN_PROPERTIES["severity"])

    def rule(suffix: str, test: RowTest, code: ReasonCode) -> RowRule:
        severity = severities.word(suffix, Severity.ERROR)
        return RowRule(f"{column.name}_{suffix}", (column.name,), test, code, severity)

    options = fields.fields("logicalTypeOptions")
    if column.type.logical is not LogicalType.STRING and column.derived is None:
        yield rule("type", Typed(), ReasonCode.TYPE)
    if column.required:
        yield rule("required", Required(), ReasonCode.REQUIRED)
    found = set()
    if column.type.logical is LogicalType.STRING:
        pattern = options.node("pattern")
        if pattern is not None and isinstance(pattern.value, str) and not pattern.suspect:
            problem = pattern_problem(pattern.value)
            if problem is None:
                found.add("pattern")
                yield rule("pattern", Matches(pattern.value), ReasonCode.PATTERN)
            else:
                fields.problems.add(pattern.line, f"{where}: {problem}")
        length = _length(options, where)
        if length is not None:
            found.add("length")
            yield rule("length", length, ReasonCode.LENGTH)
    elif column.type.logical in _RANGED:
        within = _range(options, column.type, where)
        if within is not None:
            found.add("range")
            yield rule("range", within, ReasonCode.RANGE)
    else:
        for key in ("minLength", "maxLength", "pattern"):
            if key in options and column.type.logical is LogicalType.JSON:
                fields.problems.add(
                    options.line_of(key), f"{where} is JSON and cannot have {shown(key)}."
                )
    for key in COLUMN_PROPERTIES["severity"]:
        if key in severities and key not in found and not fields.problems:
            fields.problems.add(
                severities.line_of(key),
                f"{where} has a severity for its {key}, but no {key}; take it out.",
            )


@lru_cache(maxsize=4096)
def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be run, as a sentence; None where it can."""
    import polars as pl

    try:
        pl.Series(["x"]).str.contains(rf"\A(?:{pattern})\z")
    except pl.exceptions.PolarsError as error:
        lines = [line for line in str(error).splitlines() if line.startswith("error:")]
        reason = lines[0].removeprefix("error: ") if lines else "it is no regular expression"
        return (
            f"the pattern {shown(pattern)} does not compile ({reason}); mend it in the syntax of "
            "Rust's regular expressions, which have no look-around and no back-references."
        )
    return None


def _length(options: Fields, where: str) -> LengthWithin | None:
    if "minLength" not in options and "maxLength" not in options:
        return None
    low = options.whole("minLength", 0) if "minLength" in options else None
    high = options.whole("maxLength", 0) if "maxLength" in options else None
    if low is not None and high is not None and low > high:
        options.problems.add(
            options.line_of("minLength"),
            f"{where}: minLength {low} is above maxLength {high}, so that no text could pass; "
            "swap or correct them.",
        )
        return None
    return LengthWithin(low, high)


def _range(options: Fields, kind: ColumnType, where: str) -> Within | None:
    keys = [
        k for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if k in options
    ]
    if not keys:
        return None
    bounds: dict[str, Any] = {}
    for key in keys:
        node = options.node(key)
        assert node is not None
        if node.suspect:
            return None
        bound = bound_of(node, kind)
        if bound is None:
            options.problems.add(
                node.line,
                f"{where}: {key} {shown(node.text)} is no value of the type {kind.logical}; write "
                "it as the type is spelled (docs/types.md).",
            )
            return None
        bounds[key] = bound
    for low, high in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if low in bounds and high in bounds:
            options.problems.add(
                options.line_of(high), f"{where} has both {low} and {high}; keep one of them."
            )
            return None
    within = Within(
        minimum=bounds.get("minimum", bounds.get("exclusiveMinimum")),
        maximum=bounds.get("maximum", bounds.get("exclusiveMaximum")),
        exclusive_minimum="exclusiveMinimum" in bounds,
        exclusive_maximum="exclusiveMaximum" in bounds,
    )
    lowest, highest = within.minimum, within.maximum
    if lowest is not None and highest is not None:
        exclusive = within.exclusive_minimum or within.exclusive_maximum
        impossible: bool = lowest > highest or (lowest == highest and exclusive)  # type: ignore[operator]
        if impossible:
            options.problems.add(
                min(options.line_of(key) for key in keys),
                f"{where}: no value lies between {lowest} and {highest}; swap or correct them.",
            )
            return None
    return within
