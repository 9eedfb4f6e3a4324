"""Passes over rows, block by block: what every workbench does with them, wherever they are.

The first puts them through the kernel; the others go over them once more, after what was decided.
Blocks come in the order of the batch, and nothing depends on where they were cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service_core.canonical import REASON_TYPE, REASONS, SOURCE_LINE, SOURCE_OBJECT_ID
from service_core.contract.checks import unique_check_name
from service_core.contract.model import Contract
from service_core.curation.block_tally import arrived_samples, shortened
from service_core.curation.kernel import CuratedBlock, compile_kernel, curate_block
from service_core.curation.key_watch import Key
from service_core.curation.losers import Losers
from service_core.curation.set_rules import Figure, measure, merge_figures
from service_core.curation.staging import ahead
from service_core.curation.tally import SAMPLES, Samples, Tally, merge_samples, merge_tallies
from service_core.curation.uniqueness import Repeated
from service_core.curation.workbench import RowsJudged
from service_core.reasons import ReasonCode, Scope
from service_core.validation.record import Finding

if TYPE_CHECKING:
    import pyarrow as pa


def judge_rows(
    contract: Contract, blocks: Iterator[pa.Table], keep: Callable[[CuratedBlock], None]
) -> RowsJudged:
    """Put blocks of canonical text through the kernel.

    Args:
        keep: Takes what became of each, in order, on a thread of its own.
    """
    kernel = compile_kernel(contract)
    tallies: Mapping[str, Tally] = {}
    samples: Samples = {}
    # One block is read and another written while one is judged: three in memory at most.
    with ThreadPoolExecutor(1) as pen:
        writing: Future[None] | None = None
        for block in ahead(blocks):
            curated = curate_block(kernel, block)
            tallies = merge_tallies(tallies, curated.tallies)
            samples = merge_samples(samples, curated.samples)
            if writing is not None:
                writing.result()
            writing = pen.submit(keep, curated)
        if writing is not None:
            writing.result()
    return RowsJudged(tallies, samples)


def without(rows: pa.Table, owners: Collection[str]) -> pa.Table:
    """Rows of other source objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not owners:
        return rows
    ids = rows.column(SOURCE_OBJECT_ID).cast(pa.string())
    return rows.filter(pc.invert(pc.is_in(ids, value_set=pa.array(sorted(owners)))))


def left(rows: pa.Table, gone: Collection[str], losers: Losers) -> pa.Table:
    """Accepted rows that stay: of no object that goes whole, and not giving way."""
    import pyarrow as pa

    kept = without(rows, gone)
    lost, _, _ = losers.among(kept)
    return kept.filter(pa.array(~lost)) if lost.any() else kept


def measure_left(
    contract: Contract, blocks: Iterable[pa.Table], owners: Collection[str], losers: Losers
) -> Mapping[str, Mapping[str, Figure]]:
    """Partial figures of what is left of some objects' accepted rows, by source object."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    figures: dict[str, Mapping[str, Figure]] = {}
    wanted = pa.array(sorted(owners))
    for block in blocks:
        ids = block.column(SOURCE_OBJECT_ID).cast(pa.string())
        rows = block.filter(pc.is_in(ids, value_set=wanted))
        if not rows.num_rows:
            continue
        frame = pl.from_arrow(left(rows, (), losers))
        assert isinstance(frame, pl.DataFrame)
        for owner, again in measure(contract, frame, SOURCE_OBJECT_ID).items():
            figures[owner] = merge_figures(figures.get(owner, {}), again)
    return figures


#: By source object and key, the first row that gave way: its line, and the key's text.
Firsts = Mapping[tuple[str, Key], tuple[int | None, str | None]]


@dataclass(slots=True)
class GaveWay:
    """Rows that gave way, as they arrived, in the order of the batch.

    Attributes:
        contract: Whose keys.
        samples: The first of them by check name.
        firsts: See `Firsts`.
    """

    contract: Contract
    samples: Samples = field(default_factory=dict)
    firsts: Firsts = field(default_factory=dict)

    def diverted(self, blocks: Iterable[pa.Table], losers: Losers) -> Iterator[pa.Table]:
        """Those among blocks of canonical text, with their reasons."""
        import pyarrow as pa

        for block in blocks:
            lost, messages, keys = losers.among(block)
            if not messages:
                continue
            rows = block.filter(pa.array(lost))
            self._note(rows, keys)
            reasons = pa.array(
                [
                    [{"code": ReasonCode.DUPLICATE_KEY, "column": key[0], "message": message}]
                    for key, message in zip(keys, messages, strict=True)
                ],
                pa.list_(REASON_TYPE),
            )
            yield rows.append_column(REASONS, reasons)

    def add(self, samples: Samples, firsts: Firsts) -> None:
        """Take in what was noted of rows that follow."""
        self.samples = merge_samples(self.samples, samples)
        self.firsts = {**firsts, **self.firsts}

    def findings(self, repeated: Iterable[Repeated]) -> dict[str, list[Finding]]:
        """What is said of the objects whose rows gave way."""
        findings: dict[str, list[Finding]] = {}
        for one in repeated:
            line, sample = self.firsts.get((one.owner, one.key), (None, None))
            findings.setdefault(one.owner, []).append(
                Finding(
                    code=ReasonCode.DUPLICATE_KEY,
                    scope=Scope.ROW,
                    message=one.message,
                    line=line,
                    column=one.key[0],
                    sample=sample,
                    count=one.count,
                )
            )
        return findings

    def _note(self, rows: pa.Table, keys: Sequence[Key]) -> None:
        samples: Samples = {}
        for key in dict.fromkeys(keys):
            name = unique_check_name(key)
            wanted = SAMPLES - len(self.samples.get(name, ()))
            places = [place for place, other in enumerate(keys) if other == key][:wanted]
            if places:
                samples = {**samples, name: arrived_samples(self.contract, rows.take(places))}
        firsts: dict[tuple[str, Key], tuple[int | None, str | None]] = {}
        owners = rows.column(SOURCE_OBJECT_ID).to_pylist()
        for place, (owner, key) in enumerate(zip(owners, keys, strict=True)):
            if (owner, key) not in self.firsts and (owner, key) not in firsts:
                line = rows.column(SOURCE_LINE)[place].as_py()
                firsts[owner, key] = (line, self._text(rows, place, key))
        self.add(samples, firsts)

    def _text(self, rows: pa.Table, place: int, key: Key) -> str | None:
        """The text of a key; None where any of it is personal or derived."""
        columns = [self.contract.column(name) for name in key]
        if any(column.personal or column.derived is not None for column in columns):
            return None
        return shortened(", ".join(str(rows.column(name)[place].as_py()) for name in key))
