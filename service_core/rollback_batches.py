"""Which batches a rollback undoes: the one that was named, or those that a replay has published."""

from __future__ import annotations

from service_core.contract.model import Contract
from service_core.gate import GateClosedError, read_verdict
from service_core.layout import OPEN_REPLAYS, Zone
from service_core.ports import Ledger, ObjectStore
from service_core.replay.asking import asked_batch
from service_core.replay.folder import ASKED, COMPLETED, ReplayFolder
from service_core.undo import History, RollbackRefusedError


def named_batch(contract: Contract, batch_id: str, past: History, ledger: Ledger) -> dict[str, str]:
    """A batch that the table's history or the ledger knows of, with its partition.

    Raises:
        RollbackRefusedError: neither does.
    """
    for commit in past.commits:
        if commit.batch_id == batch_id:
            return {batch_id: commit.partition}
    if (mark := ledger.rolled_back([batch_id]).get(batch_id)) is not None:
        return {batch_id: mark.partition}
    raise RollbackRefusedError(
        f"Batch {batch_id} is not in the history of {contract.dataset}'s table: it has not been "
        "published, or so long ago that its snapshot is no longer kept. `lakegate status "
        f"{batch_id}` says what is known of it."
    )


def batches_of_replay(
    contract: Contract, replay_id: str, past: History, store: ObjectStore, ledger: Ledger
) -> dict[str, str]:
    """The batches that a replay has published, with their partitions.

    Raises:
        RollbackRefusedError: it is still going on, has published nothing that the table remembers,
            or batches of it are among what the table has forgotten.
    """
    folder = ReplayFolder(store, replay_id)
    mark = OPEN_REPLAYS + replay_id
    if mark in store.keys(Zone.MANIFESTS, mark) and not folder.has(COMPLETED):
        raise RollbackRefusedError(
            f"Replay {replay_id} has not come to its end, and would go on publishing. Wait for it: "
            f"`lakegate status {replay_id}` says how far it is."
        )
    papers = {
        one.batch_id: one
        for one in (asked_batch(folder, number) for number in folder.numbers(ASKED))
        if one.dataset == contract.dataset
    }
    asked = {batch_id: one.asked_at for batch_id, one in papers.items()}
    found = {
        commit.batch_id: commit.partition
        for commit in past.commits
        if commit.replay_id == replay_id
        # A batch that had been judged before the replay carries no replay in its snapshot.
        or (commit.batch_id in asked and commit.committed_at >= asked[commit.batch_id])
    }
    marks = ledger.rolled_back(set(asked) - set(found))
    for one in marks.values():
        if one.replay_id == replay_id:
            found[one.batch_id] = one.partition
    forgotten = [
        paper.batch_id
        for paper in papers.values()
        if past.since is not None
        and paper.asked_at < past.since
        and paper.batch_id not in found.keys() | marks.keys()
        and _passed(store, contract, paper.batch_id, paper.partition)
    ]
    if found and forgotten:
        raise RollbackRefusedError(
            f"{len(forgotten)} of the batches of replay {replay_id} that may have been published "
            f"are no longer in the history of {contract.dataset}'s table, such as {forgotten[0]}: "
            "the replay can only be undone in part, batch by batch (--batch). What is in the "
            "history: " + ", ".join(sorted(found)) + "."
        )
    if not found:
        raise RollbackRefusedError(
            f"No batch of replay {replay_id} is in the history of {contract.dataset}'s table: it "
            "has published nothing there, or so long ago that its snapshots are no longer kept."
        )
    return found


def _passed(store: ObjectStore, contract: Contract, batch_id: str, partition: str) -> bool:
    try:
        return read_verdict(store, contract.dataset, partition, batch_id).passed
    except GateClosedError:
        # It was never judged, or nobody knows any more.
        return False
