"""The bench: a test lands files on it, has them validated for real, and every engine judge them.

Each engine judges the batch as if it were the only one; whatever one leaves that another does not
is an error, unless `outcomes.KNOWN_DIFFERENCES` says why it must be so.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from resources.ledger import DynamoLedger
from service_core.contract.model import Contract, FileFormat
from service_core.layout import (
    Zone,
    batch_prefix,
    manifest_key,
    quarantined_file_prefix,
    quarantined_rows_key,
    validated_part_key,
    verdict_key,
)
from service_core.manifest import Manifest, Origin
from service_core.run import Run
from service_core.s3_store import S3ObjectStore
from service_core.source_object import SourceObject
from service_core.validation.batch import validate_batch
from service_core.validation.record import StagedFile, ValidationRecord
from service_core.validation.stored import write_record
from service_core.verdict import Verdict
from tests.engines.engines import ENGINES, engines_of
from tests.engines.outcomes import Outcome, Row, assert_complete, cell, differences
from tests.engines.plain_reading import assert_as_written

PARTITION = "2026-11-21"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SNAPSHOT = 7_000_000_001


@dataclass(frozen=True, slots=True)
class Published:
    """What a table's partition holds: files of earlier batches, as they were staged."""

    files: tuple[StagedFile, ...]
    snapshot: int = SNAPSHOT


@dataclass(frozen=True, slots=True)
class Batch:
    """A validated batch that waits to be judged.

    Attributes:
        published: What its partition holds.
        again: Whether it has been judged before, when the partition held what `judged_before`
            says, and is to be judged again.
    """

    contract: Contract
    manifest: Manifest
    record: ValidationRecord
    published: Published | None = None
    judged_before: Published | None = None
    again: bool = False

    @property
    def place(self) -> tuple[str, str, str]:
        return (self.manifest.dataset, self.manifest.partition, self.manifest.batch_id)


