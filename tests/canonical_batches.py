"""Batches as validation leaves them, made by hand: canonical text in the validated zone, and the
record that names it; and a contract whose rows they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service_core.canonical import MALFORMED_SCHEMA, canonical_schema
from service_core.contract.model import (
    Column,
    ColumnType,
    Contract,
    FileFormat,
    Format,
    Grain,
    Landing,
    LogicalType,
    Matches,
    OneOf,
    Required,
    RowRule,
    Typed,
    Within,
)
from service_core.layout import Zone, malformed_key, validated_part_key
from service_core.ledger import Move, State
from service_core.manifest import Manifest, Origin
from service_core.ports import Ledger, ObjectStore
from service_core.reasons import ReasonCode
from service_core.run import Run
from service_core.source_object import SourceObject
from service_core.validation.record import (
    FileValidation,
    Finding,
    StagedFile,
    ValidationRecord,
)

PARTITION = "2026-11-21"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

Row = Mapping[str, str | None]


def shape(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Names and types, without what a file says of nulls."""
    return list(zip(schema.names, schema.types, strict=True))


def column(name: str, logical: LogicalType, **changes: Any) -> Column:
    """A column of the file's own name."""
    return replace(Column(name=name, type=ColumnType(logical), source=name), **changes)


def orders(**changes: Any) -> Contract:
    """A small data set with a rule of nearly every kind."""
    known = Contract(
        dataset="orders",
        version="1.0.0",
        hash="0123456789abcdef",
        path=Path("contracts/orders.yaml"),
        landing=Landing(
            prefix="orders/",
            partition_path="dt=%Y-%m-%d",
            grain=Grain.DAY,
            first_partition=date(2026, 1, 1),
            file_name=re.compile(r".*"),
        ),
        format=Format(FileFormat.CSV),
        columns=(
            column("order_id", LogicalType.STRING, required=True, primary_key=1),
            column("amount", LogicalType.DECIMAL, type=ColumnType(LogicalType.DECIMAL, 12, 2)),
            column("currency", LogicalType.STRING),
            column("quantity", LogicalType.INTEGER),
            column("at", LogicalType.TIMESTAMP_TZ),
            column("email", LogicalType.STRING, classification="personal"),
        ),
        row_rules=(
            RowRule("order_id_required", ("order_id",), Required(), ReasonCode.REQUIRED),
            RowRule("amount_type", ("amount",), Typed(), ReasonCode.TYPE),
            RowRule("quantity_type", ("quantity",), Typed(), ReasonCode.TYPE),
            RowRule("at_type", ("at",), Typed(), ReasonCode.TYPE),
            RowRule(
                "amount_range", ("amount",), Within(Decimal(0), Decimal(1000)), ReasonCode.RANGE
            ),
            RowRule("currency_known", ("currency",), OneOf(("USD", "EUR")), ReasonCode.NOT_ALLOWED),
            RowRule("quantity_range", ("quantity",), Within(minimum=1), ReasonCode.RANGE),
            RowRule("email_shape", ("email",), Matches(".+@.+"), ReasonCode.PATTERN),
        ),
    )
    return replace(known, **changes)


def row(number: int, **changes: str | None) -> dict[str, str | None]:
    """A row that keeps every rule of `orders`."""
    known: dict[str, str | None] = {
        "order_id": f"O{number}",
        "amount": "12.50",
        "currency": "EUR",
        "quantity": "3",
        "at": "2026-11-21T10:00:00Z",
        "email": f"someone{number}@example.com",
    }
    return known | changes


def landed(name: str, version: str = "v1") -> SourceObject:
    """A landed object."""
    return SourceObject(
        bucket="raw",
        key=f"orders/dt={PARTITION}/{name}",
        version_id=version,
        etag="e",
        size=1,
        last_modified=NOON,
        partition=PARTITION,
    )


def canonical(contract: Contract, delivered: Mapping[SourceObject, Sequence[Row]]) -> pa.Table:
    """Canonical text of rows, in the manifest's order of objects."""
    rows = [
        {
            "_source_object_id": source.id,
            "_source_row": number,
            "_source_line": number + 1,
            **given,
        }
        for source in sorted(delivered, key=lambda o: o.key)
        for number, given in enumerate(delivered[source], start=1)
    ]
    return pa.Table.from_pylist(rows, canonical_schema(contract))


@dataclass(frozen=True, slots=True)
class Delivery:
    """A validated batch."""

    contract: Contract
    manifest: Manifest
    record: ValidationRecord


