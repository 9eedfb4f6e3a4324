"""Contracts as they were: the text of each one that has made a batch, in the manifests bucket.

A text lies under its version and the hash of its meaning and is written once, before the first
manifest under it, so that whatever was ever judged can be judged by the same contract again.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from service_core.contract.load import load_contract
from service_core.contract.model import Contract
from service_core.contract.problem import ContractError
from service_core.layout import Zone, kept_contract_key, kept_contracts_prefix
from service_core.manifest import Manifest, Origin
from service_core.ports import ObjectMissingError, ObjectStore

_HASH_CHARACTERS = 16


class ContractNotKeptError(ValueError):
    """No contract, or more than one, answers to a version; the message says which there are."""


def keep_contract(store: ObjectStore, contract: Contract) -> None:
    """Keep a contract's text, unless it is kept already.

    A contract that was put together in memory has no text, and cannot be kept.
    """
    if contract.text:
        store.write_once(
            Zone.MANIFESTS,
            kept_contract_key(contract.dataset, contract.version, contract.hash),
            contract.text.encode(),
            content_type="application/yaml",
        )


def kept_versions(store: ObjectStore, dataset: str) -> tuple[tuple[str, str], ...]:
    """Version and hash of every contract of a data set that is kept, in the order of their keys."""
    found = []
    prefix = kept_contracts_prefix(dataset)
    for key in store.keys(Zone.MANIFESTS, prefix):
        version, dash, contract_hash = key[len(prefix) :].removesuffix(".yaml").rpartition("-")
        if dash and len(contract_hash) == _HASH_CHARACTERS:
            found.append((unquote(version), contract_hash))
    return tuple(found)


def named_contract(store: ObjectStore, dataset: str, name: str, folder: Path) -> Contract:
    """The one contract of a data set that is meant by a version, or by `<version>-<hash>`.

    Texts of one version that mean the same, though an earlier release hashed them otherwise, are
    one contract.

    Args:
        folder: Scratch.

    Raises:
        ContractNotKeptError: there is none, there are several, or it cannot be read any more.
    """
    kept = kept_versions(store, dataset)
    meant = [one for one in kept if name in (one[0], f"{one[0]}-{one[1]}")]
    if not meant:
        known = ", ".join(dict.fromkeys(version for version, _ in kept)) or "none"
        raise ContractNotKeptError(
            f"No contract of {dataset} with version {name!r} has made a batch yet, so its text is "
            f"not kept. Kept versions: {known}."
        )
    contracts = {
        contract.hash: contract
        for version, contract_hash in meant
        for contract in [_read(store, dataset, version, contract_hash, folder)]
    }
    if len(contracts) > 1:
        names = ", ".join(f"{version}-{contract_hash}" for version, contract_hash in meant)
        raise ContractNotKeptError(
            f"{len(contracts)} contracts of {dataset} that differ in meaning have called "
            f"themselves version {name!r}. Name one of them: {names}."
        )
    return next(iter(contracts.values()))


def contract_of(manifest: Manifest, loaded: Contract, store: ObjectStore, folder: Path) -> Contract:
    """The contract by which a manifest's batch is judged and published: the one that is loaded,
    unless a replay named another.

    Args:
        folder: Scratch, for as long as the contract is used.

    Raises:
        ContractNotKeptError: the named contract is not kept, or means something else by now.
    """
    if not manifest.named_contract or manifest.contract_hash == loaded.hash:
        return loaded
    if manifest.origin is not Origin.REPLAY or manifest.replay_id is None:
        raise ContractNotKeptError(
            f"The manifest of batch {manifest.batch_id} names version {manifest.contract_version} "
            f"of the contract of {manifest.dataset}, which only a replay may do."
        )
    contract = _read(
        store, manifest.dataset, manifest.contract_version, manifest.contract_hash, folder
    )
    if contract.hash != manifest.contract_hash:
        raise ContractNotKeptError(
            f"Version {manifest.contract_version} of the contract of {manifest.dataset} was kept "
            f"with the hash {manifest.contract_hash}, and this release reads {contract.hash} out "
            "of it. Ask for the replay again."
        )
    return contract


def _read(
    store: ObjectStore, dataset: str, version: str, contract_hash: str, folder: Path
) -> Contract:
    key = kept_contract_key(dataset, version, contract_hash)
    path = folder / f"{dataset}-{contract_hash}.yaml"
    try:
        path.write_bytes(store.read(Zone.MANIFESTS, key))
        contract = load_contract(path)
    except ObjectMissingError as missing:
        raise ContractNotKeptError(
            f"The contract of {dataset} with version {version} and hash {contract_hash} is not "
            f"kept at {store.uri(Zone.MANIFESTS, key)}."
        ) from missing
    except ContractError as problem:
        raise ContractNotKeptError(
            f"The contract that is kept at {store.uri(Zone.MANIFESTS, key)} cannot be read by this "
            f"release: {problem}"
        ) from problem
    if contract.dataset != dataset:
        raise ContractNotKeptError(
            f"{store.uri(Zone.MANIFESTS, key)} holds a contract of {contract.dataset}."
        )
    return contract
