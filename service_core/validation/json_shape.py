"""The shape that a contract expects of a nested value, and what of it a row has.

Each landed column names one place in the document. Values at other places are unexpected, at
whatever depth, and are handed back rather than dropped; a value of another shape than a column's
place expects is a fault of that column, and is handed back too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service_core.contract.json_path import parse_json_path
from service_core.contract.model import Column, LogicalType
from service_core.validation.json_values import encode_json, scalar_text

_KINDS: dict[type, str] = {dict: "an object", list: "an array"}


@dataclass(slots=True)
class _Place:
    """A place in the document: the columns taken from it, and the places below it.

    `text` is the index of its only column where that takes a text as it is and nothing lies below,
    which is the case of nearly every key; otherwise -1.
    """

    text: int = -1
    columns: list[int] = field(default_factory=list)
    keys: dict[str, _Place] = field(default_factory=dict)
    items: dict[int, _Place] = field(default_factory=dict)

    @property
    def below(self) -> list[int]:
        """Columns taken from deeper places."""
        inner = [*self.keys.values(), *self.items.values()]
        return [c for place in inner for c in (*place.columns, *place.below)]


@dataclass(slots=True)
class Extracted:
    """What one document gave.

    Attributes:
        cells: One text, or None, for each landed column.
        unexpected: What the contract knows no place for, as a document of its own; None where
            there is nothing.
        faults: (column's index, path, sentence) where the shape is another than expected.
        misfits: The values at fault, as a document of its own.
    """

    cells: list[str | None]
    unexpected: dict[str, Any] | None = None
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    misfits: dict[str, Any] | None = None


class Shape:
    """The places of a contract's landed columns.

    Attributes:
        seen: For each column whether any document had something other than a text in its place,
            be it a null. Texts are for the caller to notice, who has whole columns of them.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._json = [c.type.logical is LogicalType.JSON for c in columns]
        self._root = _Place()
        self.paths: list[tuple[str | int, ...]] = []
        self.seen = [False] * len(columns)
        for index, column in enumerate(columns):
            source = column.source or column.name
            steps = parse_json_path(source) or (source,)
            self.paths.append(steps)
            place = self._root
            for step in steps:
                if isinstance(step, int):
                    place = place.items.setdefault(step, _Place())
                else:
                    place = place.keys.setdefault(step, _Place())
            place.columns.append(index)
        self._mark_texts(self._root)

    def _mark_texts(self, place: _Place) -> None:
        for inner in (*place.keys.values(), *place.items.values()):
            alone = len(inner.columns) == 1 and not inner.keys and not inner.items
            if alone and not self._json[inner.columns[0]]:
                inner.text = inner.columns[0]
            self._mark_texts(inner)

    def column_at(self, keys: Sequence[str]) -> int | None:
        """The index of the column that takes the single value at a place; None where none does,
        or where something else is taken on the way there."""
        place = self._root
        for key in keys:
            if place.columns:
                return None
            inner = place.keys.get(key)
            if inner is None:
                return None
            place = inner
        return place.text if place.text >= 0 else None

    def have_seen(self, columns: Iterable[Sequence[str | None]]) -> None:
        """Notice the texts of whole columns."""
        for index, cells in enumerate(columns):
            if not self.seen[index]:
                self.seen[index] = any(cell is not None for cell in cells)

    def extract(self, document: dict[str, Any]) -> Extracted:
        """The columns' texts, and everything else, of one document."""
        found = Extracted(cells=[None] * len(self._json))
        found.unexpected = self._object(self._root, document, "", found)
        return found

    def names_of(self, unexpected: dict[str, Any]) -> list[str]:
        """The dotted names of what is unexpected: of whole keys, not of all that is in them."""
        names: list[str] = []

        def walk(place: _Place, value: dict[str, Any], prefix: str) -> None:
            for key, inner in value.items():
                at = place.keys.get(key)
                if at is not None and at.keys and type(inner) is dict:
                    walk(at, inner, f"{prefix}{key}.")
                else:
                    names.append(prefix + key)

        walk(self._root, unexpected, "")
        return names

    def _object(
        self, place: _Place, value: dict[str, Any], path: str, found: Extracted
    ) -> dict[str, Any] | None:
        unexpected: dict[str, Any] | None = None
        places = place.keys
        for key, inner in value.items():
            at = places.get(key)
            if at is None:
                unexpected = {} if unexpected is None else unexpected
                unexpected[key] = inner
                continue
            if at.text >= 0 and type(inner) is str:
                found.cells[at.text] = inner
                continue
            if not at.keys and not at.items:
                self._take(at, inner, path + key, found)
                continue
            rest = self._nested(at, inner, path + key, found)
            if rest is not None:
                unexpected = {} if unexpected is None else unexpected
                unexpected[key] = rest
        return unexpected

    def _nested(self, place: _Place, value: Any, path: str, found: Extracted) -> Any:
        """Go below a place; returns what is not expected there, or None."""
        whole = any(self._json[c] for c in place.columns)
        if place.columns:
            self._take(place, value, path, found)
        if type(value) is dict and place.keys:
            rest = self._object(place, value, path + ".", found)
            return None if whole else rest
        if type(value) is list and place.items:
            beyond = any(index not in place.items for index in range(len(value)))
            for index, at in place.items.items():
                if index < len(value):
                    rest = self._nested(at, value[index], f"{path}[{index}]", found)
                    beyond = beyond or rest is not None
            # An array is kept aside whole: its items have no names to tell them apart.
            return value if beyond and not whole else None
        if not place.keys and not place.items:
            return None
        if value is None:
            for column in place.below:
                self.seen[column] = True
            return None
        wanted = "an object" if place.keys else "an array"
        kind = _KINDS.get(type(value), "a single value")
        for column in place.below:
            self.seen[column] = True
            found.faults.append((column, path, f"{kind} stands where {wanted} was expected"))
        _put(found, path, value)
        return None

    def _take(self, place: _Place, value: Any, path: str, found: Extracted) -> None:
        for column in place.columns:
            self.seen[column] = True
            if value is None:
                continue
            if self._json[column]:
                found.cells[column] = encode_json(value)
            elif type(value) is str:
                found.cells[column] = value
            elif type(value) is dict or type(value) is list:
                found.faults.append(
                    (
                        column,
                        path,
                        f"{_KINDS[type(value)]} stands where a single value was expected",
                    )
                )
                _put(found, path, value)
            else:
                found.cells[column] = scalar_text(value)


def dotted(steps: Sequence[str | int]) -> str:
    """A path as people write it: `address.city`, `items[0].id`."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else (f".{step}" if text else step)
    return text


def _put(found: Extracted, path: str, value: Any) -> None:
    found.misfits = found.misfits or {}
    found.misfits[path] = value
