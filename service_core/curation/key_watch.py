"""Hashes of keys: the cheap proof that no key stands twice.

Nearly every batch repeats nothing, which hashes show at the cost of eight bytes a row. They never
miss a repeated key; where they suspect one, or were given up because there are too many rows,
`service_core.curation.uniqueness` looks at the keys themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service_core.canonical import SOURCE_KEY, SOURCE_ROW, arrow_type
from service_core.contract.model import Contract

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa

#: The columns of a unique key.
Key = tuple[str, ...]

#: 128 MB of hashes; with more rows, DuckDB groups the keys themselves.
_HASHED_ROWS = 1 << 24


class KeyWatch:
    """Hashes of the keys that went by."""

    def __init__(self, contract: Contract, *, hashed_rows: int = _HASHED_ROWS) -> None:
        self._contract = contract
        self._limit = hashed_rows
        self._parts: dict[Key, list[Any]] = {key: [] for key in contract.unique_keys}
        self._sorted: dict[Key, Any] = {}
        self._rows = 0

    def add(self, accepted: pa.Table) -> None:
        """Note the keys of accepted rows."""
        self._rows += accepted.num_rows
        if self._rows > self._limit:
            self._parts = {key: [] for key in self._parts}
            return
        for key, parts in self._parts.items():
            parts.append(_hashes(accepted, key))

    @property
    def sure(self) -> bool:
        """Whether every key was hashed."""
        return self._rows <= self._limit

    def may_repeat(self, key: Key) -> bool:
        """Whether two rows of the batch may share the key."""
        if not self.sure:
            return True
        hashes = self._of(key)
        return bool((hashes[1:] == hashes[:-1]).any())

    def may_hold(self, key: Key, published: pa.Table) -> pa.Table:
        """Those published rows whose key the batch may have too."""
        import numpy
        import pyarrow as pa

        shape = pa.schema(
            [(name, arrow_type(self._contract.column(name))) for name in key]
            + [(SOURCE_KEY, pa.string()), (SOURCE_ROW, pa.int64())]
        )
        rows = published.select(shape.names).cast(shape)
        for name in key:
            rows = rows.filter(rows.column(name).is_valid())
        if not self.sure or not rows.num_rows:
            return rows
        mine = self._of(key)
        if not len(mine):
            return rows.slice(0, 0)
        theirs = _hashes(rows, key)
        places = numpy.minimum(numpy.searchsorted(mine, theirs), len(mine) - 1)
        return rows.filter(pa.array(mine[places] == theirs))

    def _of(self, key: Key) -> numpy.ndarray[Any, Any]:
        import numpy

        if key not in self._sorted:
            parts = self._parts[key] or [numpy.empty(0, dtype=numpy.uint64)]
            whole = numpy.concatenate(parts)
            self._parts[key] = []
            whole.sort()
            self._sorted[key] = whole
        hashes: numpy.ndarray[Any, Any] = self._sorted[key]
        return hashes


def _hashes(table: pa.Table, key: Key) -> numpy.ndarray[Any, Any]:
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
