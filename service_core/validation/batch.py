"""Validation of one batch: every file opened once, its rows made canonical text or refused.

What the record names is durable before the record is, and the ledger moves last; so a run that
dies anywhere is simply run again, with the same outcome. Data errors end in quarantine; an error
of a service ends the run and is for the run's own retries.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from service_core.contract.model import Contract, FilePolicy
from service_core.giving_back import returns_of
from service_core.ledger import Move, State
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectStore
from service_core.quarantine import quarantine_file
from service_core.reasons import ReasonCode
from service_core.run import Run
from service_core.source_object import SourceObject
from service_core.validation.preparing import Ready, prepare_window
from service_core.validation.record import FileValidation, Finding, StagedFile, ValidationRecord
from service_core.validation.refusal import against_file
from service_core.validation.stored import write_record
from service_core.validation.writing import Writing

#: Files are read side by side because small ones cost a round trip each and hardly any work.
_READERS = 8
#: Files in hand at one time, by number and by landed bytes; a larger one is in hand alone.
_WINDOW_FILES = 256
_WINDOW_BYTES = 64 * 1024 * 1024

#: Reasons that are no fault of a file's content.
_NO_WORD_ON_ROWS = frozenset({ReasonCode.OBJECT_MISSING, ReasonCode.PROCESSING_FAILURE})


def validate_batch(
    contract: Contract, manifest: Manifest, store: ObjectStore, ledger: Ledger, run: Run
) -> ValidationRecord:
    """Validate every source object of a manifest.

    Receives them in the ledger; writes canonical text and malformed rows to the validated zone,
    refused files to quarantine, the record after both, and moves the ledger. A refused file of
    which another batch has rows in the table stays out of quarantine until they are withdrawn;
    where the refusal says nothing of those rows, they stay, and the file goes back to that batch.

    Returns:
        The record, as it lies in the validated zone.

    Raises:
        Whatever store or ledger raise for reasons of their own.
    """
    published = ledger.receive(manifest, run_id=run.id, at=run.clock())
    writing = Writing(contract, manifest, store, run)
    files: list[FileValidation] = []
    try:
        with ThreadPoolExecutor(_READERS, thread_name_prefix="validation") as pool:
            if manifest.given_up is not None:
                files = [_given_up(manifest.objects[0], manifest.given_up)]
            else:
                for window in _windows(manifest.objects):
                    files += _validate_window(contract, window, store, ledger, run, writing, pool)
            parts, malformed = writing.finish()
            _conserved(files, parts, malformed)
            files = [
                f.model_copy(update={"published_by": published.get(f.source_object.id)})
                for f in files
            ]
            refused = [f for f in files if not f.accepted and f.published_by is None]
            for _ in pool.map(lambda f: quarantine_file(store, f, manifest, run), refused):
                pass
    finally:
        writing.abandon()
    record = ValidationRecord(
        batch_id=manifest.batch_id,
        dataset=manifest.dataset,
        partition=manifest.partition,
        contract_version=manifest.contract_version,
        contract_hash=manifest.contract_hash,
        run_id=run.id,
        validated_at=run.clock(),
        files=tuple(files),
        parts=parts,
        malformed=malformed,
    )
    write_record(store, record)
    moves = [_move(f) for f in files if f.accepted or f.published_by is None]
    ledger.move(manifest.batch_id, moves, run_id=run.id, at=run.clock())
    if kept := {f.source_object.id: f.published_by for f in files if _keeps(f) and f.published_by}:
        back = returns_of(manifest.dataset, manifest.partition, kept, store)
        ledger.give_back(manifest.batch_id, back, run_id=run.id, at=run.clock())
    return record


def _keeps(file: FileValidation) -> bool:
    """Whether a file is refused in a way that says nothing of rows it has in the table. Once it is
    gone from raw, those are all there is of it."""
    return not file.accepted and file.findings[0].code in _NO_WORD_ON_ROWS


def _given_up(source_object: SourceObject, because: str) -> FileValidation:
    """A file that is refused without being read, for whoever read it has died of it."""
    return FileValidation(
        source_object=source_object,
        accepted=False,
        findings=(against_file(ReasonCode.PROCESSING_FAILURE, because),),
    )


def _conserved(
    files: list[FileValidation], parts: tuple[StagedFile, ...], malformed: StagedFile | None
) -> None:
    """Rows read are rows written, or this module has a defect and nothing must go on."""
    read = sum(f.rows_read for f in files)
    written = sum(p.rows for p in parts) + (malformed.rows if malformed else 0)
    if read != written:
        raise RuntimeError(f"{read} rows were read and {written} written: rows are not conserved")


def _windows(objects: tuple[SourceObject, ...]) -> Iterator[list[SourceObject]]:
    """The manifest's objects, in order, in groups that can be in hand at one time."""
    window: list[SourceObject] = []
    size = 0
    for source_object in objects:
        full = len(window) >= _WINDOW_FILES or size + source_object.size > _WINDOW_BYTES
        if window and full:
            yield window
            window, size = [], 0
        window.append(source_object)
        size += source_object.size
    if window:
        yield window


def _validate_window(
    contract: Contract,
    window: list[SourceObject],
    store: ObjectStore,
    ledger: Ledger,
    run: Run,
    writing: Writing,
    pool: ThreadPoolExecutor,
) -> list[FileValidation]:
    prepared = prepare_window(contract, window, store, run.scratch, writing.heads, pool)
    ready = [p for p in prepared if not isinstance(p, FileValidation)]
    duplicates = _duplicates(contract, ready, ledger)
    rows_read: dict[str, int] = {}
    for accepted in ready:
        object_id = accepted.opened.source_object.id
        if object_id not in duplicates:
            rows_read[object_id] = accepted.hand_on(writing)
    # Only now is every reason against their rows known.
    writing.delimited.flush()
    files: list[FileValidation] = []
    for file in prepared:
        if isinstance(file, FileValidation):
            files.append(file)
            continue
        source_object = file.opened.source_object
        duplicate = duplicates.get(source_object.id)
        findings = file.tally.findings if duplicate is None else (duplicate,)
        files.append(
            FileValidation(
                source_object=source_object,
                accepted=duplicate is None,
                rows_read=rows_read.get(source_object.id, 0),
                rows_malformed=sum(f.count for f in findings) if duplicate is None else 0,
                content_hash=file.opened.content_hash,
                findings=findings,
                drift=file.drift,
            )
        )
        file.discard()
    return files


def _duplicates(contract: Contract, ready: list[Ready], ledger: Ledger) -> dict[str, Finding]:
    """Claim the contents of files that are otherwise accepted; the finding against each, by its
    id, whose content another key holds."""
    if not ready or contract.landing.duplicates is not FilePolicy.QUARANTINE_FILE:
        return {}
    claims: dict[str, SourceObject] = {}
    for file in ready:
        claims.setdefault(file.opened.content_hash, file.opened.source_object)
    holders = ledger.claim_content(contract.dataset, claims)
    found = {}
    for file in ready:
        source_object = file.opened.source_object
        holder_id, holder_key = holders[file.opened.content_hash]
        if holder_key != source_object.key:
            found[source_object.id] = against_file(
                ReasonCode.DUPLICATE_CONTENT,
                f"the same content has been taken from {holder_key!r} (source object {holder_id})",
            )
    return found


def _move(file: FileValidation) -> Move:
    return Move(
        object_id=file.source_object.id,
        to=State.VALIDATED if file.accepted else State.QUARANTINED,
        reason=None if file.accepted else file.findings[0].code,
        rows_read=file.rows_read,
        content_hash=file.content_hash,
    )
