"""Asking for a batch of a replay: its manifest, its pending mark, and who owned its objects before.

The order is what makes it repeatable: where the objects stood, the manifest, the pending mark, the
paper that says the batch is asked for, and only then their reception. Whoever dies in between
leaves a batch that is either not asked for yet, or whose mark finds it again.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.arrival import write_manifest
from service_core.contract.kept import keep_contract, named_contract
from service_core.contract.model import Contract
from service_core.ledger import Entry
from service_core.manifest import Manifest, Origin
from service_core.ports import Ledger, ObjectStore, PendingBatch
from service_core.replay.anew import as_anew, overtaken
from service_core.replay.folder import ASKED, BEFORE, ReplayFolder, numbered
from service_core.replay.request import ReplayRequest
from service_core.replay.resolution import PlannedBatch, planned_batch


class Asked(BaseModel):
    """That a batch's run is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    dataset: str
    partition: str
    batch_id: str
    manifest_uri: str
    contract_version: str
    contract_hash: str
    objects: int
    asked_at: AwareDatetime


class Before(BaseModel):
    """The ledger's entries of a batch's objects before the replay took them over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[Entry, ...]

    @property
    def by_id(self) -> dict[str, Entry]:
        return {entry.object_id: entry for entry in self.entries}


def ask(
    folder: ReplayFolder,
    request: ReplayRequest,
    contract: Contract,
    ledger: Ledger,
    number: int,
    *,
    at: datetime,
) -> PendingBatch:
    """Make a batch of a resolved replay durable and mark it pending.

    Args:
        contract: By which it will be judged.
        number: Which of the replay's batches.
    """
    store = folder.store
    planned = planned_batch(folder, number)
    entries = ledger.entries(o.id for o in planned.objects)
    folder.write_once(numbered(BEFORE, number), Before(entries=tuple(entries.values())))
    manifest = manifest_of(request, planned, contract, at=at)
    if manifest.anew is None and overtaken(manifest, store, ledger):
        manifest = as_anew(manifest, request.replay_id)
    keep_contract(store, contract)
    batch = PendingBatch(
        dataset=manifest.dataset,
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        manifest_uri=write_manifest(store, manifest),
        requested_at=at,
        replay_id=request.replay_id,
    )
    ledger.open_batch(batch)
    asked = Asked(
        number=number,
        dataset=batch.dataset,
        partition=batch.partition,
        batch_id=batch.batch_id,
        manifest_uri=batch.manifest_uri,
        contract_version=manifest.contract_version,
        contract_hash=manifest.contract_hash,
        objects=len(manifest.objects),
        asked_at=at,
    )
    folder.write_once(numbered(ASKED, number), asked)
    ledger.receive(manifest, run_id=None, at=at)
    return batch


def manifest_of(
    request: ReplayRequest, planned: PlannedBatch, contract: Contract, *, at: datetime
) -> Manifest:
    """The manifest of one of a replay's batches. Forced work is always another batch."""
    return Manifest(
        dataset=contract.dataset,
        partition=planned.partition,
        contract_version=contract.version,
        contract_hash=contract.hash,
        origin=Origin.REPLAY,
        objects=planned.objects,
        created_at=at,
        replay_id=request.replay_id,
        anew=request.replay_id if request.options.force else None,
        named_contract=request.options.contract_version is not None,
    )


def contract_for(
    request: ReplayRequest, in_force: Contract, store: ObjectStore, folder: Path
) -> Contract:
    """The contract by which a replay is judged: the one in force, unless it names another.

    Args:
        folder: Scratch, for as long as the contract is used.

    Raises:
        ContractNotKeptError: the version that it names is not kept, or means several contracts.
    """
    if (name := request.options.contract_version) is None:
        return in_force
    return named_contract(store, request.dataset, name, folder)


def asked_batch(folder: ReplayFolder, number: int) -> Asked:
    """A batch that is asked for.

    Raises:
        ValueError: it is not.
    """
    asked = folder.read(numbered(ASKED, number), Asked)
    if asked is None:
        raise ValueError(f"{folder.uri(numbered(ASKED, number))} is not there.")
    return asked


def entries_before(folder: ReplayFolder, number: int) -> dict[str, Entry]:
    """Where a batch's objects stood before, by object id; nothing of those that are new."""
    before = folder.read(numbered(BEFORE, number), Before)
    return {} if before is None else before.by_id
