"""The verdict: the durable outcome of a batch, and the only thing that opens the gate.

It is written last and in one put, so that its presence means that everything it names is there.
Publication re-reads it and goes by nothing else (DESIGN, invariant 2).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.contract.model import SetScope
from service_core.drift import Drift
from service_core.reasons import ReasonCode, Scope, Severity
from service_core.source_object import SourceObject
from service_core.validation.record import Finding, StagedFile

SCHEMA_VERSION = 1


class FileStatus(StrEnum):
    """What becomes of a source object once its batch is published."""

    PUBLISHED = "published"
    PARTIAL = "partial"
    QUARANTINED = "quarantined"


class FileOutcome(BaseModel):
    """What the batch decided about one source object.

    `rows_read == rows_accepted + rows_quarantined`, always. A file refused before its rows were
    read has zero of each.

    Attributes:
        published_by: The other batch whose rows of it were in the table when this one was judged.
            They stay there if the verdict failed; otherwise the publication takes them out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_object: SourceObject
    status: FileStatus
    rows_read: int
    rows_accepted: int
    rows_quarantined: int
    content_hash: str | None = None
    findings: tuple[Finding, ...] = ()
    drift: tuple[Drift, ...] = ()
    published_by: str | None = None

    @property
    def reason(self) -> ReasonCode | None:
        """What took a quarantined file: the finding against it, or what took most of its rows."""
        if self.status is not FileStatus.QUARANTINED:
            return None
        for finding in self.findings:
            if finding.scope is Scope.FILE:
                return finding.code
        return max(self.findings, key=lambda finding: finding.count).code


class CheckOutcome(BaseModel):
    """What became of one rule.

    Attributes:
        name: The rule's name, which is the asset check's.
        severity: As the contract declares it.
        passed: Whether the rule held for everything that was read.
        blocking: Whether its failure keeps the whole batch from being published. A row rule
            whose offenders were diverted has failed without blocking.
        scope: Where a set rule was judged; None for a row rule.
        rows_failed: Rows that broke it.
        figure: The figure of a set rule over the batch.
        expectation: What was expected, as a sentence.
        detail: What was found, as a sentence.
        samples: Up to 20 rows that broke it, as they arrived, personal columns masked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    severity: Severity
    passed: bool
    blocking: bool = False
    scope: SetScope | None = None
    rows_failed: int = 0
    figure: float | None = None
    expectation: str = ""
    detail: str = ""
    samples: tuple[dict[str, Any], ...] = ()


class Verdict(BaseModel):
    """One batch's verdict.

    Attributes:
        passed: Whether the batch may be published. False where a blocking check failed or no
            source object was accepted.
        judged_against: Id of the table's snapshot against which uniqueness was judged; None where
            the table had none, or the contract has no key.
        staged: Accepted rows, ready to be committed.
        quarantined_rows: Diverted rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    batch_id: str
    dataset: str
    partition: str
    contract_version: str
    contract_hash: str
    run_id: str
    replay_id: str | None = None
    engine: str
    passed: bool
    rows_read: int
    rows_accepted: int
    rows_quarantined: int
    files: tuple[FileOutcome, ...]
    checks: tuple[CheckOutcome, ...]
    drift: tuple[Drift, ...] = ()
    staged: tuple[StagedFile, ...] = ()
    quarantined_rows: tuple[StagedFile, ...] = ()
    judged_against: int | None = None
    judged_at: AwareDatetime

    @property
    def blocked_by(self) -> tuple[str, ...]:
        """The names of the checks that keep the batch from being published."""
        return tuple(c.name for c in self.checks if c.blocking and not c.passed)
