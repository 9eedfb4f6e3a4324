"""The zones of one data set as assets: raw, validated, curated, published, and quarantine.

Each asset function hands its collaborators to one step of the shared library and shows what came
of it. Steps hand nothing to each other in memory: every one finds its batch by the run's manifest
and its input where the step before left it, so any of them can be run alone, again, or elsewhere.
"""

from collections.abc import Iterator

from dagster import (
    AssetCheckKey,
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    AssetSpec,
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
    definition_metadata,
    published_metadata,
    quarantined_files_metadata,
    quarantined_rows_metadata,
    raw_metadata,
    validated_metadata,
)
from assets.partitions import partitions_of
from assets.working import working
from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.telemetry import EventsResource
from service_core.announcements import announce_validation, announce_verdict, taken_whole
from service_core.contract.model import Contract, Processing
from service_core.curation import curate_batch, elt_verdict
from service_core.gate import GateClosedError
from service_core.inventory import resolve_manifest
from service_core.manifest import Manifest
from service_core.naming import MANIFEST_TAG
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.preview import preview_rows
from service_core.publication import StaleVerdictError, publish_batch
from service_core.run import Run
from service_core.telemetry import stage
from service_core.validation.batch import validate_batch
from service_core.validation.record import ValidationRecord
from service_core.validation.stored import read_record

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


def asset_specs(contract: Contract) -> dict[str, AssetSpec]:
    """What Dagster knows about each asset of a data set, by zone."""
    dataset = contract.dataset

    def spec(zone: str, key: object, kinds: set[str], what: str, **more: object) -> AssetSpec:
        return AssetSpec(
            key,  # type: ignore[arg-type]
            description=f"{what}\n\n{contract.description}".strip(),
            group_name=dataset,
            kinds=kinds,
            owners=[contract.owner] if contract.owner else None,
            tags={
                "dataset": dataset,
                "zone": zone,
                **{tag.replace(" ", "-"): "" for tag in contract.tags},
            },
            code_version=contract.hash,
            metadata=definition_metadata(contract, text=zone in ("raw", "validated")),
            **more,  # type: ignore[arg-type]
        )

    elt = contract.processing is Processing.ELT
    return {
        "raw": spec(
            "raw", keys.raw(dataset), {"s3", contract.format.type.value},
            "Files as their producer landed them. Never written, moved or deleted.",
            skippable=True,
        ),
        "validated": spec(
            "validated", keys.validated(dataset), {"parquet", *(["iceberg"] if elt else [])},
            "Files that can be read, as canonical text: every column as it arrived.",
            deps=[keys.raw(dataset)],
        ),
        "quarantined_files": spec(
            "quarantine", keys.quarantined_files(dataset), {"s3", "json"},
            "Files that were refused, untouched, each with its reason.",
            deps=[keys.raw(dataset)], skippable=True,
        ),
        "curated": spec(
            "curated", keys.curated(dataset), {"parquet", "polars", "pandera"},
            "Typed rows that keep the contract's rules, staged behind the gate.",
            deps=[keys.validated(dataset)],
        ),
        "quarantined_rows": spec(
            "quarantine", keys.quarantined_rows(dataset), {"parquet"},
            "Rows that were diverted, with all their text and their reasons.",
            deps=[keys.validated(dataset)], skippable=True,
        ),
        "published": spec(
            "published", keys.published(dataset), {"iceberg", "table"},
            "The table that readers query. A batch enters it in one commit, or not at all.",
            deps=[keys.curated(dataset)],
        ),
    }  # fmt: skip


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
        store, book = object_store.store(), ledger.ledger()
        with working(context, object_store.scratch()) as run:
            manifest = _manifest(context, contract, store, run)
            with stage("raw", run=run, manifest=manifest):
                if not manifest.objects:
                    context.log.info(f"Nothing lies in {dataset} {manifest.partition}.")
                    return
                book.receive(manifest, run_id=run.id, at=run.clock())
                book.close_batch(dataset, manifest.batch_id)
            yield MaterializeResult(
                asset_key=keys.raw(dataset),
                metadata=raw_metadata(manifest, store, keys.validated(dataset)),
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
        store, book = object_store.store(), ledger.ledger()
        with working(context, object_store.scratch()) as run:
            manifest = _manifest(context, contract, store, run)
            with stage("validated", run=run, manifest=manifest):
                book.receive(manifest, run_id=run.id, at=run.clock())
                record = validate_batch(contract, manifest, store, book, run)
                announce_validation(record, events.events(), run)
            refused = [f for f in record.files if not f.accepted]
            if keys.validated(dataset) in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=keys.validated(dataset),
                    metadata=validated_metadata(record, manifest, store, keys.curated(dataset)),
                )
            if refused and keys.quarantined_files(dataset) in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=keys.quarantined_files(dataset),
                    metadata=quarantined_files_metadata(refused, manifest, store),
                )

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
        store, book = object_store.store(), ledger.ledger()
        with working(context, object_store.scratch()) as run:
            manifest = _manifest(context, contract, store, run)
            with stage("curated", run=run, manifest=manifest):
                record = _record(store, manifest)
                verdict = curate_batch(
                    contract, manifest, record, store, book, catalog.catalog(), run
                )
                announce_verdict(verdict, record, events.events(), run)
            went_whole = taken_whole(verdict, record)
            if went_whole:
                yield AssetMaterialization(
                    asset_key=keys.quarantined_files(dataset),
                    partition=context.partition_key,
                    metadata=quarantined_files_metadata(went_whole, manifest, store),
                )
            if (
                verdict.quarantined_rows
                and keys.quarantined_rows(dataset) in context.selected_asset_keys
            ):
                preview = preview_rows(contract, verdict, store, run.scratch)
                yield MaterializeResult(
                    asset_key=keys.quarantined_rows(dataset),
                    metadata=quarantined_rows_metadata(verdict, manifest, store, preview),
                )
            if keys.curated(dataset) in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=keys.curated(dataset),
                    metadata=curated_metadata(verdict, manifest, store, keys.published(dataset)),
                    check_results=[
                        result
                        for result in check_results(verdict, keys.curated(dataset))
                        if AssetCheckKey(keys.curated(dataset), str(result.check_name))
                        in context.selected_asset_check_keys
                    ],
                )

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
        store, book, tables = object_store.store(), ledger.ledger(), catalog.catalog()
        with working(context, object_store.scratch()) as run:
            manifest = _manifest(context, contract, store, run)
            with stage("published", run=run, manifest=manifest):
                for judgement in range(1, _JUDGEMENTS + 1):
                    try:
                        done = publish_batch(
                            contract, partition=manifest.partition,
                            batch_id=manifest.batch_id, store=store, ledger=book,
                            catalog=tables, events=events.events(), run=run,
                        )  # fmt: skip
                        break
                    except GateClosedError as closed:
                        raise Failure(str(closed), allow_retries=False) from closed
                    except StaleVerdictError as stale:
                        if judgement == _JUDGEMENTS:
                            raise
                        context.log.warning(str(stale))
                        record = read_record(store, manifest)
                        curate_batch(
                            contract, manifest, record, store, book, tables, run, force=True
                        )
            yield MaterializeResult(
                asset_key=keys.published(dataset),
                metadata=published_metadata(done.publication, done.verdict, manifest, store),
            )

    return published