class Bench:
    """Where batches are landed and judged by every engine.

    Args:
        store, ledger, s3: The test's own.
        scratch: A folder of the test's own.
        spark: Gives the session that all tests share.
    """

    def __init__(
        self,
        store: S3ObjectStore,
        ledger: DynamoLedger,
        s3: Any,
        scratch: Path,
        spark: Callable[[], Any],
    ) -> None:
        self.store, self.ledger, self.s3, self.scratch, self.spark = (
            store, ledger, s3, scratch, spark,
        )  # fmt: skip
        self._numbers = itertools.count(1)

    def folder(self) -> Path:
        """A new folder in scratch."""
        folder = self.scratch / f"hand-{next(self._numbers)}"
        folder.mkdir(parents=True)
        return folder

    def land(
        self,
        contract: Contract,
        files: Mapping[str, bytes | Iterable[Any]],
        *,
        published: Published | None = None,
        part_rows: int | None = None,
        group_rows: int | None = None,
    ) -> Batch:
        """Land files and have them validated as one batch.

        Args:
            files: By name: bytes, or rows for a file of JSON lines, or of text where the contract's
                format is Parquet, whose cells are then taken exactly as they are.
            published: What the partition holds already.
            part_rows, group_rows: Cut the canonical text into files, and these into row groups,
                of so many rows, so that engines have several tasks to merge.
        """
        objects = [
            self._put(contract.landing.prefix, name, _body(contract, rows))
            for name, rows in files.items()
        ]
        manifest = Manifest(
            dataset=contract.dataset,
            partition=PARTITION,
            contract_version=contract.version,
            contract_hash=contract.hash,
            origin=Origin.PERSON,
            objects=tuple(objects),
            created_at=NOON,
        )
        run = self._run("validation")
        self.ledger.receive(manifest, run_id=run.id, at=NOON)
        record = validate_batch(contract, manifest, self.store, self.ledger, run)
        batch = Batch(contract, manifest, record, published)
        self.store.write(
            Zone.MANIFESTS, manifest_key(*batch.place), manifest.model_dump_json().encode()
        )
        if part_rows or group_rows:
            batch = self._cut(batch, part_rows, group_rows)
        return batch

    def agreed(self, batch: Batch, engines: Iterable[str] | None = None) -> Outcome:
        """What all engines, or some, make of a batch.

        Raises:
            AssertionError: they do not agree; it names every cell.
        """
        names = list(engines or engines_of(batch.contract))
        outcomes = {name: self.judged(batch, name) for name in names}
        first, *others = names
        for name in others:
            found = differences(outcomes[first], outcomes[name])
            assert not found, "\n".join([f"{first} | {name}", *found[:40]])
        return outcomes[first]

    def judged(self, batch: Batch, engine: str, *, keep: bool = False) -> Outcome:
        """What one engine makes of a batch; removed again unless it is to be kept."""
        if batch.again:
            before = replace(batch, again=False, published=batch.judged_before)
            ENGINES["in_process"](self, before, self._run("before"))
        ENGINES[engine](self, batch, self._run(engine))
        outcome = self._read(batch)
        assert_complete(outcome)
        if not keep:
            self._remove(batch)
        return outcome

    def as_written(self, batch: Batch, outcome: Outcome) -> None:
        """Compare an outcome with the plain reading of the batch's text.

        Raises:
            AssertionError: it is another; each row is named.
        """
        files = outcome.verdict.files
        assert_as_written(
            batch.contract,
            [row for part in batch.record.parts for row in self.table(part.uri).to_pylist()],
            outcome.accepted,
            outcome.quarantined,
            whole={f.source_object.id for f in files if any(x.scope == "file" for x in f.findings)},
            same=lambda one, other: cell(one) == cell(other),
        )

    def published(self, batch: Batch) -> Published:
        """Judge a batch in process and take what it stages for published."""
        outcome = self.judged(batch, "in_process", keep=True)
        assert outcome.verdict.passed
        before = batch.published.files if batch.published else ()
        return Published((*before, *outcome.verdict.staged))

    def table_file(self, rows: pa.Table) -> StagedFile:
        """A file as a table holds it."""
        path = self.folder() / "table.parquet"
        pq.write_table(rows, path)
        key = f"_tables/things/{next(self._numbers)}.parquet"
        uri = self.store.upload(path, Zone.CURATED, key)
        return StagedFile(uri=uri, rows=rows.num_rows, bytes=path.stat().st_size)

    def _put(self, prefix: str, name: str, body: bytes) -> SourceObject:
        key = f"{prefix}dt={PARTITION}/{name}"
        self.store.write(Zone.RAW, key, body)
        listed = next(o for o in self.store.list_versions(key).objects if o.is_latest)
        # The time of landing stands in the verdict; the rest is as it was listed.
        listed = replace(listed, last_modified=NOON)
        return listed.filed_under(self.store.bucket(Zone.RAW), PARTITION, valid=True)

    def _run(self, name: str) -> Run:
        return Run(id="run-1", attempt=f"{name}-1", clock=lambda: NOON, scratch=self.folder())

    def _cut(self, batch: Batch, part_rows: int | None, group_rows: int | None) -> Batch:
        tables = [self.table(part.uri) for part in batch.record.parts]
        whole = pa.concat_tables(tables) if tables else None
        parts = []
        rows = whole.num_rows if whole is not None else 0
        for number, start in enumerate(range(0, rows, part_rows or max(rows, 1))):
            assert whole is not None
            table = whole.slice(start, part_rows)
            path = self.folder() / "part.parquet"
            pq.write_table(table, path, row_group_size=group_rows)
            uri = self.store.upload(path, Zone.VALIDATED, validated_part_key(*batch.place, number))
            parts.append(StagedFile(uri=uri, rows=table.num_rows, bytes=path.stat().st_size))
        record = batch.record.model_copy(update={"parts": tuple(parts)})
        write_record(self.store, record)
        return replace(batch, record=record)

    def table(self, uri: str) -> pa.Table:
        """The rows of a Parquet file in any zone."""
        path = self.folder() / "file.parquet"
        self.store.download(uri, path)
        return pq.read_table(path)

    def _read(self, batch: Batch) -> Outcome:
        verdict = Verdict.model_validate_json(
            self.store.read(Zone.DQ_RESULTS, verdict_key(*batch.place))
        )
        accepted = [self.table(file.uri) for file in verdict.staged]
        quarantined = [self.table(file.uri) for file in verdict.quarantined_rows]
        for tables, files in (
            (accepted, verdict.staged),
            (quarantined, verdict.quarantined_rows),
        ):
            assert [t.num_rows for t in tables] == [f.rows for f in files]
            assert all(f.rows for f in files), "a file without a row was left"
            assert len({f.uri for f in files}) == len(files)
        whole: dict[str, tuple[Row, bytes]] = {}
        for source in batch.manifest.objects:
            prefix = quarantined_file_prefix(*batch.place[:2], source.id)
            if list(self.store.keys(Zone.QUARANTINE, prefix)):
                record = json.loads(self.store.read(Zone.QUARANTINE, prefix + "record.json"))
                whole[source.key] = (record, self.store.read(Zone.QUARANTINE, prefix + "content"))
        return Outcome(
            verdict,
            _rows(accepted),
            _rows(quarantined),
            _shape(accepted),
            _shape(quarantined),
            whole,
        )

    def _remove(self, batch: Batch) -> None:
        """Take away all that a judgement left, so that the next engine starts from nothing."""
        rows = quarantined_rows_key(*batch.place, "x", 0)
        prefixes = [
            (Zone.DQ_RESULTS, verdict_key(*batch.place)),
            (Zone.CURATED, batch_prefix(*batch.place)),
            (Zone.QUARANTINE, rows[: rows.rindex("x/")]),
        ]
        refused = {f.source_object.id for f in batch.record.files if not f.accepted}
        prefixes += [
            (Zone.QUARANTINE, quarantined_file_prefix(*batch.place[:2], source.id))
            for source in batch.manifest.objects
            if source.id not in refused
        ]
        for zone, prefix in prefixes:
            for key in list(self.store.keys(zone, prefix)):
                self.s3.delete_object(Bucket=self.store.bucket(zone), Key=key)


def _body(contract: Contract, rows: bytes | Iterable[Any]) -> bytes:
    if isinstance(rows, bytes):
        return rows
    if contract.format.type is FileFormat.JSON_LINES:
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    assert contract.format.type is FileFormat.PARQUET, "give the bytes of other formats"
    shape = pa.schema([(c.source, pa.string()) for c in contract.landed_columns])
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), shape), body)
    return body.getvalue()


def _rows(tables: Sequence[pa.Table]) -> tuple[Row, ...]:
    return tuple(row for table in tables for row in table.to_pylist())


def _shape(tables: Sequence[pa.Table]) -> Mapping[str, str]:
    shapes = [
        # Parquet's writers call a list's element by different names.
        {f.name: str(f.type).replace("element:", "item:") for f in table.schema}
        for table in tables
    ]
    assert all(shape == shapes[0] for shape in shapes), "files of one batch differ in their schema"
    return shapes[0] if shapes else {}
