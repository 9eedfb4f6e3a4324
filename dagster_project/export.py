"""Exporting an ingest's outcome: what was published, what was diverted, and the verdicts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from dagster_project.report import IngestReport
from dagster_project.session import Session
from resources.catalog import CatalogResource
from resources.object_store import ObjectStoreResource
from service_core.canonical import quarantined_schema
from service_core.contract.model import Contract
from service_core.ports import ObjectStore


def export_outcome(
    session: Session, contract: Contract, report: IngestReport, folder: Path
) -> None:
    """Write `published/<data set>.parquet`, `quarantine/<data set>_rows.parquet` and
    `verdicts/<batch id>.json` below `folder`. Empty tables are written with their columns."""
    store = ObjectStoreResource.of(session.settings).store()
    catalog = CatalogResource.of(session.settings).catalog()
    published = catalog.scan(contract)
    _write(folder / "published" / f"{contract.dataset}.parquet", published.schema, published)
    staged = [s.uri for verdict in report.verdicts for s in verdict.quarantined_rows]
    _write(
        folder / "quarantine" / f"{contract.dataset}_rows.parquet",
        quarantined_schema(contract),
        _batches(store, staged),
    )
    verdicts = folder / "verdicts"
    verdicts.mkdir(parents=True, exist_ok=True)
    for verdict in report.verdicts:
        (verdicts / f"{verdict.batch_id}.json").write_text(
            verdict.model_dump_json(indent=2), encoding="utf-8"
        )


def _batches(store: ObjectStore, uris: Iterable[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="lakegate-export-") as scratch:
        for number, uri in enumerate(uris):
            path = Path(scratch) / f"{number}.parquet"
            store.download(uri, path)
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches()
            path.unlink()


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
