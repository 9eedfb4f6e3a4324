"""Ways of writing: what stands around the values of a JSON document.

Two documents of one way differ in nothing but their values, so what a decoder said of the keys of
one of them holds for the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service_core.validation.json_shape import Shape

#: Of the text before a value, or after the last.
LONGEST_LITERAL = 4096
_TOKEN = re.compile(rb'"[^"]*"|[{}\[\]:,]|[^\s"{}\[\]:,]+|[ ]+')


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way of writing a document.

    Attributes:
        literals: What stands before each value, and after the last.
        columns: The index of the landed column that takes each value.
    """

    literals: tuple[bytes, ...]
    columns: tuple[int, ...]

    def least(self, widths: Sequence[int | None] | None) -> int:
        """How long such a document is at least, its values having these lengths where known."""
        values = widths or [None] * len(self.columns)
        return sum(map(len, self.literals)) + sum(1 if w is None else w + 2 for w in values)


def pattern_of(line: bytes, shape: Shape) -> Pattern | None:
    """The way in which a document is written.

    Args:
        line: A JSON object without escapes, which names no key twice.

    Returns:
        None where the document holds an array, or anything that a contract's columns do not take
        as one value: such documents are for the decoder.
    """
    literals = [b""]
    columns: list[int] = []
    path: list[str] = []
    key, opened = "", False
    for token in _TOKEN.findall(line):
        if token in b"[]":
            return None
        if token == b"{":
            if literals[-1] or columns:
                path.append(key)
            literals[-1] += token
            opened, is_value = True, False
            continue
        is_value = literals[-1].rstrip(b" ").endswith(b":") and token.strip(b" ")
        if is_value:
            column = shape.column_at((*path, key))
            if column is None or column in columns:
                return None
            columns.append(column)
            literals.append(b"")
        else:
            if token == b"}":
                if opened:
                    return None
                key = path.pop() if path else ""
            elif token.startswith(b'"'):
                key = token[1:-1].decode()
            literals[-1] += token
        opened = opened and not token.strip(b" ")
    if not columns or max(map(len, literals)) > LONGEST_LITERAL:
        return None
    return Pattern(tuple(literals), tuple(columns))
