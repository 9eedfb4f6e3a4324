"""Curation of a batch, in process: canonical text in; staged rows, quarantine and a verdict out.

A batch that has a verdict is not judged again: what it published must not lose its verdict, and
what it quarantined stays quarantined in that batch, because ledger and quarantine say so already.
The way back is a mended file or contract, which make another batch. Only publication asks for a
second judgement, where the table has changed in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from service_core.canonical import REASON_TYPE, REASONS, SOURCE_LINE, SOURCE_OBJECT_ID
from service_core.contract.checks import unique_check_name
from service_core.contract.model import Contract, PublicationMode
from service_core.curation.block_tally import arrived_samples, shortened
from service_core.curation.conclusion import (
    Judged,
    conclude,
    record_in_ledger,
    standing_verdict,
    still_holds,
)
from service_core.curation.kernel import CuratedBlock, compile_kernel, curate_block
from service_core.curation.key_watch import Key, KeyWatch
from service_core.curation.settlement import PublishedBeside, Settlement, Settling
from service_core.curation.staging import (
    Origins,
    Part,
    PartWriter,
    ahead,
    blocks,
    malformed_rows,
)
from service_core.curation.tally import SAMPLES, Samples, Tally, merge_samples, merge_tallies
from service_core.curation.uniqueness import Duplicates, Published
from service_core.manifest import Manifest
from service_core.ports import Catalog, Ledger, ObjectStore
from service_core.reasons import ReasonCode, Scope
from service_core.run import Run
from service_core.validation.record import Finding, ValidationRecord
from service_core.verdict import FileStatus, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

_NO_WAY_BACK = Finding(
    code=ReasonCode.TOO_MANY_DIVERTED,
    scope=Scope.FILE,
    message="no row of it was accepted when the batch was first judged",
)


def curate_batch(
    contract: Contract,
    manifest: Manifest,
    record: ValidationRecord,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
    *,
    engine: str = "in_process",
    force: bool = False,
) -> Verdict:
    """Judge a batch, stage what is accepted, quarantine the rest, and write the verdict.

    May be called as often as wanted; a batch that has been judged gets the verdict it has.

    Args:
        record: What validation found.
        engine: Named in the verdict.
        force: Judge again even so, against what is published now. Files that the verdict
            quarantined stay so.
    """
    earlier = standing_verdict(contract, manifest, store)
    if earlier is not None and not force and still_holds(earlier, record, store):
        record_in_ledger(earlier, record, store, ledger, run)
        return earlier
    with TemporaryDirectory(prefix="curated-", dir=run.scratch) as folder:
        bench = _Bench(contract, manifest, record, store, Path(folder))
        bench.judge_rows()
        judged = bench.settle(catalog, run, _taken_before(earlier, record))
        return conclude(contract, manifest, record, judged, store, ledger, run, engine=engine)


def download_parts(record: ValidationRecord, store: ObjectStore, folder: Path) -> list[Path]:
    """The batch's canonical text, in scratch, in order."""
    paths = []
    for number, part in enumerate(record.parts):
        path = folder / f"canonical-{number:05d}.parquet"
        store.download(part.uri, path)
        paths.append(path)
    return paths


def add_malformed(
    record: ValidationRecord,
    store: ObjectStore,
    folder: Path,
    origins: Origins,
    writer: PartWriter,
    gone: Mapping[str, Finding],
) -> None:
    """Add rows without shape to row quarantine, unless their file goes whole."""
    if record.malformed is None:
        return
    path = folder / "malformed.parquet"
    store.download(record.malformed.uri, path)
    whole = {*gone, *(f.source_object.id for f in record.files if not f.accepted)}
    for rows in malformed_rows(path):
        writer.add(origins.quarantined(without(rows, whole)))


def _taken_before(earlier: Verdict | None, record: ValidationRecord) -> dict[str, Finding | None]:
    """Files that an earlier verdict quarantined though validation accepts them, with the finding
    that took them whole; None where all their rows were diverted one by one."""
    accepted = {f.source_object.id for f in record.files if f.accepted}
    return {
        file.source_object.id: next((f for f in file.findings if f.scope is Scope.FILE), None)
        for file in (earlier.files if earlier is not None else ())
        if file.status is FileStatus.QUARANTINED and file.source_object.id in accepted
    }


