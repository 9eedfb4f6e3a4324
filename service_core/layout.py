"""Where everything lies: the key layout of every zone, in one place.

All work of a batch lies under a prefix that ends in its batch id, so that no attempt at one batch
can touch what belongs to another.
"""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import quote


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


def staged_prefix(dataset: str, partition: str, batch_id: str, attempt: str) -> str:
    """Curated bucket: what one attempt stages.

    Each attempt stages under a name of its own, because a file that a published snapshot refers
    to must never be written again.
    """
    return batch_prefix(dataset, partition, batch_id) + f"{attempt}/"


def accepted_part_key(dataset: str, partition: str, batch_id: str, attempt: str, part: int) -> str:
    """Curated bucket: accepted rows, staged for publication."""
    return staged_prefix(dataset, partition, batch_id, attempt) + f"part-{part:05d}.parquet"


def request_key(dataset: str, partition: str, batch_id: str, attempt: str) -> str:
    """Curated bucket: what a remote engine is asked to do."""
    return staged_prefix(dataset, partition, batch_id, attempt) + "request.json"


def quarantined_rows_prefix(dataset: str, partition: str, batch_id: str, attempt: str) -> str:
    """Quarantine bucket: the rows that one attempt diverts."""
    return f"{dataset}/rows/{partition}/{batch_id}/{attempt}/"


def quarantined_rows_key(
    dataset: str, partition: str, batch_id: str, attempt: str, part: int
) -> str:
    """Quarantine bucket: diverted rows."""
    prefix = quarantined_rows_prefix(dataset, partition, batch_id, attempt)
    return f"{prefix}part-{part:05d}.parquet"


def quarantined_rows_of_partition(dataset: str, partition: str) -> str:
    """Quarantine bucket: what any batch of a partition has diverted, batch by batch."""
    return f"{dataset}/rows/{partition}/"


def released_rows_prefix(dataset: str, partition: str, batch_id: str) -> str:
    """Quarantine bucket: what was released of a batch's diverted rows, a note for each batch that
    did."""
    return f"{dataset}/rows/{partition}/{batch_id}/released/"


def quarantined_files_prefix(dataset: str, partition: str) -> str:
    """Quarantine bucket: a partition's refused files, object by object."""
    return f"{dataset}/files/{partition}/"


def quarantined_file_prefix(dataset: str, partition: str, source_object_id: str) -> str:
    """Quarantine bucket: the untouched copy (`content`) and the record (`record.json`)."""
    return f"{quarantined_files_prefix(dataset, partition)}{source_object_id}/"


def released_file_key(dataset: str, partition: str, source_object_id: str) -> str:
    """Quarantine bucket: beside a file's record, by whom it was released."""
    return quarantined_file_prefix(dataset, partition, source_object_id) + "released.json"


def verdict_key(dataset: str, partition: str, batch_id: str) -> str:
    """dq-results bucket."""
    return f"{dataset}/{partition}/{batch_id}.json"


def pipes_prefix(dataset: str, partition: str, batch_id: str, identity: str) -> str:
    """dq-results bucket: what work on a remote engine says while it runs; gone when it was read."""
    return f"_pipes/{dataset}/{partition}/{batch_id}/{identity}/"


#: Manifests bucket: where people and programs ask for replays.
REPLAY_REQUESTS = "_replays/requests/"
#: Manifests bucket: one empty object for each replay that has not come to its end.
OPEN_REPLAYS = "_replays/open/"


def replay_prefix(replay_id: str) -> str:
    """Manifests bucket: all that is known of one replay."""
    return f"_replays/{replay_id}/"


def replay_answer_key(request_key: str, answer: str) -> str:
    """Manifests bucket: the answer (`accepted` or `rejected`) beside a replay's request."""
    return f"{request_key.removesuffix('.json')}.{answer}.json"


def kept_contracts_prefix(dataset: str) -> str:
    """Manifests bucket: every text of a contract that has ever made a batch."""
    return f"_contracts/{dataset}/"


def kept_contract_key(dataset: str, version: str, contract_hash: str) -> str:
    """Manifests bucket: the text of one contract, under its version and the hash of its meaning."""
    return f"{kept_contracts_prefix(dataset)}{quote(version, safe='')}-{contract_hash}.yaml"


def isolation_prefix(dataset: str, root_batch_id: str) -> str:
    """Manifests bucket: all that is known of a batch that killed or hung its worker."""
    return f"_isolation/{dataset}/{root_batch_id}/"


def isolation_key(dataset: str, root_batch_id: str, kind: str, batch_id: str, run_id: str) -> str:
    """Manifests bucket: what was asked for (`split` or `given_up`) when a run of one of its
    batches had died."""
    return f"{isolation_prefix(dataset, root_batch_id)}{kind}/{batch_id}/{run_id}.json"
