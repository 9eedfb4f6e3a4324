"""Rules of `type: library`: the standard's own metrics."""

from __future__ import annotations

from service_core.contract.column_types import value_of
from service_core.contract.expectations import expectation_of, unit_of
from service_core.contract.fields import Fields
from service_core.contract.implied_rules import pattern_problem
from service_core.contract.keys import ARGUMENTS
from service_core.contract.model import (
    Case,
    Column,
    Expectation,
    LogicalType,
    Matches,
    Metric,
    OneOf,
    RowRule,
)
from service_core.contract.problem import shown
from service_core.contract.rule import Rule, Rules, add_set, named_columns
from service_core.reasons import ReasonCode

_LIBRARY = {
    "nullValues": Metric.NULL_VALUES,
    "missingValues": Metric.NULL_VALUES,
    "invalidValues": Metric.INVALID_VALUES,
    "duplicateValues": Metric.DUPLICATE_VALUES,
    "rowCount": Metric.ROW_COUNT,
}


def read_library(rule: Rule, rules: Rules) -> None:
    """Add a rule with one of the standard's metrics, or record why it cannot be executed."""
    fields = rule.fields
    word = fields.text("metric")
    metric = _LIBRARY.get(word)
    if metric is None:
        return
    arguments = fields.fields("arguments", ARGUMENTS[word] or None)
    if not ARGUMENTS[word] and fields.node("arguments") is not None:
        fields.problems.add(
            fields.line_of("arguments"), f"The metric {word} takes no arguments; take them out."
        )
    columns = _library_columns(rule, metric, arguments, rules)
    unit = unit_of(fields, metric)
    expectation = expectation_of(fields, metric, unit)
    invalid_if: Matches | OneOf | None = None
    if metric is Metric.INVALID_VALUES and columns:
        invalid_if = _validity(rule, arguments, columns[0], rules)
        if invalid_if is None:
            return
    elif word == "missingValues" and columns:
        _check_missing(arguments, columns[0], rules)
    if columns is None or expectation is None:
        return
    if invalid_if is not None and expectation == Expectation(equal=0):
        _add_allowed(rule, columns[0], invalid_if, rules)
        return
    names = tuple(column.name for column in columns)
    default = "_".join((*names, str(metric)))
    add_set(rule, rule.name or default, metric, names, expectation, unit, invalid_if, rules)


def _add_allowed(rule: Rule, column: Column, test: Matches | OneOf, rules: Rules) -> None:
    suffix, code = (
        ("allowed", ReasonCode.NOT_ALLOWED)
        if isinstance(test, OneOf)
        else ("pattern", ReasonCode.PATTERN)
    )
    name = rule.name or f"{column.name}_{suffix}"
    if "scope" in rule.custom:
        rules.problems.add(
            rule.custom.line_of("scope"),
            f"{rule.fields.where} is judged row by row, because its figure must be 0; take `scope` "
            "out.",
        )
    if rules.claim(name, rule.line):
        rules.allowed.append(
            RowRule(
                name,
                (column.name,),
                test,
                code,
                rule.severity,
                rule.fields.text("description"),
                rule.dimension,
            )
        )


def _library_columns(
    rule: Rule, metric: Metric, arguments: Fields, rules: Rules
) -> tuple[Column, ...] | None:
    fields = rule.fields
    if metric is Metric.ROW_COUNT:
        if rule.column is None:
            return ()
        fields.problems.add(
            fields.line_of("metric"),
            "rowCount speaks of no column; move the rule to the `quality` of the schema.",
        )
        return None
    if rule.column is not None:
        if "properties" in arguments:
            fields.problems.add(
                arguments.line_of("properties"),
                "`properties` names the columns of a rule of the whole schema; this rule stands in "
                "a column. Move it, or take them out.",
            )
        return (rule.column,)
    if metric is Metric.DUPLICATE_VALUES:
        if "properties" not in arguments:
            fields.problems.add(
                rule.line,
                f"{fields.where} does not say whose duplicates; name the columns in "
                "arguments.properties.",
            )
            return None
        return named_columns(arguments, "properties", rules)
    fields.problems.add(
        fields.line_of("metric"),
        f"{fields.text('metric')} speaks of one column; move the rule to the `quality` of that "
        "column.",
    )
    return None


