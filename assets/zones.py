"""The zones of one data set as assets: raw, validated, curated, published, and quarantine.

Each asset function hands its collaborators to one step of the shared library and shows what came
of it. Steps hand nothing to each other in memory: every one finds its batch by the run's manifest
and its input where the step before left it, so any of them can be run alone, again, or elsewhere.
"""

from collections.abc import Iterator

from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    Backoff,
    Failure,
    Jitter,
    MaterializeResult,
    RetryPolicy,
    multi_asset,
)

from assets import keys
from assets.checks import check_results, check_specs
from assets.metadata import (
    curated_metadata,
    published_metadata,
    quarantined_files_metadata,
    quarantined_rows_metadata,
    raw_metadata,
    validated_metadata,
)
from assets.partitions import partitions_of
from assets.specs import asset_specs
from assets.working import Work, working
from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.table_schema import TableSchemaError
from resources.telemetry import EventsResource
from service_core.announcements import announce_validation, announce_verdict, taken_whole
from service_core.contract.model import Contract, Engine, Processing
from service_core.curation.batch import curate_batch
from service_core.elt import elt_verdict
from service_core.gate import GateClosedError
from service_core.ports import Catalog, Events, Ledger, ObjectMissingError
from service_core.preview import preview_rows
from service_core.publication import PublishedBatch, StaleVerdictError, publish_batch
from service_core.validation.batch import validate_batch
from service_core.validation.record import ValidationRecord
from service_core.validation.stored import read_record
from service_core.verdict import Verdict

#: A service that fails is tried again, with jitter so that many runs do not come back at once.
#: Data errors never reach this: they are verdicts, or `Failure(allow_retries=False)`.
SYSTEM_RETRIES = RetryPolicy(
    max_retries=3, delay=2, backoff=Backoff.EXPONENTIAL, jitter=Jitter.FULL
)

#: How often publication may find that another batch has published meanwhile and judge again.
_JUDGEMENTS = 3

Results = Iterator[MaterializeResult | AssetMaterialization]


def dataset_assets(contract: Contract) -> list[AssetsDefinition]:
    """The assets of one data set, in the order of a file's way through them."""
    if contract.processing is Processing.ELT:
        return [_raw(contract), _validated_text(contract)]
    return [_raw(contract), _validated(contract), _curated(contract), _published(contract)]


def _raw(contract: Contract) -> AssetsDefinition:
    dataset = contract.dataset

    @multi_asset(
        name=f"{dataset}_raw",
        specs=[asset_specs(contract)["raw"]],
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
    )
    def raw(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
    ) -> Results:
        with working(context, contract, object_store, step="raw") as work:
            manifest, run, book = work.manifest, work.run, ledger.ledger()
            if not manifest.objects:
                context.log.info(f"Nothing lies in {dataset} {manifest.partition}.")
                return
            book.receive(manifest, run_id=run.id, at=run.clock())
            book.close_batch(dataset, manifest.batch_id)
            yield MaterializeResult(
                asset_key=keys.raw(dataset),
                metadata=raw_metadata(manifest, work.store, keys.validated(dataset)),
            )

    return raw


def _validated(contract: Contract) -> AssetsDefinition:
    dataset = contract.dataset
    specs = asset_specs(contract)

    @multi_asset(
        name=f"{dataset}_validated",
        specs=[specs["validated"], specs["quarantined_files"]],
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
        can_subset=True,
    )
    def validated(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        events: EventsResource,
    ) -> Results:
        with working(context, contract, object_store, step="validated") as work:
            record = _validate(contract, work, ledger.ledger(), events.events())
            yield from _validated_results(context, contract, work, record)

    return validated


def _curated(contract: Contract) -> AssetsDefinition:
    dataset = contract.dataset
    specs = asset_specs(contract)

    @multi_asset(
        name=f"{dataset}_curated",
        specs=[specs["curated"], specs["quarantined_rows"]],
        check_specs=check_specs(contract, keys.curated(dataset)),
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
        can_subset=True,
    )
    def curated(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
        events: EventsResource,
    ) -> Results:
        with working(context, contract, object_store, step="curated") as work:
            if contract.engine not in (Engine.AUTO, Engine.IN_PROCESS):
                context.log.warning(
                    f"The contract asks for the engine {contract.engine}, which this release does "
                    "not run; the batch is curated in process."
                )
            record = _record(work)
            verdict = curate_batch(
                contract,
                work.manifest,
                record,
                work.store,
                ledger.ledger(),
                catalog.catalog(),
                work.run,
            )
            announce_verdict(verdict, record, events.events(), work.run)
            yield from _curated_results(context, contract, work, record, verdict)

    return curated


def _published(contract: Contract) -> AssetsDefinition:
    dataset = contract.dataset

    @multi_asset(
        name=f"{dataset}_published",
        specs=[asset_specs(contract)["published"]],
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
    )
    def published(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
        events: EventsResource,
    ) -> Results:
        with working(context, contract, object_store, step="published") as work:
            done = _publish(contract, work, ledger.ledger(), catalog.catalog(), events.events())
            yield MaterializeResult(
                asset_key=keys.published(dataset),
                metadata=published_metadata(
                    done.publication, done.verdict, work.manifest, work.store
                ),
            )

    return published


