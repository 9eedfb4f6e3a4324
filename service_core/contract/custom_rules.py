"""Rules of `type: custom` for our own engine: expressions over a row, and figures of many."""

from __future__ import annotations

from service_core.contract.expectations import expectation_of, unit_of
from service_core.contract.expressions import columns_named, rule_problem
from service_core.contract.fields import Fields
from service_core.contract.keys import ARGUMENTS, EXPRESSION_KEYS, METRIC_KEYS
from service_core.contract.model import Column, Holds, LogicalType, Metric, RowRule, Unit
from service_core.contract.problem import ended, one_of, shown, suggestion
from service_core.contract.rule import Rule, Rules, add_set, named_columns
from service_core.reasons import ReasonCode

ENGINE = "lakegate"


_CUSTOM = {
    "distinctCount": Metric.DISTINCT_COUNT,
    "sum": Metric.SUM,
    "freshness": Metric.FRESHNESS,
}

_SUMMED = frozenset({LogicalType.INTEGER, LogicalType.DECIMAL, LogicalType.DOUBLE})

_DATED = frozenset({LogicalType.DATE, LogicalType.TIMESTAMP, LogicalType.TIMESTAMP_TZ})

_SECONDS = {
    "s": 1, "second": 1, "seconds": 1,
    "m": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip


def read_custom(rule: Rule, rules: Rules) -> None:
    """Add a rule of our own engine, or record why it cannot be executed."""
    fields = rule.fields
    engine = fields.text("engine")
    if engine != ENGINE:
        fields.problems.add(
            fields.line_of("engine"),
            f"{fields.where} is for the engine {shown(engine)}, which is not here; write it for "
            f"engine: {ENGINE}, or take it out.",
        )
        return
    node = fields.node("implementation")
    if node is None or not isinstance(node.value, dict):
        fields.wrong("implementation", "a mapping with `expression` or `metric`")
        return
    if "metric" in node.mapping:
        _read_metric(rule, fields.fields("implementation", METRIC_KEYS), rules)
    else:
        _read_expression(rule, fields.fields("implementation", EXPRESSION_KEYS), rules)


def _read_expression(rule: Rule, body: Fields, rules: Rules) -> None:
    fields = rule.fields
    body.required("expression", "an SQL expression over the row, or `metric` for a figure")
    sql = body.text("expression")
    if not rule.name:
        fields.problems.add(
            rule.line, "A rule with an expression needs a `name`, which its check will have."
        )
    if "scope" in rule.custom or "unit" in fields:
        fields.problems.add(
            rule.line, f"{fields.where} is judged row by row; take `scope` and `unit` out."
        )
    if "expression" not in body or not all(r.sound for r in rules.columns):
        return
    columns = [r.column for r in rules.columns]
    problem = rule_problem(sql, columns)
    if problem is not None:
        fields.problems.add(
            body.line_of("expression"),
            f"{fields.where} cannot be executed as {shown(sql)}: {ended(problem)}",
        )
        return
    named = columns_named(sql, columns)
    if rule.column is not None and rule.column.name not in named:
        fields.problems.add(
            body.line_of("expression"),
            f"{fields.where} stands in the column {shown(rule.column.name)} and does not speak of "
            "it; move it to the `quality` of the schema.",
        )
        return
    if rule.column is not None:
        # The column under which the rule stands is the one that reasons name.
        named = (rule.column.name, *(name for name in named if name != rule.column.name))
    if rule.name and rules.claim(rule.name, rule.line):
        rules.custom.append(
            RowRule(
                rule.name,
                named,
                Holds(sql),
                ReasonCode.RULE,
                rule.severity,
                fields.text("description"),
                rule.dimension,
            )
        )


def _read_metric(rule: Rule, body: Fields, rules: Rules) -> None:
    fields = rule.fields
    word = body.text("metric")
    metric = _CUSTOM.get(word)
    if metric is None:
        fields.problems.add(
            body.line_of("metric"),
            f"{fields.where} has the metric {shown(word)}; engine {ENGINE} knows "
            f"{one_of(_CUSTOM)}.{suggestion(word, (*_CUSTOM, *ARGUMENTS))}",
        )
        return
    body.where = fields.where
    columns = _metric_columns(rule, metric, body, rules)
    factor, unit = 1.0, Unit.ROWS
    if metric is Metric.FRESHNESS:
        unit = Unit.SECONDS
        factor = _SECONDS.get(fields.text("unit", "seconds"), 0)
        if not factor:
            fields.problems.add(
                fields.line_of("unit"),
                f"{fields.where} cannot count in {shown(fields.text('unit'))}; the unit is "
                "`seconds`, `minutes`, `hours` or `days`.",
            )
            return
    else:
        unit_of(fields, metric)
    expectation = expectation_of(body, metric, unit, factor)
    if columns is None or expectation is None:
        return
    names = tuple(column.name for column in columns)
    default = "_".join((*names, str(metric)))
    add_set(rule, rule.name or default, metric, names, expectation, unit, None, rules)


def _metric_columns(
    rule: Rule, metric: Metric, body: Fields, rules: Rules
) -> tuple[Column, ...] | None:
    fields = rule.fields
    if "column" in body and "columns" in body:
        fields.problems.add(
            body.line_of("columns"), f"{fields.where} has both `column` and `columns`; keep one."
        )
        return None
    key = "columns" if "columns" in body else "column"
    if key in body:
        columns = named_columns(body, key, rules)
    elif rule.column is not None:
        columns = (rule.column,)
    else:
        fields.problems.add(body.line, f"{fields.where} does not say of which `column`; name it.")
        return None
    if columns is None:
        return None
    if len(columns) > 1 and metric is not Metric.DISTINCT_COUNT:
        fields.problems.add(body.line_of(key), f"{fields.where} takes one column, not several.")
        return None
    kind = columns[0].type.logical
    wanted = {Metric.SUM: _SUMMED, Metric.FRESHNESS: _DATED}.get(metric)
    if wanted is not None and kind not in wanted:
        fields.problems.add(
            body.line_of(key),
            f"{fields.where}: the {metric} of {shown(columns[0].name)} cannot be had, which is "
            f"{kind}; it takes {one_of(sorted(wanted))}.",
        )
        return None
    return columns
