"""A rollback's one commit, and what is said of it, by whoever made it and by any repetition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pyiceberg.table import Table

from resources.table_files import describe
from resources.table_rollback import Plan
from resources.table_shares import RollbackWorkshop
from resources.table_snapshots import SUMMARY_ROWS_ADDED, SUMMARY_ROWS_REMOVED
from service_core.undo import History, Undone


def undo(
    table: Table,
    plan: Plan,
    undone: Undone,
    workshop: RollbackWorkshop,
    said: Mapping[str, str],
    settle: Callable[[Callable[[], object]], None],
) -> Undone:
    """Commit a plan against the reading of the table that it was made from.

    Args:
        said: The snapshot's summary.
        settle: Calls what commits, and tells a conflict from a failure.
    """
    new = [
        (piece, written)
        for make, pieces in ((workshop.without, plan.out), (workshop.only, plan.back))
        for piece in pieces
        if (written := make(table, piece, piece.shares[0].partition)) is not None
    ]
    transaction = table.transaction()
    update = transaction.update_snapshot(snapshot_properties=dict(said))
    # Without anything to change, the snapshot is there for its summary.
    producer = update.overwrite() if plan.out else update.fast_append()
    for piece, file in new:
        producer.append_data_file(
            describe(transaction.table_metadata, file, piece.shares[0].partition)
        )
    for piece in plan.out:
        producer.delete_data_file(piece.task.file)
    settle(lambda: (producer.commit(), transaction.commit_transaction()))
    workshop.discard(table, frozenset(file.uri for _, file in new))
    return replace(
        undone,
        snapshot_id=producer.snapshot_id,
        committed=True,
        metadata_location=table.metadata_location,
    )


def undone_by(
    name: str, table: Table, plan: Plan, now: frozenset[str], before: frozenset[str]
) -> Undone:
    """What a plan comes to, before it is committed."""
    out, back = plan.shares_out, plan.shares_back
    return Undone(
        snapshot_id=None,
        committed=False,
        batches=tuple(sorted(now)),
        before=tuple(sorted(before)),
        undone=plan.history.undone | now,
        out=out,
        back=back,
        kept_out=plan.kept_out,
        rows_out=sum(share.rows for share in out),
        rows_back=sum(share.rows for share in back),
        table=name,
        metadata_location=table.metadata_location,
    )


def undone_before(name: str, table: Table | None, past: History, wanted: frozenset[str]) -> Undone:
    """What is to be said of batches that have all been undone before."""
    by = {(past.rolled_back or {}).get(batch_id) for batch_id in wanted} - {None}
    said = [
        snapshot.summary
        for snapshot in (table.metadata.snapshots if table is not None else ())
        if snapshot.snapshot_id in by and snapshot.summary is not None
    ]
    return Undone(
        snapshot_id=next((s for s in by if s is not None), None) if len(by) == 1 else None,
        committed=False,
        batches=(),
        before=tuple(sorted(wanted)),
        undone=past.undone,
        out=(),
        back=(),
        kept_out=(),
        rows_out=sum(int(one[SUMMARY_ROWS_REMOVED] or 0) for one in said),
        rows_back=sum(int(one[SUMMARY_ROWS_ADDED] or 0) for one in said),
        table=name,
        metadata_location=None if table is None else table.metadata_location,
    )
