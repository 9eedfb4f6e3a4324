"""Batches as curation leaves them, made by hand: staged Parquet, and a verdict that names it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from service_core.canonical import accepted_schema
from service_core.contract.model import (
    Column,
    ColumnType,
    Contract,
    FileFormat,
    Format,
    Grain,
    Landing,
    LogicalType,
)
from service_core.layout import Zone, accepted_part_key
from service_core.settings import Settings
from service_core.source_object import SourceObject
from service_core.validation.record import StagedFile
from service_core.verdict import FileOutcome, FileStatus, Verdict

PARTITION = "2026-11-21"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def contract(**changes: Any) -> Contract:
    """A small data set with a column of most types."""
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
            column("id", LogicalType.INTEGER, primary_key=1, description="The order's number."),
            column("amount", LogicalType.DECIMAL, type=ColumnType(LogicalType.DECIMAL, 10, 2)),
            column("at", LogicalType.TIMESTAMP_TZ),
            column("note", LogicalType.STRING),
        ),
    )
    return replace(known, **changes)


def column(name: str, logical: LogicalType, **changes: Any) -> Column:
    return replace(Column(name=name, type=ColumnType(logical), source=name), **changes)


def landed(name: str, version: str = "v1", *, minutes: int = 0) -> SourceObject:
    """A version of a landed object; `minutes` order the versions of a key."""
    return SourceObject(
        bucket="raw",
        key=f"orders/dt={PARTITION}/{name}",
        version_id=version,
        etag="e",
        size=1,
        last_modified=NOON + timedelta(minutes=minutes),
        partition=PARTITION,
    )


class Judged:
    """A batch as curation leaves it: staged Parquet in the curated bucket and a verdict."""

    def __init__(self, s3: Any, settings: Settings) -> None:
        self._s3 = s3
        self._bucket = settings.bucket(Zone.CURATED)

    def __call__(
        self,
        of: Contract,
        rows: Mapping[SourceObject, Sequence[int]],
        *,
        quarantined: Iterable[SourceObject] = (),
        batch_id: str | None = None,
        together: bool = False,
        **changes: Any,
    ) -> Verdict:
        """A verdict that accepted those ids of those objects, each object staged in a file of its
        own unless they are to be staged `together`."""
        batch_id = batch_id or uuid4().hex
        tables = [self._table(of, o, ids, batch_id) for o, ids in rows.items() if ids]
        if together and tables:
            tables = [pa.concat_tables(tables)]
        outcomes = [
            FileOutcome(
                source_object=o,
                status=FileStatus.PUBLISHED,
                rows_read=len(ids),
                rows_accepted=len(ids),
                rows_quarantined=0,
            )
            for o, ids in rows.items()
        ]
        outcomes += [
            FileOutcome(
                source_object=o,
                status=FileStatus.QUARANTINED,
                rows_read=1,
                rows_accepted=0,
                rows_quarantined=1,
            )
            for o in quarantined
        ]
        fields: dict[str, Any] = {
            "batch_id": batch_id,
            "dataset": of.dataset,
            "partition": PARTITION,
            "contract_version": of.version,
            "contract_hash": of.hash,
            "run_id": "run-1",
            "engine": "in_process",
            "passed": True,
            "rows_read": sum(f.rows_read for f in outcomes),
            "rows_accepted": sum(f.rows_accepted for f in outcomes),
            "rows_quarantined": sum(f.rows_quarantined for f in outcomes),
            "files": tuple(outcomes),
            "checks": (),
            "staged": tuple(
                self.stage(t, accepted_part_key(of.dataset, PARTITION, batch_id, "a1", n))
                for n, t in enumerate(tables)
            ),
            "judged_at": NOON,
        }
        return Verdict(**fields | changes)

    def stage(self, table: pa.Table, key: str) -> StagedFile:
        body = io.BytesIO()
        pq.write_table(table, body)
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body.getvalue())
        uri = f"s3://{self._bucket}/{key}"
        return StagedFile(uri=uri, rows=table.num_rows, bytes=len(body.getvalue()))

    @staticmethod
    def _table(of: Contract, source: SourceObject, ids: Sequence[int], batch_id: str) -> pa.Table:
        schema = accepted_schema(of)
        values = {
            "id": lambda n: n,
            "amount": lambda n: Decimal(n).scaleb(-2),
            "at": lambda n: NOON,
            "note": lambda n: f"note {n}",
            "_source_object_id": lambda n: source.id,
            "_source_key": lambda n: source.key,
            "_source_row": lambda n: n,
            "_batch_id": lambda n: batch_id,
            "_contract_version": lambda n: of.version,
            "_ingested_at": lambda n: NOON,
            "_partition": lambda n: PARTITION,
        }
        return pa.Table.from_pylist(
            [{f.name: values.get(f.name, lambda n: None)(n) for f in schema} for n in ids], schema
        )
