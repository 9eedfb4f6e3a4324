"""Conclusion: a judged batch becomes durable, its verdict last.

The order is what makes it repeatable: staged rows and quarantine first, under names of this attempt
alone; then the verdict in one put; then the ledger. Whoever dies in between leaves nothing that a
verdict names and that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from service_core.contract.model import Contract
from service_core.curation.check_outcomes import Conservation, Findings, check_outcomes
from service_core.curation.judgement import type_name
from service_core.curation.settlement import Settlement
from service_core.curation.tally import Samples, Tally
from service_core.curation.workbench import Files
from service_core.drift import Drift, DriftKind
from service_core.giving_back import returns_of, stored_verdict
from service_core.layout import Zone, batch_prefix, verdict_key
from service_core.ledger import Move, State
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectStore
from service_core.quarantine import quarantine_file
from service_core.reasons import ReasonCode, Scope
from service_core.run import Run
from service_core.validation.record import FileValidation, Finding, ValidationRecord
from service_core.verdict import (
    SCHEMA_VERSION,
    CheckOutcome,
    FileOutcome,
    FileStatus,
    Verdict,
)

_COPIES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch whose rows have been judged.

    Attributes:
        tallies: What was counted, by source object id.
        settlement: What was decided about files.
        samples: Rows that broke a rule, by check name.
        duplicates: Findings of rows that gave way to others, by source object id.
        files: Parquet files of the rows of source objects that stay.
        snapshot: The table's, against which uniqueness was judged.
    """

    tallies: Mapping[str, Tally]
    settlement: Settlement
    samples: Samples
    duplicates: Mapping[str, Sequence[Finding]]
    files: Files
    snapshot: int | None


def conclude(
    contract: Contract,
    manifest: Manifest,
    record: ValidationRecord,
    judged: Judged,
    store: ObjectStore,
    run: Run,
    *,
    engine: str,
) -> Verdict:
    """Write everything that a judged batch leaves, and its verdict last.

    The ledger is left to the caller (`record_in_ledger`), because not every engine reaches it.
    """
    files = tuple(_outcome(contract, file, judged) for file in record.files)
    findings = _findings(manifest, record, judged, files)
    checks = check_outcomes(contract, findings)
    blocked_by = [c.name for c in checks if c.blocking and not c.passed]
    conserved = findings.conservation.held
    # Rows that stay published because the verdict failed must not lie in quarantine as well.
    standing = any(f.published_by for f in files)
    held_back = blocked_by and (findings.accepted or standing or not conserved)
    if held_back:
        files = tuple(_blocked(file, checks) for file in files)
        if conserved:
            whole = Conservation(findings.conservation.read, 0, 0, findings.conservation.read)
            checks = check_outcomes(contract, replace(findings, conservation=whole))
    staged, quarantined = ((), ()) if held_back else judged.files.ship()
    _take_whole(record, manifest, files, store, run)
    verdict = Verdict(
        batch_id=manifest.batch_id,
        dataset=manifest.dataset,
        partition=manifest.partition,
        contract_version=contract.version,
        contract_hash=contract.hash,
        run_id=run.id,
        replay_id=run.replay_id,
        engine=engine,
        passed=not blocked_by,
        rows_read=sum(f.rows_read for f in files),
        rows_accepted=sum(f.rows_accepted for f in files),
        rows_quarantined=sum(f.rows_quarantined for f in files),
        files=files,
        checks=checks,
        drift=_batch_drift(files),
        staged=staged,
        quarantined_rows=quarantined,
        judged_against=judged.snapshot,
        judged_at=run.clock(),
    )
    store.write(
        Zone.DQ_RESULTS,
        verdict_key(verdict.dataset, verdict.partition, verdict.batch_id),
        verdict.model_dump_json(indent=1).encode(),
        content_type="application/json",
    )
    return verdict


def standing_verdict(contract: Contract, manifest: Manifest, store: ObjectStore) -> Verdict | None:
    """The verdict that the batch has already under this very contract, if it can be read."""
    verdict = stored_verdict(store, manifest.dataset, manifest.partition, manifest.batch_id)
    if verdict is None:
        return None
    same = (verdict.schema_version, verdict.batch_id, verdict.contract_hash) == (
        SCHEMA_VERSION,
        manifest.batch_id,
        contract.hash,
    )
    return verdict if same else None


def still_holds(verdict: Verdict, record: ValidationRecord, store: ObjectStore) -> bool:
    """Whether what a verdict speaks of is still so: the same rows read, and its files there."""
    read = {f.source_object.id: (f.rows_read, f.accepted) for f in record.files}
    for file in verdict.files:
        rows, accepted = read.get(file.source_object.id, (-1, False))
        if rows != file.rows_read or (file.rows_accepted and not accepted):
            return False
    if len(read) != len(verdict.files):
        return False
    prefix = batch_prefix(verdict.dataset, verdict.partition, verdict.batch_id)
    there = {store.uri(Zone.CURATED, key) for key in store.keys(Zone.CURATED, prefix)}
    return all(staged.uri in there for staged in verdict.staged)


def record_in_ledger(
    verdict: Verdict, record: ValidationRecord, store: ObjectStore, ledger: Ledger, run: Run
) -> None:
    """Move the files that validation accepted to where the verdict has them. May be repeated.

    A file of which another batch has published rows goes to quarantine only when these are taken
    out. Where the verdict failed, such files go back to the batches that published them.
    """
    accepted = {f.source_object.id for f in record.files if f.accepted}
    moves = [
        Move(
            object_id=file.source_object.id,
            to=State.QUARANTINED if file.status is FileStatus.QUARANTINED else State.CURATED,
            reason=file.reason,
            rows_read=file.rows_read,
            rows_quarantined=file.rows_quarantined,
            content_hash=file.content_hash,
        )
        for file in verdict.files
        if file.source_object.id in accepted
        and (file.published_by is None or file.status is not FileStatus.QUARANTINED)
    ]
    if moves:
        ledger.move(verdict.batch_id, moves, run_id=run.id, at=run.clock())
    published_by = {f.source_object.id: f.published_by for f in verdict.files if f.published_by}
    if not verdict.passed and published_by:
        back = returns_of(verdict.dataset, verdict.partition, published_by, store)
        ledger.give_back(verdict.batch_id, back, run_id=run.id, at=run.clock())


