"""Rows of Parquet files: every value becomes the one spelling that its type has here.

Parquet has values and no spellings, so canonical text writes each as `docs/types.md` would have
it: ISO dates, instants in UTC with `Z`, plain decimals, the shortest digits that give a float back.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service_core.canonical import MALFORMED_SCHEMA, canonical_schema
from service_core.contract.json_path import parse_json_path
from service_core.contract.model import Column, Contract, DriftPolicy, LogicalType
from service_core.drift import Drift, DriftKind
from service_core.reasons import ReasonCode
from service_core.validation.arrays import repeated, whole_numbers
from service_core.validation.columns import REFUSING, Layout, layout_by_name, refusals
from service_core.validation.content import Content
from service_core.validation.held_rows import HeldRows, holding
from service_core.validation.json_shape import Shape
from service_core.validation.json_values import Number, encode_json
from service_core.validation.parts import malformed_table
from service_core.validation.refusal import FileRefused, Tally, cut, refuse

_ROWS = 50_000


def read_parquet(
    contract: Contract, object_id: str, content: Content, tally: Tally, scratch: Path
) -> HeldRows:
    """Read all rows of a Parquet file.

    Args:
        tally: Takes the reasons against single rows.

    Raises:
        FileRefused: MALFORMED_FILE or ENCODING where it cannot be read; EMPTY; HEADER_DUPLICATE;
            drift by policy.
    """
    with holding(scratch, object_id) as held:
        _read(contract, object_id, content, tally, held)
    return held


def _read(
    contract: Contract, object_id: str, content: Content, tally: Tally, held: HeldRows
) -> None:
    import pyarrow.parquet as pq

    source = pa.py_buffer(content.data) if content.data is not None else str(content.path)
    file = _readable(lambda: pq.ParquetFile(source))
    with file:
        schema = _readable(lambda: file.schema_arrow)
        names = list(schema.names)
        if len(set(names)) < len(names):
            twice = next(n for i, n in enumerate(names) if n in names[:i])
            raise refuse(
                ReasonCode.HEADER_DUPLICATE,
                f"the file has column {cut(twice)!r} {names.count(twice)} times",
                column=cut(twice),
            )
        roots = tuple(_root(c) for c in contract.landed_columns)
        layout, drift = layout_by_name(contract, names, line=None, expected=roots)
        types = _type_drift(contract, layout, schema)
        if refused := refusals(d for d in types if d.policy in REFUSING):
            raise FileRefused(refused, (*drift, *types))
        reader = _BatchReader(contract, object_id, layout, schema, tally, held)
        for batch in _batches(file):
            reader.take(batch)
    if not held.rows_read:
        raise refuse(ReasonCode.EMPTY, "the file holds no row")
    held.drift = (*drift, *types, *reader.drift())
    if refused := refusals(d for d in reader.drift() if d.policy is DriftPolicy.QUARANTINE_FILE):
        raise FileRefused(refused, held.drift)


def _readable(read: Callable[[], Any]) -> Any:
    """The outcome of a read; what Arrow cannot make out is the file's fault, a failing disk (which
    has an error number) or too little memory is not."""
    try:
        return read()
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(error) from error
    except MemoryError:
        # Arrow's own is an ArrowException too, and says nothing about the file.
        raise
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> FileRefused:
    reason = cut(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return refuse(ReasonCode.MALFORMED_FILE, f"the file cannot be read as Parquet: {reason}")


def _batches(file: Any) -> Iterator[pa.RecordBatch]:
    batches = _readable(lambda: file.iter_batches(batch_size=_ROWS))
    while (batch := _readable(lambda: next(batches, None))) is not None:
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise refuse(
                ReasonCode.ENCODING, f"a text in the file is not UTF-8: {cut(str(error))}"
            ) from error
        yield batch


def _root(column: Column) -> str:
    source = column.source or column.name
    steps = parse_json_path(source) or (source,)
    return str(steps[0])


def _type_drift(contract: Contract, layout: Layout, schema: pa.Schema) -> tuple[Drift, ...]:
    """Bytes have no text that would mean the same to everyone."""
    return tuple(
        Drift(
            kind=DriftKind.TYPE,
            column=column.name,
            detail=f"the file's column is {schema.field(position).type}, which has no text",
            policy=contract.drift.type,
        )
        for column, position in zip(contract.landed_columns, layout.positions, strict=True)
        if position is not None and _is_bytes(schema.field(position).type)
    )


class _BatchReader:
    def __init__(
        self,
        contract: Contract,
        object_id: str,
        layout: Layout,
        schema: pa.Schema,
        tally: Tally,
        held: HeldRows,
    ) -> None:
        self._contract = contract
        self._object_id = object_id
        self._layout = layout
        self._tally = tally
        self._held = held
        columns = contract.landed_columns
        at = dict(zip(range(len(columns)), layout.positions, strict=True))
        self._flat = {
            i: p for i, p in at.items() if p is not None and not pa.types.is_nested(schema[p].type)
        }
        #: Columns with a path into a flat field find a single value where an object should be.
        pathed = {i for i in self._flat if len(parse_json_path(columns[i].source or "") or ()) > 1}
        self._nested = sorted(
            {i for i, p in at.items() if p is not None and i not in self._flat} | pathed
        )
        self._flat = {i: p for i, p in self._flat.items() if i not in pathed}
        self._shape = Shape([columns[i] for i in self._nested])
        self._roots = sorted({p for i in self._nested if (p := at[i]) is not None})
        self._aside = list(layout.aside)
        if contract.drift.type is DriftPolicy.KEEP_ASIDE:
            self._aside += [p for p in self._flat.values() if _is_bytes(schema[p].type)]
        self._misshapen: dict[int, tuple[str, int]] = {}

    def drift(self) -> tuple[Drift, ...]:
        """What nested values have shown so far."""
        return tuple(
            Drift(
                kind=DriftKind.NESTED_SHAPE,
                column=self._contract.landed_columns[index].name,
                detail=detail,
                policy=self._contract.drift.nested_shape,
                rows=rows,
            )
            for index, (detail, rows) in sorted(self._misshapen.items())
        )

    def take(self, batch: pa.RecordBatch) -> None:
        rows, columns = batch.num_rows, self._contract.landed_columns
        first = self._held.rows_read + 1
        self._held.rows_read += rows
        texts: list[Any] = [pa.nulls(rows, pa.string()) for _ in columns]
        for index, position in self._flat.items():
            texts[index] = _text(batch.column(position), columns[index].type.logical)
        extras: list[dict[str, Any]] = [{} for _ in range(rows)]
        for position in self._aside:
            name = batch.schema.names[position]
            for extra, value in zip(extras, batch.column(position).to_pylist(), strict=True):
                extra[name] = _jsonable(value)
        kept = [True] * rows
        if self._nested:
            self._take_nested(batch, texts, extras, kept, first)
        table = pa.Table.from_arrays(
            [
                *texts,
                pa.array([encode_json(e) if e else None for e in extras], pa.string()),
                repeated([(self._object_id, rows)]),
                whole_numbers(np.arange(first, first + rows)),
                pa.nulls(rows, pa.int64()),
            ],
            names=canonical_schema(self._contract).names,
        )
        self._held.rows.add(table if all(kept) else table.filter(pa.array(kept)))

    def _take_nested(
        self,
        batch: pa.RecordBatch,
        texts: list[Any],
        extras: list[dict[str, Any]],
        kept: list[bool],
        first: int,
    ) -> None:
        policies = self._contract.drift
        names = [batch.schema.names[p] for p in self._roots]
        values = [batch.column(p).to_pylist() for p in self._roots]
        cells: list[list[str | None]] = []
        malformed: list[tuple[int, int | None, str, str | None, str, str]] = []
        for row, document in enumerate(zip(*values, strict=True)):
            found = self._shape.extract(
                {name: _jsonable(v) for name, v in zip(names, document, strict=True)}
            )
            cells.append(found.cells)
            if found.unexpected and policies.additive is not DriftPolicy.ALLOW:
                extras[row] |= found.unexpected
            if found.misfits and policies.nested_shape is not DriftPolicy.ALLOW:
                extras[row] |= found.misfits
            for local, path, sentence in found.faults:
                index = self._nested[local]
                detail, count = self._misshapen.get(index, (f"at {path!r} {sentence}", 0))
                self._misshapen[index] = (detail, count + 1)
            if found.faults and policies.nested_shape is DriftPolicy.QUARANTINE_ROWS:
                kept[row] = False
                local, path, sentence = found.faults[0]
                name = self._contract.landed_columns[self._nested[local]].name
                raw = encode_json(_jsonable(batch.slice(row, 1).to_pylist()[0]))
                message = f"row {first + row}: at {path!r} {sentence}"
                code = ReasonCode.NESTED_SHAPE
                self._tally.add(code, message, line=None, column=name, raw=raw)
                malformed.append((first + row, None, code.value, name, message, raw))
        for local, index in enumerate(self._nested):
            texts[index] = pa.array([row[local] for row in cells], pa.string())
        if malformed:
            self._held.malformed.add(malformed_table(MALFORMED_SCHEMA, self._object_id, malformed))


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _text(array: pa.Array, wanted: LogicalType) -> pa.Array:
    """A flat column as text; null stays null."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if _is_bytes(kind):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_decimal(kind):
        plain = [None if v is None else format(v, "f") for v in array.to_pylist()]
        if wanted is LogicalType.DECIMAL:
            # The file's scale is a matter of storage; the contract's is what is judged.
            plain = [_shortest(text) for text in plain]
        return pa.array(plain, pa.string())
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        naive = array.cast(pa.timestamp(kind.unit)) if kind.tz else array
        text = pc.replace_substring(naive.cast(pa.string()), " ", "T")
        return pc.binary_join_element_wise(_without_zeros(text), zone, "")
    if pa.types.is_time(kind):
        return _without_zeros(array.cast(pa.string()))
    if pa.types.is_date64(kind):
        array = array.cast(pa.date32())
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())
    return array.cast(pa.string())


def _without_zeros(text: pa.Array) -> pa.Array:
    """Fractions of a second without the zeros at their end."""
    return pc.replace_substring_regex(text, r"(\.[0-9]*[1-9])0+$|\.0+$", r"\1")


def _shortest(text: str | None) -> str | None:
    if text is None or "." not in text:
        return text
    return text.rstrip("0").rstrip(".")


def _jsonable(value: Any) -> Any:
    """A Parquet value as `json_values` decodes JSON."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            finite = value == value and abs(value) != float("inf")
            return Number(repr(value).encode()) if finite else repr(value)
        case Decimal():
            return Number(format(value, "f").encode())
        case dict():
            return {str(key): _jsonable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_jsonable(inner) for inner in value]
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
    return str(value)
