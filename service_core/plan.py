"""What processing some objects would take: their batches, the engine of each, time and money.

Nothing is decided here. Batches are cut as arrivals are, and engines chosen as the step `curated`
chooses them, so that a plan cannot say anything else than what happens. The seconds are estimates
of the figures below and of those in `service_core.engine_choice`, and never a promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from service_core.arrival.cutting import cut_batches, newest_first
from service_core.contract.model import Contract, Engine, FileFormat
from service_core.engine_choice import IN_PROCESS_VCPUS, EngineChoice, Prices, choose_engine
from service_core.source_object import SourceObject
from service_core.validation.landing import judge_landing

# Measured on 2 vCPUs of an x86-64 server, with `benchmarks/run_overhead.py`, `path_vs_copy.py` and
# `small_files.py`.

#: From a run's request until it reads: its process, its imports, its definitions, its inventory.
RUN_START_SECONDS = 3.0
#: Landed bytes that validation reads in a second.
VALIDATION_BYTES_PER_SECOND = {
    FileFormat.CSV: 60_000_000,
    FileFormat.TSV: 60_000_000,
    FileFormat.JSON_LINES: 90_000_000,
    FileFormat.JSON_ARRAY: 13_000_000,
    FileFormat.PARQUET: 60_000_000,
}
#: What a source object costs beside its bytes: opening it, and its way through the ledger.
SECONDS_PER_FILE = 0.006
#: The commit.
PUBLICATION_SECONDS = 0.2

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One run.

    Attributes:
        bytes: Landed size of its source objects.
        choice: The engine, and why.
        seconds: From the run's request to publication.
        cost: In the currency of the prices: this process, and Glue where it curates.
    """

    partition: str
    files: int
    bytes: int
    choice: EngineChoice
    seconds: float
    cost: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that would go to quarantine for its place, name or size alone."""

    key: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done.

    Attributes:
        batches: In the order in which they would be requested.
        refusals: Objects that are in a batch, and would be refused unread.
    """

    batches: tuple[PlannedBatch, ...]
    refusals: tuple[Refusal, ...]

    @property
    def seconds(self) -> float:
        """All batches, one after the other."""
        return sum(batch.seconds for batch in self.batches)

    @property
    def cost(self) -> float:
        """Of all batches."""
        return sum(batch.cost for batch in self.batches)


def plan(
    contract: Contract,
    objects: Iterable[SourceObject],
    *,
    prices: Prices,
    default: Engine | None = None,
    override: Engine | None = None,
) -> Plan:
    """What processing objects of one data set would take.

    Args:
        objects: Each with its key, size and partition.
        prices: What the estimates are made of.
        default: `settings.engine`.
        override: The engine that the run's configuration would name.
    """
    batches, refusals = [], []
    for batch in newest_first(cut_batches(objects, contract.landing)):
        found = {o.id: judge_landing(contract, o) for o in batch}
        refusals += [
            Refusal(o.key, findings[0].code.value, findings[0].message)
            for o in batch
            if (findings := found[o.id])
        ]
        kept = [o for o in batch if not found[o.id]]
        size = sum(o.size for o in kept)
        choice = choose_engine(
            contract,
            bytes=size,
            files=len(kept),
            override=override,
            default=default,
            prices=prices,
        )
        batches.append(_planned(contract, batch, size, choice, prices))
    return Plan(tuple(batches), tuple(refusals))


def _planned(
    contract: Contract,
    batch: tuple[SourceObject, ...],
    size: int,
    choice: EngineChoice,
    prices: Prices,
) -> PlannedBatch:
    remote = choice.engine in (Engine.GLUE, Engine.STEP_FUNCTIONS)
    curation = choice.glue if remote else choice.in_process
    seconds = (
        RUN_START_SECONDS
        + len(batch) * SECONDS_PER_FILE
        + size / VALIDATION_BYTES_PER_SECOND[contract.format.type]
        + curation.seconds
        + PUBLICATION_SECONDS
    )
    own = seconds / _HOUR * IN_PROCESS_VCPUS * prices.vcpu_hour
    return PlannedBatch(
        partition=batch[0].partition,
        files=len(batch),
        bytes=size,
        choice=choice,
        seconds=seconds,
        cost=own + (choice.glue.cost if remote else 0.0),
    )
