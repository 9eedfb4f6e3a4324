"""Inventory: which manifest a run works on, whoever asked for the run.

A sensor or a replay names its manifest. A run without one (a backfill, a person in the UI) means
the whole partition: the latest version of every key there. Its manifest is written down for the
run before any step works on it, so that all steps, and any retry, agree.
"""

from __future__ import annotations

from datetime import datetime

from service_core.arrival import read_manifest, source_object_of, write_manifest
from service_core.contract.model import Contract
from service_core.layout import Zone, run_key
from service_core.manifest import Manifest, Origin
from service_core.partition import partition_path
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.run import Run
from service_core.source_object import SourceObject


def resolve_manifest(
    contract: Contract,
    partition: str,
    store: ObjectStore,
    run: Run,
    *,
    manifest_uri: str | None,
) -> Manifest:
    """The manifest of a run over one partition.

    A manifest made under another version of the contract is made anew under this one: the same
    objects, another batch.

    Args:
        contract: The data set's contract as it is loaded now.
        partition: The run's partition.
        store: The zones.
        run: The run; its id finds what an earlier step or attempt of it has resolved.
        manifest_uri: The manifest that the run was asked to process, if it was.

    Raises:
        ObjectMissingError: the named manifest is not there.
        ValueError: the named manifest is of another data set or partition.
    """
    remembered = run_key(run.id, contract.dataset, partition)
    try:
        known = Manifest.model_validate_json(store.read(Zone.MANIFESTS, remembered))
    except ObjectMissingError:
        known = None
    if known is not None and known.contract_hash == contract.hash:
        return known

    if manifest_uri is not None:
        asked = read_manifest(store, manifest_uri)
        if (asked.dataset, asked.partition) != (contract.dataset, partition):
            raise ValueError(
                f"{manifest_uri} lists {asked.dataset} {asked.partition}, but the run is of "
                f"{contract.dataset} {partition}."
            )
        if asked.contract_hash == contract.hash:
            return asked
        manifest = _under(contract, asked)
    elif known is not None:
        manifest = _under(contract, known)
    else:
        manifest = whole_partition(contract, partition, store, at=run.clock())
    write_manifest(store, manifest)
    store.write(
        Zone.MANIFESTS,
        remembered,
        manifest.model_dump_json().encode(),
        content_type="application/json",
    )
    return manifest


def whole_partition(
    contract: Contract, partition: str, store: ObjectStore, *, at: datetime
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
    )


def _under(contract: Contract, manifest: Manifest) -> Manifest:
    """The same objects under the contract as it is now: built anew, for its batch is another."""
    return Manifest(
        dataset=manifest.dataset,
        partition=manifest.partition,
        contract_version=contract.version,
        contract_hash=contract.hash,
        origin=manifest.origin,
        objects=manifest.objects,
        created_at=manifest.created_at,
        replay_id=manifest.replay_id,
    )
