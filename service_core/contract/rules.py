"""Quality rules: the standard's library metrics and our own expressions and figures.

Every rule that is read here can be carried out on every engine. One that cannot is refused, with
what to write instead; none is skipped.
"""

from __future__ import annotations

import re

from service_core.contract.columns import ReadColumn
from service_core.contract.custom_rules import ENGINE, read_custom
from service_core.contract.fields import Fields, custom_properties
from service_core.contract.keys import RULE_PROPERTIES
from service_core.contract.library_rules import read_library
from service_core.contract.problem import shown
from service_core.contract.rule import Rule, Rules
from service_core.reasons import Severity

_CHECK_NAME = re.compile(r"[A-Za-z0-9_]{1,128}\Z")


def read_rules(owner: Fields, column: ReadColumn | None, rules: Rules) -> None:
    """Every rule under the `quality` of the schema, or of one column."""
    node = owner.node("quality")
    for item in node.sequence if node is not None else ():
        if isinstance(item.value, dict):
            _read_rule(Fields(item, "", rules.problems), column, rules)


def _read_rule(fields: Fields, owner: ReadColumn | None, rules: Rules) -> None:
    name = fields.text("name")
    column = owner.column if owner is not None else None
    unnamed = f"The rule on {shown(column.name)}" if column is not None else "The rule"
    fields.where = f"Rule {shown(name)}" if name else unnamed
    _, custom = custom_properties(fields, RULE_PROPERTIES, fields.where)
    rule = Rule(fields, custom, column, name, fields.word("severity", Severity.ERROR))
    for key in ("schedule", "scheduler"):
        if key in fields:
            fields.problems.add(
                fields.line_of(key),
                f"{fields.where}: every rule runs on every batch; take {shown(key)} out.",
            )
    if name and _CHECK_NAME.match(name) is None:
        fields.problems.add(
            fields.line_of("name"),
            f"The rule name {shown(name)} must be letters, digits and `_` only; write it such as "
            f"{shown(re.sub('[^A-Za-z0-9_]+', '_', name)[:128])}.",
        )
        return
    match fields.text("type", "library"):
        case "library":
            read_library(rule, rules)
        case "custom":
            read_custom(rule, rules)
        case "sql":
            fields.problems.add(
                fields.line_of("type"),
                f"{fields.where} is an SQL query, which cannot be executed on a batch that is not "
                f"in a table yet; write it as type: custom, engine: {ENGINE}, with an "
                "`expression` over the row.",
            )
        case "text":
            fields.problems.add(
                fields.line_of("type"),
                f"{fields.where} is text, which cannot be executed; move it to the description.",
            )
