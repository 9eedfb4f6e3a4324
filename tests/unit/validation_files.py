"""What the tests of validation share: contracts, files in hand, and landed batches."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service_core.canonical import MALFORMED_SCHEMA
from service_core.contract.model import (
    Column,
    ColumnType,
    Contract,
    Dialect,
    DriftPolicies,
    FileFormat,
    FilePolicy,
    Format,
    Grain,
    Landing,
    LogicalType,
)
from service_core.layout import Zone
from service_core.manifest import Manifest, Origin
from service_core.run import Run
from service_core.source_object import SourceObject
from service_core.validation.batch import validate_batch
from service_core.validation.content import Content
from service_core.validation.csv_rows import DelimitedReader, MalformedRow
from service_core.validation.header import dialect_of, read_head
from service_core.validation.parts import malformed_table
from service_core.validation.record import FileValidation, ValidationRecord
from service_core.validation.records import Grammar

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PARTITION = "2026-11-21"
EXTENSION = {
    FileFormat.CSV: "csv",
    FileFormat.TSV: "tsv",
    FileFormat.JSON_LINES: "jsonl",
    FileFormat.JSON_ARRAY: "json",
    FileFormat.PARQUET: "parquet",
}


def column(name: str, **what: Any) -> Column:
    """A string column unless `type` says otherwise."""
    kind = what.pop("type", LogicalType.STRING)
    return Column(name=name, type=ColumnType(kind), source=what.pop("source", name), **what)


def contract(
    *columns: str | Column,
    kind: FileFormat = FileFormat.CSV,
    dialect: Dialect | None = None,
    landing: dict[str, Any] | None = None,
    **drift: Any,
) -> Contract:
    """A contract over `columns` (a, b, c unless given) whose landing takes any name."""
    chosen = columns or ("a", "b", "c")
    place: dict[str, Any] = {
        "prefix": "things/",
        "partition_path": "dt=%Y-%m-%d",
        "grain": Grain.DAY,
        "first_partition": date(2026, 1, 1),
        "file_name": re.compile(r".+"),
        "duplicates": FilePolicy.ALLOW,
    }
    return Contract(
        dataset="things",
        version="1.0.0",
        hash="0123456789abcdef",
        path=Path("things.yaml"),
        landing=Landing(**(place | (landing or {}))),
        format=Format(type=kind, dialect=dialect or Dialect()),
        columns=tuple(c if isinstance(c, Column) else column(c) for c in chosen),
        drift=DriftPolicies(**drift),
    )


#: Of a file's text, as it comes from the store.
_CHUNK = 1_000


def read_delimited(
    agreed: Contract, *bodies: bytes
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[int]]:
    """Good rows, malformed rows, and records found in each file, all read by one reader."""
    rows: list[pa.Table] = []
    malformed: list[pa.Table] = []

    def add_malformed(object_id: str, found: list[MalformedRow]) -> None:
        malformed.append(malformed_table(MALFORMED_SCHEMA, object_id, found))

    grammar = Grammar(dialect_of(agreed))
    reader = DelimitedReader(agreed, grammar, rows.append, add_malformed)
    counts = []
    for number, body in enumerate(bodies):
        content = Content(len(body), data=body)
        head = read_head(agreed, grammar, content)
        counts.append(reader.read(str(number), content.blocks(_CHUNK, offset=head.offset), head))
    reader.flush()
    return (
        [row for table in rows for row in table.to_pylist()],
        [row for table in malformed for row in table.to_pylist()],
        counts,
    )


def values(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """The landed columns' texts of canonical rows."""
    return [[v for k, v in row.items() if not k.startswith("_")] for row in rows]


class Landed:
    """A data set's raw folder on the real (embedded) store, and what validation makes of it."""

    def __init__(self, agreed: Contract, store: Any, ledger: Any, s3: Any, scratch: Path) -> None:
        self.contract = agreed
        self.store = store
        self.ledger = ledger
        self._s3 = s3
        self._scratch = scratch
        self._runs = 0

    def put(self, name: str, body: bytes, **change: Any) -> SourceObject:
        """Land a file and find it again as the source object that a listing gives."""
        key = f"{self.contract.landing.prefix}dt={PARTITION}/{name}"
        bucket = self.store.bucket(Zone.RAW)
        self._s3.put_object(Bucket=bucket, Key=key, Body=body)
        newest = next(o for o in self.store.list_versions(key).objects if o.is_latest)
        found = SourceObject(
            bucket=bucket,
            key=key,
            version_id=newest.version_id,
            etag=newest.etag,
            size=newest.size,
            last_modified=newest.last_modified,
            sequence=newest.sequence,
            partition=PARTITION,
        )
        return found.model_copy(update=change)

    def delete(self, source_object: SourceObject) -> None:
        self._s3.delete_object(
            Bucket=source_object.bucket, Key=source_object.key, VersionId=source_object.version_id
        )

    def manifest(self, *objects: SourceObject) -> Manifest:
        return Manifest(
            dataset=self.contract.dataset,
            partition=PARTITION,
            contract_version=self.contract.version,
            contract_hash=self.contract.hash,
            origin=Origin.PERSON,
            objects=objects,
            created_at=NOW,
        )

    def validate(self, *objects: SourceObject) -> ValidationRecord:
        """Receive and validate objects as one batch, in scratch of its own."""
        self._runs += 1
        self._scratch.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=self._scratch))
        run = Run(id=f"run{self._runs}", attempt="1", clock=lambda: NOW, scratch=scratch)
        manifest = self.manifest(*objects)
        self.ledger.receive(manifest, run_id=run.id, at=NOW)
        record = validate_batch(self.contract, manifest, self.store, self.ledger, run)
        assert list(scratch.iterdir()) == [], "validation left files in scratch"
        return record

    def judge(self, name: str, body: bytes, **change: Any) -> FileValidation:
        """Land one file and validate it alone."""
        return self.validate(self.put(name, body, **change)).files[0]

    def rows(self, record: ValidationRecord) -> list[dict[str, Any]]:
        """All canonical rows of a batch, read back from the validated zone."""
        return [row for part in record.parts for row in self._read(part.uri)]

    def malformed(self, record: ValidationRecord) -> list[dict[str, Any]]:
        return [] if record.malformed is None else list(self._read(record.malformed.uri))

    def _read(self, uri: str) -> Iterator[dict[str, Any]]:
        path = self._scratch / "read.parquet"
        self.store.download(uri, path)
        yield from pq.read_table(path).to_pylist()


def with_landing(agreed: Contract, **change: Any) -> Contract:
    """The contract with another landing."""
    return replace(agreed, landing=replace(agreed.landing, **change))


def codes(file: FileValidation) -> list[str]:
    """The codes of a file's findings."""
    return [f.code.value for f in file.findings]
