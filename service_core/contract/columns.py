"""The columns of a contract, from the standard's properties, with the rules that they imply."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from service_core.contract.column_types import read_type
from service_core.contract.document import Node
from service_core.contract.expressions import derivation_problem
from service_core.contract.fields import Fields, custom_properties
from service_core.contract.implied_rules import implied_rules
from service_core.contract.json_path import parse_json_path
from service_core.contract.keys import COLUMN_PROPERTIES
from service_core.contract.model import (
    Case,
    Column,
    ColumnType,
    FileFormat,
    Format,
    LogicalType,
    Normalisation,
    RowRule,
)
from service_core.contract.problem import Problems, ended, shown

MAX_COLUMNS = 2_000

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}\Z")
_IGNORED_OPTIONS = {
    "multipleOf": "write it as a custom rule, such as `quantity % 5 = 0`",
    "defaultTimezone": "timestamps carry an offset (timezone: true) or none",
    "minItems": "nested lists are kept as JSON and are not looked into",
    "maxItems": "nested lists are kept as JSON and are not looked into",
    "uniqueItems": "nested lists are kept as JSON and are not looked into",
    "minProperties": "nested objects are kept as JSON and are not looked into",
    "maxProperties": "nested objects are kept as JSON and are not looked into",
    "required": "nested objects are kept as JSON and are not looked into",
}


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """A column, the rules it implies, and where it stands.

    `sound` is False where its name or type could not be read, so that nothing can be built on it.
    """

    column: Column
    rules: tuple[RowRule, ...]
    fields: Fields
    sound: bool


def read_columns(
    properties: Node | None, form: Format, problems: Problems, line: int
) -> tuple[ReadColumn, ...]:
    """Every column, in order."""
    nodes = properties.sequence if properties is not None else []
    if not nodes:
        problems.add(
            line,
            "schema[0].properties names no column; a data set has at least one. List its columns.",
        )
        return ()
    if len(nodes) > MAX_COLUMNS:
        problems.add(line, f"There are more than {MAX_COLUMNS} columns; split the data set.")
        return ()
    read: list[ReadColumn] = []
    for node in nodes:
        if isinstance(node.value, dict):
            read.append(_read_column(node, form, read, problems))
    if read and all(r.column.derived is not None for r in read):
        problems.add(line, "Every column is derived; at least one must come from the file.")
    _refuse_shared_sources(read, problems)
    return _with_primary_key(read, problems)


def _read_column(
    node: Node, form: Format, before: list[ReadColumn], problems: Problems
) -> ReadColumn:
    fields = Fields(node, "", problems)
    name = fields.text("name")
    where = f"Column {shown(name)}" if name else "A column"
    fields.where = where
    sound = _check_name(name, fields, before)
    _, custom = custom_properties(fields, COLUMN_PROPERTIES, where)
    kind = read_type(fields, custom, where)
    sound = sound and kind is not None
    column = Column(
        name=name,
        type=kind or ColumnType(LogicalType.STRING),
        required=fields.flag("required") or fields.flag("primaryKey"),
        unique=fields.flag("unique"),
        primary_key=_key_position(fields, where),
        classification=fields.text("classification") or None,
        normalisation=_normalisation(custom, form, where),
        description=fields.text("description"),
        line=node.line,
    )
    column = _with_origin(column, fields, custom, form, where)
    if column.derived is not None and sound:
        _check_derivation(column, fields, before, where)
    _refuse_unread(fields, where)
    rules = tuple(implied_rules(column, fields, custom, where)) if sound else ()
    return ReadColumn(column, rules, fields, sound)


def _check_name(name: str, fields: Fields, before: list[ReadColumn]) -> bool:
    if not name:
        return False
    for other in (r.column for r in before):
        if other.name.lower() == name.lower():
            same = "twice" if other.name == name else f"beside {shown(other.name)}"
            fields.problems.add(
                fields.line_of("name"),
                f"Column {shown(name)} stands {same} (line {other.line}); catalogs know no case. "
                "Rename one.",
            )
            return False
    if name.startswith("_"):
        fields.problems.add(
            fields.line_of("name"),
            f"Column {shown(name)} begins with `_`, which is kept for the columns that say where a "
            "row came from; choose another name.",
        )
        return False
    if _NAME.match(name) is None:
        fields.problems.add(
            fields.line_of("name"),
            f"Column {shown(name)} has a name of other characters than letters, digits and `_`, or "
            "does not begin with a letter; choose such a name and give the file's own as `source`.",
        )
        return False
    return True


def _refuse_shared_sources(read: list[ReadColumn], problems: Problems) -> None:
    sources: dict[str, ReadColumn] = {}
    for this in read:
        source = this.column.source
        if source is not None and this.sound and sources.setdefault(source, this) is not this:
            problems.add(
                this.column.line,
                f"Column {shown(this.column.name)} has the source {shown(source)}, which "
                f"{shown(sources[source].column.name)} has too; derive one from the other instead.",
            )


def _key_position(fields: Fields, where: str) -> int | None:
    position = fields.node("primaryKeyPosition")
    if not fields.flag("primaryKey"):
        if position is not None and position.value != -1:
            fields.problems.add(
                position.line,
                f"{where} has a primaryKeyPosition but is not in the primary key; write "
                "primaryKey: true, or take the position out.",
            )
        return None
    # Without a position the standard says -1: the order of the columns is taken then.
    return -1 if position is None else fields.whole("primaryKeyPosition", -1, minimum=1)


def _with_primary_key(read: list[ReadColumn], problems: Problems) -> tuple[ReadColumn, ...]:
    keyed = [r for r in read if r.column.primary_key is not None]
    positions = [r.column.primary_key for r in keyed]
    if all(position == -1 for position in positions):
        order = {id(r): place for place, r in enumerate(keyed, 1)}
        return tuple(
            replace(r, column=replace(r.column, primary_key=order[id(r)])) if id(r) in order else r
            for r in read
        )
    if sorted(p for p in positions if p is not None) != list(range(1, len(keyed) + 1)):
        problems.add(
            keyed[0].fields.line_of("primaryKeyPosition"),
            "The primary key's positions must be 1, 2, 3 and so on, each once; give every column "
            "of the key its position, or none of them.",
        )
    return tuple(read)


def _normalisation(custom: Fields, form: Format, where: str) -> Normalisation:
    trim = custom.flag("trim")
    case_node = custom.node("case")
    case = custom.word("case", Case.UPPER) if case_node is not None else None
    null_if = custom.texts("nullIf")
    for text in null_if:
        if text in form.dialect.null_values:
            _null_problem(custom, where, text, "is null in every column already, by the dialect")
        elif case is not None and text != _folded(text, case):
            _null_problem(custom, where, text, f"is never met, because text is made {case} first")
        elif trim and text != text.strip(" \t\r\n\f\v"):
            _null_problem(custom, where, text, "is never met, because text is trimmed first")
    return Normalisation(trim, case, null_if)


def _folded(text: str, case: Case) -> str:
    return text.upper() if case is Case.UPPER else text.lower()


def _null_problem(custom: Fields, where: str, text: str, why: str) -> None:
    custom.problems.add(
        custom.line_of("nullIf"), f"{where}: the null spelling {shown(text)} {why}; take it out."
    )


def _with_origin(
    column: Column, fields: Fields, custom: Fields, form: Format, where: str
) -> Column:
    if "transformLogic" in fields:
        for key in ("source", "trim", "case", "nullIf"):
            if key in custom:
                custom.problems.add(
                    custom.line_of(key),
                    f"{where} is derived by `transformLogic` and cannot have {shown(key)}; keep "
                    "one of the two.",
                )
        return replace(column, derived=fields.text("transformLogic"))
    nested = form.type in (FileFormat.JSON_LINES, FileFormat.JSON_ARRAY)
    default = f"$.{column.name}" if nested else column.name
    source = custom.text("source", default)
    line = custom.line_of("source")
    if nested and parse_json_path(source) is None:
        custom.problems.add(
            line,
            f"{where}: the source {shown(source)} is no JSON path; write it such as "
            "`$.address.city`, `$['a key']` or `$.items[0].id`.",
        )
    elif not source or not source.isprintable():
        custom.problems.add(
            line, f"{where}: the source must be the name of a column in the file; give it."
        )
    elif "source" in custom and not form.dialect.header:
        custom.problems.add(
            line,
            f"{where} has a source, but the files have no header; columns are taken in the "
            "contract's order. Take the source out.",
        )
    return replace(column, source=source)


def _check_derivation(column: Column, fields: Fields, before: list[ReadColumn], where: str) -> None:
    if not all(r.sound for r in before):
        # The columns it may name are not known for certain; their own problems come first.
        return
    assert column.derived is not None
    problem = derivation_problem(column.derived, [r.column for r in before], column.type)
    if problem is not None:
        fields.problems.add(
            fields.line_of("transformLogic"),
            f"{where} cannot be derived by {shown(column.derived)}: {ended(problem)} It may use "
            "the columns above it.",
        )


def _refuse_unread(fields: Fields, where: str) -> None:
    """What the standard allows and nothing here would carry out."""
    options = fields.fields("logicalTypeOptions")
    for key, advice in _IGNORED_OPTIONS.items():
        if key in options:
            fields.problems.add(
                options.line_of(key), f"{where}: {shown(key)} cannot be executed; {advice}."
            )
    if options.text("format") not in ("", "i64", "f64"):
        fields.problems.add(
            options.line_of("format"),
            f"{where}: `format` cannot be executed; docs/types.md says which spellings a type has. "
            "Use a pattern, or take it out.",
        )
    for key in ("properties", "items"):
        if key in fields:
            fields.problems.add(
                fields.line_of(key),
                f"{where} is kept as JSON, and its {shown(key)} would not be checked; give each "
                "nested value a column of its own, with its JSON path as `source`.",
            )
    if "relationships" in fields:
        fields.problems.add(
            fields.line_of("relationships"),
            f"{where}: `relationships` cannot be executed; say it in the description.",
        )
    if fields.flag("partitioned"):
        fields.problems.add(
            fields.line_of("partitioned"),
            f"{where}: tables are partitioned by the landing partition; take `partitioned` out.",
        )
