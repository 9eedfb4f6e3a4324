"""The code location: every contract's assets, job and sensor, and what they work with.

`build_definitions` reads from top to bottom as the table of contents.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.leftovers import leftovers_asset, leftovers_job, leftovers_schedule
from assets.rehearsals import rehearsal_job_of, rehearsals_spec
from assets.unclaimed import unclaimed_spec
from assets.upkeep import table_upkeep_job, table_upkeep_schedule, tables_asset
from assets.zones import dataset_assets
from dagster_project.collecting import keep_what_is_loaded, not_collecting
from resources.catalog import CatalogResource
from resources.engines import EnginesResource
from resources.ledger import LedgerResource
from resources.notifications import NotificationsResource
from resources.object_store import ObjectStoreResource
from resources.telemetry import EventsResource
from sensors.arrivals import arrivals_sensor_of
from sensors.isolation import isolation_sensor
from sensors.notifications import notifications_sensor
from sensors.replays import replays_sensor
from sensors.unclaimed import unclaimed_sensor
from service_core.contract import load_contracts
from service_core.contract.model import Contract
from service_core.naming import DATASET_TAG, MAX_RUNTIME_TAG, NO_RETRY_ON_DATA_ERRORS, ingest_job
from service_core.settings import NotificationRoute, Settings
from service_core.telemetry import configure_logging

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location as `workspace.yaml` names it: contracts and settings from the
    environment."""
    configure_logging()
    settings = Settings.from_environment(os.environ)
    with not_collecting():
        definitions = build_definitions(load_contracts(settings.contracts), settings)
    keep_what_is_loaded()
    return definitions


def build_definitions(contracts: Sequence[Contract], settings: Settings) -> dg.Definitions:
    """Everything that Dagster knows of these contracts."""
    sensing = (
        dg.DefaultSensorStatus.RUNNING if settings.sensors_on else dg.DefaultSensorStatus.STOPPED
    )
    cleaning, tending = leftovers_job(), table_upkeep_job()
    scheduled = (
        dg.DefaultScheduleStatus.RUNNING
        if settings.sensors_on
        else dg.DefaultScheduleStatus.STOPPED
    )
    assets = {contract.dataset: dataset_assets(contract) for contract in contracts}
    ingests = [_ingest_job(dataset, its, settings) for dataset, its in assets.items()]
    jobs = [
        *ingests,
        *(rehearsal_job_of(contract) for contract in contracts),
    ]
    return dg.Definitions(
        assets=[
            *(asset for its in assets.values() for asset in its),
            *(rehearsals_spec(contract) for contract in contracts),
            unclaimed_spec(),
            leftovers_asset(contracts),
            tables_asset(contracts),
        ],
        jobs=[*jobs, cleaning, tending],
        schedules=[
            leftovers_schedule(cleaning, status=scheduled),
            table_upkeep_schedule(tending, status=scheduled),
        ],
        sensors=[
            *(
                arrivals_sensor_of(
                    contract,
                    status=sensing,
                    interval_seconds=settings.sensor_seconds,
                )
                for contract in contracts
            ),
            *(
                [
                    notifications_sensor(
                        contracts,
                        ingests,
                        status=sensing,
                        interval_seconds=settings.sensor_seconds,
                    )
                ]
                if settings.notifications is not NotificationRoute.OFF
                else []
            ),
            unclaimed_sensor(contracts, status=sensing),
            replays_sensor(
                contracts, jobs, status=sensing, interval_seconds=settings.sensor_seconds
            ),
            isolation_sensor(
                contracts, ingests, status=sensing, interval_seconds=settings.sensor_seconds
            ),
        ],
        resources={
            "object_store": ObjectStoreResource.of(settings),
            "ledger": LedgerResource.of(settings),
            "catalog": CatalogResource.of(settings),
            "events": EventsResource.of(settings),
            "engines": EnginesResource.of(settings),
            "notifications": NotificationsResource.of(settings),
        },
    )


def _ingest_job(
    dataset: str, assets: Sequence[dg.AssetsDefinition], settings: Settings
) -> UnresolvedAssetJobDefinition:
    """All zones of a data set in one process: a batch is small, and a process for each of its
    steps would cost more than the steps."""
    return dg.define_asset_job(
        ingest_job(dataset),
        selection=dg.AssetSelection.assets(*assets),
        executor_def=dg.in_process_executor,
        tags={
            DATASET_TAG: dataset,
            MAX_RUNTIME_TAG: str(int(settings.run_minutes * 60)),
            **NO_RETRY_ON_DATA_ERRORS,
        },
        description=f"Takes a batch of {dataset} from raw to published.",
    )
