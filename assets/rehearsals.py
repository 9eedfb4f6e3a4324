"""Rehearsals in the Dagster UI: a job for each data set, and an asset that shows its reports.

A run of the job that belongs to a replay carries out the replay's dry run; one that a person
launches rehearses the partitions that its configuration names, under the contract in force. Either
shows the report and nothing else: no run of it makes any difference to the lake.
"""

from collections.abc import Iterator

from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetSpec,
    Config,
    Failure,
    JobDefinition,
    OpExecutionContext,
    Out,
    Output,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from assets import keys
from assets.difference_tables import report_metadata
from assets.retries import SYSTEM_RETRIES
from assets.working import running
from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from service_core.contract.model import Contract
from service_core.manifest import Manifest
from service_core.naming import (
    DATASET_TAG,
    NO_RETRY_ON_DATA_ERRORS,
    REPLAY_TAG,
    rehearsal_job,
    rehearsal_step,
)
from service_core.ports import Catalog, Ledger, ObjectStore
from service_core.replay.difference import Report
from service_core.run import Run
from service_core.verdict import Verdict


class RehearsalConfig(Config):
    """What a person who launches the job may say."""

    partitions: str = Field(
        default="",
        description="Without a replay: which partitions to rehearse, such as 2026-11-21, or "
        "2026-11-01..2026-11-21 with both ends included.",
    )


def rehearsals_spec(contract: Contract) -> AssetSpec:
    """The asset on which the reports of a data set's rehearsals are shown."""
    return AssetSpec(
        rehearsals_key(contract.dataset),
        deps=[keys.raw(contract.dataset)],
        description=f"What rehearsals of {contract.dataset} found: the difference that publishing "
        f"would make. Dry runs of replays report here; {rehearsal_job(contract.dataset)} can be "
        "launched for partitions too.",
        group_name=contract.dataset,
        kinds={"rehearsal"},
        owners=[contract.owner] if contract.owner else None,
        tags={"dataset": contract.dataset, "zone": "rehearsal"},
    )


def rehearsals_key(dataset: str) -> AssetKey:
    return AssetKey(["rehearsals", dataset])


def rehearsal_job_of(contract: Contract) -> JobDefinition:
    """The job that rehearses batches of a data set."""
    dataset = contract.dataset

    @op(
        name=rehearsal_step(dataset),
        retry_policy=SYSTEM_RETRIES,
        out=Out(is_required=False),
        description=f"Takes batches of {dataset} as far as their verdicts, in scratch.",
    )
    def rehearsal(
        context: OpExecutionContext,
        config: RehearsalConfig,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
    ) -> Iterator[AssetMaterialization | Output[None]]:
        store = object_store.store()
        with running(context, object_store) as run:
            report = _rehearsed(
                context, contract, config, store, ledger.ledger(), catalog.catalog(), run
            )
        yield AssetMaterialization(
            rehearsals_key(dataset),
            description=None if report.replay_id is None else f"Replay {report.replay_id}",
            metadata=report_metadata(report, store),
        )
        yield Output(None)

    @job(
        name=rehearsal_job(dataset),
        executor_def=in_process_executor,
        tags={DATASET_TAG: dataset, **NO_RETRY_ON_DATA_ERRORS},
        description=f"Rehearses batches of {dataset}: what would publishing them change? Leaves "
        "nothing but its report.",
    )
    def its_job() -> None:
        rehearsal()

    return its_job


def _rehearsed(
    context: OpExecutionContext,
    contract: Contract,
    config: RehearsalConfig,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
) -> Report:
    def told(manifest: Manifest, verdict: Verdict) -> None:
        word = "passes" if verdict.passed else f"fails, blocked by {', '.join(verdict.blocked_by)}"
        context.log.info(
            f"Batch {manifest.batch_id} of {manifest.partition}, {len(manifest.objects)} files: "
            f"its verdict {word}."
        )

    # Loaded with the first rehearsal, and not with the code location.
    from service_core.replay.backtest import backtest, partitions_named
    from service_core.replay.dry_run import dry_run

    replay_id = context.run.tags.get(REPLAY_TAG)
    try:
        if replay_id is not None:
            return dry_run(
                replay_id, contract, store=store, ledger=ledger, catalog=catalog, run=run,
                progress=told,
            )  # fmt: skip
        if not config.partitions.strip():
            raise ValueError(
                "the run belongs to no replay and names no partitions. Launch it with the "
                "configuration partitions: 2026-11-01..2026-11-21, or ask for a replay with "
                "dryRun."
            )
        return backtest(
            contract,
            partitions_named(contract.landing, config.partitions),
            store=store,
            ledger=ledger,
            catalog=catalog,
            run=run,
            judged=told,
        )
    except ValueError as problem:
        raise Failure(f"Nothing was rehearsed: {problem}", allow_retries=False) from problem
