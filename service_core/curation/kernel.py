"""The kernel: the one meaning of curation, block by block, for every engine.

Canonical text goes in; typed accepted rows, and diverted rows with their reasons, come out, and
every row of the block is in exactly one of the two. There is no I/O, no clock and nothing that
depends on where blocks were cut. A block in which nothing fails costs no work per row beyond typing
and judging.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from service_core.canonical import (
    EXTRA,
    REASON_TYPE,
    REASONS,
    SOURCE_OBJECT_ID,
    SOURCE_ROW,
    accepted_schema,
    arrow_type,
    canonical_schema,
)
from service_core.contract.expressions import compute, polars_type
from service_core.contract.model import (
    Column,
    Contract,
    DriftPolicy,
    LogicalType,
)
from service_core.curation.block_tally import Arrivals, tallied
from service_core.curation.distinct import Columns
from service_core.curation.faults import Fault, Faults, Pairs
from service_core.curation.judgement import Judge, UnjudgeableRuleError, compile_judge
from service_core.curation.normalisation import text_rows
from service_core.curation.tally import Samples, Tally
from service_core.lexical import typed as spelled
from service_core.reasons import ReasonCode

if TYPE_CHECKING:
    import numpy
    import polars as pl
    import pyarrow as pa

_TEXT = frozenset({LogicalType.STRING, LogicalType.JSON})


@dataclass(frozen=True, slots=True)
class CuratedBlock:
    """What became of one block.

    Attributes:
        accepted: Typed columns of the contract, `_extra`, `_source_object_id`, `_source_row`. Text
            that came dictionary-encoded may still be so, but never that of a unique key.
        diverted: Canonical text as it came, and `_reasons`.
        tallies: What was counted, by source object id.
        samples: The first rows that broke each rule, by the rule's name, as they arrived and
            with personal columns masked.
    """

    accepted: pa.Table
    diverted: pa.Table
    tallies: Mapping[str, Tally]
    samples: Samples


@dataclass(frozen=True)
class Kernel:
    """A contract, ready to curate blocks. Pickles as the contract alone, so that it can be sent
    to a worker and compiled there."""

    contract: Contract

    def __getstate__(self) -> dict[str, Any]:
        return {"contract": self.contract}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def judge(self) -> Judge:
        return compile_judge(self.contract)

    @cached_property
    def faults(self) -> Faults:
        return Faults.of(self.contract, self.judge)

    @cached_property
    def accepted_schema(self) -> pa.Schema:
        """Of `CuratedBlock.accepted`."""
        import pyarrow as pa

        names = [c.name for c in self.contract.columns]
        names += [EXTRA, SOURCE_OBJECT_ID, SOURCE_ROW]
        whole = accepted_schema(self.contract)
        return pa.schema([whole.field(name) for name in names])

    @cached_property
    def diverted_schema(self) -> pa.Schema:
        """Of `CuratedBlock.diverted`."""
        import pyarrow as pa

        return canonical_schema(self.contract).append(pa.field(REASONS, pa.list_(REASON_TYPE)))


def compile_kernel(contract: Contract) -> Kernel:
    """Make a contract's kernel.

    Raises:
        UnjudgeableRuleError: a rule or derived column cannot be executed.
    """
    import polars as pl

    kernel = Kernel(contract)
    try:
        text = text_rows(contract, _no_rows(contract))
        typed, _ = _typed_rows(kernel, text)
        _judged(kernel, text, typed)
    except pl.exceptions.PolarsError as error:
        raise UnjudgeableRuleError(
            f"An expression of {contract.dataset} cannot be executed: {error}"
        ) from error
    return kernel


def curate_block(kernel: Kernel, block: pa.Table | pa.RecordBatch) -> CuratedBlock:
    """Curate one block of canonical text.

    Args:
        kernel: The contract's.
        block: Rows of `canonical.canonical_schema`, of any number of source objects.

    Raises:
        ValueError: the block lacks a column, which means that it is not canonical text.
    """
    import numpy
    import pyarrow as pa

    contract = kernel.contract
    table = pa.Table.from_batches([block]) if isinstance(block, pa.RecordBatch) else block
    missing = set(canonical_schema(contract).names) - set(table.column_names)
    if missing:
        raise ValueError(
            f"The block lacks {sorted(missing)}: it is not canonical text of {contract.dataset} "
            f"version {contract.version}."
        )
    table = table.unify_dictionaries()
    raw = Columns.of_text(table, [c.name for c in contract.landed_columns])
    text = text_rows(contract, raw)
    typed, found = _typed_rows(kernel, text)
    drifted = [(fault, rows) for fault, rows in found if fault.code is ReasonCode.TYPE]
    pairs = kernel.faults.pairs([*found, *_judged(kernel, text, typed)])
    accepted = _accepted(kernel, table, raw, typed, drifted)
    gone = pairs.diverted_rows().to_numpy()
    if len(gone):
        keep = numpy.ones(table.num_rows, dtype=bool)
        keep[gone] = False
        accepted = accepted.filter(pa.array(keep))
    tallies, samples = tallied(Arrivals.of(contract, table, raw.frame, typed.frame), pairs, drifted)
    return CuratedBlock(accepted, _diverted(kernel, table, pairs, gone), tallies, samples)


def _no_rows(contract: Contract) -> Columns:
    import polars as pl

    return Columns(pl.DataFrame(schema={c.name: pl.String() for c in contract.landed_columns}), {})


# --- Typing ----------------------------------------------------------------------


def _typed_rows(kernel: Kernel, text: Columns) -> tuple[Columns, list[tuple[Fault, pl.Series]]]:
    """Every column typed, derived ones too, and the rows whose text or outcome is no value."""
    import polars as pl

    contract, faults = kernel.contract, kernel.faults
    landed = {
        c.name: c.type for c in contract.landed_columns if c.type.logical is not LogicalType.STRING
    }
    typed = text.each(
        landed,
        lambda frame: frame.with_columns(
            spelled(pl.col(name), landed[name]).alias(name) for name in frame.columns
        ),
    )
    found = []
    for name in landed:
        before, after = text.frame[name], typed.frame[name]
        if before.null_count() != after.null_count():
            rows = (before.is_not_null() & after.is_null()).arg_true()
            found.append((faults.untyped[name], rows))
    frame = typed.frame
    for column in contract.columns:
        if column.derived is None:
            continue
        value, rows = _derived(frame, column)
        frame = frame.with_columns(value)
        if len(rows):
            found.append((faults.untyped[column.name], rows))
    return Columns(frame, typed.distinct), found


def _derived(frame: pl.DataFrame, column: Column) -> tuple[pl.Series, pl.Series]:
    """A derived column's values, and the rows for which there is none that its type can hold."""
    import polars as pl

    assert column.derived is not None
    outcome, failed = evaluate(frame, column.derived)
    kind = column.type
    if outcome.dtype == pl.String and kind.logical is not LogicalType.STRING:
        value = outcome.to_frame("text").select(spelled(pl.col("text"), kind)).to_series()
    else:
        value = outcome.cast(polars_type(kind), strict=False)
    if kind.logical is LogicalType.DOUBLE and not kind.allow_special:
        finite = value.is_finite()
        value = value.to_frame("value").select(pl.when(finite).then(pl.col("value"))).to_series()
    lost = outcome.is_not_null() & value.is_null()
    rows = pl.concat([lost.arg_true().cast(pl.UInt32), failed]).unique().sort()
    return value.alias(column.name), rows


