"""The quick half of the standard's check: a JSON Schema compiled to plain calls.

`jsonschema` takes 30 to 90 ms for a contract of 20 columns, because it finds evaluated properties
anew for each mapping, and a code location loads all of its contracts at start. A document that
passes here is valid; one that does not is given to `jsonschema`, which says why. A test holds the
two to the same judgement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

#: The names of the properties that a schema has evaluated, or None where a value is not valid.
Evaluated = frozenset[str] | None
Check = Callable[[Any], Evaluated]

_NOTHING: frozenset[str] = frozenset()
_SILENT = frozenset({"$schema", "$defs", "title", "description", "default", "examples"})
_SILENT |= {"deprecated", "format", "then", "else"}
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "integer": lambda v: (
        (isinstance(v, int) and not isinstance(v, bool))
        or (isinstance(v, float) and v.is_integer())
    ),
}


def compile_schema(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """A test of whether a document is valid under a schema of draft 2019-09.

    Raises:
        ValueError: the schema uses a keyword that is not compiled here.
    """
    check = _Compiler(schema).compile(schema)
    return lambda document: check(document) is not None


class _Compiler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._references: dict[str, Check] = {}

    def compile(self, schema: Mapping[str, Any]) -> Check:
        """One schema: all of its keywords, and last the properties that none of them knows."""
        checks = [
            getattr(self, f"_{keyword.lstrip('$')}")(argument, schema)
            for keyword, argument in schema.items()
            if keyword not in _SILENT and keyword != "unevaluatedProperties" and _known(keyword)
        ]
        closed = "unevaluatedProperties" in schema
        if closed and schema["unevaluatedProperties"] is not False:
            raise ValueError("unevaluatedProperties is compiled for false alone")

        def check(value: Any) -> Evaluated:
            evaluated = _NOTHING
            for part in checks:
                found = part(value)
                if found is None:
                    return None
                if found:
                    evaluated = evaluated | found
            if closed and isinstance(value, dict) and not evaluated.issuperset(value):
                return None
            return evaluated

        return check

    def _ref(self, pointer: str, _: Mapping[str, Any]) -> Check:
        target: Any = self._root
        for step in pointer.removeprefix("#/").split("/"):
            target = target[step]

        def check(value: Any) -> Evaluated:
            # Compiled when first met, because definitions refer to themselves.
            compiled = self._references.get(pointer)
            if compiled is None:
                compiled = self._references[pointer] = self.compile(target)
            return compiled(value)

        return check

    def _type(self, wanted: str | list[str], _: Mapping[str, Any]) -> Check:
        kinds = [_KINDS[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted)]
        return _holds(lambda value: any(kind(value) for kind in kinds))

    def _const(self, constant: str, _: Mapping[str, Any]) -> Check:
        if not isinstance(constant, str):
            raise ValueError("const is compiled for text alone")
        return _holds(lambda value: bool(value == constant))

    def _enum(self, words: list[str], _: Mapping[str, Any]) -> Check:
        if not all(isinstance(word, str) for word in words):
            raise ValueError("enum is compiled for texts alone")
        return _holds(lambda value: isinstance(value, str) and value in words)

    def _required(self, keys: list[str], _: Mapping[str, Any]) -> Check:
        return _holds(lambda v: not isinstance(v, dict) or all(key in v for key in keys))

    def _pattern(self, pattern: str, _: Mapping[str, Any]) -> Check:
        compiled = re.compile(pattern)
        return _holds(lambda v: not isinstance(v, str) or compiled.search(v) is not None)

    def _minimum(self, bound: float, _: Mapping[str, Any]) -> Check:
        return _holds(lambda v: not _KINDS["number"](v) or v >= bound)

    def _exclusiveMinimum(self, bound: float, _: Mapping[str, Any]) -> Check:
        return _holds(lambda v: not _KINDS["number"](v) or v > bound)

    def _minItems(self, count: int, _: Mapping[str, Any]) -> Check:
        return _holds(lambda v: not isinstance(v, list) or len(v) >= count)

    def _maxItems(self, count: int, _: Mapping[str, Any]) -> Check:
        return _holds(lambda v: not isinstance(v, list) or len(v) <= count)

    def _uniqueItems(self, wanted: bool, _: Mapping[str, Any]) -> Check:
        return _holds(
            lambda v: (
                not (wanted and isinstance(v, list))
                or all(a != b for place, a in enumerate(v) for b in v[:place])
            )
        )

    def _items(self, schema: Mapping[str, Any], _: Mapping[str, Any]) -> Check:
        item = self.compile(schema)
        return _holds(lambda v: not isinstance(v, list) or all(item(one) is not None for one in v))

    def _properties(self, schemas: Mapping[str, Any], _: Mapping[str, Any]) -> Check:
        compiled = {name: self.compile(schema) for name, schema in schemas.items()}

        def check(value: Any) -> Evaluated:
            if not isinstance(value, dict):
                return _NOTHING
            found = [name for name in value if name in compiled]
            if any(compiled[name](value[name]) is None for name in found):
                return None
            return frozenset(found)

        return check

    def _additionalProperties(self, allowed: bool, schema: Mapping[str, Any]) -> Check:
        if allowed is not False or "patternProperties" in schema:
            raise ValueError("additionalProperties is compiled for false alone")
        known = frozenset(schema.get("properties", ()))
        return _holds(lambda v: not isinstance(v, dict) or known.issuperset(v))

    def _allOf(self, schemas: list[Mapping[str, Any]], _: Mapping[str, Any]) -> Check:
        branches = [self.compile(schema) for schema in schemas]

        def check(value: Any) -> Evaluated:
            evaluated = _NOTHING
            for branch in branches:
                found = branch(value)
                if found is None:
                    return None
                evaluated = evaluated | found
            return evaluated

        return check

    def _anyOf(self, schemas: list[Mapping[str, Any]], _: Mapping[str, Any]) -> Check:
        return self._some(schemas, only_one=False)

    def _oneOf(self, schemas: list[Mapping[str, Any]], _: Mapping[str, Any]) -> Check:
        return self._some(schemas, only_one=True)

    def _some(self, schemas: list[Mapping[str, Any]], *, only_one: bool) -> Check:
        branches = [self.compile(schema) for schema in schemas]

        def check(value: Any) -> Evaluated:
            met = [found for branch in branches if (found := branch(value)) is not None]
            if not met or (only_one and len(met) > 1):
                return None
            return _NOTHING.union(*met)

        return check

    def _not(self, schema: Mapping[str, Any], _: Mapping[str, Any]) -> Check:
        refused = self.compile(schema)
        return _holds(lambda value: refused(value) is None)

    def _if(self, schema: Mapping[str, Any], owner: Mapping[str, Any]) -> Check:
        condition = self.compile(schema)
        then = self.compile(owner.get("then", {}))
        otherwise = self.compile(owner.get("else", {}))

        def check(value: Any) -> Evaluated:
            met = condition(value)
            if met is None:
                return otherwise(value)
            found = then(value)
            return None if found is None else met | found

        return check


def _known(keyword: str) -> bool:
    if hasattr(_Compiler, f"_{keyword.lstrip('$')}"):
        return True
    raise ValueError(f"the keyword {keyword} is not compiled")


def _holds(test: Callable[[Any], bool]) -> Check:
    return lambda value: _NOTHING if test(value) else None
