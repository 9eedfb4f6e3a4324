"""The arrivals sensor: one for each data set, which asks for a run for each new batch."""

from datetime import UTC, datetime

from dagster import (
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.outages import in_a_sentence
from sensors.arrival_record import clauses, is_due, left_behind, observation, record
from sensors.batch_runs import BatchRuns, batch_request
from sensors.tick import INTERVAL_SECONDS, answer
from service_core.arrival import ArrivalCursor, Arrivals, look_for_arrivals
from service_core.arrival.pressure import LISTING
from service_core.contract.model import Contract
from service_core.naming import arrivals_sensor, ingest_job


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
        cursor = ArrivalCursor.parse(context.cursor)
        with in_a_sentence():
            found = look_for_arrivals(
                contract,
                object_store.in_a_hurry().store(),
                ledger.in_a_hurry().ledger(),
                cursor,
                clock=lambda: datetime.now(UTC),
                runs=BatchRuns(context.instance),
            )
        figures, said = found.figures(), sentence(contract, found)
        record(contract, figures, found.at, LISTING, said)
        plotted = is_due(figures, cursor.observed_at, found.at)
        return answer(
            context,
            said,
            found.observed(plotted),
            requests=[batch_request(batch) for batch in found.batches],
            events=[observation(contract, figures, found.at, LISTING)] if plotted else [],
        )

    return arrivals


def sentence(contract: Contract, found: Arrivals) -> str:
    """What a tick found, for the sensor's page."""
    figures = found.figures()
    parts = [
        f"{found.listed} versions listed, {found.new} new in "
        f"{len(found.batches) - found.resumed} batches"
    ]
    parts += clauses(figures, found.at)
    if found.misplaced:
        parts.append(f"{found.misplaced} under no partition")
    if found.resumed:
        parts.append(f"{found.resumed} batches taken up from a tick that died")
    if found.stranded:
        parts.append(
            f"the runs of {found.stranded} batches ended before they began, and have to be looked "
            "at"
        )
    if found.why_left:
        parts.append(left_behind(figures, found.why_left, "bucket", found.at))
    elif figures.waiting:
        parts.append(f"{figures.waiting} wait for others to join them")
    if not found.complete:
        parts.append("the listing goes on at the next tick")
    return f"{contract.landing.prefix}: " + "; ".join(parts) + "."
