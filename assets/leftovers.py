"""The clean-up of what dead attempts left, as an asset of the platform.

Which runs are at work is asked of the Dagster instance by each look; whatever else may refer to a
file is decided in `service_core.leftovers`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    DagsterInstance,
    DagsterRun,
    DefaultScheduleStatus,
    MaterializeResult,
    MetadataValue,
    RunsFilter,
    ScheduleDefinition,
    asset,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG
from pydantic import Field

from assets import keys
from assets.checks import table
from assets.maintenance import maintenance_job, maintenance_schedule
from assets.retries import SYSTEM_RETRIES
from assets.working import running
from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.table_name import table_name
from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.leftovers import (
    AtWork,
    DatasetFiles,
    ZoneTally,
    clear_leftovers,
    clear_scratch,
)
from service_core.naming import DATASET_TAG, LEFTOVERS, PARTITION_TAG

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


class LeftoversConfig(Config):
    """What a run of the clean-up may be told."""

    dry_run: bool = Field(default=False, description="Only show what would be removed.")


def leftovers_asset(contracts: Sequence[Contract]) -> AssetsDefinition:
    """One asset for the whole platform."""

    @asset(
        key=keys.MAINTENANCE_LEFTOVERS,
        group_name="maintenance",
        kinds={"s3"},
        tags={"zone": "maintenance"},
        retry_policy=SYSTEM_RETRIES,
        description="Files of attempts that died, in every zone but raw and manifests: each run "
        "finds and removes those that nothing refers to any more.",
    )
    def leftovers(
        context: AssetExecutionContext,
        config: LeftoversConfig,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
    ) -> MaterializeResult[None]:
        store = object_store.store()
        age = timedelta(days=object_store.settings().leftover_days)
        with running(context, object_store) as run:
            tallies = clear_leftovers(
                [DatasetFiles(c.dataset, table_name(c)) for c in contracts],
                store,
                ledger.ledger(),
                catalog.catalog(),
                lambda: at_work(context.instance, context.run.run_id),
                clock=run.clock,
                safety_age=age,
                dry_run=config.dry_run,
            )
            folder = object_store.scratch()
            folders = 0
            if folder is not None:
                scratch = clear_scratch(
                    folder,
                    before=run.clock() - age,
                    mine=run.scratch,
                    dry_run=config.dry_run,
                )
                folders = scratch.found if config.dry_run else scratch.removed
        return MaterializeResult(
            metadata={
                "dry_run": config.dry_run,
                "found": sum(tally.found for tally in tallies.values()),
                "removed": sum(tally.removed for tally in tallies.values()),
                "bytes": sum(
                    tally.found_bytes if config.dry_run else tally.removed_bytes
                    for tally in tallies.values()
                ),
                "scratch_folders": folders,
                "safety_age_days": object_store.settings().leftover_days,
                "zones": table(_zones(tallies)),
                "kept": table(_kept(tallies)),
                "samples": MetadataValue.json(
                    {zone.value: tally.samples for zone, tally in tallies.items() if tally.samples}
                ),
            }
        )

    return leftovers


def leftovers_schedule(
    job: "UnresolvedAssetJobDefinition", *, status: DefaultScheduleStatus
) -> ScheduleDefinition:
    """Once a day, when little arrives."""
    return maintenance_schedule(
        job, "daily", "20 3 * * *", "Clears what attempts that died have left.", status=status
    )


def leftovers_job() -> "UnresolvedAssetJobDefinition":
    """The job that clears left-overs."""
    return maintenance_job(
        LEFTOVERS,
        keys.MAINTENANCE_LEFTOVERS,
        "Finds and removes what attempts that died have left.",
    )


def at_work(instance: DagsterInstance, me: str) -> list[AtWork]:
    """Where runs are queued or started, but for the one that asks."""
    records = instance.get_run_records(RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return [
        AtWork(dataset, _partition_of(record.dagster_run), record.create_timestamp)
        for record in records
        if record.dagster_run.run_id != me
        for dataset in _datasets_of(record.dagster_run)
    ]


def _datasets_of(run: DagsterRun) -> Sequence[str | None]:
    """The data sets that a run is of: that of its tag, or those of the assets it was asked for."""
    if (tagged := run.tags.get(DATASET_TAG)) is not None:
        return [tagged]
    if run.asset_selection and keys.MAINTENANCE_TABLES not in run.asset_selection:
        return sorted({key.path[1] for key in run.asset_selection if len(key.path) > 1})
    return [None]


def _partition_of(run: DagsterRun) -> str | None:
    tagged = run.tags.get(PARTITION_TAG)
    if tagged is not None:
        return tagged.partition("/")[2]
    return run.tags.get(PARTITION_NAME_TAG)


def _zones(tallies: dict[Zone, ZoneTally]) -> list[dict[str, str | int]]:
    return [
        {
            "zone": zone.value,
            "looked_at": tally.looked_at,
            "found": tally.found,
            "found_bytes": tally.found_bytes,
            "removed": tally.removed,
            "removed_bytes": tally.removed_bytes,
        }
        for zone, tally in tallies.items()
    ]


def _kept(tallies: dict[Zone, ZoneTally]) -> list[dict[str, str | int]]:
    return [
        {"zone": zone.value, "files": count, "because": why.sentence}
        for zone, tally in tallies.items()
        for why, count in sorted(tally.kept.items())
    ]
