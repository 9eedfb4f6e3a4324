"""The arrivals sensor: one for each data set, which asks for a run for each new batch."""

from datetime import UTC, datetime

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from service_core.arrival import ArrivalCursor, Arrivals, look_for_arrivals
from service_core.contract.model import Contract
from service_core.naming import arrivals_sensor, ingest_job, run_tags
from service_core.telemetry import logger

#: How often Dagster's daemon looks. A tick is bounded to a third of the 60 s after which the
#: daemon gives up on it (`Budget.seconds`).
INTERVAL_SECONDS = 30


def arrivals_sensor_of(
    contract: Contract,
    *,
    status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
    interval_seconds: int = INTERVAL_SECONDS,
) -> SensorDefinition:
    """The sensor of one data set, which requests its ingest job.

    The run key is the batch id, which is made of object versions: Dagster remembers run keys for
    ever, and a key that is overwritten must be noticed again.
    """

    @sensor(
        name=arrivals_sensor(contract.dataset),
        job_name=ingest_job(contract.dataset),
        minimum_interval_seconds=interval_seconds,
        default_status=status,
        description=f"Requests a run for each batch of files landed under "
        f"{contract.landing.prefix}.",
    )
    def arrivals(
        context: SensorEvaluationContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
    ) -> SensorResult:
        found = look_for_arrivals(
            contract,
            object_store.store(),
            ledger.ledger(),
            ArrivalCursor.parse(context.cursor),
            clock=lambda: datetime.now(UTC),
        )
        said = sentence(contract, found)
        logger().info("arrivals", dataset=contract.dataset, source=contract.landing.prefix,
                      stage="arrival", run_id=None, batch_id=None, said=said)  # fmt: skip
        context.log.info(said)
        requests = [
            RunRequest(run_key=batch.batch_id, partition_key=batch.partition, tags=run_tags(batch))
            for batch in found.batches
        ]
        return SensorResult(
            run_requests=requests,
            skip_reason=None if requests else SkipReason(said),
            cursor=found.cursor.model_dump_json(),
        )

    return arrivals


def sentence(contract: Contract, found: Arrivals) -> str:
    """What a tick found, for the sensor's page."""
    if found.held_back:
        return (
            f"{found.pending} batches of {contract.dataset} wait for their runs; what has landed "
            "since waits in the bucket."
        )
    parts = [f"{found.listed} versions listed, {found.new} new in {len(found.batches)} batches"]
    if found.late:
        parts.append(f"{found.late} late")
    if found.misplaced:
        parts.append(f"{found.misplaced} under no partition")
    if found.resumed:
        parts.append(f"{found.resumed} batches taken up from a tick that died")
    if not found.complete:
        parts.append("the listing goes on at the next tick")
    return f"{contract.landing.prefix}: " + "; ".join(parts) + "."
