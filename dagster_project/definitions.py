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
from assets.zones import dataset_assets
from resources.catalog import CatalogResource
from resources.engines import EnginesResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.telemetry import EventsResource
from sensors.arrivals import arrivals_sensor_of
from sensors.replays import replays_sensor
from sensors.unclaimed import unclaimed_sensor
from service_core.contract import load_contracts
from service_core.contract.model import Contract
from service_core.naming import DATASET_TAG, NO_RETRY_ON_DATA_ERRORS, ingest_job
from service_core.settings import Settings
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
    return build_definitions(load_contracts(settings.contracts), settings)


def build_definitions(contracts: Sequence[Contract], settings: Settings) -> dg.Definitions:
    """Everything that Dagster knows of these contracts."""
    sensing = (
        dg.DefaultSensorStatus.RUNNING if settings.sensors_on else dg.DefaultSensorStatus.STOPPED
    )
    cleaning = leftovers_job()
    daily = (
        dg.DefaultScheduleStatus.RUNNING
        if settings.sensors_on
        else dg.DefaultScheduleStatus.STOPPED
    )
    assets = {contract.dataset: dataset_assets(contract) for contract in contracts}
    jobs = [
        *(_ingest_job(dataset, its) for dataset, its in assets.items()),
        *(rehearsal_job_of(contract) for contract in contracts),
    ]
    return dg.Definitions(
        assets=[
            *(asset for its in assets.values() for asset in its),
            *(rehearsals_spec(contract) for contract in contracts),
            unclaimed_spec(),
            leftovers_asset(contracts),
        ],
        jobs=[*jobs, cleaning],
        schedules=[leftovers_schedule(cleaning, status=daily)],
        sensors=[
            *(
                arrivals_sensor_of(
                    contract,
                    status=sensing,
                    interval_seconds=settings.sensor_seconds,
                )
                for contract in contracts
            ),
            unclaimed_sensor(contracts, status=sensing),
            replays_sensor(
                contracts, jobs, status=sensing, interval_seconds=settings.sensor_seconds
            ),
        ],
        resources={
            "object_store": ObjectStoreResource.of(settings),
            "ledger": LedgerResource.of(settings),
            "catalog": CatalogResource.of(settings),
            "events": EventsResource.of(settings),
            "engines": EnginesResource.of(settings),
        },
    )


def _ingest_job(
    dataset: str, assets: Sequence[dg.AssetsDefinition]
) -> UnresolvedAssetJobDefinition:
    """All zones of a data set in one process: a batch is small, and a process for each of its
    steps would cost more than the steps."""
    return dg.define_asset_job(
        ingest_job(dataset),
        selection=dg.AssetSelection.assets(*assets),
        executor_def=dg.in_process_executor,
        tags={DATASET_TAG: dataset, **NO_RETRY_ON_DATA_ERRORS},
        description=f"Takes a batch of {dataset} from raw to published.",
    )