def _validated_text(contract: Contract) -> AssetsDefinition:
    """ELT: the way ends at validated, whose text becomes a table for SQL downstream."""
    dataset = contract.dataset
    specs = asset_specs(contract)

    @multi_asset(
        name=f"{dataset}_validated",
        specs=[specs["validated"], specs["quarantined_files"]],
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
        store, book = object_store.store(), ledger.ledger()
        with working(context, object_store.scratch()) as run:
            manifest = _manifest(context, contract, store, run)
            with stage("validated", run=run, manifest=manifest):
                book.receive(manifest, run_id=run.id, at=run.clock())
                record = validate_batch(contract, manifest, store, book, run)
                announce_validation(record, events.events(), run)
                verdict = elt_verdict(contract, manifest, record, store, book, run)
                announce_verdict(verdict, record, events.events(), run)
                if verdict.passed:
                    publish_batch(
                        contract, partition=manifest.partition, batch_id=manifest.batch_id,
                        store=store, ledger=book, catalog=catalog.catalog(),
                        events=events.events(), run=run,
                    )  # fmt: skip
            refused = [f for f in record.files if not f.accepted]
            if refused and keys.quarantined_files(dataset) in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=keys.quarantined_files(dataset),
                    metadata=quarantined_files_metadata(refused, manifest, store),
                )
            if keys.validated(dataset) in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=keys.validated(dataset),
                    metadata=validated_metadata(record, manifest, store, keys.raw(dataset)),
                    check_results=list(check_results(verdict, keys.validated(dataset))),
                )

    return validated


def _manifest(
    context: AssetExecutionContext, contract: Contract, store: ObjectStore, run: Run
) -> Manifest:
    try:
        return resolve_manifest(
            contract,
            context.partition_key,
            store,
            run,
            manifest_uri=context.run.tags.get(MANIFEST_TAG),
        )
    except (ObjectMissingError, ValueError) as problem:
        raise Failure(
            f"The run's manifest cannot be used: {problem}", allow_retries=False
        ) from problem


def _record(store: ObjectStore, manifest: Manifest) -> ValidationRecord:
    try:
        return read_record(store, manifest)
    except ObjectMissingError as missing:
        raise Failure(
            f"Batch {manifest.batch_id} of {manifest.dataset} {manifest.partition} has not been "
            f"validated. Materialise validated/{manifest.dataset} first, or launch the ingest "
            "job, which runs every step.",
            allow_retries=False,
        ) from missing