def _validity(
    rule: Rule, arguments: Fields, column: Column, rules: Rules
) -> Matches | OneOf | None:
    """The test of an invalidValues rule; None where it cannot be had."""
    values, pattern = arguments.node("validValues"), arguments.node("pattern")
    where = rule.fields.where
    if (values is None) == (pattern is None):
        rules.problems.add(
            rule.line,
            f"{where} must say what is valid: give arguments.validValues or arguments.pattern, and "
            "not both.",
        )
        return None
    if pattern is not None:
        if column.type.logical is not LogicalType.STRING:
            rules.problems.add(
                pattern.line,
                f"{where} has a pattern on {shown(column.name)}, which is no text but "
                f"{column.type.logical}; use validValues or a range.",
            )
            return None
        if not isinstance(pattern.value, str) or pattern.suspect:
            arguments.wrong("pattern", "a regular expression between quotes")
            return None
        problem = pattern_problem(pattern.value)
        if problem is not None:
            rules.problems.add(pattern.line, f"{where}: {problem}")
            return None
        return Matches(pattern.value)
    assert values is not None
    if not isinstance(values.value, list) or not values.value:
        arguments.wrong("validValues", "a list of at least one value")
        return None
    return _one_of(rule, arguments, column, rules)


def _one_of(rule: Rule, arguments: Fields, column: Column, rules: Rules) -> OneOf | None:
    node = arguments.node("validValues")
    assert node is not None
    where = rule.fields.where
    texts: list[str] = []
    sound = True
    for item in node.sequence:
        problem = None if item.suspect else _value_problem(item.value, item.text, column, rules)
        if problem is None and item.text in texts:
            problem = "stands twice; keep one"
        if problem is not None:
            rules.problems.add(item.line, f"{where}: the valid value {shown(item.text)} {problem}.")
        sound = sound and problem is None and not item.suspect
        texts.append(item.text)
    return OneOf(tuple(texts)) if sound else None


def _value_problem(value: object, text: str, column: Column, rules: Rules) -> str | None:
    if isinstance(value, (dict, list)) or value is None:
        return "is no single value; null is valid unless the column is required"
    kind = column.type
    if kind.logical is LogicalType.STRING:
        if not isinstance(value, str):
            return "is read by YAML as something else than text; put quotes around it"
    elif column.derived is None or kind.logical is not LogicalType.JSON:
        if value_of(text, kind) is None:
            return (
                f"is no spelling of {shown(column.name)}'s type {kind.logical} (docs/types.md); "
                "correct it"
            )
        return None
    shape = column.normalisation
    if text in (*rules.form.dialect.null_values, *shape.null_if) and column.derived is None:
        return "is also a spelling of null; take it out of one of the two"
    if shape.case is not None and text != (
        text.upper() if shape.case is Case.UPPER else text.lower()
    ):
        return f"is never met, because text is made {shape.case} first; write it so"
    if shape.trim and text != text.strip(" \t\r\n\f\v"):
        return "is never met, because text is trimmed first; take the white space off"
    return None


def _check_missing(arguments: Fields, column: Column, rules: Rules) -> None:
    """What counts as missing is what the contract reads as null, and nothing else."""
    node = arguments.node("missingValues")
    nulls = (*rules.form.dialect.null_values, *column.normalisation.null_if)
    for item in node.sequence if node is not None else ():
        if item.value is not None and item.text not in nulls:
            rules.problems.add(
                item.line,
                f"missingValues has {shown(item.text)}, which is not read as null; add it to the "
                f"`nullIf` of {shown(column.name)}, where it counts and is published as null.",
            )
