"""The standard's own JSON Schema as the first judge of a contract, in sentences.

Every contract is valid ODCS, whatever else is asked of it. The schema's errors are dumps of JSON;
here each becomes a sentence on the line it is about, and errors that only follow from another one
are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from service_core.contract.conformity import compile_schema
from service_core.contract.document import Node
from service_core.contract.fields import kind_of
from service_core.contract.keys import OPERATORS
from service_core.contract.problem import Problems, one_of, shown, suggestion

if TYPE_CHECKING:
    from jsonschema import Draft201909Validator
    from jsonschema.exceptions import ValidationError

SCHEMA_FILE = "odcs-json-schema-v3.1.0.json"

_TYPES = {
    "string": "text (put quotes around it)",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}


@lru_cache(maxsize=1)
def odcs_schema() -> Mapping[str, Any]:
    """The schema, as it is published."""
    text = (files("service_core.contract.odcs") / SCHEMA_FILE).read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


@lru_cache(maxsize=1)
def _validator() -> Draft201909Validator:
    from jsonschema import Draft201909Validator

    return Draft201909Validator(odcs_schema())


@lru_cache(maxsize=1)
def _quick() -> Callable[[Any], bool]:
    return compile_schema(odcs_schema())


def check_standard(root: Node, problems: Problems) -> None:
    """Record every way in which a document is no valid ODCS, and mark the nodes concerned."""
    data = root.plain()
    if _quick()(data):
        return
    for error in _leaves(_validator().iter_errors(data)):
        _record(error, root, problems)


def _leaves(errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
    """The errors worth a sentence: of alternatives, the one that was nearly met."""
    from jsonschema.exceptions import best_match

    for error in errors:
        if error.validator in ("anyOf", "oneOf") and error.context and not _operators(error):
            best = best_match(iter(error.context))
            yield best if best is not None and best.validator != "const" else error
        else:
            yield error


def _operators(error: ValidationError) -> bool:
    """Whether the alternatives are a quality rule's operators (`mustBe` and its like)."""
    return isinstance(error.validator_value, list) and any(
        "mustBe" in branch.get("required", ()) for branch in error.validator_value
    )


def _record(error: ValidationError, root: Node, problems: Problems) -> None:
    path = list(error.absolute_path)
    node = root.at(path)
    if node.suspect or path == ["apiVersion"] or _is_query(path, node):
        # Our own reading has more to say about these.
        return
    where = place(path, root)
    asked: Any = error.validator_value
    match error.validator:
        case "additionalProperties" | "unevaluatedProperties":
            _unknown_keys(error, node, where, problems)
            return
        case "required":
            missing = [k for k in asked if k not in node.mapping]
            for key in missing:
                problems.add(node.line, f"{where} lacks {shown(key)}, which the standard requires.")
            return
        case "type":
            wanted = asked
            kinds = [wanted] if isinstance(wanted, str) else wanted
            expected = " or ".join(_TYPES.get(kind, kind) for kind in kinds)
            sentence = f"{where} must be {expected}; this is {kind_of(node)}."
        case "enum":
            words = [str(word) for word in asked]
            found = str(node.value)
            sentence = f"{where} cannot be {shown(found)}; it is {one_of(words)}."
            sentence += suggestion(found, words)
        case "const":
            sentence = f"{where} must be {shown(asked)}."
        case "pattern":
            sentence = f"{where} must match {shown(asked)}; this is {kind_of(node)}."
        case "minItems" | "maxItems":
            sentence = f"{where} must hold {asked} values; correct the list."
        case "uniqueItems":
            sentence = f"{where} holds one value twice; the values must differ."
        case "minimum":
            sentence = f"{where} must be {asked} or more; this is {kind_of(node)}."
        case "exclusiveMinimum":
            sentence = f"{where} must be more than {asked}; this is {kind_of(node)}."
        case "oneOf" | "anyOf" if _operators(error):
            given = [key for key in OPERATORS if key in node.mapping]
            sentence = f"{where} must have exactly one of {one_of(OPERATORS)}; " + (
                f"it has {one_of(given).replace(' or ', ' and ')}." if given else "it has none."
            )
        case _:
            sentence = f"{where} is not as the standard wants it: {error.message[:200]}."
    node.suspect = True
    problems.add(node.line, sentence)


def _unknown_keys(error: ValidationError, node: Node, where: str, problems: Problems) -> None:
    """Name the keys that no part of the schema knows for this kind of mapping.

    Where a branch of the schema fails, `unevaluatedProperties` complains of every key of that
    branch too; those are known and are left out.
    """
    path = list(error.absolute_path)
    known = _known_keys(path, error)
    for key in node.mapping:
        if key in known:
            continue
        hint = suggestion(key, known)
        problems.add(
            node.key_lines.get(key, node.line),
            f"{where} cannot have the key {shown(key)}: it is not in the standard"
            f"{_options_advice(path, key)}.{hint or _custom_advice(error)}",
        )


def _options_advice(path: list[str | int], key: str) -> str:
    if not path or path[-1] != "logicalTypeOptions":
        return ""
    if key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        return ": a range is for integer, number, date, timestamp and time columns"
    if key in ("pattern", "minLength", "maxLength"):
        return ": a pattern or length is for string columns"
    return " for a column of this logicalType"


def _custom_advice(error: ValidationError) -> str:
    if "customProperties" in _collect(error.schema):
        return " What the standard has no word for goes under `customProperties`."
    return ""


def _known_keys(path: list[str | int], error: ValidationError) -> tuple[str, ...]:
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        return tuple(schema.get("properties", ()))
    return tuple(sorted(_collect(error.schema)))


def _collect(schema: Any) -> set[str]:
    """Every property name that a schema, its references and branches speak of at its own level."""
    return set(_collected(json.dumps(schema, sort_keys=True)))


@lru_cache(maxsize=256)
def _collected(text: str) -> frozenset[str]:
    names: set[str] = set()
    seen: set[str] = set()
    waiting: list[Any] = [json.loads(text)]
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, dict):
            continue
        names |= set(schema.get("properties", ()))
        reference = schema.get("$ref")
        if reference is not None and reference not in seen:
            seen.add(reference)
            target: Any = odcs_schema()
            for step in reference.removeprefix("#/").split("/"):
                target = target[step]
            waiting.append(target)
        for key in ("allOf", "anyOf", "oneOf"):
            waiting += schema.get(key, ())
        waiting += [schema.get(key) for key in ("if", "then", "else")]
    return frozenset(names)


def _is_query(path: list[str | int], node: Node) -> bool:
    kind = node.mapping.get("type")
    return path[-2:-1] == ["quality"] and kind is not None and kind.value == "sql"


def place(path: list[str | int], root: Node) -> str:
    """A path of the document as a message names it, a column by its name."""
    inner = path
    text = ""
    if path[:1] == ["schema"] and path[2:3] == ["properties"] and len(path) > 3:
        name = root.at([*path[:4], "name"])
        if isinstance(name.value, str):
            text, inner = f"Column {shown(name.value)}", path[4:]
    steps = ""
    for step in inner:
        steps += f"[{step}]" if isinstance(step, int) else f".{step}" if steps else step
    if not steps:
        return text or "The contract"
    return f"{text}: {steps}" if text else steps
