"""The notifications' sensor: one for the platform. It reads the queue in which S3 tells of what was
created, and asks for a run for each batch that it makes of it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    DefaultSensorStatus,
    JobDefinition,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from pydantic import AwareDatetime, BaseModel, ConfigDict

from resources.ledger import LedgerResource
from resources.notifications import NotificationsResource
from resources.object_store import ObjectStoreResource
from resources.outages import in_a_sentence
from sensors.arrival_record import clauses, is_due, left_behind, observation, record
from sensors.batch_runs import BatchRuns
from service_core.arrival import Heard, hear_notifications
from service_core.arrival.pressure import NOTIFICATIONS
from service_core.contract.model import Contract
from service_core.naming import NOTIFICATIONS_SENSOR, ingest_job, run_tags

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

INTERVAL_SECONDS = 30


class NotificationsCursor(BaseModel):
    """What one tick leaves for the next.

    Attributes:
        ticked_at: The mark of the last completed tick.
        observed_at: By data set, when its figures were last recorded for the asset's plot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticked_at: AwareDatetime | None = None
    observed_at: dict[str, AwareDatetime] = {}

    @classmethod
    def parse(cls, text: str | None) -> "NotificationsCursor":
        """The cursor in `text`, or a fresh one: a lost cursor costs requests that Dagster knows."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValueError:
            return cls()


def notifications_sensor(
    contracts: Sequence[Contract],
    jobs: "Sequence[JobDefinition | UnresolvedAssetJobDefinition]",
    *,
    status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
    interval_seconds: int = INTERVAL_SECONDS,
) -> SensorDefinition:
    """The sensor that hears of arrivals, whatever their data set, and requests its ingest job."""

    @sensor(
        name=NOTIFICATIONS_SENSOR,
        jobs=jobs,
        minimum_interval_seconds=interval_seconds,
        default_status=status,
        description="Requests runs for the files of which the raw bucket's notifications tell. "
        "The arrivals sensors find what was never told; leave them on.",
    )
    def notifications(
        context: SensorEvaluationContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        notifications: NotificationsResource,
    ) -> SensorResult:
        cursor = NotificationsCursor.parse(context.cursor)
        with in_a_sentence():
            heard = hear_notifications(
                contracts,
                object_store.in_a_hurry().store(),
                ledger.in_a_hurry().ledger(),
                notifications.in_a_hurry().queue(),
                clock=lambda: datetime.now(UTC),
                since=cursor.ticked_at,
                runs=BatchRuns(context.instance),
            )
        said = sentence(heard)
        context.log.info(said)
        observed = {**cursor.observed_at}
        events = []
        for contract in contracts:
            if (figures := heard.figures.get(contract.dataset)) is None:
                continue
            record(contract, figures, heard.at, NOTIFICATIONS, said)
            if is_due(figures, observed.get(contract.dataset), heard.at):
                events.append(observation(contract, figures, heard.at, NOTIFICATIONS))
                observed[contract.dataset] = heard.at
        requests = [
            RunRequest(
                run_key=batch.batch_id,
                job_name=ingest_job(batch.dataset),
                partition_key=batch.partition,
                tags=run_tags(batch),
            )
            for batch in heard.batches
        ]
        return SensorResult(
            run_requests=requests,
            skip_reason=None if requests else SkipReason(said),
            asset_events=events,
            cursor=NotificationsCursor(
                ticked_at=heard.mark, observed_at=observed
            ).model_dump_json(),
        )

    return notifications


def sentence(heard: Heard) -> str:
    """What a tick came to, for the sensor's page."""
    parts = [f"{heard.messages} messages"]
    for dataset, figures in sorted(heard.figures.items()):
        said = [f"{figures.new} new", f"{figures.duplicate} known"]
        if figures.ignored:
            said.append(f"{figures.ignored} gone")
        said += clauses(figures, heard.at)
        if (why := heard.why_left.get(dataset)) is not None:
            said.append(left_behind(figures, why, "queue", heard.at))
        elif figures.waiting:
            said.append(f"{figures.waiting} wait for others to join them")
        parts.append(f"{dataset}: " + ", ".join(said))
    if heard.ignored:
        parts.append(f"{heard.ignored} are no arrivals")
    if heard.given_up:
        parts.append(
            f"{heard.given_up} cannot be understood and are in the dead-letter queue "
            "(`lakegate notifications dead list`)"
        )
    if heard.resumed:
        parts.append(f"{heard.resumed} batches taken up from a tick that died")
    if (depth := heard.depth) is not None and (depth.ready or depth.postponed):
        parts.append(f"about {depth.ready} more are ready, and {depth.postponed} put off")
    return "; ".join(parts) + "."
