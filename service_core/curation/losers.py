"""Losers: rows that gave way to others with the same key, found by where they came from.

Who they are is decided once, by `service_core.curation.uniqueness`; whoever goes over rows
afterwards, on whichever machine, looks them up here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_core.contract.model import Contract
from service_core.curation.key_watch import Key
from service_core.platform_columns import SOURCE_OBJECT_ID, SOURCE_ROW

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa

#: The table of losers: the row's object (its place in the manifest) and number, the key by its
#: place among the contract's, and which row keeps it; without an object if that is published.
LOSERS = (
    "losers (ordinal BIGINT, row_number BIGINT, key_index INTEGER,"
    " kept_ordinal BIGINT, kept_key VARCHAR, kept_row BIGINT)"
)


class Losers:
    """The rows of a batch that gave way.

    Args:
        contract: Whose keys.
        owners: Ids of the batch's source objects, in the manifest's order.
        database: A DuckDB connection that knows the table `losers`; None where there are none.
    """

    def __init__(self, contract: Contract, owners: Sequence[str], database: Any) -> None:
        self._contract = contract
        self._owners = owners
        self._ordinals = {owner: ordinal for ordinal, owner in enumerate(owners)}
        self._db = database

    @classmethod
    def kept(cls, contract: Contract, owners: Sequence[str], path: Path | None) -> Losers:
        """Those that `keep` wrote; none where there is no file."""
        if path is None:
            return cls(contract, owners, None)
        import duckdb

        db = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "256MB"})
        # A scan of the file passes over row groups of other objects by their bounds.
        db.read_parquet(str(path)).create_view("losers")
        return cls(contract, owners, db)

    def keep(self, path: Path) -> None:
        """Write them to a file, for those who look them up elsewhere."""
        rows = self._db.sql("SELECT * FROM losers ORDER BY ordinal, row_number")
        rows.write_parquet(str(path), compression="zstd")

    def among(self, rows: pa.Table) -> tuple[numpy.ndarray[Any, Any], list[str], list[Key]]:
        """Which rows of a block gave way.

        Args:
            rows: With the source object's id and the row number, in the batch's order.

        Returns:
            Whether each row did; and for those that did, a message and the key, in order.
        """
        import numpy
        import pyarrow as pa

        mask = numpy.zeros(rows.num_rows, dtype=bool)
        if self._db is None or not rows.num_rows:
            return mask, [], []
        owners = rows.column(SOURCE_OBJECT_ID).cast(pa.string()).to_numpy()
        numbers = rows.column(SOURCE_ROW).to_numpy()
        first, last = self._ordinals[owners[0]], self._ordinals[owners[-1]]
        lost = self._db.execute(
            "SELECT ordinal, row_number, key_index, kept_ordinal, kept_key, kept_row FROM losers"
            " WHERE (ordinal > ? OR (ordinal = ? AND row_number >= ?))"
            " AND (ordinal < ? OR (ordinal = ? AND row_number <= ?))"
            " AND ordinal BETWEEN ? AND ?",
            [first, first, int(numbers[0]), last, last, int(numbers[-1]), first, last],
        ).fetchall()
        if not lost:
            return mask, [], []
        told = {(self._owners[row[0]], row[1]): row[2:] for row in lost}
        messages, keys = [], []
        for place, (owner, number) in enumerate(zip(owners, numbers.tolist(), strict=True)):
            found = told.get((owner, number))
            if found is None:
                continue
            index, kept_ordinal, kept_key, kept_row = found
            mask[place] = True
            key = self._contract.unique_keys[index]
            messages.append(same_key(key, kept_key, kept_row, published=kept_ordinal is None))
            keys.append(key)
        return mask, messages, keys


def same_key(key: Key, kept_key: str, kept_row: int, *, published: bool) -> str:
    """What is said of a row that repeats a key."""
    already = ", which is already published" if published else ""
    return f"same {', '.join(key)} as row {kept_row} of {kept_key}{already}"
