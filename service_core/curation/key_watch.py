"""Hashes of keys: the cheap proof that no key stands twice.

Nearly every batch repeats nothing, which hashes show at the cost of eight bytes a row. They never
miss a repeated key; where they suspect one, or were given up because there are too many rows,
`service_core.curation.uniqueness` looks at the keys themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_core.contract.model import Contract
from service_core.platform_columns import SOURCE_KEY, SOURCE_ROW

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa

#: The columns of a unique key.
Key = tuple[str, ...]

#: 128 MB of hashes; with more rows, the keys themselves are grouped, or their hashes shuffled.
HASHED_ROWS = 1 << 24


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows whose value of a unique key may stand more than once; others may be among them.

    Attributes:
        staged: Parquet files with such accepted rows: the key's columns, `_source_object_id` and
            `_source_row`.
        repeats: Whether two of these may share a value.
        published: Published rows whose value one of these may have: the key's columns,
            `_source_key` and `_source_row`.
    """

    staged: Sequence[Path]
    repeats: bool
    published: Iterable[pa.Table] = ()


class KeyWatch:
    """Hashes of the keys that went by."""

    def __init__(self, contract: Contract, *, hashed_rows: int = HASHED_ROWS) -> None:
        self._contract = contract
        self._limit = hashed_rows
        self._parts: dict[Key, list[Any]] = {key: [] for key in contract.unique_keys}
        self._sorted: dict[Key, Any] = {}
        self._rows = 0

    def add(self, accepted: pa.Table) -> None:
        """Note the keys of accepted rows."""
        self._rows += accepted.num_rows
        if not self.sure:
            self.give_up()
            return
        for key, parts in self._parts.items():
            parts.append(key_hashes(accepted, key))

    def add_hashes(self, rows: int, hashes: Mapping[Key, numpy.ndarray[Any, Any]]) -> None:
        """Note what another watch has seen: `rows` of them, and its `hashes`."""
        self._rows += rows
        if not self.sure:
            self.give_up()
            return
        for key, parts in self._parts.items():
            parts.append(hashes[key])

    def give_up(self) -> None:
        """There are too many rows to hash."""
        self._rows = self._limit + 1
        self._parts = {key: [] for key in self._parts}

    def suspects(
        self, key: Key, staged: Sequence[Path], published: Iterable[pa.RecordBatch] | None
    ) -> Suspects:
        """Find suspects by their hashes.

        Args:
            staged: Files of all the rows that went by.
            published: Published keys; None where there are none.
        """
        return Suspects(staged, self.may_repeat(key), self._held(key, published or ()))

    def _held(self, key: Key, published: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        import pyarrow as pa

        for batch in published:
            rows = self.may_hold(key, pa.Table.from_batches([batch]))
            if rows.num_rows:
                yield rows

    @property
    def sure(self) -> bool:
        """Whether every key was hashed."""
        return self._rows <= self._limit

    def may_repeat(self, key: Key) -> bool:
        """Whether two rows of the batch may share the key."""
        if not self.sure:
            return True
        hashes = self.hashes(key)
        return bool((hashes[1:] == hashes[:-1]).any())

    def may_hold(self, key: Key, published: pa.Table) -> pa.Table:
        """Those published rows whose key the batch may have too."""
        rows = with_key(self._contract, key, published, (SOURCE_KEY, SOURCE_ROW))
        return among_hashes(rows, key, self.hashes(key)) if self.sure else rows

    def hashes(self, key: Key) -> numpy.ndarray[Any, Any]:
        """The hashes of a key, ascending, each as often as it went by."""
        import numpy

        if key not in self._sorted:
            parts = self._parts[key] or [numpy.empty(0, dtype=numpy.uint64)]
            whole = numpy.concatenate(parts)
            self._parts[key] = []
            whole.sort()
            self._sorted[key] = whole
        hashes: numpy.ndarray[Any, Any] = self._sorted[key]
        return hashes


def with_key(contract: Contract, key: Key, rows: pa.Table, origin: Sequence[str]) -> pa.Table:
    """Rows that have the key, as the contract types it, and columns of their origin.

    A table's decimals may have fewer digits than the contract's, or more: a value that the
    contract's type does not hold is no row's of the batch. A key with a null in it is no key.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from service_core.canonical import arrow_type

    types = {SOURCE_ROW: pa.int64()}
    shape = pa.schema(
        [(name, arrow_type(contract.column(name))) for name in key]
        + [(name, types.get(name, pa.string())) for name in origin]
    )
    present = rows.select(shape.names)
    for name in key:
        wanted, found = shape.field(name).type, present.schema.field(name).type
        if pa.types.is_decimal(found) and found.precision > wanted.precision:
            most = pa.scalar(Decimal(10) ** (wanted.precision - wanted.scale))
            present = present.filter(pc.less(pc.abs(present.column(name)), most))
    present = present.cast(shape)
    for name in key:
        if present.column(name).null_count:
            present = present.filter(present.column(name).is_valid())
    return present


def among_hashes(rows: pa.Table, key: Key, hashes: numpy.ndarray[Any, Any]) -> pa.Table:
    """Those rows whose key hashes to one of some ascending hashes."""
    import numpy
    import pyarrow as pa

    if not len(hashes) or not rows.num_rows:
        return rows.slice(0, 0)
    theirs = key_hashes(rows, key)
    places = numpy.minimum(numpy.searchsorted(hashes, theirs), len(hashes) - 1)
    return rows.filter(pa.array(hashes[places] == theirs))


def key_hashes(table: pa.Table, key: Key) -> numpy.ndarray[Any, Any]:
    """Hashes of the keys that have no null in them."""
    import numpy
    import polars as pl

    whole = numpy.zeros(table.num_rows, dtype=numpy.uint64)
    valid = numpy.ones(table.num_rows, dtype=bool)
    for name in key:
        series = pl.from_arrow(table.column(name))
        assert isinstance(series, pl.Series)
        # Multiplied, so that (a, b) and (b, a) differ.
        whole = whole * numpy.uint64(0x9E3779B97F4A7C15) + series.hash().to_numpy()
        if series.null_count():
            valid &= series.is_not_null().to_numpy()
    return whole if valid.all() else whole[valid]
