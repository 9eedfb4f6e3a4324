"""Rollback: a table goes back to the state before a batch or a replay, and only that is undone.

What it means is decided in `resources.table_rollback`, against the table as it is when the new
snapshot is committed: the batches' rows go; rows that their commits took out come back unless a
batch that stands has decided about their file or key since; commits of other batches survive.
Nothing comes back beside a row with the same unique key: then the rollback is refused and nothing
is changed.

The order of the steps is what makes them repeatable. The table's one commit names the batches in
its summary, so that a repetition finds them undone. Only then the ledger is told, from what is in
the table by then: first that each batch is rolled back, which keeps the gate closed to it for good,
then its objects, then the key heads; the event goes last. Whoever dies in between leaves a table
that is right and says so itself, and running the rollback again makes up for the rest.

In the ledger, an object goes back to the batch whose rows of it are in the table now. Where there
are none it is in quarantine again if it was, and else `rolled_back`: known, so that no arrival is
made of it, and to be had by any replay, which judges it as another batch. An object that another
batch has taken over stays with that. What the undone batch itself quarantined stays there, unless
rows of it are published again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from service_core.contract.model import Contract, PublicationMode
from service_core.events import Event, EventName
from service_core.gate import GateClosedError, read_verdict
from service_core.ledger import HistoryLine, KeyHead, Return, State
from service_core.ports import Events, Ledger, ObjectStore, Upkeep
from service_core.publication import replaced_by
from service_core.replay import audit
from service_core.replay.folder import REQUEST, ReplayFolder
from service_core.rollback_batches import batches_of_replay, named_batch
from service_core.rolled_back import RollbackMark, TakenBack, standing_before
from service_core.run import Run
from service_core.undo import Reach, RollbackRefusedError, Share, Undone
from service_core.verdict import FileOutcome, Verdict

_READERS = 8


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback came to, or would.

    Attributes:
        partitions: Of each batch that was named, by its id.
        undone: What happened in the table.
        dry_run: Whether nothing was changed.
    """

    dataset: str
    partitions: Mapping[str, str]
    replay_id: str | None
    reason: str
    undone: Undone
    dry_run: bool


def roll_back(
    contract: Contract,
    *,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Upkeep,
    run: Run,
    batch_id: str | None = None,
    replay_id: str | None = None,
    reason: str = "",
    events: Events | None = None,
    dry_run: bool = False,
) -> RolledBack:
    """Undo a batch, or all batches of a replay (or of a backfill) in one snapshot.

    May be called as often as wanted: what was undone before is found undone, and whatever was left
    to do after the commit is made up for.

    Args:
        contract: The one in force; its unique keys are kept.
        batch_id, replay_id: One of the two.
        reason: Why, for the ledger, the events and the replay's audit record.
        events: Told last, of each batch, and again by every repetition.
        dry_run: Only say what would change.

    Raises:
        RollbackRefusedError: it cannot be done, or there is nothing of that name to undo.
    """
    if (batch_id is None) == (replay_id is None):
        raise ValueError("either a batch or a replay is rolled back")
    past = catalog.history(contract)
    partitions = (
        named_batch(contract, batch_id, past, ledger)
        if batch_id is not None
        else batches_of_replay(contract, str(replay_id), past, store, ledger)
    )
    memory = TableMemory(contract, store, ledger)
    for one, partition in partitions.items():
        # What cannot be read now would be missed after the commit.
        memory.verdict(one, partition)
    undone = catalog.roll_back(
        contract,
        partitions,
        memory,
        run_id=run.id,
        replay_id=replay_id,
        dry_run=dry_run,
    )
    done = RolledBack(contract.dataset, partitions, replay_id, reason, undone, dry_run)
    if not dry_run:
        _Settling(contract, done, memory, store, ledger, catalog, run).settle()
        if events is not None:
            events.send(_events(done, run))
        if replay_id is not None:
            _audit(done, store, run)
    return done


