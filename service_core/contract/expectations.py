"""What a figure must be: the standard's operators and units, refused where nothing complies."""

from __future__ import annotations

from service_core.contract.fields import Fields, kind_of
from service_core.contract.keys import OPERATORS
from service_core.contract.model import Expectation, Metric, Unit
from service_core.contract.problem import one_of, shown


def unit_of(fields: Fields, metric: Metric) -> Unit:
    """The unit in which a rule counts."""
    if metric in (Metric.ROW_COUNT, Metric.DISTINCT_COUNT, Metric.SUM):
        if fields.text("unit", "rows") != "rows":
            fields.problems.add(
                fields.line_of("unit"),
                f"{fields.where}: {shown(fields.text('unit'))} is no unit of this metric; take "
                "`unit` out.",
            )
        return Unit.ROWS
    word = fields.text("unit", "rows")
    if word in ("rows", "percent"):
        return Unit(word)
    fields.problems.add(
        fields.line_of("unit"),
        f"{fields.where} cannot count in {shown(word)}; the unit is `rows` or `percent`.",
    )
    return Unit.ROWS


def expectation_of(
    fields: Fields, metric: Metric, unit: Unit, factor: float = 1
) -> Expectation | None:
    """What the operator asks of the figure; None where it cannot be had."""
    given = [key for key in OPERATORS if key in fields]
    if len(given) != 1:
        if not fields.suspect:
            fields.problems.add(
                fields.line, f"{fields.where} must have exactly one of {one_of(OPERATORS)}."
            )
        return None
    key = given[0]
    node = fields.node(key)
    assert node is not None
    items = node.sequence if key.endswith("Between") else [node]
    values: list[float] = []
    for item in items:
        if item.suspect:
            return None
        if isinstance(item.value, bool) or not isinstance(item.value, (int, float)):
            fields.problems.add(
                item.line, f"{fields.name_of(key)} must be a number; this is {kind_of(item)}."
            )
            return None
        values.append(item.value * factor)
    if key.endswith("Between") and (len(values) != 2 or values[0] > values[1]):
        fields.problems.add(
            node.line, f"{fields.name_of(key)} takes two numbers, the smaller one first."
        )
        return None
    expectation = _OPERATIONS[key](values)
    if not _possible(expectation, metric, unit):
        fields.problems.add(
            node.line,
            f"{fields.where} can never hold: a figure in {unit} lies between 0 and "
            f"{'100' if unit is Unit.PERCENT else 'any count'}. Correct {key}.",
        )
        return None
    return expectation


_OPERATIONS = {
    "mustBe": lambda v: Expectation(equal=v[0]),
    "mustNotBe": lambda v: Expectation(unequal=v[0]),
    "mustBeGreaterThan": lambda v: Expectation(minimum=v[0], exclusive_minimum=True),
    "mustBeGreaterOrEqualTo": lambda v: Expectation(minimum=v[0]),
    "mustBeLessThan": lambda v: Expectation(maximum=v[0], exclusive_maximum=True),
    "mustBeLessOrEqualTo": lambda v: Expectation(maximum=v[0]),
    "mustBeBetween": lambda v: Expectation(minimum=v[0], maximum=v[1]),
    "mustNotBeBetween": lambda v: Expectation(outside=(v[0], v[1])),
}


def _possible(expectation: Expectation, metric: Metric, unit: Unit) -> bool:
    """Whether some figure can be as expected."""
    if metric is Metric.SUM:
        return True
    highest = 100.0 if unit is Unit.PERCENT else float("inf")
    low, high = expectation.minimum, expectation.maximum
    if low is not None and (low > highest or (low == highest and expectation.exclusive_minimum)):
        return False
    if high is not None and (high < 0 or (high == 0 and expectation.exclusive_maximum)):
        return False
    return expectation.equal is None or 0 <= expectation.equal <= highest
