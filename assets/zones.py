"""The zones of one data set as assets: raw, validated, curated, published, and quarantine.

Each asset function hands its collaborators to one step of the shared library and shows what came
of it. Steps hand nothing to each other in memory: every one finds its batch by the run's manifest
and its input where the step before left it, so any of them can be run alone, again, or elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AssetSpec,
    Failure,
    MaterializeResult,
    multi_asset,
)

from assets import keys
from assets.checks import absent_checks, check_results, check_specs
from assets.engines import Curated, CurationConfig, EngineFailed, curate
from assets.metadata import (
    curated_metadata,
    published_metadata,
    quarantined_files_metadata,
    quarantined_rows_metadata,
    raw_metadata,
    validated_metadata,
)
from assets.partitions import partitions_of
from assets.retries import SYSTEM_RETRIES
from assets.specs import asset_specs
from assets.working import Work, working
from resources.catalog import CatalogResource
from resources.engines import EnginesResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.table_name import TableSchemaError
from resources.telemetry import EventsResource
from service_core.announcements import announce_validation, announce_verdict, taken_whole
from service_core.contract.model import Contract, Engine, Processing
from service_core.gate import GateClosedError
from service_core.naming import BATCH_TAG, GLUE_POOL, curation_step
from service_core.ports import Catalog, Events, Ledger, ObjectMissingError
from service_core.preview import preview_rows
from service_core.publication import PublishedBatch, StaleVerdictError, publish_batch
from service_core.replay.release import release
from service_core.validation.record import ValidationRecord
from service_core.validation.stored import read_record
from service_core.verdict import Verdict

#: How often publication may find that another batch has published meanwhile and judge again.
_JUDGEMENTS = 3

Results = Iterator[MaterializeResult | AssetMaterialization]
Specs = Mapping[str, AssetSpec]


def dataset_assets(contract: Contract) -> list[AssetsDefinition]:
    """The assets of one data set, in the order of a file's way through them."""
    specs = asset_specs(contract)
    steps = (
        (_raw, _validated_text)
        if contract.processing is Processing.ELT
        else (_raw, _validated, _curated, _published)
    )
    return [step(contract, specs) for step in steps]


def _raw(contract: Contract, specs: Specs) -> AssetsDefinition:
    dataset = contract.dataset

    @multi_asset(
        name=f"{dataset}_raw",
        specs=[specs["raw"]],
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
    )
    def raw(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
    ) -> Results:
        book = ledger.ledger()
        with working(context, contract, object_store, step="raw", ledger=book) as work:
            manifest, run = work.manifest, work.run
            if not manifest.objects:
                context.log.info(f"Nothing lies in {dataset} {manifest.partition}.")
                return
            book.receive(manifest, run_id=run.id, at=run.clock())
            # The batch that was asked for, which is another where the contract has changed since.
            for batch_id in {manifest.batch_id, context.run.tags.get(BATCH_TAG, "")} - {""}:
                book.close_batch(dataset, batch_id)
            yield MaterializeResult(
                asset_key=keys.raw(dataset),
                metadata=raw_metadata(manifest, work.store, keys.validated(dataset)),
            )

    return raw


def _validated(contract: Contract, specs: Specs) -> AssetsDefinition:
    dataset = contract.dataset

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
            record = _validate(work, ledger.ledger(), events.events())
            yield from _validated_results(context, contract, work, record)

    return validated


def _curated(contract: Contract, specs: Specs) -> AssetsDefinition:
    dataset = contract.dataset

    @multi_asset(
        name=curation_step(dataset),
        pool=_pool(contract),
        specs=[specs["curated"], specs["quarantined_rows"]],
        check_specs=check_specs(contract, keys.curated(dataset)),
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
        can_subset=True,
    )
    def curated(
        context: AssetExecutionContext,
        config: CurationConfig,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
        events: EventsResource,
        engines: EnginesResource,
    ) -> Results:
        with working(context, contract, object_store, step="curated") as work:
            record = _record(work)
            try:
                done = curate(
                    context,
                    work.contract,
                    work,
                    record,
                    ledger.ledger(),
                    catalog.catalog(),
                    engines,
                    override=config.named(),
                )
            except EngineFailed as failed:
                yield from _selected(context, failed.checks)
                raise failed.failure from failed
            announce_verdict(done.verdict, record, events.events(), work.run)
            yield from _curated_results(context, contract, work, record, done)

    return curated


