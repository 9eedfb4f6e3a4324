"""The audit record of a replay: facts, each appended once, none ever changed.

A fact has a name of its own, so that a tick which died after writing it and before going on finds
it written. The papers sort by time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.ledger import Entry, State
from service_core.reasons import ReasonCode
from service_core.replay.folder import AUDIT, ReplayFolder
from service_core.source_object import SourceObject

REQUESTED = "requested"
RESOLVED = "resolved"
COMPLETED = "completed"
ROLLED_BACK = "rolled_back"
BATCH = "batch-"


def batch_fact(number: int) -> str:
    """The name of the fact that a batch has come to its end."""
    return f"{BATCH}{number:05d}"


class Outcome(StrEnum):
    """What became of a source object that was replayed."""

    PUBLISHED = "published"
    PARTIAL = "partial"
    QUARANTINED = "quarantined"
    KEPT = "kept"
    SUPERSEDED = "superseded"
    UNFINISHED = "unfinished"

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.PUBLISHED: "All of its rows are published.",
    Outcome.PARTIAL: "It is published, without rows that are in quarantine.",
    Outcome.QUARANTINED: "It is in quarantine.",
    Outcome.KEPT: "The batch may not be published; what was published before stays as it was.",
    Outcome.SUPERSEDED: "A newer version of its key has taken its place.",
    Outcome.UNFINISHED: "Its run ended before a decision; run it again.",
}


class Standing(BaseModel):
    """Where an object stood at one moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State
    batch_id: str
    contract_version: str
    reason: ReasonCode | None = None
    rows_published: int | None = None
    rows_quarantined: int | None = None
    published_batch_id: str | None = None

    @classmethod
    def of(cls, entry: Entry | None) -> Standing | None:
        """An entry's; None where the ledger knew nothing."""
        if entry is None:
            return None
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})

    @property
    def rows(self) -> int:
        """Rows in the table."""
        in_table = self.state is State.PUBLISHED or self.published_batch_id is not None
        return (self.rows_published or 0) if in_table else 0


class Fate(BaseModel):
    """What happened to one source object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_id: str
    key: str
    version_id: str | None
    outcome: Outcome
    before: Standing | None
    after: Standing | None


class AuditRecord(BaseModel):
    """One fact.

    Attributes:
        said: The fact as a sentence.
        detail: What is particular to it, JSON values only.
        outcomes: How many objects came to what.
        rows_before, rows_after: Their rows in the table.
        fates: Object by object.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    replay_id: str
    fact: str
    at: AwareDatetime
    said: str
    detail: dict[str, Any] = {}
    outcomes: dict[Outcome, int] = {}
    rows_before: int = 0
    rows_after: int = 0
    fates: tuple[Fate, ...] = ()


def facts(folder: ReplayFolder) -> frozenset[str]:
    """The names of the facts that are recorded."""
    return frozenset(_fact_of(name) for name in folder.names(AUDIT))


def append(folder: ReplayFolder, record: AuditRecord) -> None:
    """Record a fact. Whether it is recorded already is for the caller to ask: see `facts`."""
    at = f"{record.at.astimezone(UTC):%Y%m%dT%H%M%S%f}Z"
    folder.write_once(f"{AUDIT}/{at}-{record.fact}.json", record)


def records(folder: ReplayFolder) -> Iterator[AuditRecord]:
    """Every fact by time, one in memory at a time; one that two processes recorded at once is
    given once."""
    seen: set[str] = set()
    for name in folder.names(AUDIT):
        if _fact_of(name) in seen:
            continue
        seen.add(_fact_of(name))
        record = folder.read(f"{AUDIT}/{name}", AuditRecord)
        if record is not None:
            yield record


def batch_record(
    replay_id: str,
    number: int,
    batch_id: str,
    partition: str,
    objects: Iterable[SourceObject],
    before: Mapping[str, Entry],
    after: Mapping[str, Entry],
    *,
    at: datetime,
    run_id: str | None,
    failed: str | None,
) -> AuditRecord:
    """What one batch came to, object by object.

    Args:
        before: The ledger's entries when the batch was asked for.
        after: Those of now.
        failed: Why its run ended without a decision, where it did.
    """
    fates = tuple(_fate(one, before.get(one.id), after.get(one.id), batch_id) for one in objects)
    outcomes = Counter(fate.outcome for fate in fates)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return AuditRecord(
        replay_id=replay_id,
        fact=batch_fact(number),
        at=at,
        said=f"Batch {batch_id} of partition {partition} came to its end: {counted}."
        + (f" {failed}" if failed else ""),
        detail={"batch_id": batch_id, "partition": partition, "run_id": run_id, "failed": failed},
        outcomes=dict(sorted(outcomes.items())),
        rows_before=sum(fate.before.rows for fate in fates if fate.before),
        rows_after=sum(fate.after.rows for fate in fates if fate.after),
        fates=fates,
    )


def _fate(
    source_object: SourceObject, before: Entry | None, after: Entry | None, batch_id: str
) -> Fate:
    return Fate(
        object_id=source_object.id,
        key=source_object.key,
        version_id=source_object.version_id,
        outcome=_outcome(before, after, batch_id),
        before=Standing.of(before),
        after=Standing.of(after),
    )


def _outcome(before: Entry | None, after: Entry | None, batch_id: str) -> Outcome:
    if after is None:
        return Outcome.UNFINISHED
    match after.state:
        case State.QUARANTINED:
            return Outcome.QUARANTINED
        case State.SUPERSEDED:
            return Outcome.SUPERSEDED
        case State.PUBLISHED:
            same = before is not None and before.published_batch_id == after.published_batch_id
            if same and after.published_batch_id != batch_id:
                return Outcome.KEPT
            return Outcome.PARTIAL if after.rows_quarantined else Outcome.PUBLISHED
        case _:
            return Outcome.UNFINISHED


def _fact_of(name: str) -> str:
    return name.partition("-")[2].removesuffix(".json")
