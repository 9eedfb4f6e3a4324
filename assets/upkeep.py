"""The upkeep of the published tables, as an asset of the platform.

What is to be done is decided in `service_core.upkeep`, and done in `resources.table_upkeep`.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    DagsterLogManager,
    DefaultScheduleStatus,
    MaterializeResult,
    MetadataValue,
    ScheduleDefinition,
    asset,
)
from pydantic import Field

from assets import keys
from assets.checks import table
from assets.maintenance import maintenance_job, maintenance_schedule
from assets.retries import SYSTEM_RETRIES
from assets.working import running
from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.table_name import TableSchemaError
from service_core.contract.model import Contract
from service_core.naming import TABLE_UPKEEP
from service_core.upkeep import Retention, Tended

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


class TablesConfig(Config):
    """What a run of the upkeep may be told."""

    dry_run: bool = Field(default=False, description="Only show what would be done.")


def tables_asset(contracts: Sequence[Contract]) -> AssetsDefinition:
    """One asset for all published tables."""

    @asset(
        key=keys.MAINTENANCE_TABLES,
        group_name="maintenance",
        kinds={"iceberg"},
        tags={"zone": "maintenance"},
        retry_policy=SYSTEM_RETRIES,
        description="The published tables, kept quick to publish to and to read: each run puts "
        "small files and manifests together, and lets go of snapshots beyond the retention. No "
        "row changes.",
    )
    def tables(
        context: AssetExecutionContext,
        config: TablesConfig,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
    ) -> MaterializeResult[None]:
        settings = object_store.settings()
        retention = Retention(timedelta(days=settings.snapshot_days), settings.snapshots)
        book, published = ledger.ledger(), catalog.catalog()
        with running(context, object_store) as run:

            def tend(contract: Contract) -> Tended | None:
                return published.tend(
                    contract,
                    retention,
                    settled=lambda batch_ids: book.rolled_back(batch_ids).keys(),
                    now=run.clock(),
                    dry_run=config.dry_run,
                )

            done, refused = _each(contracts, tend, context.log, dry_run=config.dry_run)
        return MaterializeResult(
            metadata={
                "dry_run": config.dry_run,
                "snapshot_days": settings.snapshot_days,
                "snapshots_at_most": settings.snapshots,
                **_metadata(done, refused),
            }
        )

    return tables


def table_upkeep_schedule(
    job: "UnresolvedAssetJobDefinition", *, status: DefaultScheduleStatus
) -> ScheduleDefinition:
    """Once an hour: a table that much is published to wants it so often."""
    return maintenance_schedule(
        job,
        "hourly",
        "40 * * * *",
        "Keeps the published tables quick to publish to and to read.",
        status=status,
    )


def table_upkeep_job() -> "UnresolvedAssetJobDefinition":
    """The job that looks after the published tables."""
    return maintenance_job(
        TABLE_UPKEEP,
        keys.MAINTENANCE_TABLES,
        "Puts small files and manifests of the published tables together, and lets go of snapshots "
        "beyond the retention.",
    )


def _each(
    contracts: Sequence[Contract],
    tend: Callable[[Contract], Tended | None],
    log: DagsterLogManager,
    *,
    dry_run: bool,
) -> tuple[list[Tended], list[str]]:
    """What was done to each table that there is, and why some were refused."""
    done: list[Tended] = []
    refused: list[str] = []
    for contract in contracts:
        try:
            tended = tend(contract)
        except TableSchemaError as strange:
            # Nothing is published to it either, and that fails. The others go on.
            log.warning(str(strange))
            refused.append(str(strange))
            continue
        if tended is not None:
            log.info(_sentence(tended, dry_run=dry_run))
            done.append(tended)
    return done, refused


def _metadata(done: Sequence[Tended], refused: Sequence[str]) -> dict[str, int | MetadataValue]:
    kept = _kept(done)
    return {
        "files_compacted": sum(one.compacted for one in done),
        "files_written": sum(one.written for one in done),
        "snapshots_expired": sum(one.expired for one in done),
        "manifests_merged": sum(one.merged for one in done),
        "left_to_others": sum(len(one.outrun) for one in done),
        **({"refused": MetadataValue.json(list(refused))} if refused else {}),
        **({"tables": table(_tables(done))} if done else {}),
        **({"kept": table(kept)} if kept else {}),
    }


def _sentence(one: Tended, *, dry_run: bool) -> str:
    would = "Would be done to" if dry_run else "Done to"
    others = (
        f" Left for next time, as others kept committing: {', '.join(one.outrun)}."
        if one.outrun
        else ""
    )
    return (
        f"{would} {one.table}: {one.compacted:,} files put together into {one.written:,}, "
        f"manifests {'' if one.merged else 'not '}put together, {one.expired:,} snapshots "
        f"expired.{others}"
    )


def _tables(done: Sequence[Tended]) -> list[dict[str, str | int]]:
    return [
        {
            "table": one.table,
            "rows": one.after.rows,
            **{
                f"{what}_{when}": getattr(extent, what)
                for what in (
                    "data_files",
                    "small_files",
                    "data_bytes",
                    "manifests",
                    "snapshots",
                    "metadata_bytes",
                )
                for when, extent in (("before", one.before), ("after", one.after))
            },
            "left_to_others": ", ".join(one.outrun),
        }
        for one in done
    ]


def _kept(done: Sequence[Tended]) -> list[dict[str, str | int]]:
    return [
        {"table": one.table, "count": count, "what": why.sentence}
        for one in done
        for why, count in sorted(one.kept.items())
    ]
