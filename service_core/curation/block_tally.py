"""Counting a block: its rows at fault as tallies by source object, and samples for the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from service_core.canonical import SOURCE_LINE, SOURCE_OBJECT_ID, SOURCE_ROW
from service_core.contract.model import Contract
from service_core.curation.faults import Fault, Pairs
from service_core.curation.set_rules import measure, measures
from service_core.curation.tally import SAMPLES, Occurrence, Samples, Tally
from service_core.masking import mask
from service_core.reasons import ReasonCode

if TYPE_CHECKING:
    import numpy
    import polars as pl
    import pyarrow as pa

_SAMPLE_CHARACTERS = 200
_OWNER = "_owner"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A block's rows as they arrived.

    Attributes:
        contract: Whose rows.
        table: The block.
        raw: Its landed columns.
        typed: Every column typed, before any row was diverted.
        owners: Ids of the block's source objects.
        codes: Index into `owners`, by row.
    """

    contract: Contract
    table: pa.Table
    raw: pl.DataFrame
    typed: pl.DataFrame
    owners: list[str]
    codes: numpy.ndarray[Any, Any]

    @classmethod
    def of(
        cls, contract: Contract, table: pa.Table, raw: pl.DataFrame, typed: pl.DataFrame
    ) -> Arrivals:
        """Of a block of canonical text."""
        import pyarrow as pa

        ids = table.column(SOURCE_OBJECT_ID)
        if not pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_encode()
        whole = ids.unify_dictionaries().combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.chunk(0) if whole.num_chunks else pa.array([], ids.type)
        codes = whole.indices.to_numpy(zero_copy_only=False)
        return cls(contract, table, raw, typed, whole.dictionary.to_pylist(), codes)

    def occurrence(self, fault: Fault, count: int, row: int) -> Occurrence:
        """A fault that `count` rows have, first the row at index `row`."""
        return Occurrence(
            count=count,
            row=self._origin(SOURCE_ROW, row) or 0,
            line=self._origin(SOURCE_LINE, row),
            message=fault.message,
            sample=self._text(fault, row),
        )

    def sample(self, row: int) -> dict[str, Any]:
        """A row as a check shows it: as it arrived, personal columns masked."""
        shown: dict[str, Any] = {
            SOURCE_OBJECT_ID: self.owners[self.codes[row]],
            SOURCE_ROW: self._origin(SOURCE_ROW, row),
            SOURCE_LINE: self._origin(SOURCE_LINE, row),
        }
        for column in self.contract.landed_columns:
            text = self.raw[column.name][row]
            shown[column.name] = mask(text) if column.personal else shortened(text)
        return shown

    def _origin(self, name: str, row: int) -> int | None:
        value: int | None = self.table.column(name)[row].as_py()
        return value

    def _text(self, fault: Fault, row: int) -> str | None:
        """The offending text, or a derived column's value; None where it is personal."""
        if fault.column is None:
            return None
        on = fault.roots | {fault.column}
        if any(column.personal for column in self.contract.columns if column.name in on):
            return None
        if fault.column in self.raw.columns:
            return shortened(self.raw[fault.column][row])
        value = self.typed[fault.column][row]
        return None if value is None else shortened(str(value))


def arrived_samples(contract: Contract, rows: pa.Table) -> tuple[dict[str, Any], ...]:
    """Rows of canonical text as a check shows them."""
    import polars as pl

    names = [column.name for column in contract.landed_columns]
    raw = pl.from_arrow(rows.select(names))
    assert isinstance(raw, pl.DataFrame)
    arrivals = Arrivals.of(contract, rows, raw, raw)
    return tuple(arrivals.sample(row) for row in range(rows.num_rows))


def shortened(text: str | None) -> str | None:
    """Text as a sample shows it: 200 characters at most."""
    if text is None or len(text) <= _SAMPLE_CHARACTERS:
        return text
    return text[: _SAMPLE_CHARACTERS - 1] + "…"


