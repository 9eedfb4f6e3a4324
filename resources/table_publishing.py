"""A batch's one commit, and what is said of it, by whoever made it and by any repetition.

It counts only against the very reading of the table that it was decided from.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from resources.published_tables import PublishedTables
from resources.table_change import Hit, Workshop, find_hits, removal, superseded_by
from resources.table_files import describe
from resources.table_patience import NotSettledError, settle
from resources.table_schema import evolution, require_partitioned
from resources.table_snapshots import SUMMARY_ROWS_ADDED, SUMMARY_ROWS_REMOVED, summary
from service_core.contract.model import Contract
from service_core.ports import Publication
from service_core.verdict import Verdict


def publish(
    tables: PublishedTables,
    table: Table | None,
    contract: Contract,
    verdict: Verdict,
    withheld: frozenset[str],
    workshop: Workshop,
) -> Publication:
    """Commit a batch against this reading of its table, which is made if there is none.

    Args:
        tables: Where the table is made.
        table: As it was read for this attempt, or None where there is none.
        withheld: Ids of the batch's source objects that stay out.
        workshop: The batch's, kept from attempt to attempt.

    Raises:
        ObjectMissingError: a staged file is not there.
        StagedFileError: a staged file is not what the verdict and the contract say.
        TableSchemaError: the table cannot take the contract's columns.
        NotSettledError: somebody else came first, or there was no answer.
    """
    name = tables.name(contract)
    out = removal(contract, verdict, withheld)
    files = workshop.stage(withheld)
    hits: list[Hit] = []
    if table is not None:
        staged = frozenset(file.uri for file in files)
        hits, present = find_hits(table, out, verdict.partition, staged)
        files = [file for file in files if file.uri not in present]
    if not files and not hits:
        workshop.discard(frozenset())
        return _nothing(name, table, withheld)
    if table is None:
        table = tables.make(contract)
        if table.metadata.current_snapshot_id is not None:
            # Another publisher created it too and has committed since: what was decided for a
            # table without rows does not hold for one with them.
            raise NotSettledError("another batch was the first to publish into the table")
    require_partitioned(name, table.schema(), table.spec())
    left = [w for hit in hits if not hit.entirely and (w := workshop.survivors(table, hit, out))]
    rows_added = sum(file.rows for file in files)
    rows_removed = sum(hit.rows for hit in hits)

    transaction = table.transaction()
    if change := evolution(name, table.schema(), contract):
        with transaction.update_schema() as update:
            change.apply(update)
    snapshot = transaction.update_snapshot(
        snapshot_properties=summary(verdict, withheld, rows_added, rows_removed)
    )
    producer = snapshot.overwrite() if hits else snapshot.merge_append()
    for file in (*files, *left):
        producer.append_data_file(describe(transaction.table_metadata, file, verdict.partition))
    for hit in hits:
        producer.delete_data_file(hit.task.file)
    settle(lambda: (producer.commit(), transaction.commit_transaction()))
    workshop.discard(frozenset(file.uri for file in (*files, *left)))
    ids = {f.source_object.id for f in verdict.files}
    return Publication(
        snapshot_id=producer.snapshot_id,
        committed=True,
        rows_added=rows_added,
        rows_removed=rows_removed,
        superseded=tuple(sorted({i for hit in hits for i in hit.objects} - ids)),
        table=name,
        metadata_location=table.metadata_location,
        withheld=tuple(sorted(withheld)),
    )


def published_before(name: str, table: Table, snapshot: Snapshot, verdict: Verdict) -> Publication:
    """What is to be said of a batch that a snapshot of the table has brought before."""
    before: Mapping[str, str] = snapshot.summary or {}
    return Publication(
        snapshot_id=snapshot.snapshot_id,
        committed=False,
        rows_added=int(before.get(SUMMARY_ROWS_ADDED) or 0),
        rows_removed=int(before.get(SUMMARY_ROWS_REMOVED) or 0),
        superseded=superseded_by(table, snapshot, verdict),
        table=name,
        metadata_location=table.metadata_location,
    )


def _nothing(name: str, table: Table | None, withheld: frozenset[str]) -> Publication:
    """What is to be said of a batch that changes no row."""
    return Publication(
        snapshot_id=None,
        committed=False,
        rows_added=0,
        rows_removed=0,
        superseded=(),
        table=name,
        metadata_location=None if table is None else table.metadata_location,
        withheld=tuple(sorted(withheld)),
    )