def evaluate(frame: pl.DataFrame, expression: str) -> tuple[pl.Series, pl.Series]:
    """An SQL expression over each row, and the rows for which it has no outcome at all.

    A division by zero or a cast of the wrong text makes Polars refuse the whole frame. The rows
    at fault are then found by halving, so that the others still have their outcome.
    """
    import polars as pl

    parts: list[pl.Series] = []
    failed: list[int] = []
    empty = compute(frame.head(0).lazy(), {"_outcome": expression}).collect()["_outcome"]
    waiting = [(0, frame.height)]
    while waiting:
        start, length = waiting.pop()
        part = frame.slice(start, length)
        try:
            outcome = compute(part.lazy(), {"_outcome": expression}).collect()["_outcome"]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            if length <= 1:
                failed.append(start)
                outcome = pl.Series("_outcome", [None] * length, dtype=empty.dtype)
            else:
                half = length // 2
                waiting += [(start + half, length - half), (start, half)]
                continue
        parts.append(outcome.cast(empty.dtype))
    return pl.concat(parts) if parts else empty, pl.Series(failed, dtype=pl.UInt32)


def _judged(kernel: Kernel, text: Columns, typed: Columns) -> list[tuple[Fault, pl.Series]]:
    """The rows that break row rules."""
    import polars as pl

    judge, faults = kernel.judge, kernel.faults
    frame, beside, distinct = typed.frame, [], dict(typed.distinct)
    for name, place in judge.texts.items():
        landed = name in text.frame.columns
        of_text = text.frame[name] if landed else frame[name].cast(pl.String)
        beside.append(of_text.alias(place))
        if name in text.distinct:
            distinct[place] = text.distinct[name]
    for place, expression in judge.expressions.items():
        outcome, failed = evaluate(frame, expression)
        if outcome.dtype not in (pl.Boolean, pl.Null):
            raise UnjudgeableRuleError(f"{expression} is neither true nor false.")
        if len(failed):
            outcome = outcome.scatter(failed, False)
        beside.append(outcome.alias(place))
    judged = frame.with_columns(beside) if beside else frame
    return [(faults.rules[rule], rows) for rule, rows in judge.failures(judged, distinct)]


