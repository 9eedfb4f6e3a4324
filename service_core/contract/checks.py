"""The checks that a contract declares: each by a name of its own, in a fixed order.

Every one of them reports on every run. Curation, the asset checks and the documentation take the
list from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service_core.contract.model import (
    Contract,
    Expectation,
    Holds,
    LengthWithin,
    Matches,
    Metric,
    OneOf,
    Processing,
    Required,
    RowRule,
    SetRule,
    Typed,
    Unit,
    Within,
)
from service_core.reasons import Severity

ROWS_CONSERVED = "rows_conserved"
SOURCE_OBJECTS_ACCEPTED = "source_objects_accepted"


#: The checks that every contract has; no rule may take their names.
BUILT_IN = (ROWS_CONSERVED, SOURCE_OBJECTS_ACCEPTED)


class CheckKind(StrEnum):
    """What a check is judged on."""

    ROW = "row"
    UNIQUE = "unique"
    SET = "set"
    BUILT_IN = "built_in"


@dataclass(frozen=True, slots=True)
class CheckDeclaration:
    """One check.

    Attributes:
        name: Its name: letters, digits and `_`, unique in the contract.
        severity: What its failure means.
        description: One sentence: the rule's own, or what it expects.
        columns: The columns that it speaks of.
        kind: What it is judged on.
    """

    name: str
    severity: Severity
    description: str
    columns: tuple[str, ...]
    kind: CheckKind


def check_names(contract: Contract) -> tuple[CheckDeclaration, ...]:
    """Every check of a contract: built-ins, row rules, uniqueness, set rules.

    An ELT contract has the built-in ones alone: its rows are typed and judged downstream.
    """
    built_in = (
        CheckDeclaration(
            ROWS_CONSERVED,
            Severity.ERROR,
            "Rows read are rows published and rows quarantined, and no more or fewer.",
            (),
            CheckKind.BUILT_IN,
        ),
        CheckDeclaration(
            SOURCE_OBJECTS_ACCEPTED,
            Severity.ERROR,
            "No source object of the batch went whole to quarantine.",
            (),
            CheckKind.BUILT_IN,
        ),
    )
    if contract.processing is Processing.ELT:
        return built_in
    rows = tuple(
        CheckDeclaration(
            rule.name, rule.severity, rule.description or said(rule), rule.columns, CheckKind.ROW
        )
        for rule in contract.row_rules
    )
    unique = tuple(
        CheckDeclaration(
            unique_check_name(key),
            Severity.ERROR,
            f"{' and '.join(key)} stand only once in the partition."
            if len(key) > 1
            else f"Each {key[0]} stands only once in the partition.",
            key,
            CheckKind.UNIQUE,
        )
        for key in contract.unique_keys
    )
    sets = tuple(
        CheckDeclaration(
            rule.name, rule.severity, rule.description or said(rule), rule.columns, CheckKind.SET
        )
        for rule in contract.set_rules
    )
    return (*built_in, *rows, *unique, *sets)


def unique_check_name(key: tuple[str, ...]) -> str:
    """The name of the check that a key is unique: `order_id_unique`."""
    return f"{'_'.join(key)}_unique"


def said(rule: RowRule | SetRule) -> str:
    """What a rule expects, as a sentence."""
    if isinstance(rule, SetRule):
        return f"{_figure(rule)} {expected(rule.expectation)}{_UNITS[rule.unit]}."
    column = rule.columns[0]
    match rule.test:
        case Typed():
            return f"{column} is a spelling of its type."
        case Required():
            return f"{column} is not null."
        case Matches(pattern):
            return f"{column} matches {pattern}."
        case OneOf(values):
            return f"{column} is one of {', '.join(values)}."
        case LengthWithin(low, high):
            return f"{column} has {_span(low, high)} characters."
        case Within(low, high, above, below):
            parts = []
            if low is not None:
                parts.append(f"{'more than' if above else 'at least'} {low}")
            if high is not None:
                parts.append(f"{'less than' if below else 'at most'} {high}")
            return f"{column} is {' and '.join(parts)}."
        case Holds(expression):
            return f"{' '.join(expression.split())}."


_UNITS = {Unit.ROWS: "", Unit.PERCENT: " percent of rows", Unit.SECONDS: " seconds"}
_FIGURES = {
    Metric.NULL_VALUES: "Null values of",
    Metric.INVALID_VALUES: "Invalid values of",
    Metric.DUPLICATE_VALUES: "Duplicate values of",
    Metric.DISTINCT_COUNT: "Distinct values of",
    Metric.SUM: "The sum of",
    Metric.FRESHNESS: "The age of the latest",
}


def _figure(rule: SetRule) -> str:
    if rule.metric is Metric.ROW_COUNT:
        return "The count of rows must be"
    return f"{_FIGURES[rule.metric]} {', '.join(rule.columns)} must be"


def expected(expectation: Expectation) -> str:
    """What a figure must be, such as `at least 1`."""
    parts = []
    if expectation.minimum is not None:
        word = "more than" if expectation.exclusive_minimum else "at least"
        parts.append(f"{word} {expectation.minimum:g}")
    if expectation.maximum is not None:
        word = "less than" if expectation.exclusive_maximum else "at most"
        parts.append(f"{word} {expectation.maximum:g}")
    if expectation.equal is not None:
        parts.append(f"{expectation.equal:g}")
    if expectation.unequal is not None:
        parts.append(f"other than {expectation.unequal:g}")
    if expectation.outside is not None:
        parts.append(f"outside of {expectation.outside[0]:g} to {expectation.outside[1]:g}")
    return " and ".join(parts)


def _span(low: int | None, high: int | None) -> str:
    if low is None:
        return f"at most {high}"
    if high is None:
        return f"at least {low}"
    return str(low) if low == high else f"{low} to {high}"
