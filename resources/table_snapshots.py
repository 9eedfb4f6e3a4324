"""What a snapshot of a published table says of itself: which batch, run and contract made it.

The summary is written with the snapshot, in the same commit, so a batch is in the table if and
only if its id is found here, and has been rolled back if and only if it is found there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service_core.undo import Commit, History
from service_core.verdict import FileStatus, Verdict

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

    from service_core.undo import Undone

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
#: Ids of the batch's source objects that were kept out, where any were.
SUMMARY_WITHHELD = "lakegate.withheld"
#: Ids of the batches that a rollback's snapshot undoes.
SUMMARY_ROLLED_BACK = "lakegate.rolled-back"
#: What upkeep a snapshot is of; it changes no row.
SUMMARY_UPKEEP = "lakegate.upkeep"


def committed(metadata: TableMetadata, batch_id: str) -> Snapshot | None:
    """The snapshot by which a batch came into the table's history, if it did.

    A snapshot that somebody has rolled back is no longer part of that history, and its batch can
    be published again.
    """
    for snapshot in lineage(metadata):
        if snapshot.summary is not None and snapshot.summary[SUMMARY_BATCH] == batch_id:
            return snapshot
    return None


def is_rolled_back(metadata: TableMetadata, batch_id: str) -> bool:
    """Whether a snapshot of the table's history undoes a batch."""
    return any(
        batch_id in str(snapshot.summary[SUMMARY_ROLLED_BACK] or "")
        for snapshot in lineage(metadata)
        if snapshot.summary is not None
    )


def batch_of(snapshot: Snapshot) -> str | None:
    """The batch that a snapshot brought, if it brought one."""
    return snapshot.summary[SUMMARY_BATCH] if snapshot.summary is not None else None


def undoes(snapshot: Snapshot) -> frozenset[str]:
    """Ids of the batches that a snapshot rolls back."""
    said = snapshot.summary
    return frozenset(str(said[SUMMARY_ROLLED_BACK] or "").split() if said is not None else ())


def lineage(metadata: TableMetadata) -> Iterator[Snapshot]:
    """The snapshots that the table's current one came from, itself first, as far as they are
    kept."""
    by_id: dict[int | None, Snapshot] = {s.snapshot_id: s for s in metadata.snapshots}
    snapshot = by_id.get(metadata.current_snapshot_id)
    while snapshot is not None:
        yield snapshot
        snapshot = by_id.get(snapshot.parent_snapshot_id)


def history(metadata: TableMetadata) -> History:
    """The commits and rollbacks in the table's lineage."""
    commits: list[Commit] = []
    rolled_back: dict[str, int] = {}
    since = None
    for snapshot in lineage(metadata):
        at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
        # Once its parent is expired, a snapshot names none; the first of all is numbered 1.
        since = at if (snapshot.sequence_number or 0) > 1 else None
        said = snapshot.summary
        if said is None:
            continue
        for batch_id in str(said[SUMMARY_ROLLED_BACK] or "").split():
            rolled_back[batch_id] = snapshot.snapshot_id
        if said[SUMMARY_BATCH]:
            commits.append(
                Commit(
                    batch_id=str(said[SUMMARY_BATCH]),
                    partition=str(said[SUMMARY_PARTITION]),
                    snapshot_id=snapshot.snapshot_id,
                    committed_at=at,
                    replay_id=said[SUMMARY_REPLAY],
                )
            )
    return History(tuple(reversed(commits)), rolled_back, since)


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
        SUMMARY_WITHHELD: " ".join(sorted(withheld)) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def rollback_summary(undone: Undone, run_id: str, replay_id: str | None) -> dict[str, str]:
    """The fields that the snapshot of a rollback carries; the batch ids are those it undoes, and
    the replay that which they were part of, where it was named."""
    fields = {
        SUMMARY_ROLLED_BACK: " ".join(undone.batches),
        SUMMARY_RUN: run_id,
        SUMMARY_REPLAY: replay_id,
        SUMMARY_ROWS_ADDED: str(undone.rows_back),
        SUMMARY_ROWS_REMOVED: str(undone.rows_out),
    }
    return {name: value for name, value in fields.items() if value is not None}
