"""What a snapshot of a published table says of itself: which batch, run and contract made it.

The summary is written with the snapshot, in the same commit, so a batch is in the table if and
only if its id is found here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service_core.verdict import FileStatus, Verdict

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

SUMMARY_BATCH = "lakegate.batch-id"
SUMMARY_RUN = "lakegate.run-id"
SUMMARY_REPLAY = "lakegate.replay-id"
SUMMARY_DATASET = "lakegate.dataset"
SUMMARY_PARTITION = "lakegate.partition"
SUMMARY_CONTRACT_VERSION = "lakegate.contract-version"
SUMMARY_CONTRACT_HASH = "lakegate.contract-hash"
#: Source objects whose rows the snapshot holds.
SUMMARY_SOURCE_OBJECTS = "lakegate.source-objects"
#: Iceberg's own counts take in the rows of files that were only written anew; these do not.
SUMMARY_ROWS_ADDED = "lakegate.rows-added"
SUMMARY_ROWS_REMOVED = "lakegate.rows-removed"


def committed(metadata: TableMetadata, batch_id: str) -> Snapshot | None:
    """The snapshot by which a batch came into the table's history, if it did.

    A snapshot that somebody has rolled back is no longer part of that history, and its batch can
    be published again.
    """
    by_id: dict[int | None, Snapshot] = {s.snapshot_id: s for s in metadata.snapshots}
    snapshot = by_id.get(metadata.current_snapshot_id)
    while snapshot is not None:
        if snapshot.summary is not None and snapshot.summary[SUMMARY_BATCH] == batch_id:
            return snapshot
        snapshot = by_id.get(snapshot.parent_snapshot_id)
    return None


def summary(
    verdict: Verdict, withheld: frozenset[str], rows_added: int, rows_removed: int
) -> dict[str, str]:
    """The fields that a batch's snapshot carries."""
    accepted = [
        f
        for f in verdict.files
        if f.status is not FileStatus.QUARANTINED and f.source_object.id not in withheld
    ]
    fields = {
        SUMMARY_BATCH: verdict.batch_id,
        SUMMARY_RUN: verdict.run_id,
        SUMMARY_REPLAY: verdict.replay_id,
        SUMMARY_DATASET: verdict.dataset,
        SUMMARY_PARTITION: verdict.partition,
        SUMMARY_CONTRACT_VERSION: verdict.contract_version,
        SUMMARY_CONTRACT_HASH: verdict.contract_hash,
        SUMMARY_SOURCE_OBJECTS: str(len(accepted)),
        SUMMARY_ROWS_ADDED: str(rows_added),
        SUMMARY_ROWS_REMOVED: str(rows_removed),
    }
    return {name: value for name, value in fields.items() if value is not None}
