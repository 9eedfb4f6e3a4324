"""Dictionaries: which columns of a table are worth one when it is written as Parquet.

Left to itself, a Parquet writer tries a dictionary on every column and gives it up at a megabyte.
On columns of unlike values that is paid for nothing, and the file is larger for it; of a column
whose values repeat, a reader gets the distinct ones for nothing and need not look at every row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLED_ROWS = 10_000
#: Share of distinct values in the sample below which a column repeats, and above which it is taken
#: not to. What lies between is counted whole: of 40,000 timestamps among 250,000 rows, nine in ten
#: of any 10,000 are distinct, and a dictionary pays.
_SURELY, _HARDLY = 0.2, 0.95
#: Share of distinct values among all rows up to which a dictionary pays. Of text, one of a fifth
#: halves what reading and typing take. Of numbers, it is dearer to write than the numbers are (2M
#: decimals, a fifth distinct: 0.14 s of CPU against 0.08 s).
_PAYING_FOR_TEXT, _PAYING_FOR_NUMBERS = 0.4, 0.05


def worth_a_dictionary(rows: pa.Table) -> list[str]:
    """The columns of a table whose values repeat, by name.

    Args:
        rows: As many as will stand in one row group, or the first of them.
    """
    return [name for name in rows.column_names if _repeats(rows.column(name))]


def _repeats(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return True
    if pa.types.is_nested(column.type):
        return False
    share = _distinct_share(column.slice(0, _SAMPLED_ROWS))
    if _SURELY < share <= _HARDLY:
        text = pa.types.is_string(column.type)
        return _distinct_share(column) <= (_PAYING_FOR_TEXT if text else _PAYING_FOR_NUMBERS)
    return share <= _SURELY


def _distinct_share(column: pa.ChunkedArray) -> float:
    """Of the values that are not null: a column of few and unlike values does not repeat."""
    values = len(column) - column.null_count
    return (len(column.unique()) - bool(column.null_count)) / values if values else 0.0
