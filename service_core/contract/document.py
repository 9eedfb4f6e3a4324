"""A contract file as a tree in which every value knows its line.

YAML is read so that no two readers of the file can take it for different things: what YAML 1.1
and 1.2 read differently without quotes (`no`, `2026-01-01`, `017`, `1e3`), a key given twice, and
anchors, aliases, merges and tags are refused. The reader works on YAML's events with a stack of
its own, so that hostile nesting ends in a sentence and not in an exhausted interpreter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from service_core.contract.problem import Problems, shown

#: Generous: a contract of 1,000 columns takes about 300 kB.
MAX_BYTES = 4 * 1024**2
MAX_DEPTH = 40

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,37})\Z")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,37})\.[0-9]{1,38}\Z")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
#: Numbers of YAML 1.2 that YAML 1.1 reads as text.
_NUMBER_1_2 = re.compile(
    r"[-+]?(0o[0-7]+|0x[0-9a-fA-F]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)\Z"
)
_RESOLVER: Any = yaml.resolver.Resolver()
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """A value of the document.

    Attributes:
        value: A dict or list of nodes, or a plain scalar.
        line: Its line, from 1.
        text: A scalar as it is written, without quotes; of the root, the whole document.
        key_lines: Of a mapping, the line of each key.
        suspect: A problem of the node has been reported, so that others keep silent about it.
    """

    value: Any
    line: int
    text: str = ""
    key_lines: dict[str, int] = field(default_factory=dict)
    suspect: bool = False

    @property
    def mapping(self) -> dict[str, Node]:
        """Its entries where it is a mapping, else none."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def sequence(self) -> list[Node]:
        """Its items where it is a sequence, else none."""
        return self.value if isinstance(self.value, list) else []

    def plain(self) -> Any:
        """The value as plain Python data."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: list[str | int]) -> Node:
        """The deepest node on a path that exists."""
        node = self
        for step in path:
            inner: Node | None = None
            if isinstance(node.value, dict):
                inner = node.value.get(step)
            elif isinstance(node.value, list) and isinstance(step, int):
                inner = node.value[step] if step < len(node.value) else None
            if inner is None:
                return node
            node = inner
        return node


def read_document(path: Path, problems: Problems) -> Node | None:
    """Read a contract file; None where there is no tree to speak of, with the reason recorded."""
    text = _read_text(path, problems)
    if text is None:
        return None
    try:
        root = _Builder(problems).build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "it cannot be parsed"
        problems.add(
            mark.line + 1 if mark else 1,
            f"The file is not YAML: {what}. Mend the line, or the one before it.",
        )
        return None
    except yaml.reader.ReaderError as error:
        character = error.character
        name = f"U+{character:04X}" if isinstance(character, int) else shown(character)
        problems.add(
            text.count("\n", 0, error.position) + 1,
            f"The file is not YAML: the character {name} may not stand in it. Take it out, or "
            "write it as an escape between double quotes.",
        )
        return None
    except yaml.YAMLError as error:
        problems.add(1, f"The file is not YAML: {shown(error)}. Mend it.")
        return None
    if root is None:
        if not problems:
            problems.add(1, "The file is empty; a contract was expected (see docs).")
        return None
    if not isinstance(root.value, dict):
        problems.add(
            root.line, "A contract is a mapping of keys to values; this is something else."
        )
        return None
    root.text = text
    return root


def _read_text(path: Path, problems: Problems) -> str | None:
    try:
        if path.is_dir():
            problems.add(1, "This is a folder; name a contract file in it.")
            return None
        if path.exists() and not path.is_file():
            problems.add(1, "This is no regular file; name a contract file.")
            return None
        if path.stat().st_size > MAX_BYTES:
            problems.add(1, f"The file is larger than {MAX_BYTES} bytes; no contract is. Check it.")
            return None
        body = path.read_bytes()
    except FileNotFoundError:
        problems.add(1, "There is no such file; check its path.")
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        problems.add(1, f"The file cannot be read: {reason}. Check its path and permissions.")
        return None
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(
            body.count(b"\n", 0, error.start) + 1,
            f"Byte {error.start} of the file is not UTF-8; save the file as UTF-8.",
        )
        return None


class _Builder:
    """Builds the tree from YAML's events."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._root: Node | None = None
        #: Open collections, each with the key that waits for its value (mappings only).
        self._open: list[tuple[Node, list[Node]]] = []

    def build(self, text: str) -> Node | None:
        documents = 0
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._problems.add(
                        line, "A second YAML document begins here; one file holds one contract."
                    )
                    return self._root
            elif isinstance(event, yaml.AliasEvent):
                self._problems.add(
                    line,
                    f"The alias {shown('*' + str(event.anchor))} is not followed; "
                    "write the value out.",
                )
                self._place(Node(None, line, suspect=True))
            elif isinstance(event, yaml.ScalarEvent):
                self._refuse_decoration(event, line)
                self._place(self._scalar(event, line))
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._refuse_decoration(event, line)
                node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], line)
                if len(self._open) >= MAX_DEPTH:
                    self._problems.add(
                        line, f"Values are nested deeper than {MAX_DEPTH} levels; no contract is."
                    )
                    return None
                self._open.append((node, []))
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                node, _ = self._open.pop()
                self._place(node)
        return self._root

    def _place(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent, waiting = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
            return
        if not waiting:
            waiting.append(node)
            return
        key_node = waiting.pop()
        if isinstance(key_node.value, (dict, list)):
            self._problems.add(key_node.line, "A key must be a plain word, not a list or mapping.")
            return
        key = key_node.text
        if key == "<<":
            self._problems.add(key_node.line, "Merge keys are not followed; write the values out.")
            return
        if key in parent.value:
            self._problems.add(
                key_node.line,
                f"The key {shown(key)} stands twice in one mapping, first on line "
                f"{parent.key_lines[key]}; keep one.",
            )
            return
        parent.value[key] = node
        parent.key_lines[key] = key_node.line

    def _refuse_decoration(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._problems.add(
                line, f"The anchor {shown('&' + event.anchor)} has no use here; take it out."
            )
        if event.tag is not None:
            self._problems.add(
                line, f"The YAML tag {shown(event.tag)} is not read; take it out, or use quotes."
            )

    def _scalar(self, event: Any, line: int) -> Node:
        text = event.value
        if not event.implicit[0]:
            return Node(text, line, text)
        # A key is its text, whatever YAML would make of it.
        if self._open and isinstance(self._open[-1][0].value, dict) and not self._open[-1][1]:
            return Node(text, line, text)
        if text in _NULLS:
            return Node(None, line, text)
        if text in _TRUE or text in _FALSE:
            return Node(text in _TRUE, line, text)
        if _INTEGER.match(text):
            return Node(int(text), line, text)
        if _DECIMAL.match(text):
            return Node(float(text), line, text)
        reading = _ambiguous(text)
        if reading is None:
            return Node(text, line, text)
        self._problems.add(line, f"{shown(text)} without quotes {reading}")
        return Node(text, line, text, suspect=True)


def _ambiguous(text: str) -> str | None:
    """What is wrong with a plain scalar that readers of YAML disagree on, else None."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    match tag:
        case "bool":
            return (
                "is a boolean to some readers of YAML and text to others; "
                "put quotes around it, or write true or false."
            )
        case "timestamp":
            return "is a date to some readers of YAML and text to others; put quotes around it."
        case "int" | "float":
            return (
                "is not the same number to every reader of YAML (leading zeros are octal, colons "
                "base 60); put quotes around it if it is text, or write it as plain digits."
            )
    if _NUMBER_1_2.match(text):
        return (
            "is a number to some readers of YAML and text to others; "
            "put quotes around it if it is text, or write it as plain digits."
        )
    return None
