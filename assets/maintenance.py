"""Maintenance: the jobs and schedules of the assets that look after the platform itself."""

from typing import TYPE_CHECKING

from dagster import (
    AssetKey,
    AssetSelection,
    DefaultScheduleStatus,
    ScheduleDefinition,
    define_asset_job,
    in_process_executor,
)

from service_core.naming import NO_RETRY_ON_DATA_ERRORS

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


def maintenance_job(name: str, asset: AssetKey, description: str) -> "UnresolvedAssetJobDefinition":
    """The job that materialises one asset of maintenance."""
    return define_asset_job(
        name,
        selection=AssetSelection.assets(asset),
        executor_def=in_process_executor,
        tags=NO_RETRY_ON_DATA_ERRORS,
        description=description,
    )


def maintenance_schedule(
    job: "UnresolvedAssetJobDefinition",
    how_often: str,
    cron: str,
    description: str,
    *,
    status: DefaultScheduleStatus,
) -> ScheduleDefinition:
    """When that job runs by itself.

    Args:
        how_often: Such as `daily`, for the schedule's name.
        cron: The same exactly, in UTC.
    """
    return ScheduleDefinition(
        name=f"{job.name}_{how_often}",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description=description,
    )
