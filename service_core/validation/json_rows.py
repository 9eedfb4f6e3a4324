"""Rows of JSON Lines and JSON arrays: each document becomes canonical text, or a malformed row.

Nothing of a document is lost: what the contract has no column for is kept aside, diverted or
refused as its policy says, and only `allow` lets it go. A file's rows are held back until all of
it has been read, because only then is it known which columns it never had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from service_core.canonical import MALFORMED_SCHEMA, SOURCE_ROW, canonical_schema
from service_core.contract.model import Contract, DriftPolicy
from service_core.drift import Drift, DriftKind, classify_names, match_names
from service_core.reasons import ReasonCode
from service_core.validation.arrays import Numbers, repeated, whole_numbers
from service_core.validation.columns import refusals
from service_core.validation.content import Content
from service_core.validation.held_rows import HeldRows, holding
from service_core.validation.json_alike import Alike, AlikeReader
from service_core.validation.json_documents import array_elements, line_blocks
from service_core.validation.json_places import Lines
from service_core.validation.json_shape import Extracted, Shape, dotted
from service_core.validation.json_values import (
    JsonMalformedError,
    decode_json,
    encode_json,
    suspicious,
)
from service_core.validation.parts import malformed_table
from service_core.validation.refusal import FileRefused, Tally, cut, refuse

_ROWS = 20_000
_BYTES = 8 * 1024 * 1024
#: Hostile files can have a new key in every row; so many are told apart.
_MAX_NAMES = 100
#: Optional keys are left out for good reasons, so a new key must be rather like one of them before
#: it is taken for its new name. `phone_no` and `phone` reach 0.83.
_CLOSE_MATCH = 0.75


def read_json_lines(
    contract: Contract, object_id: str, chunks: Iterable[bytes], tally: Tally, scratch: Path
) -> HeldRows:
    """Read all rows of a JSON Lines file.

    Args:
        chunks: The file's bytes, UTF-8, from begin to end.
        tally: Takes the reasons against single rows.

    Raises:
        FileRefused: EMPTY; drift by policy; both only once all of the file has been read.
    """
    return _held(contract, object_id, tally, scratch, lambda reader: reader.read_lines(chunks))


def read_json_array(
    contract: Contract, object_id: str, content: Content, tally: Tally, scratch: Path
) -> HeldRows:
    """Read all rows of a JSON array file.

    Args:
        tally: Takes the reasons against single rows.

    Raises:
        FileRefused: EMPTY; drift by policy; JSON_MALFORMED anywhere in it.
    """
    return _held(contract, object_id, tally, scratch, lambda reader: reader.read_array(content))


def _held(
    contract: Contract,
    object_id: str,
    tally: Tally,
    scratch: Path,
    read: Callable[[_Reader], int],
) -> HeldRows:
    with holding(scratch, object_id) as held:
        reader = _Reader(contract, object_id, tally, held)
        held.rows_read = read(reader)
        reader.conclude()
    return held


class _Reader:
    def __init__(self, contract: Contract, object_id: str, tally: Tally, held: HeldRows) -> None:
        self._contract = contract
        self._policies = contract.drift
        self._object_id = object_id
        self._tally = tally
        self._held = held
        self._shape = Shape(contract.landed_columns)
        self._cells: list[list[str | None]] = []
        self._extras: list[str | None] = []
        self._ordinals: list[int] = []
        self._lines: list[int] = []
        self._malformed: list[tuple[int, int | None, str, str | None, str, str]] = []
        self._bytes = 0
        self._unexpected: Counter[str] = Counter()
        self._misshapen: Counter[int] = Counter()
        self._misshapen_how: dict[int, str] = {}
        self._objects = 0

    def conclude(self) -> None:
        """Say what the whole file shows.

        Raises:
            FileRefused: for it.
        """
        if not self._held.rows_read:
            raise refuse(ReasonCode.EMPTY, "the file holds no row")
        self._held.drift = self._drift()
        refused = refusals(d for d in self._held.drift if not _by_row(d))
        if refused:
            raise FileRefused(refused, self._held.drift)

    def read_array(self, content: Content) -> int:
        """Hold an array's rows; returns how many documents it has."""
        ordinal = 0
        for line, text, careful in array_elements(content):
            ordinal += 1
            self._document(ordinal, line, text, careful=careful, whole_file=True)
            if self._full():
                self._hold(self._decoded())
        self._hold(self._decoded())
        return ordinal

    def read_lines(self, chunks: Iterable[bytes]) -> int:
        """Hold the rows of lines, those that are alike by position, the others by the decoder;
        returns how many documents there are."""
        reader = AlikeReader(self._shape)
        ordinal, line = 0, 1
        for text, size in line_blocks(chunks):
            lines = Lines(text, size)
            left = ~lines.blank()
            rows = np.flatnonzero(left)
            ordinals = np.full(len(lines.starts), -1, np.int64)
            ordinals[rows] = np.arange(ordinal + 1, ordinal + 1 + len(rows))
            alike = reader.cut(lines)
            tables = [self._cut(found, ordinals, line) for found in alike]
            for found in alike:
                left[found.lines] = False
            others = np.flatnonzero(left).tolist()
            careful = bool(others) and suspicious(text[:size])
            for index in others:
                self._document(
                    int(ordinals[index]),
                    line + index,
                    lines.line(index).rstrip(b"\r"),
                    careful=careful,
                    whole_file=False,
                )
                if self._full():
                    tables.append(self._decoded())
            if others:
                tables.append(self._decoded())
            self._hold(_in_order(tables))
            ordinal += len(rows)
            line += len(lines.starts)
        return ordinal

    def _full(self) -> bool:
        return len(self._ordinals) + len(self._malformed) >= _ROWS or self._bytes >= _BYTES

    def _cut(self, found: Alike, ordinals: Numbers, line: int) -> pa.Table:
        """The canonical rows of lines that were cut by position."""
        rows = len(found.lines)
        self._objects += rows
        for column in found.columns:
            self._shape.seen[column] = True
        return self._canonical(
            found.cells,
            pa.nulls(rows, pa.string()),
            whole_numbers(ordinals[found.lines]),
            whole_numbers(found.lines + line),
        )

    def _document(
        self, ordinal: int, line: int, text: bytes, *, careful: bool, whole_file: bool
    ) -> None:
        self._bytes += len(text)
        try:
            document = decode_json(text, careful=careful)
        except JsonMalformedError as error:
            if whole_file:
                raise _array_malformed(error, text, line) from error
            place = "" if error.offset is None else f", character {error.offset + 1}"
            self._divert(
                ReasonCode.JSON_MALFORMED,
                None,
                f"line {line}{place}: {error.message}",
                ordinal,
                line,
                text,
            )
            return
        if type(document) is not dict:
            self._divert(
                ReasonCode.JSON_NOT_OBJECT,
                None,
                f"{_kind(document)} stands where an object was expected",
                ordinal,
                line,
                text,
            )
            return
        self._objects += 1
        found = self._shape.extract(document)
        if self._diverted(found, ordinal, line, text):
            self._shape.have_seen([cell] for cell in found.cells)
            return
        self._cells.append(found.cells)
        self._extras.append(self._extra(found))
        self._ordinals.append(ordinal)
        self._lines.append(line)

    def _diverted(self, found: Extracted, ordinal: int, line: int, text: bytes) -> bool:
        """Count a document's drift; whether its row goes for it."""
        names = [] if found.unexpected is None else self._shape.names_of(found.unexpected)
        if not names and not found.faults:
            return False
        for name in names:
            if name in self._unexpected or len(self._unexpected) < _MAX_NAMES:
                self._unexpected[name] += 1
        for column in {index for index, _, _ in found.faults}:
            self._misshapen[column] += 1
        for column, path, sentence in found.faults:
            self._misshapen_how.setdefault(column, f"at {path!r} {sentence}")
        if found.faults and self._policies.nested_shape is DriftPolicy.QUARANTINE_ROWS:
            column, path, sentence = found.faults[0]
            self._divert(
                ReasonCode.NESTED_SHAPE,
                self._contract.landed_columns[column].name,
                f"at {path!r} {sentence}",
                ordinal,
                line,
                text,
            )
            return True
        if names and self._policies.additive is DriftPolicy.QUARANTINE_ROWS:
            self._divert(
                ReasonCode.COLUMN_UNEXPECTED,
                cut(names[0]),
                f"the contract knows no column {cut(names[0])!r}",
                ordinal,
                line,
                text,
            )
            return True
        return False

    def _divert(
        self,
        code: ReasonCode,
        column: str | None,
        message: str,
        ordinal: int,
        line: int,
        text: bytes,
    ) -> None:
        raw = text.decode()
        self._tally.add(code, message, line=line, column=column, raw=raw)
        self._malformed.append((ordinal, line, code.value, column, message, raw))

    def _extra(self, found: Extracted) -> str | None:
        kept: dict[str, Any] = {}
        if found.unexpected and self._policies.additive is not DriftPolicy.ALLOW:
            kept |= found.unexpected
        if found.misfits and self._policies.nested_shape is not DriftPolicy.ALLOW:
            kept |= found.misfits
        return encode_json(kept) if kept else None

    def _decoded(self) -> pa.Table:
        """The canonical rows of the documents decoded since the last time; what was malformed
        among them is held."""
        if self._ordinals:
            columns = [list(c) for c in zip(*self._cells, strict=True)]
            self._shape.have_seen(columns)
        else:
            columns = [[] for _ in self._contract.landed_columns]
        table = self._canonical(
            [pa.array(cells, pa.string()) for cells in columns],
            pa.array(self._extras, pa.string()),
            pa.array(self._ordinals, pa.int64()),
            pa.array(self._lines, pa.int64()),
        )
        if self._malformed:
            self._held.malformed.add(
                malformed_table(MALFORMED_SCHEMA, self._object_id, self._malformed)
            )
        self._cells, self._extras, self._ordinals, self._lines = [], [], [], []
        self._malformed, self._bytes = [], 0
        return table

    def _canonical(
        self, cells: list[pa.Array], extras: pa.Array, ordinals: pa.Array, lines: pa.Array
    ) -> pa.Table:
        ids = repeated([(self._object_id, len(ordinals))])
        return pa.Table.from_arrays(
            [*cells, extras, ids, ordinals, lines], names=canonical_schema(self._contract).names
        )

    def _hold(self, table: pa.Table | None) -> None:
        if table is not None and table.num_rows:
            self._held.rows.add(table)

    def _drift(self) -> tuple[Drift, ...]:
        """What the whole file shows.

        A key that no row has is missing where its column is required: JSON leaves null values
        out, so an optional one's absence says nothing, unless a new key is much like it.
        """
        columns = self._contract.landed_columns
        absent = {
            dotted(self._shape.paths[i]): column
            for i, column in enumerate(columns)
            if not self._shape.seen[i]
        }
        if not self._objects:
            absent = {}
        match = match_names(tuple(absent), tuple(self._unexpected), close=_CLOSE_MATCH)
        found = [
            drift
            for drift in classify_names(match, self._policies)
            if drift.kind is not DriftKind.MISSING or absent[drift.column or ""].required
        ]
        named = [
            drift.model_copy(update={"rows": self._unexpected[drift.column]})
            if drift.kind is DriftKind.ADDITIVE and drift.column is not None
            else drift
            for drift in found
        ]
        shapes = [
            Drift(
                kind=DriftKind.NESTED_SHAPE,
                column=columns[index].name,
                detail=self._misshapen_how[index],
                policy=self._policies.nested_shape,
                rows=rows,
            )
            for index, rows in sorted(self._misshapen.items())
        ]
        return (*named, *shapes)


def _in_order(tables: list[pa.Table]) -> pa.Table | None:
    """The rows of a block as they stood in it."""
    found = [table for table in tables if table.num_rows]
    if len(found) <= 1:
        return found[0] if found else None
    return pa.concat_tables(found).sort_by(SOURCE_ROW)


def _array_malformed(error: JsonMalformedError, text: bytes, line: int) -> FileRefused:
    place = f"in the element that begins on line {line}"
    if error.offset is not None:
        before = text.decode()[: error.offset]
        line += before.count("\n")
        place = f"line {line}, character {len(before) - before.rfind(chr(10))}"
        if "\n" not in before:
            place = f"line {line}, character {len(before) + 1} of the element"
    return refuse(ReasonCode.JSON_MALFORMED, f"{place}: {error.message}", line=line)


def _by_row(drift: Drift) -> bool:
    """Whether a drift takes single rows: diverted already, or, without a required value, about to
    be diverted by curation."""
    return drift.policy is DriftPolicy.QUARANTINE_ROWS and drift.kind is not DriftKind.RENAMED


def _kind(value: object) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
