"""Inventory: which manifest a run works on, whoever asked for the run.

A sensor or a replay names its manifest. A run without one (a backfill, a person in the UI) means
the whole partition: the latest version of every key there. Its manifest is written down for the
run before any step works on it, so that all steps, and any retry, agree. So is one that differs
from what the run was asked for.
"""

from __future__ import annotations

from datetime import datetime

from service_core.arrival import read_manifest, source_object_of, write_manifest
from service_core.contract.kept import keep_contract
from service_core.contract.model import Contract
from service_core.layout import Zone, run_key
from service_core.manifest import Manifest, Origin
from service_core.partition import partition_path
from service_core.ports import Ledger, ObjectMissingError, ObjectStore
from service_core.replay.anew import as_anew, overtaken
from service_core.run import Run
from service_core.source_object import SourceObject


def resolve_manifest(
    contract: Contract,
    partition: str,
    store: ObjectStore,
    run: Run,
    *,
    manifest_uri: str | None,
    ledger: Ledger | None = None,
) -> Manifest:
    """The manifest of a run over one partition.

    A manifest made under another version of the contract is made anew under this one: the same
    objects, another batch. Only where a replay names that version does it stay as it is.

    Args:
        contract: The data set's contract as it is loaded now.
        partition: The run's partition.
        store: The zones.
        run: The run; its id finds what an earlier step or attempt of it has resolved.
        manifest_uri: The manifest that the run was asked to process, if it was.
        ledger: Handed in by the run's first step alone, which decides whether work that has been
            judged before has to be judged anew (`service_core.replay.anew`).

    Raises:
        ObjectMissingError: the named manifest is not there.
        ValueError: the named manifest is of another data set or partition, or its batch has been
            rolled back.
    """
    remembered = run_key(run.id, contract.dataset, partition)
    try:
        known = Manifest.model_validate_json(store.read(Zone.MANIFESTS, remembered))
    except ObjectMissingError:
        known = None
    if known is not None and _is_under(contract, known):
        return known

    if manifest_uri is not None:
        asked = read_manifest(store, manifest_uri)
        if (asked.dataset, asked.partition) != (contract.dataset, partition):
            raise ValueError(
                f"{manifest_uri} lists {asked.dataset} {asked.partition}, but the run is of "
                f"{contract.dataset} {partition}."
            )
        manifest = asked if _is_under(contract, asked) else _under(contract, asked)
    elif known is not None:
        asked, manifest = None, _under(contract, known)
    else:
        asked = None
        manifest = whole_partition(
            contract, partition, store, at=run.clock(), replay_id=run.replay_id
        )
    if ledger is not None and asked is not None:
        _require_not_rolled_back(manifest, ledger)
    if ledger is not None and overtaken(manifest, store, ledger):
        manifest = as_anew(manifest, run.id)
    if manifest is asked:
        return asked
    keep_contract(store, contract)
    write_manifest(store, manifest)
    store.write(
        Zone.MANIFESTS,
        remembered,
        manifest.model_dump_json().encode(),
        content_type="application/json",
    )
    return manifest


def whole_partition(
    contract: Contract,
    partition: str,
    store: ObjectStore,
    *,
    at: datetime,
    replay_id: str | None = None,
) -> Manifest:
    """The manifest of everything that now lies in a partition: each key's latest version."""
    prefix = contract.landing.prefix + partition_path(contract.landing, partition) + "/"
    bucket = store.bucket(Zone.RAW)
    objects: list[SourceObject] = []
    resume: tuple[str, str] | None = None
    while True:
        page = store.list_versions(prefix, resume=resume)
        objects += [source_object_of(contract, bucket, o) for o in page.objects if o.is_latest]
        resume = page.resume
        if resume is None:
            break
    return Manifest(
        dataset=contract.dataset,
        partition=partition,
        contract_version=contract.version,
        contract_hash=contract.hash,
        origin=Origin.BACKFILL,
        objects=tuple(objects),
        created_at=at,
        replay_id=replay_id,
    )


def _require_not_rolled_back(manifest: Manifest, ledger: Ledger) -> None:
    """Refuse to run a batch again that has been undone. Only whoever asks for its files anew gets
    them, as another batch."""
    if (mark := ledger.rolled_back([manifest.batch_id]).get(manifest.batch_id)) is not None:
        raise ValueError(f"batch {manifest.batch_id} is not run again: {mark.sentence}")


def _is_under(contract: Contract, manifest: Manifest) -> bool:
    return manifest.named_contract or manifest.contract_hash == contract.hash


def _under(contract: Contract, manifest: Manifest) -> Manifest:
    """The same objects under the contract as it is now: built anew, for its batch is another."""
    return Manifest.model_validate(
        {
            **manifest.model_dump(),
            "contract_version": contract.version,
            "contract_hash": contract.hash,
            "named_contract": False,
        }
    )