def without(rows: pa.Table, owners: set[str]) -> pa.Table:
    """Rows of other source objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not owners:
        return rows
    ids = rows.column(SOURCE_OBJECT_ID).cast(pa.string())
    return rows.filter(pc.invert(pc.is_in(ids, value_set=pa.array(sorted(owners)))))


@dataclass(slots=True)
class _Bench:
    """A batch in hand, in scratch."""

    contract: Contract
    manifest: Manifest
    record: ValidationRecord
    store: ObjectStore
    folder: Path
    canonical: list[Path] = field(default_factory=list)
    staged: tuple[Part, ...] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)

    _origins: Origins = field(init=False)
    _watch: KeyWatch = field(init=False)
    _diverted: PartWriter = field(init=False)

    def __post_init__(self) -> None:
        self._origins = Origins.of(self.contract, self.manifest)
        self._watch = KeyWatch(self.contract)
        self._diverted = self._quarantine_writer("diverted")

    def judge_rows(self) -> None:
        """Stream the batch through the kernel."""
        self.canonical = download_parts(self.record, self.store, self.folder)
        writer = self._accepted_writer("accepted")
        kernel = compile_kernel(self.contract)
        # One block is read and another written while one is judged: three in memory at most.
        with ThreadPoolExecutor(1) as pen:
            writing: Future[None] | None = None
            for block in ahead(blocks(self.canonical)):
                curated = curate_block(kernel, block)
                self.tallies = merge_tallies(self.tallies, curated.tallies)
                self.samples = merge_samples(self.samples, curated.samples)
                if writing is not None:
                    writing.result()
                writing = pen.submit(self._keep, curated, writer)
            if writing is not None:
                writing.result()
        self.staged = writer.finish()

    def _keep(self, curated: CuratedBlock, writer: PartWriter) -> None:
        self._watch.add(curated.accepted)
        writer.add(self._origins.accepted(curated.accepted))
        self._diverted.add(self._origins.quarantined(curated.diverted))

    def settle(self, catalog: Catalog, run: Run, taken: Mapping[str, Finding | None]) -> Judged:
        """Decide about files and keys, and bring the staged rows to what was decided.

        Args:
            taken: Files that an earlier verdict took, which do not come back in this batch.
        """
        contract = self.contract
        snapshot = catalog.current_snapshot(contract) if contract.unique_keys else None
        duplicates = Duplicates(
            contract,
            [(o.id, o.key) for o in self.manifest.objects],
            [part.path for part in self.staged],
            self.folder,
        )
        try:
            beside = None if snapshot is None else self._published(catalog)
            gone = {owner: finding for owner, finding in taken.items() if finding is not None}
            settlement = self._settled(duplicates, beside, run, gone)
            back = {owner for owner in taken if settlement.rows.get(owner)}
            if back:
                gone |= dict.fromkeys(back, _NO_WAY_BACK)
                settlement = self._settled(duplicates, beside, run, gone)
            staged = self._restaged(settlement, duplicates)
            quarantined, findings = self._quarantined(settlement, duplicates)
        finally:
            duplicates.close()
        return Judged(
            self.tallies, settlement, self.samples, findings, staged, quarantined, snapshot
        )

    def _settled(
        self,
        duplicates: Duplicates,
        beside: PublishedBeside | None,
        run: Run,
        gone: Mapping[str, Finding],
    ) -> Settlement:
        return Settling(
            self.contract,
            [f for f in self.record.files if f.accepted],
            self.tallies,
            [part.path for part in self.staged],
            self._watch,
            duplicates,
            beside,
            run.clock(),
            dict(gone),
        ).settle()

    def _published(self, catalog: Catalog) -> PublishedBeside:
        """Published keys, without the rows that publishing the batch would replace."""
        replaces = self.contract.publication is PublicationMode.REPLACE
        own = [o.id for o in self.manifest.objects]

        def beside(replacing: Sequence[str]) -> Published:
            def published(key: Key) -> Iterator[pa.RecordBatch]:
                return catalog.published_keys(
                    self.contract,
                    self.manifest.partition,
                    key,
                    except_source_keys=replacing if replaces else (),
                    except_source_objects=own,
                )

            return published

        return beside

    def _restaged(self, settlement: Settlement, duplicates: Duplicates) -> tuple[Part, ...]:
        """The staged files without rows that go; a file that holds none is kept as it is."""
        import pyarrow as pa

        gone = set(settlement.gone)
        touched = gone | {one.owner for one in settlement.repeated}
        kept: list[Part] = []
        for number, part in enumerate(self.staged):
            if not part.owners & touched:
                kept.append(part)
                continue
            writer = self._accepted_writer(f"restaged-{number}")
            for block in blocks([part.path]):
                rows = without(block, gone)
                lost, _, _ = duplicates.among(rows)
                writer.add(rows.filter(pa.array(~lost)) if lost.any() else rows)
            kept += writer.finish()
            part.path.unlink()
        return tuple(kept)

    def _quarantined(
        self, settlement: Settlement, duplicates: Duplicates
    ) -> tuple[tuple[Part, ...], dict[str, list[Finding]]]:
        """Row quarantine of the files that stay, and what is said of rows that gave way."""
        gone = set(settlement.gone)
        diverted = self._diverted
        if diverted.owners & gone:
            parts = diverted.finish()
            diverted = self._quarantine_writer("quarantined")
            for block in blocks([part.path for part in parts]):
                diverted.add(without(block, gone))
        findings = self._divert_duplicates(settlement, duplicates, diverted)
        add_malformed(
            self.record, self.store, self.folder, self._origins, diverted, settlement.gone
        )
        return diverted.finish(), findings

    def _divert_duplicates(
        self, settlement: Settlement, duplicates: Duplicates, writer: PartWriter
    ) -> dict[str, list[Finding]]:
        """Add the rows that gave way to row quarantine, as they arrived."""
        import pyarrow as pa

        firsts: dict[tuple[str, Key], tuple[int | None, str | None]] = {}
        for block in blocks(self.canonical) if settlement.repeated else ():
            lost, messages, keys = duplicates.among(block)
            if not messages:
                continue
            rows = block.filter(pa.array(lost))
            reasons = pa.array(
                [
                    [{"code": ReasonCode.DUPLICATE_KEY, "column": key[0], "message": message}]
                    for key, message in zip(keys, messages, strict=True)
                ],
                pa.list_(REASON_TYPE),
            )
            writer.add(self._origins.quarantined(rows.append_column(REASONS, reasons)))
            self._sample(rows, keys)
            for place, key in enumerate(keys):
                owner = rows.column(SOURCE_OBJECT_ID)[place].as_py()
                if (owner, key) not in firsts:
                    line = rows.column(SOURCE_LINE)[place].as_py()
                    firsts[owner, key] = (line, self._key_sample(rows, place, key))
        findings: dict[str, list[Finding]] = {}
        for one in settlement.repeated:
            line, sample = firsts.get((one.owner, one.key), (None, None))
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

    def _sample(self, rows: pa.Table, keys: Sequence[Key]) -> None:
        for key in self.contract.unique_keys:
            name = unique_check_name(key)
            wanted = SAMPLES - len(self.samples.get(name, ()))
            places = [place for place, other in enumerate(keys) if other == key][:wanted]
            if places:
                shown = arrived_samples(self.contract, rows.take(places))
                self.samples = merge_samples(self.samples, {name: shown})

    def _key_sample(self, rows: pa.Table, place: int, key: Key) -> str | None:
        """The text of a key; None where any of it is personal or derived."""
        columns = [self.contract.column(name) for name in key]
        if any(column.personal or column.derived is not None for column in columns):
            return None
        return shortened(", ".join(str(rows.column(name)[place].as_py()) for name in key))

    def _accepted_writer(self, stem: str) -> PartWriter:
        return self._origins.accepted_writer(
            lambda number: self.folder / f"{stem}-{number:05d}.parquet"
        )

    def _quarantine_writer(self, stem: str) -> PartWriter:
        return self._origins.quarantine_writer(
            lambda number: self.folder / f"{stem}-{number:05d}.parquet"
        )
