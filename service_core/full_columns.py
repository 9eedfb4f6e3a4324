"""Full columns: those that have held no null so far are written as ones that hold none.

Parquet keeps no definition levels of such a column, so that nobody writes them, reads them or looks
at them. A file says so once for all its rows: where a null comes after all, another file begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def full_columns(rows: pa.Table) -> frozenset[str]:
    """The columns of a table in which there is no null, by name."""
    return frozenset(name for name in rows.column_names if _is_full(rows.column(name)))


def requiring(schema: pa.Schema, full: frozenset[str]) -> pa.Schema:
    """A schema by which the full columns hold no null, and all others may."""
    import pyarrow as pa

    return pa.schema([field.with_nullable(field.name not in full) for field in schema])


def _is_full(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    if column.null_count:
        return False
    # An index of a dictionary may be there, and what it points at be a null.
    return not pa.types.is_dictionary(column.type) or not any(
        chunk.dictionary.null_count for chunk in column.chunks
    )
