"""Release: what a replay published leaves quarantine, marked and never deleted.

It happens after the commit and is made up for by every repetition, so that nothing is marked that
is not published, and nothing published stays unmarked. Only work that is done once more can find
anything in quarantine, so batches of arrivals are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.gate import GateClosedError, read_verdict
from service_core.layout import (
    Zone,
    quarantined_file_prefix,
    quarantined_files_prefix,
    quarantined_rows_of_partition,
    released_file_key,
    released_rows_prefix,
)
from service_core.manifest import Manifest, Origin
from service_core.ports import Ledger, ObjectMissingError, ObjectStore
from service_core.publication import PublishedBatch, accepted_files
from service_core.quarantine import QuarantineRecord
from service_core.reasons import Scope
from service_core.run import Run
from service_core.verdict import FileOutcome, FileStatus, Verdict


class ReleasedFile(BaseModel):
    """That a file left quarantine: `released.json` beside its record.

    Attributes:
        replay_id: The replay, or the backfill, that released it; None where a person ran it.
        batch_id, run_id: Which batch published it, and in which run.
        quarantined_by, code: The batch that had refused it, and why.
        rows_quarantined: Rows of it that are still refused, in row quarantine under `batch_id`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_id: str
    key: str
    replay_id: str | None
    batch_id: str
    run_id: str
    released_at: AwareDatetime
    quarantined_by: str
    code: str
    contract_version: str
    rows_published: int
    rows_quarantined: int


class ReleasedRows(BaseModel):
    """What another batch made of the diverted rows of one source object.

    Attributes:
        rows: Diverted rows that the earlier batch had.
        still_quarantined: Those of the batch that released them.
        reasons: Why they were diverted then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_id: str
    key: str
    rows: int
    still_quarantined: int
    reasons: tuple[str, ...]


class RowsReleased(BaseModel):
    """That diverted rows of a batch have been judged anew with their files, and published where
    they passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quarantined_by: str
    replay_id: str | None
    batch_id: str
    run_id: str
    released_at: AwareDatetime
    contract_version: str
    objects: tuple[ReleasedRows, ...]


def release(
    manifest: Manifest, done: PublishedBatch, store: ObjectStore, ledger: Ledger, run: Run
) -> None:
    """Mark what a published batch has brought out of quarantine. May be repeated."""
    if manifest.origin is Origin.SENSOR:
        return
    published = {
        file.source_object.id: file
        for file in accepted_files(done.verdict)
        if file.source_object.id not in done.publication.withheld
    }
    if not published:
        return
    for object_id in _quarantined(store, done.verdict) & published.keys():
        _release_file(published[object_id], done.verdict, store, ledger, run)
    for batch_id in _batches_with_rows(store, done.verdict):
        _release_rows(batch_id, published, done.verdict, store, run)


def released_file(
    store: ObjectStore, dataset: str, partition: str, object_id: str
) -> ReleasedFile | None:
    """How a quarantined file was released, if it was."""
    try:
        body = store.read(Zone.QUARANTINE, released_file_key(dataset, partition, object_id))
    except ObjectMissingError:
        return None
    return ReleasedFile.model_validate_json(body)


def released_rows(
    store: ObjectStore, dataset: str, partition: str, batch_id: str
) -> Iterator[RowsReleased]:
    """Every note on the diverted rows of a batch."""
    for key in store.keys(Zone.QUARANTINE, released_rows_prefix(dataset, partition, batch_id)):
        yield RowsReleased.model_validate_json(store.read(Zone.QUARANTINE, key))


def _quarantined(store: ObjectStore, verdict: Verdict) -> set[str]:
    """Ids of the partition's source objects that have a record in file quarantine."""
    prefix = quarantined_files_prefix(verdict.dataset, verdict.partition)
    return {
        key[len(prefix) :].removesuffix("/record.json")
        for key in store.keys(Zone.QUARANTINE, prefix)
        if key.endswith("/record.json")
    }


def _release_file(
    file: FileOutcome, verdict: Verdict, store: ObjectStore, ledger: Ledger, run: Run
) -> None:
    object_id = file.source_object.id
    place = (verdict.dataset, verdict.partition, object_id)
    body = store.read(Zone.QUARANTINE, quarantined_file_prefix(*place) + "record.json")
    record = QuarantineRecord.model_validate_json(body)
    before = released_file(store, *place)
    if before is not None and before.batch_id == verdict.batch_id:
        return
    note = ReleasedFile(
        object_id=object_id,
        key=file.source_object.key,
        replay_id=verdict.replay_id,
        batch_id=verdict.batch_id,
        run_id=run.id,
        released_at=run.clock(),
        quarantined_by=record.batch_id,
        code=record.code.value,
        contract_version=verdict.contract_version,
        rows_published=file.rows_accepted,
        rows_quarantined=file.rows_quarantined,
    )
    store.write(
        Zone.QUARANTINE,
        released_file_key(*place),
        note.model_dump_json(indent=2).encode(),
        content_type="application/json",
    )
    by = f"replay {verdict.replay_id}" if verdict.replay_id else f"run {run.id}"
    ledger.note(
        object_id,
        verdict.batch_id,
        f"Released from quarantine by {by}: it had been refused for {record.code.value} by batch "
        f"{record.batch_id}.",
        run_id=run.id,
        at=run.clock(),
    )


def _batches_with_rows(store: ObjectStore, verdict: Verdict) -> list[str]:
    """Other batches that have diverted rows in the partition, and no note by this one yet."""
    prefix = quarantined_rows_of_partition(verdict.dataset, verdict.partition)
    mine = f"/released/{verdict.batch_id}.json"
    batches: dict[str, bool] = {}
    for key in store.keys(Zone.QUARANTINE, prefix):
        batch_id = key[len(prefix) :].partition("/")[0]
        batches[batch_id] = batches.get(batch_id, False) or key.endswith(mine)
    batches.pop(verdict.batch_id, None)
    return sorted(batch_id for batch_id, noted in batches.items() if not noted)


def _release_rows(
    batch_id: str,
    published: dict[str, FileOutcome],
    verdict: Verdict,
    store: ObjectStore,
    run: Run,
) -> None:
    try:
        earlier = read_verdict(store, verdict.dataset, verdict.partition, batch_id)
    except GateClosedError:
        # Rows of an attempt that left no verdict are nobody's.
        return
    objects = tuple(
        ReleasedRows(
            object_id=file.source_object.id,
            key=file.source_object.key,
            rows=file.rows_quarantined,
            still_quarantined=published[file.source_object.id].rows_quarantined,
            reasons=tuple(sorted({f.code.value for f in file.findings})),
        )
        for file in earlier.files
        if file.source_object.id in published and _diverted_by_row(file)
    )
    if not objects:
        return
    note = RowsReleased(
        quarantined_by=batch_id,
        replay_id=verdict.replay_id,
        batch_id=verdict.batch_id,
        run_id=run.id,
        released_at=run.clock(),
        contract_version=verdict.contract_version,
        objects=objects,
    )
    prefix = released_rows_prefix(verdict.dataset, verdict.partition, batch_id)
    store.write_once(
        Zone.QUARANTINE,
        f"{prefix}{verdict.batch_id}.json",
        note.model_dump_json(indent=2).encode(),
        content_type="application/json",
    )


def _diverted_by_row(file: FileOutcome) -> bool:
    """Whether rows of a file went to row quarantine, rather than the file whole."""
    whole = file.status is FileStatus.QUARANTINED and any(
        finding.scope is Scope.FILE for finding in file.findings
    )
    return bool(file.rows_quarantined) and not whole
