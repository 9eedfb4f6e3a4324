"""Faults: the ways in which rows of a contract can be at fault, and who is at fault in a block.

A row that breaks several rules has several reasons. But what follows from another fault is not
told again: a value that is no spelling of its type is not also missing or out of range, and
neither is what is derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service_core.canonical import REASON_TYPE
from service_core.contract.expressions import columns_named
from service_core.contract.model import (
    Column,
    Contract,
    DriftPolicy,
    Holds,
    LengthWithin,
    Matches,
    OneOf,
    Required,
    RowRule,
    Typed,
    Within,
)
from service_core.curation.judgement import Judge, type_name
from service_core.reasons import ReasonCode, Severity

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_NAMED_VALUES = 10
_SHOWN_CHARACTERS = 200
_DIVERTING = frozenset({DriftPolicy.QUARANTINE_ROWS, DriftPolicy.QUARANTINE_FILE})


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a row can be at fault.

    Attributes:
        index: Its place among the contract's faults.
        code, column, message: The reason that a row at fault is given. The message never holds
            the row's value, which may be personal.
        check: The name of the check that counts it, if any.
        diverts: Whether a row at fault is diverted.
        untyped: Whether it is that the column has no value of its type, by text or derivation.
        roots: The columns on which the outcome depends.
    """

    index: int
    code: ReasonCode
    column: str | None
    message: str
    check: str | None
    diverts: bool
    untyped: bool
    roots: frozenset[str]


@dataclass(frozen=True, slots=True)
class Faults:
    """Every fault that a contract knows.

    Attributes:
        every: All of them, by index.
        untyped: By column: its text is no spelling of its type, or its derivation has no outcome.
        rules: Parallel to the judge's rules.
    """

    every: tuple[Fault, ...]
    untyped: Mapping[str, Fault]
    rules: tuple[Fault, ...]

    @classmethod
    def of(cls, contract: Contract, judge: Judge) -> Faults:
        """The faults of a contract, whose row rules `judge` runs."""
        roots = _roots(contract)
        checks = {r.columns[0]: r.name for r in contract.row_rules if isinstance(r.test, Typed)}
        untyped: dict[str, Fault] = {}
        for column in contract.columns:
            derived = column.derived is not None
            untyped[column.name] = Fault(
                index=len(untyped),
                code=ReasonCode.DERIVATION if derived else ReasonCode.TYPE,
                column=column.name,
                message=_untyped_message(column),
                check=checks.get(column.name),
                diverts=derived or contract.drift.type in _DIVERTING,
                untyped=True,
                roots=roots[column.name] - {column.name},
            )
        rules = tuple(
            _of_rule(rule, len(untyped) + place, contract, roots)
            for place, rule in enumerate(judge.rules)
        )
        return cls((*untyped.values(), *rules), untyped, rules)

    def pairs(self, found: Sequence[tuple[Fault, pl.Series]]) -> Pairs:
        """Who is at fault, of what was found: row indexes by fault."""
        import polars as pl

        diverted = {fault.column: rows for fault, rows in found if fault.untyped and fault.diverts}
        parts = [pl.DataFrame(schema={"row": pl.UInt32(), "fault": pl.UInt32()})]
        for fault, rows in found:
            own = rows.cast(pl.UInt32).alias("row")
            for root in fault.roots & diverted.keys():
                own = own.filter(own.is_in(diverted[root].cast(pl.UInt32).implode()).not_())
            parts.append(
                own.to_frame().with_columns(pl.lit(fault.index, pl.UInt32()).alias("fault"))
            )
        return Pairs(self, pl.concat(parts).sort("row", "fault"))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows at fault in one block: `frame` holds `row` and `fault`, in that order."""

    faults: Faults
    frame: pl.DataFrame

    def diverting(self) -> pl.DataFrame:
        """The pairs that divert their row."""
        import polars as pl

        diverts = [fault.index for fault in self.faults.every if fault.diverts]
        return self.frame.filter(pl.col("fault").is_in(diverts))

    def diverted_rows(self) -> pl.Series:
        """The rows that are diverted, ascending."""
        return self.diverting()["row"].unique(maintain_order=True)

    def reasons(self) -> pa.Array:
        """The list of reasons of each diverted row, in the order of `diverted_rows`."""
        import polars as pl
        import pyarrow as pa

        every = self.faults.every
        told = pl.DataFrame(
            {
                "code": [fault.code.value for fault in every],
                "column": [fault.column for fault in every],
                "message": [fault.message for fault in every],
            },
            schema={"code": pl.String(), "column": pl.String(), "message": pl.String()},
        ).to_struct("reason")
        diverting = self.diverting()
        lists = (
            diverting.select("row", reason=told.gather(diverting["fault"]))
            .group_by("row", maintain_order=True)
            .agg("reason")["reason"]
        )
        return lists.to_arrow().cast(pa.list_(REASON_TYPE))


def _roots(contract: Contract) -> dict[str, frozenset[str]]:
    """By column: itself and every column from which it is derived, by however many steps."""
    roots: dict[str, frozenset[str]] = {}
    for column in contract.columns:
        roots[column.name] = frozenset({column.name})
    for column in contract.columns:
        if column.derived is not None:
            named = columns_named(column.derived, contract.columns)
            roots[column.name] |= {root for name in named for root in roots[name]}
    return roots


def _of_rule(
    rule: RowRule, index: int, contract: Contract, roots: Mapping[str, frozenset[str]]
) -> Fault:
    named = set(rule.columns)
    if isinstance(rule.test, Holds):
        named |= set(columns_named(rule.test.expression, contract.columns))
    return Fault(
        index=index,
        code=rule.code,
        column=rule.columns[0] if rule.columns else None,
        message=_broken_message(rule),
        check=rule.name,
        diverts=rule.severity is Severity.ERROR,
        untyped=False,
        roots=frozenset(root for name in named for root in roots.get(name, ())),
    )


def _untyped_message(column: Column) -> str:
    if column.derived is not None:
        return (
            f"{column.name} cannot be computed as {type_name(column.type)}: "
            f"{_shown(column.derived)}"
        )
    return f"{column.name} is no spelling of {type_name(column.type)}"


def _broken_message(rule: RowRule) -> str:
    name = rule.columns[0] if rule.columns else "the row"
    match rule.test:
        case Required():
            return f"{name} is required and null"
        case Matches(pattern):
            return f"{name} does not match {_shown(pattern)}"
        case OneOf(values):
            listed = ", ".join(_shown(value) for value in values[:_NAMED_VALUES])
            more = f" or {len(values) - _NAMED_VALUES} more" * (len(values) > _NAMED_VALUES)
            return f"{name} is none of {listed}{more}"
        case Within():
            return f"{name} is not {within(rule.test)}"
        case LengthWithin(minimum, maximum):
            return f"{name} is not {_lengths(minimum, maximum)} long"
        case Holds(expression):
            return f"{rule.name} does not hold: {_shown(expression)}"
        case Typed():
            return f"{name} is no spelling of its type"


def within(test: Within) -> str:
    """A range as words: `at least 0 and less than 100`."""
    parts = []
    if test.minimum is not None:
        parts.append(f"{'more than' if test.exclusive_minimum else 'at least'} {test.minimum}")
    if test.maximum is not None:
        parts.append(f"{'less than' if test.exclusive_maximum else 'at most'} {test.maximum}")
    return " and ".join(parts) or "within any range"


def _lengths(minimum: int | None, maximum: int | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum} characters"
    if minimum is not None:
        return f"at least {minimum} characters"
    return f"at most {maximum} characters"


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