@dataclass(slots=True)
class TableMemory:
    """Implements `undo.Memory` over the verdicts and the ledger."""

    contract: Contract
    store: ObjectStore
    ledger: Ledger
    _verdicts: dict[str, Verdict] = field(default_factory=dict)

    def verdict(self, batch_id: str, partition: str) -> Verdict:
        """A batch's verdict.

        Raises:
            RollbackRefusedError: there is none that can be read.
        """
        if batch_id not in self._verdicts:
            try:
                found = read_verdict(self.store, self.contract.dataset, partition, batch_id)
            except GateClosedError as unread:
                raise RollbackRefusedError(
                    f"What batch {batch_id} decided is not known any more, so that nothing before "
                    f"it can be undone: {unread}"
                ) from unread
            self._verdicts[batch_id] = found
        return self._verdicts[batch_id]

    def reach(self, batch_id: str, partition: str, withheld: frozenset[str]) -> Reach:
        """See `undo.Memory`."""
        verdict = self.verdict(batch_id, partition)
        keys, objects = replaced_by(self.contract, verdict, withheld)
        return Reach(keys, objects, frozenset(f.source_object.key for f in verdict.files))

    def rolled_back(self, batch_ids: Iterable[str]) -> frozenset[str]:
        """See `undo.Memory`."""
        return frozenset(self.ledger.rolled_back(batch_ids))

    def withdrawn(self, object_ids: Iterable[str], undone: frozenset[str]) -> Mapping[str, str]:
        """See `undo.Memory`."""
        return {
            object_id: entry.batch_id
            for object_id, entry in self.ledger.entries(object_ids).items()
            if entry.state is State.QUARANTINED and entry.batch_id not in undone
        }


@dataclass(slots=True)
class _Settling:
    """Brings the ledger to where the table is after a rollback."""

    contract: Contract
    done: RolledBack
    memory: TableMemory
    store: ObjectStore
    ledger: Ledger
    catalog: Upkeep
    run: Run
    _undone: frozenset[str] = frozenset()

    def settle(self) -> None:
        at = self.run.clock()
        self.ledger.mark_rolled_back([self._mark(b, p, at) for b, p in self._batches])
        for partition in sorted(set(self.done.partitions.values())):
            self._settle_partition(partition, at)

    @property
    def _batches(self) -> list[tuple[str, str]]:
        return sorted(self.done.partitions.items())

    def _settle_partition(self, partition: str, at: datetime) -> None:
        of = {
            batch_id: self.memory.verdict(batch_id, partition)
            for batch_id, its in self._batches
            if its == partition
        }
        files: dict[str, list[tuple[str, FileOutcome]]] = {}
        for batch_id, verdict in of.items():
            for file in verdict.files:
                files.setdefault(file.source_object.id, []).append((batch_id, file))
        replacing = self.contract.publication is PublicationMode.REPLACE
        keys = {f.source_object.key for v in of.values() for f in v.files}
        shares = self.catalog.holders(
            self.contract,
            partition,
            source_keys=keys if replacing else (),
            source_objects=files,
        )
        published = {share.object_id: share for share in shares}
        entries = self.ledger.entries({*files, *published})
        histories = self._histories(object_id for object_id in files if object_id not in published)
        self._know_undone(
            {e.batch_id for e in entries.values()}
            | {e.superseded_by for e in entries.values() if e.superseded_by}
            | {e.published_batch_id for e in entries.values() if e.published_batch_id}
            | {line.batch_id for lines in histories.values() for line in lines}
        )
        by_key: dict[str, list[str]] = {}
        for batch_id, verdict in of.items():
            for file in verdict.files:
                by_key.setdefault(file.source_object.key, []).append(batch_id)
        returns = [
            self._taken_back(
                object_id,
                # Another version is marked too: its being superseded may be recorded late.
                by_key.get(entry.key, ()),
                files.get(object_id, ()),
                published.get(object_id),
                histories.get(object_id, ()),
            )
            for object_id, entry in entries.items()
        ]
        if returns:
            self.ledger.take_back(returns, self._undone, run_id=self.run.id, at=at)
        if replacing:
            self._lower(keys, shares)

    def _know_undone(self, batch_ids: set[str]) -> None:
        known = self.done.undone.undone | frozenset(self.done.partitions) | self._undone
        self._undone = known | frozenset(self.ledger.rolled_back(batch_ids - known))

    def _histories(self, object_ids: Iterable[str]) -> dict[str, tuple[HistoryLine, ...]]:
        wanted = list(object_ids)
        with ThreadPoolExecutor(_READERS) as readers:
            return dict(zip(wanted, readers.map(self.ledger.history, wanted), strict=True))

    def _taken_back(
        self,
        object_id: str,
        batches: Iterable[str],
        files: Iterable[tuple[str, FileOutcome]],
        share: Share | None,
        history: tuple[HistoryLine, ...],
    ) -> TakenBack:
        published = self._return(object_id, share.batch_id, share.partition) if share else None
        if published is None:
            published = self._without_rows(object_id, files)
        state, batch_id, reason = standing_before(history, self._undone)
        if published is not None:
            now = f"of this object, the rows of batch {published[0].batch_id} are in the table"
        else:
            now = "of this object, no rows are in the table"
        why = f" ({self.done.reason})" if self.done.reason else ""
        return TakenBack(
            object_id=object_id,
            batches=tuple(batches),
            published=published[0] if published else None,
            published_hash=published[1] if published else None,
            state=state,
            batch_id=batch_id,
            reason=reason,
            note=f"Batch {', '.join(batches)} was rolled back{why}; {now}.",
        )

    def _return(self, object_id: str, batch_id: str, partition: str) -> tuple[Return, str | None]:
        """That an object goes to a batch, with what that said of it, where it is still known."""
        back = Return(object_id=object_id, batch_id=batch_id)
        try:
            verdict = self.memory.verdict(batch_id, partition)
        except RollbackRefusedError:
            return back, None
        for file in verdict.files:
            if file.source_object.id == object_id:
                counts = {
                    "contract_version": verdict.contract_version,
                    "rows_read": file.rows_read,
                    "rows_published": file.rows_accepted,
                    "rows_quarantined": file.rows_quarantined,
                }
                return back.model_copy(update=counts), verdict.contract_hash
        return back, None

    def _without_rows(
        self, object_id: str, files: Iterable[tuple[str, FileOutcome]]
    ) -> tuple[Return, str | None] | None:
        """An object that a batch has published though it held no row: the table cannot tell."""
        for batch_id, file in files:
            before = file.published_by
            if before is None or before in self._undone:
                continue
            found = self._return(object_id, before, self.done.partitions[batch_id])
            if found[0].rows_published == 0 and found[0].rows_quarantined == 0:
                return found
        return None

    def _lower(self, keys: Iterable[str], shares: Iterable[Share]) -> None:
        """Let the key heads that the undone batches have raised name what is in the table."""
        heads: dict[str, KeyHead | None] = dict.fromkeys(keys)
        for share in shares:
            if share.key not in heads:
                continue
            verdict = self.memory.verdict(share.batch_id, share.partition)
            for file in verdict.files:
                source = file.source_object
                if source.id != share.object_id:
                    continue
                head = KeyHead(
                    key=source.key,
                    object_id=source.id,
                    last_modified=source.last_modified,
                    sequence=source.sequence,
                    batch_id=share.batch_id,
                )
                standing = heads[share.key]
                if standing is None or standing.order < head.order:
                    heads[share.key] = head
        self.ledger.lower_key_heads(self.contract.dataset, heads, self._undone)

    def _mark(self, batch_id: str, partition: str, at: datetime) -> RollbackMark:
        return RollbackMark(
            batch_id=batch_id,
            dataset=self.done.dataset,
            partition=partition,
            at=at,
            snapshot_id=self.done.undone.snapshot_id,
            rollback_id=self.run.id,
            replay_id=self.done.replay_id,
            reason=self.done.reason,
        )


