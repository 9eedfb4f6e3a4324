"""Quarantine of whole files: an untouched copy beside a record that says why and what to do.

The copy is of exactly the version that was refused, and lies there before the record does, so that
whoever finds a record finds the file. Doing it again changes nothing but the record's time.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.drift import Drift
from service_core.layout import Zone, quarantined_file_prefix
from service_core.manifest import Manifest
from service_core.naming import UNCLAIMED, ingest_job
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.reasons import REASONS, ReasonCode, Stage
from service_core.run import Run
from service_core.source_object import SourceObject
from service_core.validation.record import FileValidation, Finding
from service_core.verdict import FileOutcome, Verdict

SCHEMA_VERSION = 1


class QuarantineRecord(BaseModel):
    """Why a file is in quarantine: `record.json` beside its copy.

    Attributes:
        code, stage, message, line, column, sample: Of the first finding, which is the reason that
            the ledger shows.
        what_to_do: What can be done about that reason.
        findings: Everything that was found against the file.
        drift: How it differs from its contract.
        source_object, object_id: Which version of which object.
        content_hash: SHA-256 of its bytes; None where they were not read to their end.
        content_uri: The untouched copy; None where the object was gone before it could be copied.
        replay: How its rows can still be published.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    code: ReasonCode
    stage: Stage
    message: str
    line: int | None = None
    column: str | None = None
    sample: str | None = None
    what_to_do: str
    findings: tuple[Finding, ...]
    drift: tuple[Drift, ...] = ()
    object_id: str
    source_object: SourceObject
    content_hash: str | None = None
    content_uri: str | None = None
    dataset: str
    partition: str
    batch_id: str
    run_id: str
    replay_id: str | None = None
    contract_version: str
    contract_hash: str
    quarantined_at: AwareDatetime
    replay: str


def quarantine_file(
    store: ObjectStore,
    file: FileValidation | FileOutcome,
    batch: Manifest | Verdict,
    run: Run,
) -> str:
    """Copy a refused file to quarantine, then put its record beside it; returns the record's URI.

    Args:
        file: What was found about it, one finding at least; the first is the reason.
        batch: Which batch refused it.

    Raises:
        ValueError: there is no finding.
    """
    source_object, findings = file.source_object, file.findings
    if not findings:
        raise ValueError("a file cannot be quarantined without a reason")
    prefix = quarantined_file_prefix(batch.dataset, batch.partition, source_object.id)
    try:
        copy = store.copy_source(source_object, Zone.QUARANTINE, prefix + "content")
    except ObjectMissingError:
        # Deleted since: the record alone then says what became of it.
        copy = None
    first = findings[0]
    record = QuarantineRecord(
        code=first.code,
        stage=REASONS[first.code].stage,
        message=first.message,
        line=first.line,
        column=first.column,
        sample=first.sample,
        what_to_do=REASONS[first.code].remedy,
        findings=findings,
        drift=file.drift,
        object_id=source_object.id,
        source_object=source_object,
        content_hash=file.content_hash,
        content_uri=copy,
        dataset=batch.dataset,
        partition=batch.partition,
        batch_id=batch.batch_id,
        run_id=run.id,
        replay_id=run.replay_id,
        contract_version=batch.contract_version,
        contract_hash=batch.contract_hash,
        quarantined_at=run.clock(),
        replay=_way_back(source_object, batch, copy),
    )
    return store.write(
        Zone.QUARANTINE,
        prefix + "record.json",
        record.model_dump_json(indent=2).encode(),
        content_type="application/json",
    )


def _way_back(source_object: SourceObject, batch: Manifest | Verdict, copy: str | None) -> str:
    version = "" if source_object.version_id is None else f", version {source_object.version_id}"
    where = f"The file is still at {source_object.uri}{version}"
    if copy is None:
        return f"The file is gone from {source_object.uri}: land it again."
    if batch.dataset == UNCLAIMED:
        return f"{where}. Land it under a contract's prefix, or write a contract for this one."
    return (
        f"{where}, and copied to {copy}. Land a mended file under the same key. Or mend the "
        f"contract, and run `lakegate quarantine release --dataset {batch.dataset} "
        f'{source_object.id} --reason "..."`, or the job {ingest_job(batch.dataset)} for '
        f"partition {batch.partition}: what passes then is published and leaves quarantine."
    )
