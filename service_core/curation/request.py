"""Requests: all that a remote engine is told of a batch, as one JSON object.

Whoever has the request and the buckets can judge the batch as the orchestrator would: the contract
travels as its text, so that no engine judges by another version of it, and the table's files are
named, so that no engine needs the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from service_core.contract.load import load_contract
from service_core.contract.model import Contract
from service_core.contract.problem import ContractError
from service_core.layout import Zone, request_key
from service_core.manifest import Manifest
from service_core.ports import ObjectStore, PublishedFiles
from service_core.run import Run

SCHEMA_VERSION = 1


class RequestError(Exception):
    """A request that cannot be carried out; asking again for the same would change nothing."""


class CurationRequest(BaseModel):
    """What a remote engine is asked to do.

    Attributes:
        contract: The contract document's text.
        contract_hash: The hash of the contract that the orchestrator loaded.
        manifest_uri: The batch's manifest.
        buckets: Every zone's bucket.
        run_id, attempt, replay_id: As in `Run`.
        published: What the table's partition holds; None where nothing is published or the
            contract has no unique key.
        engine: Named in the verdict.
        force: Judge again though there is a verdict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    dataset: str
    partition: str
    batch_id: str
    contract: str
    contract_hash: str
    manifest_uri: str
    buckets: Mapping[Zone, str]
    run_id: str
    attempt: str
    replay_id: str | None = None
    published: PublishedFiles | None = None
    engine: str
    force: bool = False

    @field_validator("buckets")
    @classmethod
    def _every_zone(cls, buckets: Mapping[Zone, str]) -> Mapping[Zone, str]:
        if missing := [zone.value for zone in Zone if zone not in buckets]:
            raise ValueError(f"no bucket is named for {', '.join(missing)}")
        return buckets

    @classmethod
    def of(
        cls,
        contract: Contract,
        manifest: Manifest,
        store: ObjectStore,
        run: Run,
        *,
        manifest_uri: str,
        published: PublishedFiles | None,
        engine: str,
        force: bool = False,
    ) -> CurationRequest:
        """The request for a batch whose contract lies in a file.

        Raises:
            OSError: the contract's file is gone.
        """
        return cls(
            dataset=manifest.dataset,
            partition=manifest.partition,
            batch_id=manifest.batch_id,
            contract=contract.path.read_text(encoding="utf-8"),
            contract_hash=contract.hash,
            manifest_uri=manifest_uri,
            buckets={zone: store.bucket(zone) for zone in Zone},
            run_id=run.id,
            attempt=run.attempt,
            replay_id=run.replay_id,
            published=published if contract.unique_keys else None,
            engine=engine,
            force=force,
        )

    def bucket(self, zone: Zone) -> str:
        """A zone's bucket."""
        return self.buckets[zone]

    def load_contract(self, folder: Path) -> Contract:
        """The contract, read from its text.

        Args:
            folder: Scratch.

        Raises:
            RequestError: the text is no contract, or another than the orchestrator's.
        """
        path = folder / f"{self.dataset}.yaml"
        path.write_text(self.contract, encoding="utf-8")
        try:
            contract = load_contract(path)
        except ContractError as error:
            raise RequestError(
                f"The contract in the request for batch {self.batch_id} of {self.dataset} cannot "
                f"be loaded: {error}"
            ) from error
        if (contract.dataset, contract.hash) != (self.dataset, self.contract_hash):
            raise RequestError(
                f"The contract in the request for batch {self.batch_id} is {contract.dataset} "
                f"with hash {contract.hash}, and the batch is of {self.dataset} with hash "
                f"{self.contract_hash}. The contract's file has changed since it was loaded, or "
                "the engine has another version of service_core: reload the code location and "
                "deploy the engine anew."
            )
        return contract


def write_request(store: ObjectStore, request: CurationRequest) -> str:
    """Put a request where its attempt's request lies; returns the URI."""
    return store.write(
        Zone.CURATED,
        request_key(request.dataset, request.partition, request.batch_id, request.attempt),
        request.model_dump_json().encode(),
        content_type="application/json",
    )


def parse_request(text: bytes | str) -> CurationRequest:
    """A request from its JSON.

    Raises:
        RequestError: it is none.
    """
    try:
        return CurationRequest.model_validate_json(text)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the request'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise RequestError(f"The request cannot be read: {said}.") from error
