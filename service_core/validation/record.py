"""What validation found out about a batch, file by file: its durable record.

Curation starts from this record, on whichever engine, so it holds all that curation needs to know
beside the canonical text itself.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.drift import Drift
from service_core.reasons import ReasonCode, Scope
from service_core.source_object import SourceObject


class Finding(BaseModel):
    """One reason found in one file, with how often and where it was first met.

    Attributes:
        code: The reason.
        scope: Whether the file goes for it, or the rows counted.
        message: One sentence about the first occurrence.
        line: Its line in the file, from 1, where known.
        column: The column concerned, where there is one. For malformed JSON, the message holds
            the character column.
        sample: The offending text, cut to 200 characters; None where the column is personal.
        count: How many rows; 1 for a file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: ReasonCode
    scope: Scope
    message: str
    line: int | None = None
    column: str | None = None
    sample: str | None = None
    count: int = 1


class FileValidation(BaseModel):
    """What became of one source object in validation.

    Attributes:
        source_object: Which.
        accepted: Whether its rows went on; otherwise the file is quarantined.
        rows_read: Records found in it, malformed ones among them; 0 where it was refused before
            its rows were read.
        rows_malformed: Records without shape, on their way to row quarantine.
        content_hash: SHA-256 of the landed bytes, in hexadecimal; None where it was not read.
        findings: Why it, or rows of it, were refused.
        drift: How it differs from the contract.
        published_by: The other batch whose rows of it are in the table; it goes to quarantine
            only once these have been taken out, with the publication of this batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_object: SourceObject
    accepted: bool
    rows_read: int = 0
    rows_malformed: int = 0
    content_hash: str | None = None
    findings: tuple[Finding, ...] = ()
    drift: tuple[Drift, ...] = ()
    published_by: str | None = None


class StagedFile(BaseModel):
    """A Parquet file that a step wrote: `uri` (s3://bucket/key), rows and bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    rows: int
    bytes: int


class ValidationRecord(BaseModel):
    """The outcome of validating one batch; `parts` hold the canonical text of accepted files,
    in the manifest's order of objects, rows of one object together and in the file's order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_id: str
    dataset: str
    partition: str
    contract_version: str
    contract_hash: str
    run_id: str
    validated_at: AwareDatetime
    files: tuple[FileValidation, ...]
    parts: tuple[StagedFile, ...]
    malformed: StagedFile | None = None