def _events(done: RolledBack, run: Run) -> list[Event]:
    undone = done.undone
    out = {b: sum(s.rows for s in undone.out if s.batch_id == b) for b in undone.batches}
    return [
        Event(
            name=EventName.ROLLED_BACK,
            dataset=done.dataset,
            partition=partition,
            batch_id=batch_id,
            run_id=run.id,
            replay_id=done.replay_id,
            at=run.clock(),
            detail={
                "table": undone.table,
                # A string: as a JSON number it would lose its last digits in many a reader.
                "snapshot_id": str(undone.snapshot_id or ""),
                "batches": len(done.partitions),
                "rows_removed": undone.rows_out,
                "rows_restored": undone.rows_back,
                "rows_removed_of_batch": out.get(batch_id),
                "reason": done.reason,
                "repeated": not undone.committed,
            },
        )
        for batch_id, partition in sorted(done.partitions.items())
    ]


def _audit(done: RolledBack, store: ObjectStore, run: Run) -> None:
    """Append to a replay's record that it was undone; a backfill has none."""
    folder = ReplayFolder(store, str(done.replay_id))
    if not folder.has(REQUEST) or audit.ROLLED_BACK in audit.facts(folder):
        return
    undone = done.undone
    why = f" ({done.reason})" if done.reason else ""
    audit.append(
        folder,
        audit.AuditRecord(
            replay_id=folder.replay_id,
            fact=audit.ROLLED_BACK,
            at=run.clock(),
            said=f"The replay was rolled back{why}: {undone.rows_out:,} rows of its "
            f"{len(done.partitions)} batches were taken out, and {undone.rows_back:,} rows before "
            "it came back.",
            detail={
                "rollback": run.id,
                "snapshot_id": str(undone.snapshot_id or ""),
                "batches": sorted(done.partitions),
            },
        ),
    )