def _validated_text(contract: Contract) -> AssetsDefinition:
    """ELT: the way ends at validated, whose text becomes a table for SQL downstream."""
    dataset = contract.dataset
    specs = asset_specs(contract)

    @multi_asset(
        name=f"{dataset}_validated",
        specs=[specs["validated"], specs["quarantined_files"], specs["quarantined_rows"]],
        check_specs=check_specs(contract, keys.validated(dataset)),
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
        can_subset=True,
    )
    def validated(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
        events: EventsResource,
    ) -> Results:
        with working(context, contract, object_store, step="validated") as work:
            book, bus = ledger.ledger(), events.events()
            record = _validate(contract, work, book, bus)
            verdict = elt_verdict(contract, work.manifest, record, work.store, book, work.run)
            announce_verdict(verdict, record, bus, work.run)
            if verdict.passed:
                _publish(contract, work, book, catalog.catalog(), bus)
            yield from _validated_results(context, contract, work, record, verdict)
            yield from _quarantined_rows_results(context, contract, work, verdict)

    return validated


def _validate(contract: Contract, work: Work, ledger: Ledger, events: Events) -> ValidationRecord:
    record = validate_batch(contract, work.manifest, work.store, ledger, work.run)
    announce_validation(record, events, work.run)
    return record


def _record(work: Work) -> ValidationRecord:
    manifest = work.manifest
    try:
        return read_record(work.store, manifest)
    except ObjectMissingError as missing:
        raise Failure(
            f"Batch {manifest.batch_id} of {manifest.dataset} {manifest.partition} has not been "
            f"validated. Materialise validated/{manifest.dataset} first, or launch the ingest "
            "job, which runs every step.",
            allow_retries=False,
        ) from missing


def _publish(
    contract: Contract, work: Work, ledger: Ledger, catalog: Catalog, events: Events
) -> PublishedBatch:
    """Publish, judging again where another batch has published into the partition meanwhile.

    What the gate or the table refuses is no system error: it is not retried.
    """
    for judgement in range(1, _JUDGEMENTS + 1):
        try:
            return publish_batch(
                contract,
                partition=work.manifest.partition,
                batch_id=work.manifest.batch_id,
                store=work.store,
                ledger=ledger,
                catalog=catalog,
                events=events,
                run=work.run,
            )
        except (GateClosedError, TableSchemaError) as refused:
            raise Failure(str(refused), allow_retries=False) from refused
        except StaleVerdictError:
            if judgement == _JUDGEMENTS:
                raise
            record = _record(work)
            curate_batch(
                contract, work.manifest, record, work.store, ledger, catalog, work.run, force=True
            )
    raise AssertionError("unreachable")


def _validated_results(
    context: AssetExecutionContext,
    contract: Contract,
    work: Work,
    record: ValidationRecord,
    verdict: Verdict | None = None,
) -> Results:
    """Validated and, where files were refused, quarantined files; with a verdict, its checks."""
    key, refused_key = keys.validated(contract.dataset), keys.quarantined_files(contract.dataset)
    refused = [f for f in record.files if not f.accepted and f.published_by is None]
    if refused and refused_key in context.selected_asset_keys:
        yield MaterializeResult(
            asset_key=refused_key,
            metadata=quarantined_files_metadata(refused, work.manifest, work.store),
        )
    if key in context.selected_asset_keys:
        yield MaterializeResult(
            asset_key=key,
            metadata=validated_metadata(
                record, work.manifest, work.store, keys.curated(contract.dataset)
            ),
            check_results=_selected_checks(context, verdict, key),
        )


def _curated_results(
    context: AssetExecutionContext,
    contract: Contract,
    work: Work,
    record: ValidationRecord,
    verdict: Verdict,
) -> Results:
    """Curated with its checks, quarantined rows, and the files that curation took whole."""
    dataset = contract.dataset
    if whole := taken_whole(verdict, record):
        yield AssetMaterialization(
            asset_key=keys.quarantined_files(dataset),
            partition=context.partition_key,
            metadata=quarantined_files_metadata(whole, work.manifest, work.store),
        )
    key = keys.curated(dataset)
    yield from _quarantined_rows_results(context, contract, work, verdict)
    if key in context.selected_asset_keys:
        yield MaterializeResult(
            asset_key=key,
            metadata=curated_metadata(verdict, work.manifest, work.store, keys.published(dataset)),
            check_results=_selected_checks(context, verdict, key),
        )


def _quarantined_rows_results(
    context: AssetExecutionContext, contract: Contract, work: Work, verdict: Verdict
) -> Results:
    key = keys.quarantined_rows(contract.dataset)
    if verdict.quarantined_rows and key in context.selected_asset_keys:
        preview = preview_rows(contract, verdict, work.store, work.run.scratch)
        yield MaterializeResult(
            asset_key=key,
            metadata=quarantined_rows_metadata(verdict, work.manifest, work.store, preview),
        )


def _selected_checks(
    context: AssetExecutionContext, verdict: Verdict | None, key: AssetKey
) -> list[AssetCheckResult]:
    return [
        result
        for result in (check_results(verdict, key) if verdict else ())
        if AssetCheckKey(key, str(result.check_name)) in context.selected_asset_check_keys
    ]
