"""The difference between what is published and what a contract would make of it: what a dry run and
a backtest report.

It says what publishing would do, and no more: a batch whose verdict fails, or whose rows the table
cannot take, changes nothing in the table, however much its rows differ. Values of personal columns
are never in it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.drift import DriftKind
from service_core.reasons import ReasonCode, Scope

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rows(_Part):
    """Rows as they are published and as they would be.

    Attributes:
        published: Rows in the table that come from the source objects in question, or from other
            versions of their keys that these would replace.
        would_be: What would be there in their place.
        unchanged, changed, added, removed: `published == unchanged + changed + removed`, and
            `would_be == unchanged + changed + added`. A row is changed where another has its key;
            in a contract without keys, where the same row of the same source object is another.
    """

    published: int = 0
    would_be: int = 0
    unchanged: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0

    def __add__(self, other: Rows) -> Rows:
        mine, theirs = self.model_dump(), other.model_dump()
        return Rows(**{name: mine[name] + theirs[name] for name in mine})


class SampleKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class RowSample(_Part):
    """One row that differs.

    Attributes:
        file, row: The key of its source object and its number in it; of the new one where it has
            changed.
        before, after: Its values, personal ones masked, long ones cut. Of a changed row only the
            columns of its key and those that differ.
    """

    kind: SampleKind
    file: str
    row: int | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """By column, for a person: `before → after` where it has changed."""
        if self.before is None or self.after is None:
            return self.before or self.after or {}
        values = {}
        for name, was in self.before.items():
            now = self.after.get(name)
            values[name] = was if was == now else f"{_said(was)} → {_said(now)}"
        return values


class ReasonChange(_Part):
    """How often one reason was found against a file or its rows, and how often it would be."""

    file: str
    code: ReasonCode
    scope: Scope
    before: int
    after: int


class CodeChange(_Part):
    """The same over all files; `before` and `after` count what `ReasonChange` counts.

    Attributes:
        gained, lost: Summed over the files for which the count grows, or shrinks.
    """

    code: ReasonCode
    scope: Scope
    before: int
    after: int
    gained: int
    lost: int


class CheckState(StrEnum):
    """A check that fails without blocking has diverted rows, or is a warning."""

    PASSED = "passed"
    FAILED = "failed"
    BLOCKS = "blocks"


class CheckChange(_Part):
    """A check whose outcome would be another; None where there is no such check.

    Attributes:
        rows_failed_before, rows_failed: Rows that broke it, and would. Those of before are of the
            whole batches that the source objects belong to.
        detail: What was found now, as a sentence; empty for several partitions together.
        partitions: In how many partitions.
    """

    name: str
    before: CheckState | None
    after: CheckState | None
    rows_failed_before: int = 0
    rows_failed: int = 0
    detail: str = ""
    partitions: int = 1


class DriftChange(_Part):
    """In how many files a way of differing from the contract was found, and would be."""

    kind: DriftKind
    column: str | None
    files_before: int
    files_after: int


class BatchOutcome(_Part):
    """What a batch would come to.

    Attributes:
        source_objects: How many it has.
        withheld: How many of them would be kept out, because a newer version of their key is there.
        blocked_by: The checks that would keep it from being published.
    """

    batch_id: str
    source_objects: int
    withheld: int
    passed: bool
    blocked_by: tuple[str, ...]
    rows_read: int
    rows_accepted: int
    rows_quarantined: int


class Difference(_Part):
    """The difference in one partition.

    Attributes:
        batches: The verdicts.
        changed_columns: In how many of the changed rows each column differs.
        codes: Reasons whose count changes, over all files.
        reasons: The same file by file, those that change most first; bounded.
        reasons_left_out: How many of them are not shown.
        samples: Rows; bounded.
    """

    partition: str
    batches: tuple[BatchOutcome, ...]
    rows: Rows
    changed_columns: dict[str, int]
    codes: tuple[CodeChange, ...]
    reasons: tuple[ReasonChange, ...]
    reasons_left_out: int
    checks: tuple[CheckChange, ...]
    drift: tuple[DriftChange, ...]
    samples: tuple[RowSample, ...]


class Total(_Part):
    """All partitions together.

    Attributes:
        partitions: How many were looked at; `batches`, how many batches they make, and
            `blocked`, how many of these would not be published.
    """

    partitions: int
    source_objects: int
    batches: int
    blocked: int
    rows: Rows
    changed_columns: dict[str, int]
    codes: tuple[CodeChange, ...]
    checks: tuple[CheckChange, ...]
    drift: tuple[DriftChange, ...]


class Report(_Part):
    """What a dry run or a backtest found: `difference.json` of a replay.

    Attributes:
        replay_id: The replay; None for a backtest.
        contract_version, contract_hash: Of the contract that was tried.
        refusal: Why the published table could not take rows under it; None where it can.
        partitions: In the order in which they were looked at; those without files are left out.
    """

    schema_version: int = SCHEMA_VERSION
    dataset: str
    replay_id: str | None
    contract_version: str
    contract_hash: str
    made_at: AwareDatetime
    refusal: str | None
    total: Total
    partitions: tuple[Difference, ...]

    @property
    def blocked(self) -> bool:
        """Whether anything would be kept from being published."""
        return self.refusal is not None or self.total.blocked > 0

    @property
    def loses(self) -> bool:
        """Whether rows that are published would not be any more."""
        return self.total.rows.removed > 0

    @property
    def outcome(self) -> str:
        """All of it in a sentence."""
        rows = self.total.rows
        if self.refusal is not None:
            return "The table cannot take rows under this contract; nothing would be published."
        if not self.differs:
            return "Publishing would make no difference."
        parts = [
            f"{count:,} {word}"
            for count, word in (
                (rows.removed, "removed"), (rows.added, "added"), (rows.changed, "changed"),
            )
            if count
        ]  # fmt: skip
        said = f"Rows: {', '.join(parts)}." if parts else "No row would be another."
        if self.total.blocked:
            said += f" {self.total.blocked:,} of {self.total.batches:,} batches would be blocked."
        return said

    @property
    def differs(self) -> bool:
        """Whether publishing would make any difference, to rows or to what is said of them."""
        rows, total = self.total.rows, self.total
        return bool(
            rows.added or rows.removed or rows.changed or total.codes or total.checks
            or total.drift or self.blocked
        )  # fmt: skip


def _said(value: Any) -> str:
    return "null" if value is None else str(value)
