"""What quarantine holds: files and diverted rows, each with whether it is still held.

The bucket says what was ever refused and why, and the ledger who decides about it now: a file is
held as long as the ledger has it in quarantine, and a row as long as the batch that diverted it
still owns its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from service_core.gate import GateClosedError, read_verdict
from service_core.layout import (
    Zone,
    quarantined_file_prefix,
    quarantined_files_prefix,
    quarantined_rows_of_partition,
)
from service_core.ledger import State
from service_core.ports import Ledger, ObjectMissingError, ObjectStore
from service_core.quarantine import QuarantineRecord
from service_core.reasons import Scope
from service_core.replay.release import ReleasedFile, released_file
from service_core.verdict import FileOutcome, FileStatus

_READERS = 8
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file in quarantine.

    Attributes:
        record: Why it is there.
        released: How it left, where a replay or a backfill brought it out.
        held: Whether it is still refused.
    """

    record: QuarantineRecord
    released: ReleasedFile | None
    held: bool


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Diverted rows of one file in one batch.

    Attributes:
        outcome: What the batch decided about the file.
        held: Whether the batch's decision is still the one that counts.
    """

    dataset: str
    partition: str
    batch_id: str
    outcome: FileOutcome
    held: bool

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows for which reason; a row can have several."""
        found: dict[str, int] = {}
        for finding in self.outcome.findings:
            if finding.scope is Scope.ROW:
                found[finding.code.value] = found.get(finding.code.value, 0) + finding.count
        return found


def held_files(
    store: ObjectStore,
    ledger: Ledger,
    dataset: str,
    *,
    partition: str | None = None,
    code: str | None = None,
    released_too: bool = False,
) -> Iterator[HeldFile]:
    """Files in quarantine, in the order of partitions.

    Args:
        code: Only those that a finding of this reason code is against.
        released_too: Those as well that have left.
    """
    prefix = f"{dataset}/files/" if partition is None else quarantined_files_prefix(
        dataset, partition
    )  # fmt: skip
    keys = (key for key in store.keys(Zone.QUARANTINE, prefix) if key.endswith("/record.json"))
    with ThreadPoolExecutor(_READERS) as pool:
        while some := list(islice(keys, _AT_ONCE)):
            records = [r for r in pool.map(lambda key: _record(store, key), some) if r is not None]
            yield from _held(store, ledger, records, code, released_too)


def held_file(
    store: ObjectStore, ledger: Ledger, dataset: str, partition: str, object_id: str
) -> HeldFile | None:
    """One file, if it was ever in quarantine."""
    key = quarantined_file_prefix(dataset, partition, object_id) + "record.json"
    record = _record(store, key)
    if record is None:
        return None
    return next(_held(store, ledger, [record], None, True), None)


def held_rows(
    store: ObjectStore,
    ledger: Ledger,
    dataset: str,
    *,
    partition: str | None = None,
    code: str | None = None,
    released_too: bool = False,
) -> Iterator[HeldRows]:
    """Files of which rows were diverted, batch by batch; arguments as for `held_files`."""
    prefix = f"{dataset}/rows/" if partition is None else quarantined_rows_of_partition(
        dataset, partition
    )  # fmt: skip
    seen: tuple[str, ...] = ()
    for key in store.keys(Zone.QUARANTINE, prefix):
        place = tuple(key.split("/")[2:4])
        if place == seen or len(place) < 2:
            continue
        seen = place
        for rows in rows_of_batch(store, ledger, dataset, *place):
            if (rows.held or released_too) and (code is None or code in rows.reasons):
                yield rows


def rows_of_batch(
    store: ObjectStore, ledger: Ledger, dataset: str, partition: str, batch_id: str
) -> list[HeldRows]:
    """The diverted rows of one batch, file by file."""
    try:
        verdict = read_verdict(store, dataset, partition, batch_id)
    except GateClosedError:
        return []
    files = [file for file in verdict.files if file.rows_quarantined and not _taken_whole(file)]
    entries = ledger.entries(file.source_object.id for file in files)
    return [
        HeldRows(
            dataset=dataset,
            partition=partition,
            batch_id=batch_id,
            outcome=file,
            held=(entry := entries.get(file.source_object.id)) is not None
            and entry.batch_id == batch_id
            and entry.state is not State.SUPERSEDED,
        )
        for file in files
    ]


def _held(
    store: ObjectStore,
    ledger: Ledger,
    records: Sequence[QuarantineRecord],
    code: str | None,
    released_too: bool,
) -> Iterator[HeldFile]:
    entries = ledger.entries(record.object_id for record in records)
    for record in records:
        entry = entries.get(record.object_id)
        held = entry is None or entry.state is State.QUARANTINED
        if not held and not released_too:
            continue
        if code is not None and code not in {finding.code.value for finding in record.findings}:
            continue
        released = (
            None
            if held
            else released_file(store, record.dataset, record.partition, record.object_id)
        )
        yield HeldFile(record, released, held)


def _record(store: ObjectStore, key: str) -> QuarantineRecord | None:
    try:
        return QuarantineRecord.model_validate_json(store.read(Zone.QUARANTINE, key))
    except (ObjectMissingError, ValueError):
        # Not ours, or of another release: it is still there for whoever looks into the bucket.
        return None


def _taken_whole(file: FileOutcome) -> bool:
    return file.status is FileStatus.QUARANTINED and any(
        finding.scope is Scope.FILE for finding in file.findings
    )
