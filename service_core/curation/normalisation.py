"""Normalisation: what is done to a column's text before its type is tested.

In this order: trim, case, null spellings. Nothing is done that the contract does not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from service_core.contract.model import Case, Column, Contract, Normalisation
from service_core.curation.distinct import Columns

if TYPE_CHECKING:
    import polars as pl

#: What `trim` takes off: ASCII white space.
WHITE_SPACE = " \t\n\r\x0b\x0c"


def text_rows(contract: Contract, raw: Columns) -> Columns:
    """Every landed column's text after trim, case and null spellings."""
    columns = {column.name: column for column in contract.landed_columns}
    nulls = contract.format.dialect.null_values
    return raw.each(columns, lambda frame: _text(frame, columns, nulls))


def _text(
    frame: pl.DataFrame, columns: Mapping[str, Column], null_values: Sequence[str]
) -> pl.DataFrame:
    """A frame's text after trim, case and null spellings.

    Most columns of most blocks hold no spelling of null, and those are not written anew.
    """
    import polars as pl

    folded = frame.with_columns(
        _folded(frame[name], columns[name].normalisation) for name in frame.columns
    )
    spelled = {
        name: pl.any_horizontal(pl.col(name) == text for text in spellings)
        for name in frame.columns
        if (spellings := _null_spellings(columns[name], null_values))
    }
    if not spelled:
        return folded
    found = folded.select(is_null.any().alias(name) for name, is_null in spelled.items())
    return folded.with_columns(
        pl.when(spelled[name].not_()).then(pl.col(name)).alias(name)
        for name, holds_some in found.row(0, named=True).items()
        if holds_some
    )


def _folded(text: pl.Series, folding: Normalisation) -> pl.Series:
    """Text after trim and case.

    Only the rows that need it are folded: most need nothing, and looking for those that do is
    cheaper than changing the case of all.
    """
    telltales = []
    if folding.trim:
        telltales.append(rf"\A[{WHITE_SPACE}]|[{WHITE_SPACE}]\z")
    if folding.case is not None:
        ascii_letters = "a-z" if folding.case is Case.UPPER else "A-Z"
        telltales.append(rf"[{ascii_letters}]|[^\x00-\x7F]")
    if not telltales:
        return text
    rows = text.str.contains("|".join(telltales)).fill_null(False).arg_true()
    if rows.is_empty():
        return text
    changed = text.gather(rows)
    if folding.trim:
        changed = changed.str.strip_chars(WHITE_SPACE)
    if folding.case is Case.UPPER:
        changed = changed.str.to_uppercase()
    if folding.case is Case.LOWER:
        changed = changed.str.to_lowercase()
    return text.clone().scatter(rows, changed)


def _null_spellings(column: Column, null_values: Sequence[str]) -> list[str]:
    """What means null in a column, as it is written and folded as the column's text is, so that
    `NULL` still means null in lower case."""
    import polars as pl

    written = pl.Series([*null_values, *column.normalisation.null_if], dtype=pl.String())
    folded = _folded(written, column.normalisation)
    return list(dict.fromkeys([*written.to_list(), *folded.to_list()]))
