"""The replay sensor: one for the platform. It answers requests for replays, asks for the runs that
they take, and notices when they are done.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    DagsterInstance,
    DefaultSensorStatus,
    JobDefinition,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from pydantic import AwareDatetime

from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.outages import in_a_sentence
from resources.telemetry import EventsResource
from sensors.batch_runs import batch_request
from sensors.isolation_runs import is_being_isolated
from sensors.tick import INTERVAL_SECONDS, answer
from service_core.contract.model import Contract
from service_core.naming import (
    BATCH_TAG,
    DATASET_TAG,
    REPLAY_TAG,
    REPLAYS_SENSOR,
    rehearsal_job,
)
from service_core.replay.progress import BatchRun, Replays, RunOf, RunStanding, look_at_replays
from service_core.telemetry import logger
from service_core.tick import Cursor

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


class ReplaysCursor(Cursor):
    """What one tick leaves for the next: when the last completed one began."""

    ticked_at: AwareDatetime | None = None


def replays_sensor(
    contracts: Sequence[Contract],
    jobs: "Sequence[JobDefinition | UnresolvedAssetJobDefinition]",
    *,
    status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
    interval_seconds: int = INTERVAL_SECONDS,
) -> SensorDefinition:
    """The sensor that carries out every replay, through the data sets' own ingest jobs."""
    by_dataset = {contract.dataset: contract for contract in contracts}
    names = {job.name for job in jobs}
    rehearsals = all(rehearsal_job(dataset) in names for dataset in by_dataset)

    @sensor(
        name=REPLAYS_SENSOR,
        jobs=jobs,
        minimum_interval_seconds=interval_seconds,
        default_status=status,
        description="Carries out the replays that are asked for in the manifests bucket.",
    )
    def replays(
        context: SensorEvaluationContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        events: EventsResource,
    ) -> SensorResult:
        with in_a_sentence():
            found = look_at_replays(
                by_dataset,
                object_store.in_a_hurry().store(),
                ledger.in_a_hurry().ledger(),
                events.in_a_hurry().events(),
                clock=lambda: datetime.now(UTC),
                since=ReplaysCursor.parse(context.cursor).ticked_at,
                rehearsals=rehearsals,
                run_of=runs_of(context.instance),
            )
        said = sentence(found)
        logger().info("replays", dataset=None, source=None, stage="replay", run_id=None,
                      batch_id=None, said=said)  # fmt: skip
        requests = [batch_request(batch) for batch in found.batches]
        requests += [
            RunRequest(
                run_key=f"{replay_id}/rehearsal",
                job_name=rehearsal_job(dataset),
                tags={REPLAY_TAG: replay_id, DATASET_TAG: dataset},
            )
            for replay_id, dataset in found.rehearsals
        ]
        return answer(context, said, ReplaysCursor(ticked_at=found.at), requests=requests)

    return replays


def sentence(found: Replays) -> str:
    """What a look came to, for the sensor's page."""
    parts = []
    if found.intake.accepted:
        parts.append(f"Accepted: {', '.join(found.intake.accepted)}.")
    if found.intake.rejected:
        parts.append(f"Rejected: {', '.join(found.intake.rejected)}; the reasons lie beside them.")
    return " ".join([*parts, *found.said]) or "No replay is open."


def runs_of(instance: DagsterInstance) -> RunOf:
    """How the newest run of a replay's batch stands, as a Dagster instance has it. One that died
    is not at its end before the batches are that it was split into."""

    def run_of(replay_id: str, batch_id: str | None) -> BatchRun:
        tags = {REPLAY_TAG: replay_id, **({BATCH_TAG: batch_id} if batch_id else {})}
        found = instance.get_run_records(RunsFilter(tags=tags), limit=1)
        if not found:
            return BatchRun(RunStanding.UNKNOWN)
        run = found[0].dagster_run
        if not run.is_finished or run.is_complete_and_waiting_to_retry:
            return BatchRun(RunStanding.ACTIVE, run.run_id)
        if run.is_success:
            return BatchRun(RunStanding.SUCCEEDED, run.run_id)
        isolating = batch_id is not None and is_being_isolated(instance, found[0], tags)
        standing = RunStanding.ACTIVE if isolating else RunStanding.FAILED
        return BatchRun(standing, run.run_id)

    return run_of