def _published(contract: Contract, specs: Specs) -> AssetsDefinition:
    dataset = contract.dataset

    @multi_asset(
        name=f"{dataset}_published",
        specs=[specs["published"]],
        partitions_def=partitions_of(contract.landing),
        retry_policy=SYSTEM_RETRIES,
    )
    def published(
        context: AssetExecutionContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
        events: EventsResource,
        engines: EnginesResource,
    ) -> Results:
        with working(context, contract, object_store, step="published") as work:
            book, tables = ledger.ledger(), catalog.catalog()

            def judge_again() -> None:
                record = _record(work)
                try:
                    curate(context, work.contract, work, record, book, tables, engines, force=True)
                except EngineFailed as failed:
                    raise failed.failure from failed

            done = _publish(work, book, tables, events.events(), judge_again)
            yield MaterializeResult(
                asset_key=keys.published(dataset),
                metadata=published_metadata(
                    done.publication, done.verdict, work.manifest, work.store
                ),
            )

    return published


def _validated_text(contract: Contract, specs: Specs) -> AssetsDefinition:
    """ELT: the way ends at validated, whose text becomes a table for SQL downstream."""
    dataset = contract.dataset

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
            record = _validate(work, book, bus)
            # Loaded with the first batch, and not with the code location.
            from service_core.elt import elt_verdict

            verdict = elt_verdict(work.contract, work.manifest, record, work.store, book, work.run)
            announce_verdict(verdict, record, bus, work.run)
            if verdict.passed:
                _publish(work, book, catalog.catalog(), bus)
            yield from _validated_results(context, contract, work, record, verdict)
            yield from _quarantined_rows_results(context, contract, work, verdict)

    return validated


def _validate(work: Work, ledger: Ledger, events: Events) -> ValidationRecord:
    # Loaded with the first batch, and not with the code location.
    from service_core.validation.batch import validate_batch

    record = validate_batch(work.contract, work.manifest, work.store, ledger, work.run)
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
    work: Work,
    ledger: Ledger,
    catalog: Catalog,
    events: Events,
    judge_again: Callable[[], None] | None = None,
) -> PublishedBatch:
    """Publish, judging again where another batch has published into the partition meanwhile, and
    mark what has left quarantine by that.

    What the gate or the table refuses is no system error: it is not retried.
    """
    for judgement in range(1, _JUDGEMENTS + 1):
        try:
            done = publish_batch(
                work.contract,
                partition=work.manifest.partition,
                batch_id=work.manifest.batch_id,
                store=work.store,
                ledger=ledger,
                catalog=catalog,
                events=events,
                run=work.run,
            )
            release(work.manifest, done, work.store, ledger, work.run)
            return done
        except (GateClosedError, TableSchemaError) as refused:
            raise Failure(str(refused), allow_retries=False) from refused
        except StaleVerdictError:
            if judgement == _JUDGEMENTS or judge_again is None:
                raise
            judge_again()
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
            check_results=_selected_checks(context, work, verdict, key),
        )


def _curated_results(
    context: AssetExecutionContext,
    contract: Contract,
    work: Work,
    record: ValidationRecord,
    done: Curated,
) -> Results:
    """Curated with its checks, quarantined rows, and the files that curation took whole."""
    dataset, verdict = contract.dataset, done.verdict
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
            metadata={
                **curated_metadata(verdict, work.manifest, work.store, keys.published(dataset)),
                **done.metadata,
            },
            check_results=_selected_checks(context, work, verdict, key),
        )


def _quarantined_rows_results(
    context: AssetExecutionContext, contract: Contract, work: Work, verdict: Verdict
) -> Results:
    key = keys.quarantined_rows(contract.dataset)
    if verdict.quarantined_rows and key in context.selected_asset_keys:
        preview = preview_rows(work.contract, verdict, work.store, work.run.scratch)
        yield MaterializeResult(
            asset_key=key,
            metadata=quarantined_rows_metadata(verdict, work.manifest, work.store, preview),
        )


def _selected_checks(
    context: AssetExecutionContext, work: Work, verdict: Verdict | None, key: AssetKey
) -> list[AssetCheckResult]:
    results = _selected(context, check_results(verdict, key) if verdict else ())
    if verdict is not None and work.manifest.named_contract:
        wanted = {c.name for c in context.selected_asset_check_keys if c.asset_key == key}
        results += absent_checks(verdict, key, wanted)
    return results


def _selected(
    context: AssetExecutionContext, results: Iterable[AssetCheckResult]
) -> list[AssetCheckResult]:
    """Those that the run asked for."""
    return [
        result
        for result in results
        if result.asset_key is not None
        and AssetCheckKey(result.asset_key, str(result.check_name))
        in context.selected_asset_check_keys
    ]


def _pool(contract: Contract) -> str | None:
    """Runs of Glue jobs are bounded by a pool of Dagster's, beside the job's own limit."""
    on_glue = contract.engine in (Engine.GLUE, Engine.STEP_FUNCTIONS)
    return GLUE_POOL if on_glue else None