# --- What comes out ------------------------------------------------------------------------------


def _accepted(
    kernel: Kernel,
    table: pa.Table,
    raw: Columns,
    typed: Columns,
    drifted: Sequence[tuple[Fault, pl.Series]],
) -> pa.Table:
    """All rows as they would be accepted."""
    import pyarrow as pa

    keys = {name for key in kernel.contract.unique_keys for name in key}
    columns: list[Any] = []
    for column in kernel.contract.columns:
        name = column.name
        if column.derived is None and column.type.logical in _TEXT:
            text = _text_column(column, table.column(name), raw, typed)
            columns.append(_plain(text) if name in keys else text)
        else:
            columns.append(_to_arrow(typed.frame[name], arrow_type(column)))
    columns.append(_plain(_extra(kernel.contract, table, raw.frame, drifted)))
    columns += [table.column(name) for name in (SOURCE_OBJECT_ID, SOURCE_ROW)]
    return pa.table(columns, names=kernel.accepted_schema.names)


def _diverted(
    kernel: Kernel, table: pa.Table, pairs: Pairs, gone: numpy.ndarray[Any, Any]
) -> pa.Table:
    """Diverted rows, as they came, with their reasons."""
    import pyarrow as pa

    if not len(gone):
        return kernel.diverted_schema.empty_table()
    rows = table.select(kernel.diverted_schema.names[:-1]).take(pa.array(gone))
    columns = [_plain(column) for column in rows.columns]
    return pa.table([*columns, pairs.reasons()], schema=kernel.diverted_schema)


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _text_column(
    column: Column, arrived: pa.ChunkedArray, raw: Columns, typed: Columns
) -> pa.ChunkedArray | pa.Array:
    """A text column, by way of the very array that came in wherever its text stands: the way
    there and back again through Polars costs more than typing does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    name, folding = column.name, column.normalisation
    before, after = raw.frame[name], typed.frame[name]
    if name in raw.distinct:
        unchanged = typed.distinct[name] is raw.distinct[name]
        return arrived if unchanged else _to_arrow(after, pa.string())
    if (folding.trim or folding.case) and (before != after).any():
        return _to_arrow(after, pa.string())
    arrived = _plain(arrived)
    if before.null_count() == after.null_count():
        return arrived
    return pc.if_else(after.is_null().to_arrow(), pa.scalar(None, pa.string()), arrived)


def _to_arrow(series: pl.Series, kind: pa.DataType) -> pa.Array:
    return series.to_arrow().cast(kind)


def _extra(
    contract: Contract,
    table: pa.Table,
    raw: pl.DataFrame,
    drifted: Sequence[tuple[Fault, pl.Series]],
) -> pa.ChunkedArray | pa.Array:
    """`_extra`, with the text that is no value of its type where the policy keeps it aside."""
    import pyarrow as pa

    arrived = table.column(EXTRA)
    if contract.drift.type is not DriftPolicy.KEEP_ASIDE or not drifted:
        return arrived
    kept: dict[int, dict[str, str]] = {}
    for fault, rows in drifted:
        assert fault.column is not None
        for row, value in zip(rows, raw[fault.column].gather(rows), strict=True):
            kept.setdefault(row, {})[fault.column] = value
    values = arrived.to_pylist()
    for row, beside in kept.items():
        values[row] = _extended(values[row], beside)
    return pa.array(values, pa.string())


def _extended(extra: str | None, beside: Mapping[str, str]) -> str:
    """An `_extra` object with more text in it; nothing that is there already is lost."""
    kept = json.loads(extra) if extra else {}
    for name, text in beside.items():
        while name in kept:
            name = f"_{name}"
        kept[name] = text
    return json.dumps(kept, ensure_ascii=False)
