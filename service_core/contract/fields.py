"""Typed reading of a contract's mappings: each getter returns a usable value, and records what
is wrong where it had to fall back on the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from service_core.contract.document import Node
from service_core.contract.problem import Problems, one_of, shown, suggestion
from service_core.contract.quantities import duration, size_in_bytes

_Word = TypeVar("_Word", bound=StrEnum)


class Fields:
    """A mapping of the document, under the name that messages give it.

    Args:
        node: The mapping; None for one that is not there, which reads as empty.
        where: What messages call it, such as `landing`.
        problems: Where problems go.
        known: Its closed list of keys; None where the standard's own schema is the judge.
        line: The line to name where there is no node.
    """

    def __init__(
        self,
        node: Node | None,
        where: str,
        problems: Problems,
        known: Iterable[str] | None = None,
        line: int = 1,
    ) -> None:
        self.where = where
        self.problems = problems
        self.line = node.line if node is not None else line
        #: Whether a problem of the mapping as a whole has been recorded already.
        self.suspect = node is not None and node.suspect
        self._entries: Mapping[str, Node] = node.mapping if node is not None else {}
        if node is None or node.suspect:
            return
        if not isinstance(node.value, dict):
            if known is not None:
                problems.add(
                    node.line,
                    f"{where} must be a mapping of {one_of(known)}; this is {kind_of(node)}.",
                )
            return
        if known is not None:
            words = tuple(known)
            for key in node.mapping:
                if key not in words:
                    problems.add(
                        node.key_lines[key],
                        f"{where} has no key {shown(key)}; it knows {one_of(words)}."
                        f"{suggestion(key, words)}",
                    )

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def node(self, key: str) -> Node | None:
        """The node of a key, or None."""
        return self._entries.get(key)

    def line_of(self, key: str) -> int:
        """The line of a key's value, or the mapping's own."""
        node = self._entries.get(key)
        return node.line if node is not None else self.line

    def wrong(self, key: str, expected: str) -> None:
        """Record that a key's value is not what was expected."""
        node = self._entries.get(key)
        if node is not None and not node.suspect:
            self.problems.add(
                node.line, f"{self.name_of(key)} must be {expected}; this is {kind_of(node)}."
            )

    def name_of(self, key: str) -> str:
        """What messages call a key, such as `landing.prefix`."""
        if self.where.endswith("`"):
            return f"{self.where}: {key}"
        return f"{self.where}.{key}" if self.where else key

    def required(self, key: str, expected: str) -> None:
        """Record that a key is missing, where it is."""
        if key not in self._entries:
            self.problems.add(
                self.line, f"{self.where or 'The contract'} lacks {shown(key)}: give {expected}."
            )

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        node = self._entries.get(key)
        if node is None or node.value is None:
            return default
        if isinstance(node.value, str):
            return node.value
        self.wrong(key, "text (put quotes around it)")
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        """`true` or `false`."""
        node = self._entries.get(key)
        if node is None:
            return default
        if isinstance(node.value, bool):
            return node.value
        self.wrong(key, "true or false")
        return default

    def word(self, key: str, default: _Word) -> _Word:
        """One of an enumeration's words."""
        node = self._entries.get(key)
        if node is None:
            return default
        words = type(default)
        if isinstance(node.value, str) and not node.suspect:
            if node.value in set(words):
                return words(node.value)
            self.problems.add(
                node.line,
                f"{self.name_of(key)} cannot be {shown(node.value)}; it is {one_of(words)}."
                f"{suggestion(node.value, words)}",
            )
            return default
        self.wrong(key, one_of(words))
        return default

    def whole(self, key: str, default: int, *, minimum: int = 0) -> int:
        """A whole number of at least `minimum`."""
        node = self._entries.get(key)
        if node is None:
            return default
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            if node.value >= minimum:
                return node.value
            self.problems.add(
                node.line, f"{self.name_of(key)} is {node.value}; the least it can be is {minimum}."
            )
            return default
        self.wrong(key, "a whole number")
        return default

    def size(self, key: str, default: int, *, minimum: int = 0) -> int:
        """A number of bytes, or a text such as `10 MiB`."""
        node = self._entries.get(key)
        if node is not None and isinstance(node.value, str) and not node.suspect:
            size = size_in_bytes(node.value)
            if size is not None and size >= minimum:
                return size
            self.problems.add(
                node.line,
                f"{self.name_of(key)} cannot be {shown(node.value)}; give at least {minimum} as a "
                "number of bytes, or a size such as `10 MiB`.",
            )
            return default
        return self.whole(key, default, minimum=minimum)

    def duration(self, key: str, default: timedelta | None) -> timedelta | None:
        """An ISO 8601 duration or `3 days`; null is None."""
        node = self._entries.get(key)
        if node is None:
            return default
        if node.value is None:
            return None
        span = duration(node.value) if isinstance(node.value, str) else None
        if span is not None:
            return span
        if not node.suspect:
            self.problems.add(
                node.line,
                f"{self.name_of(key)} cannot be {shown(node.text or node.value)}; give a duration "
                "of a fixed length that is not negative, such as `P3D`, `PT6H` or `3 days`.",
            )
        return default

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts, each once."""
        node = self._entries.get(key)
        if node is None:
            return default
        if not isinstance(node.value, list):
            self.wrong(key, "a list of texts")
            return default
        texts: list[str] = []
        for item in node.sequence:
            if item.suspect:
                continue
            if not isinstance(item.value, str):
                self.problems.add(
                    item.line,
                    f"{self.name_of(key)} must hold texts; put quotes around "
                    f"{shown(item.text or item.value)}.",
                )
            elif item.value in texts:
                self.problems.add(
                    item.line, f"{self.name_of(key)} holds {shown(item.value)} twice; keep one."
                )
            else:
                texts.append(item.value)
        return tuple(texts)

    def fields(self, key: str, known: Iterable[str] | None = None) -> Fields:
        """An inner mapping, empty where it is not there."""
        return Fields(self._entries.get(key), self.name_of(key), self.problems, known, self.line)


def custom_properties(
    fields: Fields, known: Mapping[str, tuple[str, ...]], where: str
) -> tuple[dict[str, Node], Fields]:
    """The standard's list of `property` and `value` as a mapping.

    Returns:
        Each value by its property, and the same as `Fields` whose messages begin with `where`.
    """
    node = fields.node("customProperties")
    values: dict[str, Node] = {}
    lines: dict[str, int] = {}
    for item in node.sequence if node is not None else ():
        name_node, value = item.mapping.get("property"), item.mapping.get("value")
        if name_node is None or value is None or not isinstance(name_node.value, str):
            continue
        name = name_node.value
        if name not in known:
            fields.problems.add(
                name_node.line,
                f"customProperties{' of ' + where if where else ''} has no property {shown(name)}; "
                f"it knows {one_of(known)}.{suggestion(name, known)}",
            )
        elif name in values:
            fields.problems.add(
                name_node.line,
                f"The property {shown(name)} stands twice, first on line {lines[name]}; keep one.",
            )
        else:
            values[name], lines[name] = value, name_node.line
    line = node.line if node is not None else fields.line
    return values, Fields(Node(values, line, key_lines=lines), where, fields.problems)


def kind_of(node: Node) -> str:
    """What a node is, for a message."""
    value = node.value
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {node.text}"
    if isinstance(value, str):
        return f"the text {shown(value)}"
    kind = "mapping" if isinstance(value, dict) else "list"
    return f"a {kind}" if value else f"an empty {kind}"
