"""What each step of a run works with: its run, its manifest and the zones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dagster import AssetExecutionContext, Failure

from resources.object_store import ObjectStoreResource
from service_core.contract.model import Contract
from service_core.inventory import resolve_manifest
from service_core.manifest import Manifest
from service_core.naming import MANIFEST_TAG, REPLAY_TAG
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.run import Run
from service_core.telemetry import stage


@dataclass(frozen=True, slots=True)
class Work:
    """One step's run, the manifest it works on, and the zones' buckets."""

    run: Run
    manifest: Manifest
    store: ObjectStore


@contextmanager
def working(
    context: AssetExecutionContext,
    contract: Contract,
    object_store: ObjectStoreResource,
    *,
    step: str,
) -> Iterator[Work]:
    """A step's work, logged as a stage, with a scratch folder that is gone when it ends.

    The run's id is the root run's: a re-execution works on the manifest that the first run
    resolved.
    """
    dagster_run = context.run
    store, scratch = object_store.store(), object_store.scratch()
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lakegate-", dir=scratch) as folder:
        run = Run(
            id=dagster_run.root_run_id or dagster_run.run_id,
            attempt=f"{dagster_run.run_id}-{context.retry_number}",
            clock=lambda: datetime.now(UTC),
            scratch=Path(folder),
            replay_id=dagster_run.tags.get(REPLAY_TAG),
        )
        try:
            manifest = resolve_manifest(
                contract,
                context.partition_key,
                store,
                run,
                manifest_uri=dagster_run.tags.get(MANIFEST_TAG),
            )
        except (ObjectMissingError, ValueError) as problem:
            raise Failure(
                f"The run's manifest cannot be used: {problem}", allow_retries=False
            ) from problem
        with stage(step, run=run, manifest=manifest):
            yield Work(run, manifest, store)