def _outcome(contract: Contract, file: FileValidation, judged: Judged) -> FileOutcome:
    """What becomes of one file if nothing keeps the batch back."""
    owner = file.source_object.id
    tally = judged.tallies.get(owner, Tally())
    duplicates = judged.duplicates.get(owner, ())
    findings = (
        *file.findings,
        *_row_findings(tally),
        *duplicates,
    )
    accepted = judged.settlement.rows.get(owner, 0) if file.accepted else 0
    gone = judged.settlement.gone.get(owner)
    if gone is not None:
        findings = (gone, *findings)
    if not file.accepted or gone is not None or (file.rows_read and not accepted):
        status, accepted = FileStatus.QUARANTINED, 0
    else:
        status = FileStatus.PARTIAL if accepted < file.rows_read else FileStatus.PUBLISHED
    return FileOutcome(
        source_object=file.source_object,
        status=status,
        rows_read=file.rows_read,
        rows_accepted=accepted,
        rows_quarantined=file.rows_read - accepted,
        content_hash=file.content_hash,
        findings=findings,
        drift=(*file.drift, *_type_drift(contract, tally)),
        published_by=file.published_by,
    )


def _row_findings(tally: Tally) -> Iterable[Finding]:
    for (code, column), occurrence in tally.reasons.items():
        yield Finding(
            code=code,
            scope=Scope.ROW,
            message=occurrence.message,
            line=occurrence.line,
            column=column,
            sample=occurrence.sample,
            count=occurrence.count,
        )


def _type_drift(contract: Contract, tally: Tally) -> Iterable[Drift]:
    # In the contract's order: that of the tally depends on where blocks were cut.
    for column in contract.columns:
        if (occurrence := tally.drifted.get(column.name)) is None:
            continue
        kind = type_name(column.type)
        line = f", the first in line {occurrence.line}" if occurrence.line else ""
        yield Drift(
            kind=DriftKind.TYPE,
            column=column.name,
            detail=f"{occurrence.count} values are no spelling of {kind}{line}",
            policy=contract.drift.type,
            rows=occurrence.count,
        )


def _findings(
    manifest: Manifest,
    record: ValidationRecord,
    judged: Judged,
    files: Sequence[FileOutcome],
) -> Findings:
    gone = judged.settlement.gone
    refused = {f.source_object.id for f in record.files if not f.accepted}
    return Findings(
        tallies=judged.tallies,
        settlement=judged.settlement,
        conservation=Conservation(
            read=sum(f.rows_read for f in record.files),
            accepted=judged.files.accepted,
            quarantined=judged.files.quarantined,
            whole=sum(
                f.rows_read
                for f in record.files
                if f.source_object.id in gone or f.source_object.id in refused
            ),
        ),
        accepted=sum(f.status is not FileStatus.QUARANTINED for f in files),
        whole=sum(f.source_object.id in gone or f.source_object.id in refused for f in files),
        delivered=len(files),
        samples=judged.samples,
        keys={o.id: o.key for o in manifest.objects},
    )


def _blocked(file: FileOutcome, checks: Sequence[CheckOutcome]) -> FileOutcome:
    """A file whose batch is kept back; one that is quarantined whole anyhow stays as it is."""
    if any(finding.scope is Scope.FILE for finding in file.findings) and (
        file.status is FileStatus.QUARANTINED
    ):
        return file
    by = [check for check in checks if check.blocking and not check.passed]
    finding = Finding(
        code=ReasonCode.BATCH_BLOCKED,
        scope=Scope.FILE,
        message="; ".join(f"{check.name}: {check.detail}" for check in by),
    )
    return file.model_copy(
        update={
            "status": FileStatus.QUARANTINED,
            "rows_accepted": 0,
            "rows_quarantined": file.rows_read,
            "findings": (finding, *file.findings),
        }
    )


def _batch_drift(files: Iterable[FileOutcome]) -> tuple[Drift, ...]:
    """Each kind of drift of each column once, with the rows of all files."""
    merged: dict[tuple[DriftKind, str | None], tuple[Drift, int]] = {}
    for file in files:
        for drift in file.drift:
            place = (drift.kind, drift.column)
            if place not in merged:
                merged[place] = (drift, 1)
                continue
            first, count = merged[place]
            rows = None if first.rows is None or drift.rows is None else first.rows + drift.rows
            merged[place] = (first.model_copy(update={"rows": rows}), count + 1)
    return tuple(
        drift
        if count == 1
        else drift.model_copy(update={"detail": f"{drift.detail} (and {count - 1} more files)"})
        for drift, count in merged.values()
    )


def _take_whole(
    record: ValidationRecord,
    manifest: Manifest,
    files: Iterable[FileOutcome],
    store: ObjectStore,
    run: Run,
) -> None:
    """Copy to quarantine the files that curation took whole."""
    accepted = {f.source_object.id for f in record.files if f.accepted}
    whole = [
        file
        for file in files
        if file.source_object.id in accepted
        and file.published_by is None
        and file.status is FileStatus.QUARANTINED
        and file.findings[0].scope is Scope.FILE
    ]

    if whole:
        with ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
            list(pool.map(lambda file: quarantine_file(store, file, manifest, run), whole))