def deliver(
    contract: Contract,
    delivered: Mapping[SourceObject, Sequence[Row]],
    store: ObjectStore,
    ledger: Ledger,
    scratch: Path,
    *,
    malformed: Mapping[SourceObject, Sequence[str]] | None = None,
    refused: Iterable[SourceObject] = (),
    row_group_rows: int = 122_880,
) -> Delivery:
    """Land the objects, and leave their batch as validation would."""
    malformed = malformed or {}
    refused = list(refused)
    sources = [
        _land(source, store) for source in {**delivered, **malformed, **dict.fromkeys(refused)}
    ]
    real = {source.key: source for source in sources}
    delivered = {real[s.key]: rows for s, rows in delivered.items()}
    malformed = {real[s.key]: rows for s, rows in malformed.items()}
    manifest = Manifest(
        dataset=contract.dataset,
        partition=PARTITION,
        contract_version=contract.version,
        contract_hash=contract.hash,
        origin=Origin.SENSOR,
        objects=tuple(sources),
        created_at=NOON,
    )
    place = (contract.dataset, PARTITION, manifest.batch_id)
    parts = ()
    table = canonical(contract, delivered)
    if table.num_rows:
        path = scratch / f"{manifest.batch_id}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=row_group_rows)
        uri = store.upload(path, Zone.VALIDATED, validated_part_key(*place, 0))
        parts = (StagedFile(uri=uri, rows=table.num_rows, bytes=path.stat().st_size),)
    shapeless = None
    if malformed:
        path = scratch / f"{manifest.batch_id}-malformed.parquet"
        lines = [
            {
                "_source_object_id": source.id,
                "_source_line": 100 + number,
                "code": ReasonCode.ROW_TOO_SHORT.value,
                "message": "the row has 1 field, 6 were expected",
                "_raw": raw,
            }
            for source, raws in malformed.items()
            for number, raw in enumerate(raws)
        ]
        pq.write_table(pa.Table.from_pylist(lines, MALFORMED_SCHEMA), path)
        uri = store.upload(path, Zone.VALIDATED, malformed_key(*place))
        shapeless = StagedFile(uri=uri, rows=len(lines), bytes=path.stat().st_size)
    files = []
    for source in manifest.objects:
        bad = len(malformed.get(source, ()))
        out = source.key in {r.key for r in refused}
        findings = []
        if bad:
            findings.append(
                Finding(
                    code=ReasonCode.ROW_TOO_SHORT,
                    scope="row",
                    message="the row has 1 field, 6 were expected",
                    line=100,
                    count=bad,
                )
            )
        if out:
            findings.append(Finding(code=ReasonCode.ENCODING, scope="file", message="not UTF-8"))
        files.append(
            FileValidation(
                source_object=source,
                accepted=not out,
                rows_read=0 if out else len(delivered.get(source, ())) + bad,
                rows_malformed=bad,
                content_hash="0" * 64,
                findings=tuple(findings),
            )
        )
    ledger.receive(manifest, run_id="run-1", at=NOON)
    ledger.move(
        manifest.batch_id,
        [
            Move(
                object_id=f.source_object.id,
                to=State.VALIDATED if f.accepted else State.QUARANTINED,
                reason=None if f.accepted else ReasonCode.ENCODING,
            )
            for f in files
        ],
        run_id="run-1",
        at=NOON,
    )
    record = ValidationRecord(
        batch_id=manifest.batch_id,
        dataset=contract.dataset,
        partition=PARTITION,
        contract_version=contract.version,
        contract_hash=contract.hash,
        run_id="run-1",
        validated_at=NOON,
        files=tuple(files),
        parts=parts,
        malformed=shapeless,
    )
    return Delivery(contract, manifest, record)


def _land(source: SourceObject, store: ObjectStore) -> SourceObject:
    """Put an object, and give it the version that the bucket gave it."""
    store.write(Zone.RAW, source.key, b"rows")
    listed = next(o for o in store.list_versions(source.key).objects if o.is_latest)
    return source.model_copy(
        update={"bucket": store.bucket(Zone.RAW), "version_id": listed.version_id}
    )


def run_of(scratch: Path, attempt: str = "attempt-1", *, now: datetime = NOON) -> Run:
    """A run whose clock stands."""
    folder = scratch / attempt
    folder.mkdir(exist_ok=True, parents=True)
    return Run(id="run-1", attempt=attempt, clock=lambda: now, scratch=folder)


class PublishedTable:
    """A catalog that holds given published rows: `_source_key`, `_source_row`,
    `_source_object_id` and whatever columns keys need."""

    def __init__(self, rows: Sequence[Mapping[str, Any]] = (), snapshot: int | None = 1) -> None:
        self.rows = list(rows)
        self.snapshot = snapshot if rows else None

    def current_snapshot(self, contract: Contract) -> int | None:
        return self.snapshot

    def published_keys(
        self,
        contract: Contract,
        partition: str,
        columns: Sequence[str],
        *,
        except_source_keys: Iterable[str] = (),
        except_source_objects: Iterable[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        without = {*except_source_keys, *except_source_objects}
        wanted = [*columns, "_source_key", "_source_row"]
        left = [
            {name: row[name] for name in wanted}
            for row in self.rows
            if not {row["_source_key"], row.get("_source_object_id")} & without
        ]
        if left:
            yield from pa.Table.from_pylist(left).to_batches()


def read_rows(
    store: ObjectStore, files: Iterable[StagedFile], scratch: Path
) -> list[dict[str, Any]]:
    """The rows of Parquet files in their zones."""
    found: list[dict[str, Any]] = []
    for number, file in enumerate(files):
        path = scratch / f"read-{number}.parquet"
        store.download(file.uri, path)
        found += pq.read_table(path).to_pylist()
    return found


def hours(count: int) -> timedelta:
    return timedelta(hours=count)
