"""A quality rule while it is read, and what has been read of its contract so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service_core.contract.checks import BUILT_IN
from service_core.contract.columns import ReadColumn
from service_core.contract.fields import Fields
from service_core.contract.model import (
    Column,
    Expectation,
    Format,
    Matches,
    Metric,
    OneOf,
    RowRule,
    SetRule,
    SetScope,
    Unit,
)
from service_core.contract.problem import Problems, one_of, shown, suggestion
from service_core.reasons import Severity

_SCOPES: Mapping[str, frozenset[SetScope]] = {
    "source_object": frozenset({SetScope.SOURCE_OBJECT}),
    "batch": frozenset({SetScope.BATCH}),
    "both": frozenset(SetScope),
}


@dataclass(slots=True)
class Rules:
    """The rules read so far, with the line of each by its name.

    `allowed` are row rules on one column's values, `custom` the expressions.
    """

    problems: Problems
    form: Format
    columns: tuple[ReadColumn, ...]
    allowed: list[RowRule] = field(default_factory=list)
    custom: list[RowRule] = field(default_factory=list)
    sets: list[SetRule] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((r.column for r in self.columns if r.column.name == name), None)

    def claim(self, name: str, line: int) -> bool:
        """Take a check name; False where another rule has it, which is recorded."""
        if name in BUILT_IN:
            self.problems.add(
                line, f"The check {shown(name)} is built in; give the rule another `name`."
            )
            return False
        taken = self.lines.setdefault(name, line)
        if taken == line:
            return True
        self.problems.add(
            line,
            f"The check {shown(name)} is declared twice, first on line {taken}; "
            "give the rule another `name`.",
        )
        return False


@dataclass(frozen=True, slots=True)
class Rule:
    """What all kinds of rules have in common. `column` is None for rules on the whole schema."""

    fields: Fields
    custom: Fields
    column: Column | None
    name: str
    severity: Severity

    @property
    def line(self) -> int:
        return self.fields.line

    @property
    def dimension(self) -> str | None:
        return self.fields.text("dimension") or None


def named_columns(fields: Fields, key: str, rules: Rules) -> tuple[Column, ...] | None:
    """The columns that a list, or a text, of names means."""
    node = fields.node(key)
    names = (node.value,) if node is not None and isinstance(node.value, str) else fields.texts(key)
    known = [r.column.name for r in rules.columns]
    found = []
    for name in names:
        column = rules.column(name)
        if column is None:
            rules.problems.add(
                fields.line_of(key),
                f"{fields.name_of(key)} names the column {shown(name)}, which is not there."
                f"{suggestion(name, known)}",
            )
        else:
            found.append(column)
    if not names:
        fields.problems.add(fields.line_of(key), f"{fields.name_of(key)} names no column.")
    return tuple(found) if found and len(found) == len(names) else None


def add_set(
    rule: Rule,
    name: str,
    metric: Metric,
    columns: Sequence[str],
    expectation: Expectation,
    unit: Unit,
    invalid_if: Matches | OneOf | None,
    rules: Rules,
) -> None:
    """Add a rule on a figure, unless its scope or name will not do."""
    node = rule.custom.node("scope")
    default = "batch" if metric in (Metric.FRESHNESS, Metric.ROW_COUNT) else "both"
    scope = node.value if node is not None and isinstance(node.value, str) else default
    if scope not in _SCOPES or (node is not None and not isinstance(node.value, str)):
        rules.problems.add(
            rule.custom.line_of("scope"),
            f"{rule.fields.where} has the scope {shown(scope)}; it is {one_of(_SCOPES)}."
            f"{suggestion(scope, _SCOPES)}",
        )
        return
    if rules.claim(name, rule.line):
        rules.sets.append(
            SetRule(
                name=name,
                metric=metric,
                columns=tuple(columns),
                expectation=expectation,
                unit=unit,
                severity=rule.severity,
                scopes=_SCOPES[scope],
                invalid_if=invalid_if,
                description=rule.fields.text("description"),
                dimension=rule.dimension,
            )
        )
