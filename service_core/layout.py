"""Where everything lies: the key layout of every zone, in one place.

All work of a batch lies under a prefix that ends in its batch id, so that no attempt at one batch
can touch what belongs to another.
"""

from __future__ import annotations

from enum import StrEnum


class Zone(StrEnum):
    """One bucket each."""

    RAW = "raw"
    VALIDATED = "validated"
    CURATED = "curated"
    QUARANTINE = "quarantine"
    DQ_RESULTS = "dq-results"
    MANIFESTS = "manifests"


def batch_prefix(dataset: str, partition: str, batch_id: str) -> str:
    """`orders/2026-11-21/<batch id>/`, in validated, curated and quarantine rows alike."""
    return f"{dataset}/{partition}/{batch_id}/"


def manifest_key(dataset: str, partition: str, batch_id: str) -> str:
    """Manifests bucket."""
    return f"{dataset}/{partition}/{batch_id}.json"


def run_key(root_run_id: str, dataset: str, partition: str) -> str:
    """Manifests bucket: the manifest that a run without one in its tags made for itself."""
    return f"_runs/{root_run_id}/{dataset}/{partition}.json"


def validation_key(dataset: str, partition: str, batch_id: str) -> str:
    """Validated bucket: what validation found, file by file."""
    return batch_prefix(dataset, partition, batch_id) + "validation.json"


def validated_part_key(dataset: str, partition: str, batch_id: str, part: int) -> str:
    """Validated bucket: a part of the batch's canonical text."""
    return batch_prefix(dataset, partition, batch_id) + f"part-{part:05d}.parquet"


def malformed_key(dataset: str, partition: str, batch_id: str) -> str:
    """Validated bucket: rows that have no shape, on their way to row quarantine."""
    return batch_prefix(dataset, partition, batch_id) + "malformed.parquet"


def accepted_part_key(dataset: str, partition: str, batch_id: str, attempt: str, part: int) -> str:
    """Curated bucket: accepted rows, staged for publication.

    Each attempt stages under a name of its own, because a file that a published snapshot refers
    to must never be written again.
    """
    return batch_prefix(dataset, partition, batch_id) + f"{attempt}/part-{part:05d}.parquet"


def request_key(dataset: str, partition: str, batch_id: str, attempt: str) -> str:
    """Curated bucket: what a remote engine is asked to do."""
    return batch_prefix(dataset, partition, batch_id) + f"{attempt}/request.json"


def quarantined_rows_key(
    dataset: str, partition: str, batch_id: str, attempt: str, part: int
) -> str:
    """Quarantine bucket: diverted rows."""
    return f"{dataset}/rows/{partition}/{batch_id}/{attempt}/part-{part:05d}.parquet"


def quarantined_file_prefix(dataset: str, partition: str, source_object_id: str) -> str:
    """Quarantine bucket: the untouched copy (`content`) and the record (`record.json`)."""
    return f"{dataset}/files/{partition}/{source_object_id}/"


def verdict_key(dataset: str, partition: str, batch_id: str) -> str:
    """dq-results bucket."""
    return f"{dataset}/{partition}/{batch_id}.json"