def tallied(
    arrivals: Arrivals, pairs: Pairs, drifted: Sequence[tuple[Fault, pl.Series]]
) -> tuple[Mapping[str, Tally], Samples]:
    """Tallies by source object, and the first rows that broke each rule.

    Args:
        arrivals: The block.
        pairs: Its rows at fault.
        drifted: Rows whose text was no spelling of a column's type, by fault.
    """
    import numpy

    owners, codes = arrivals.owners, arrivals.codes
    gone = pairs.diverted_rows().to_numpy()
    rows = numpy.bincount(codes, minlength=len(owners))
    left = rows - numpy.bincount(codes[gone], minlength=len(owners))
    figures = _figures(arrivals, gone)
    tallies = {
        owner: Tally(rows=int(rows[code]), accepted=int(left[code]), figures=figures.get(owner, {}))
        for code, owner in enumerate(owners)
        if rows[code]
    }
    if pairs.frame.is_empty() and not drifted:
        return tallies, {}
    reasons, broken = _reasons(arrivals, pairs), _broken(arrivals, pairs)
    drifts = _drifts(arrivals, drifted)
    for owner in {*reasons, *broken, *drifts}:
        tallies[owner] = replace(
            tallies[owner],
            reasons=reasons.get(owner, {}),
            broken=broken.get(owner, {}),
            drifted=drifts.get(owner, {}),
        )
    return tallies, _samples(arrivals, pairs)


def _figures(arrivals: Arrivals, gone: numpy.ndarray[Any, Any]) -> Mapping[str, Any]:
    import numpy
    import polars as pl

    if not measures(arrivals.contract):
        return {}
    frame = arrivals.typed.with_columns(pl.Series(_OWNER, arrivals.codes))
    if len(gone):
        keep = numpy.ones(frame.height, dtype=bool)
        keep[gone] = False
        frame = frame.filter(pl.Series(keep))
    measured = measure(arrivals.contract, frame, _OWNER)
    return {arrivals.owners[code]: figures for code, figures in measured.items()}


def _owned(arrivals: Arrivals, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return frame.with_columns(pl.Series("owner", arrivals.codes[frame["row"].to_numpy()]))


def _reasons(
    arrivals: Arrivals, pairs: Pairs
) -> dict[str, dict[tuple[ReasonCode, str | None], Occurrence]]:
    """By source object: what each code and column took, a row counted once for each."""
    import polars as pl

    every = pairs.faults.every
    keys = list(dict.fromkeys((fault.code, fault.column) for fault in every))
    key_of = pl.Series("key", [keys.index((f.code, f.column)) for f in every], dtype=pl.UInt32())
    diverting = pairs.diverting()
    counted = (
        _owned(arrivals, diverting.with_columns(key_of.gather(diverting["fault"])))
        .group_by("owner", "key", maintain_order=True)
        .agg(rows=pl.col("row").n_unique(), first="row", fault="fault")
        .with_columns(pl.col("first", "fault").list.first())
    )
    reasons: dict[str, dict[tuple[ReasonCode, str | None], Occurrence]] = {}
    for owner, key, rows, first, fault in counted.iter_rows():
        reasons.setdefault(arrivals.owners[owner], {})[keys[key]] = arrivals.occurrence(
            every[fault], rows, first
        )
    return reasons


def _broken(arrivals: Arrivals, pairs: Pairs) -> dict[str, dict[str, int]]:
    import polars as pl

    counted = (
        _owned(arrivals, pairs.frame)
        .group_by("owner", "fault", maintain_order=True)
        .agg(rows=pl.len())
    )
    broken: dict[str, dict[str, int]] = {}
    for owner, fault, rows in counted.iter_rows():
        check = pairs.faults.every[fault].check
        if check is not None:
            broken.setdefault(arrivals.owners[owner], {})[check] = rows
    return broken


def _drifts(
    arrivals: Arrivals, drifted: Sequence[tuple[Fault, pl.Series]]
) -> dict[str, dict[str, Occurrence]]:
    import polars as pl

    drifts: dict[str, dict[str, Occurrence]] = {}
    for fault, rows in drifted:
        counted = (
            _owned(arrivals, rows.cast(pl.UInt32).to_frame("row"))
            .group_by("owner", maintain_order=True)
            .agg(rows=pl.len(), first=pl.col("row").min())
        )
        for owner, count, first in counted.iter_rows():
            assert fault.column is not None
            drifts.setdefault(arrivals.owners[owner], {})[fault.column] = arrivals.occurrence(
                fault, count, first
            )
    return drifts


def _samples(arrivals: Arrivals, pairs: Pairs) -> dict[str, tuple[dict[str, Any], ...]]:
    import polars as pl

    firsts = pairs.frame.group_by("fault", maintain_order=True).agg(pl.col("row").head(SAMPLES))
    samples: dict[str, tuple[dict[str, Any], ...]] = {}
    for fault, rows in firsts.iter_rows():
        check = pairs.faults.every[fault].check
        if check is not None:
            samples[check] = tuple(arrivals.sample(row) for row in rows)
    return samples
