"""Publication: a batch whose verdict passed becomes visible, once, and the ledger comes to know.

The order of the steps is what makes them repeatable. Key heads are raised before the commit, so
that of two publishers with two versions of one key, whichever commits last sees the other. What
may be published is decided anew after every reading of the table, so that nothing can change
between the decision and the commit without the commit failing. The ledger moves only after the
commit, from what the commit says it did, so that dying in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service_core.announcements import announce_withdrawn
from service_core.contract.model import Contract, PublicationMode
from service_core.events import Event, EventName
from service_core.gate import GateClosedError, open_gate, read_verdict
from service_core.ledger import Entry, KeyHead, Move, State
from service_core.ports import (
    Catalog,
    Events,
    Ledger,
    ObjectMissingError,
    ObjectStore,
    Publication,
)
from service_core.quarantine import quarantine_file
from service_core.reasons import Scope
from service_core.rolled_back import UNMARKED
from service_core.run import Run
from service_core.staged_keys import StagedKeys
from service_core.undo import BatchRolledBackError
from service_core.verdict import FileOutcome, FileStatus, Verdict


class StaleVerdictError(Exception):
    """The partition's published rows have changed since the batch was judged, and now hold keys
    of its own. Curate it again, and it will be judged against what is published now."""


@dataclass(frozen=True, slots=True)
class Withholding:
    """Which of a batch's source objects must not appear, and why.

    Attributes:
        outdated: A newer version of the key is published, or about to be; by object id, with
            that version's id.
        taken: Another batch has taken the object over and decides about it; with that batch's id.
    """

    outdated: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.outdated) | frozenset(self.taken)


@dataclass(frozen=True, slots=True)
class PublishedBatch:
    """What publishing a batch came to.

    Attributes:
        publication: The commit.
        verdict: The verdict that allowed it.
        withheld: Ids of the batch's accepted objects whose rows were kept out, or had to give
            way to a newer version's since.
        rows_withheld: Their accepted rows.
    """

    publication: Publication
    verdict: Verdict
    withheld: tuple[str, ...] = ()
    rows_withheld: int = 0


def accepted_files(verdict: Verdict) -> tuple[FileOutcome, ...]:
    """The files of a verdict that are to be published, wholly or in part."""
    return tuple(f for f in verdict.files if f.status is not FileStatus.QUARANTINED)


def key_heads(verdict: Verdict) -> tuple[KeyHead, ...]:
    """The claim of each accepted object to be its key's newest."""
    return tuple(
        KeyHead(
            key=f.source_object.key,
            object_id=f.source_object.id,
            last_modified=f.source_object.last_modified,
            sequence=f.source_object.sequence,
            batch_id=verdict.batch_id,
        )
        for f in accepted_files(verdict)
    )


def decide_withheld(
    contract: Contract,
    verdict: Verdict,
    heads: Mapping[str, KeyHead],
    entries: Mapping[str, Entry],
) -> Withholding:
    """Which of a batch's objects must not appear.

    Args:
        contract: In `append` mode every version of a key stands for itself, and none is outdated.
        verdict: The batch's.
        heads: The newest version of each key, by key, where one stands.
        entries: The ledger's entries of the batch's objects, by id.
    """
    outdated = {}
    if contract.publication is PublicationMode.REPLACE:
        for claim in key_heads(verdict):
            head = heads.get(claim.key)
            if head and head.object_id != claim.object_id and head.order > claim.order:
                outdated[claim.object_id] = head.object_id
    taken = {}
    for outcome in verdict.files:
        entry = entries.get(outcome.source_object.id)
        if entry and entry.batch_id != verdict.batch_id:
            taken[entry.object_id] = entry.batch_id
    return Withholding(outdated, taken)


