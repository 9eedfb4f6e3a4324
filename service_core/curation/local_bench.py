"""The workbench of this process: rows are streamed through scratch, in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from service_core.curation.kernel import CuratedBlock
from service_core.curation.key_watch import Key, KeyWatch, Suspects
from service_core.curation.passes import GaveWay, judge_rows, left, measure_left, without
from service_core.curation.set_rules import Figure
from service_core.curation.settlement import Settlement
from service_core.curation.shipment import LocalFiles
from service_core.curation.staging import Origins, Part, PartWriter, blocks, malformed_rows
from service_core.curation.uniqueness import Duplicates
from service_core.curation.workbench import Batch, Divided, RowsJudged
from service_core.ports import Catalog, ObjectStore
from service_core.run import Run
from service_core.validation.record import ValidationRecord

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True)
class LocalBench:
    """Implements `workbench.Workbench`.

    Attributes:
        batch: Whose rows.
        store: Where its canonical text lies.
        catalog: Knows the published keys; None where nothing is published.
        run: On whose behalf.
        folder: Scratch.
    """

    batch: Batch
    store: ObjectStore
    catalog: Catalog | None
    run: Run
    folder: Path
    _canonical: list[Path] = field(default_factory=list)
    _staged: tuple[Part, ...] = ()
    _origins: Origins = field(init=False)
    _watch: KeyWatch = field(init=False)
    _diverted: PartWriter = field(init=False)

    def __post_init__(self) -> None:
        self._origins = Origins.of(self.batch.contract, self.batch.manifest)
        self._watch = KeyWatch(self.batch.contract)
        self._diverted = self._quarantine_writer("diverted")

    def judge(self) -> RowsJudged:
        """See `Workbench`."""
        self._canonical = download_parts(self.batch.record, self.store, self.folder)
        writer = self._accepted_writer("accepted")

        def keep(curated: CuratedBlock) -> None:
            self._watch.add(curated.accepted)
            writer.add(self._origins.accepted(curated.accepted))
            self._diverted.add(self._origins.quarantined(curated.diverted))

        text = blocks(self._canonical, encoded=True)
        judged = judge_rows(self.batch.contract, text, keep)
        self._staged = writer.finish()
        return judged

    def suspects(self, key: Key, replaced: Sequence[str]) -> Suspects:
        """See `Workbench`."""
        published: Iterator[pa.RecordBatch] | None = None
        if self.catalog is not None and self._staged:
            published = self.catalog.published_keys(
                self.batch.contract,
                self.batch.manifest.partition,
                key,
                except_source_keys=replaced,
                except_source_objects=self.batch.owners,
            )
        return self._watch.suspects(key, self._paths, published)

    def distinct(
        self, columns: Key, duplicates: Duplicates, *, by_object: bool
    ) -> Mapping[str | None, tuple[int, int]]:
        """See `Workbench`."""
        return duplicates.distinct(columns, self._paths, by_object=by_object)

    def measure(
        self, owners: Collection[str], duplicates: Duplicates
    ) -> Mapping[str, Mapping[str, Figure]]:
        """See `Workbench`."""
        rows = blocks(self._paths)
        return measure_left(self.batch.contract, rows, owners, duplicates.losers)

    def divide(self, settlement: Settlement, duplicates: Duplicates) -> Divided:
        """See `Workbench`."""
        staged = self._restaged(settlement, duplicates)
        gone = settlement.gone.keys()
        diverted = self._diverted
        if diverted.owners & gone:
            parts = diverted.finish()
            diverted = self._quarantine_writer("quarantined")
            for block in blocks([part.path for part in parts]):
                diverted.add(without(block, gone))
        gave_way = GaveWay(self.batch.contract)
        text = blocks(self._canonical) if settlement.repeated else ()
        for rows in gave_way.diverted(text, duplicates.losers):
            diverted.add(self._origins.quarantined(rows))
        add_malformed(self.batch.record, self.store, self.folder, self._origins, diverted, gone)
        files = LocalFiles(self.batch.manifest, self.store, self.run, staged, diverted.finish())
        return Divided(files, gave_way.samples, gave_way.findings(settlement.repeated))

    def _restaged(self, settlement: Settlement, duplicates: Duplicates) -> tuple[Part, ...]:
        """The staged files without rows that go; a file that holds none is kept as it is."""
        gone = settlement.gone.keys()
        touched = gone | {one.owner for one in settlement.repeated}
        kept: list[Part] = []
        for number, part in enumerate(self._staged):
            if not part.owners & touched:
                kept.append(part)
                continue
            writer = self._accepted_writer(f"restaged-{number}")
            for block in blocks([part.path]):
                writer.add(left(block, gone, duplicates.losers))
            kept += writer.finish()
            part.path.unlink()
        return tuple(kept)

    @property
    def _paths(self) -> list[Path]:
        return [part.path for part in self._staged]

    def _accepted_writer(self, stem: str) -> PartWriter:
        return self._origins.accepted_writer(
            lambda number: self.folder / f"{stem}-{number:05d}.parquet"
        )

    def _quarantine_writer(self, stem: str) -> PartWriter:
        return self._origins.quarantine_writer(
            lambda number: self.folder / f"{stem}-{number:05d}.parquet"
        )


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
    gone: Collection[str],
) -> None:
    """Add rows without shape to row quarantine, unless their file goes whole."""
    if record.malformed is None:
        return
    path = folder / "malformed.parquet"
    store.download(record.malformed.uri, path)
    whole = {*gone, *(f.source_object.id for f in record.files if not f.accepted)}
    for rows in malformed_rows(path):
        writer.add(origins.quarantined(without(rows, whole)))
