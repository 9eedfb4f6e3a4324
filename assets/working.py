"""What each step of a run works with: its run, its manifest and the zones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dagster import AssetExecutionContext, Failure, OpExecutionContext

from assets.retries import outages_waited_out
from assets.watchdog import watched
from resources.object_store import ObjectStoreResource
from service_core.contract.kept import contract_of
from service_core.contract.model import Contract
from service_core.inventory import resolve_manifest
from service_core.manifest import Manifest
from service_core.naming import BACKFILL_TAG, MANIFEST_TAG, REPLAY_TAG
from service_core.ports import Ledger, ObjectMissingError, ObjectStore
from service_core.run import Run
from service_core.telemetry import stage


@dataclass(frozen=True, slots=True)
class Work:
    """One step's run, the manifest it works on, the contract by which, and the zones' buckets."""

    run: Run
    manifest: Manifest
    contract: Contract
    store: ObjectStore


@contextmanager
def working(
    context: AssetExecutionContext,
    contract: Contract,
    object_store: ObjectStoreResource,
    *,
    step: str,
    ledger: Ledger | None = None,
) -> Iterator[Work]:
    """A step's work, logged as a stage, with a scratch folder that is gone when it ends.

    The run's id is the root run's: a re-execution works on the manifest that the first run
    resolved. A backfill is a replay of its partitions, by its own id.

    Args:
        contract: As it is loaded; a replay may have named another version of it.
        ledger: See `resolve_manifest`.
    """
    store = object_store.store()
    with running(context, object_store) as run:
        try:
            manifest = resolve_manifest(
                contract,
                context.partition_key,
                store,
                run,
                manifest_uri=context.run.tags.get(MANIFEST_TAG),
                ledger=ledger,
            )
            judged_by = contract_of(manifest, contract, store, run.scratch)
        except (ObjectMissingError, ValueError) as problem:
            said = f"The run's manifest cannot be used: {problem}"
            if isinstance(problem, ObjectMissingError):
                said += (
                    " Replay the files of the batch (`lakegate replay --file KEY --force`), or "
                    "launch the job for the partition without a manifest, which means all its "
                    "files."
                )
            raise Failure(said, allow_retries=False) from problem
        with stage(step, run=run, manifest=manifest):
            yield Work(run, manifest, judged_by, store)


@contextmanager
def running(
    context: AssetExecutionContext | OpExecutionContext, object_store: ObjectStoreResource
) -> Iterator[Run]:
    """A step's run, with a scratch folder that is gone when it ends.

    While a service fails, the step is tried again.
    """
    dagster_run, scratch = context.run, object_store.scratch()
    with watched(dagster_run), outages_waited_out(context), _folder(scratch) as folder:
        yield Run(
            id=dagster_run.root_run_id or dagster_run.run_id,
            attempt=f"{dagster_run.run_id}-{context.retry_number}",
            clock=lambda: datetime.now(UTC),
            scratch=folder,
            replay_id=dagster_run.tags.get(REPLAY_TAG) or dagster_run.tags.get(BACKFILL_TAG),
        )


@contextmanager
def _folder(scratch: Path | None) -> Iterator[Path]:
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lakegate-", dir=scratch) as folder:
        yield Path(folder)