def replaced_by(
    contract: Contract, verdict: Verdict, withheld: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """The source keys, and the ids of source objects, whose published rows a batch takes out.

    In `replace` mode, rows of an accepted object's key go, whatever version they came from; in
    either mode rows of the batch's own objects go, of those too that it has now quarantined, so
    that no row is ever both published and quarantined. A withheld object touches nothing.
    """
    taken = [f for f in verdict.files if f.source_object.id not in withheld]
    keys = (
        frozenset(f.source_object.key for f in taken if f.status is not FileStatus.QUARANTINED)
        if contract.publication is PublicationMode.REPLACE
        else frozenset[str]()
    )
    return keys, frozenset(f.source_object.id for f in taken)


def publish_batch(
    contract: Contract,
    *,
    partition: str,
    batch_id: str,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
    events: Events | None = None,
) -> PublishedBatch:
    """Publish a batch, or find that it is published already.

    May be called as often as wanted and by anybody: whatever was done before is found done, and
    whatever was left undone is made up for.

    Args:
        contract: The contract in force.
        partition, batch_id: Which batch.
        events: Told last, and again by every repetition: whoever listens goes by the batch id.

    Raises:
        GateClosedError: the batch may not be published, or has been rolled back.
        StaleVerdictError: it has to be curated again first.
    """
    if (mark := ledger.rolled_back([batch_id]).get(batch_id)) is not None:
        raise _rolled_back(contract, batch_id, mark.sentence)
    verdict = read_verdict(store, contract.dataset, partition, batch_id)
    verdict = open_gate(verdict, batch_id=batch_id, contract=contract, partition=partition)
    desk = _Desk(contract, verdict, store, ledger, catalog, run)
    try:
        publication = catalog.publish(contract, verdict, desk.decide)
    except ObjectMissingError as missing:
        raise GateClosedError(
            f"Batch {batch_id} of {contract.dataset} is not published: {missing} "
            "Curate the batch again."
        ) from missing
    except BatchRolledBackError as undone:
        raise _rolled_back(contract, batch_id, UNMARKED) from undone
    decision = desk.decision
    if decision is None:
        # Committed before. Objects that another batch has taken over since are that batch's now.
        decision = desk.weigh()
    withdrawn = _withdraw(verdict, decision, store, ledger, run)
    _record(verdict, publication, decision, ledger, run)
    desk.give_way(decision)
    ids = frozenset(decision.outdated) if _was_committed(publication) else decision.ids
    withheld = sorted(ids & {f.source_object.id for f in accepted_files(verdict)})
    if events is not None and withdrawn:
        announce_withdrawn(verdict, withdrawn, events, run)
    if events is not None and publication.snapshot_id is not None:
        events.send([_published(verdict, publication, run, len(withheld))])
    return PublishedBatch(
        publication=replace(publication, withheld=tuple(sorted(ids))),
        verdict=verdict,
        withheld=tuple(withheld),
        rows_withheld=sum(f.rows_accepted for f in verdict.files if f.source_object.id in ids),
    )


@dataclass(slots=True)
class _Desk:
    """Decides, as often as it is asked, what of one batch may appear."""

    contract: Contract
    verdict: Verdict
    store: ObjectStore
    ledger: Ledger
    catalog: Catalog
    run: Run
    decision: Withholding | None = None

    def decide(self, snapshot_id: int | None) -> frozenset[str]:
        """Ids to withhold from a table whose current snapshot is that."""
        withheld = self.weigh().ids
        if snapshot_id is not None and snapshot_id != self.verdict.judged_against:
            self._refuse_stale(withheld)
        return withheld

    def weigh(self) -> Withholding:
        """Look at key heads and owners, and decide."""
        objects = [f.source_object for f in self.verdict.files]
        entries = self.ledger.entries([o.id for o in objects])
        dataset = self.contract.dataset
        if self.contract.publication is not PublicationMode.REPLACE:
            heads: Mapping[str, KeyHead] = {}
        else:
            # Each time: a rollback may have lowered the head that an earlier look gave way to.
            mine = [
                head
                for head in key_heads(self.verdict)
                if (entry := entries.get(head.object_id)) is None
                or entry.batch_id == self.verdict.batch_id
            ]
            heads = self.ledger.raise_key_heads(dataset, mine)
            heads = {head.key: head for head in heads.values()}
        self.decision = decide_withheld(self.contract, self.verdict, heads, entries)
        return self.decision

    def give_way(self, recorded: Withholding) -> None:
        """Mark as superseded what a newer version replaced between the commit and the ledger.

        That version's publisher found no published object to mark then.
        """
        if self.contract.publication is not PublicationMode.REPLACE:
            return
        keys = [f.source_object.key for f in accepted_files(self.verdict)]
        heads = self.ledger.key_heads(self.contract.dataset, keys)
        now = decide_withheld(self.contract, self.verdict, heads, {})
        late = {i: o for i, o in now.outdated.items() if i not in recorded.ids}
        newer = {head.object_id: head.batch_id for head in heads.values()}
        for source_id, by_object in late.items():
            self.ledger.supersede(
                [source_id], by_batch=newer[by_object], run_id=self.run.id, at=self.run.clock()
            )

    def _refuse_stale(self, withheld: frozenset[str]) -> None:
        if not self.contract.unique_keys or not self.verdict.rows_accepted:
            return
        staged = StagedKeys(self.store, self.verdict, withheld, self.run.scratch)
        replaced = [f for f in self.verdict.files if f.source_object.id not in withheld]
        keys = (
            [f.source_object.key for f in replaced if f.status is not FileStatus.QUARANTINED]
            if self.contract.publication is PublicationMode.REPLACE
            else []
        )
        for columns in self.contract.unique_keys:
            published = self.catalog.published_keys(
                self.contract,
                self.verdict.partition,
                columns,
                except_source_keys=keys,
                except_source_objects=[f.source_object.id for f in replaced],
            )
            for batch in published:
                if overlap := staged.first_overlap(columns, batch):
                    raise StaleVerdictError(
                        f"Batch {self.verdict.batch_id} of {self.contract.dataset} was judged "
                        f"before other rows of partition {self.verdict.partition} were published, "
                        f"and row {overlap[1]} of {overlap[0]!r} among those has a "
                        f"{', '.join(columns)} of its own. Curate the batch again."
                    )


def _withdraw(
    verdict: Verdict, decision: Withholding, store: ObjectStore, ledger: Ledger, run: Run
) -> list[FileOutcome]:
    """Quarantine the files that had to wait until the rows that an earlier batch had published of
    them were out of the table."""
    files = [
        f
        for f in verdict.files
        if f.status is FileStatus.QUARANTINED
        and f.published_by is not None
        and f.source_object.id not in decision.taken
    ]
    whole = [f for f in files if f.findings[0].scope is Scope.FILE]
    for file in whole:
        quarantine_file(store, file, verdict, run)
    moves = [
        Move(
            object_id=file.source_object.id,
            to=State.QUARANTINED,
            reason=file.reason,
            rows_read=file.rows_read,
            rows_quarantined=file.rows_quarantined,
            content_hash=file.content_hash,
        )
        for file in files
    ]
    if moves:
        ledger.move(verdict.batch_id, moves, run_id=run.id, at=run.clock())
    return whole


def _record(
    verdict: Verdict, publication: Publication, decision: Withholding, ledger: Ledger, run: Run
) -> None:
    """Bring the ledger to where the table is."""
    at = run.clock()
    moves = []
    for outcome in accepted_files(verdict):
        source_id = outcome.source_object.id
        if source_id in decision.taken:
            continue
        outdated = source_id in decision.outdated
        moves.append(
            Move(
                object_id=source_id,
                to=State.SUPERSEDED if outdated else State.PUBLISHED,
                rows_read=outcome.rows_read,
                rows_published=0 if outdated else outcome.rows_accepted,
                rows_quarantined=outcome.rows_quarantined,
                content_hash=outcome.content_hash,
            )
        )
    if moves:
        ledger.move(verdict.batch_id, moves, run_id=run.id, at=at)
    kept_out = {} if _was_committed(publication) else decision.taken
    for source_id, owner in sorted(kept_out.items()):
        ledger.note(
            source_id,
            verdict.batch_id,
            f"Not published by batch {verdict.batch_id}: batch {owner} has taken it over.",
            run_id=run.id,
            at=at,
        )
    gone = list(publication.superseded)
    if publication.rows_removed:
        # Objects that this batch has quarantined had rows in the table by another; they are out.
        gone += [
            f.source_object.id
            for f in verdict.files
            if f.status is FileStatus.QUARANTINED and f.source_object.id not in decision.taken
        ]
    if gone:
        ledger.supersede(gone, by_batch=verdict.batch_id, run_id=run.id, at=at)


def _rolled_back(contract: Contract, batch_id: str, sentence: str) -> GateClosedError:
    return GateClosedError(f"Batch {batch_id} of {contract.dataset} is not published: {sentence}")


def _was_committed(publication: Publication) -> bool:
    return publication.snapshot_id is not None and not publication.committed


def _published(verdict: Verdict, publication: Publication, run: Run, withheld: int) -> Event:
    return Event(
        name=EventName.PUBLISHED,
        dataset=verdict.dataset,
        partition=verdict.partition,
        batch_id=verdict.batch_id,
        run_id=run.id,
        replay_id=verdict.replay_id,
        at=run.clock(),
        detail={
            "table": publication.table,
            # A string: as a JSON number it would lose its last digits in many a reader.
            "snapshot_id": str(publication.snapshot_id),
            "rows_added": publication.rows_added,
            "rows_removed": publication.rows_removed,
            "source_objects": len(accepted_files(verdict)) - withheld,
            "superseded": len(publication.superseded),
            "repeated": not publication.committed,
        },
    )
