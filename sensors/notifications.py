"""The notifications' sensor: one for the platform. It reads the queue in which S3 tells of what was
created, and asks for a run for each batch that it makes of it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    DefaultSensorStatus,
    JobDefinition,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from pydantic import AwareDatetime, Field

from resources.ledger import LedgerResource
from resources.notifications import NotificationsResource
from resources.object_store import ObjectStoreResource
from resources.outages import in_a_sentence
from sensors.arrival_record import clauses, is_due, left_behind, observation, record
from sensors.batch_runs import BatchRuns, batch_request
from sensors.tick import INTERVAL_SECONDS, answer
from service_core.arrival import Heard, hear_notifications
from service_core.arrival.pressure import NOTIFICATIONS
from service_core.contract.model import Contract
from service_core.naming import NOTIFICATIONS_SENSOR
from service_core.tick import Cursor

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


class NotificationsCursor(Cursor):
    """What one tick leaves for the next.

    Attributes:
        ticked_at: The mark of the last completed tick.
        observed_at: By data set, when its figures were last recorded for the asset's plot.
    """

    ticked_at: AwareDatetime | None = None
    observed_at: dict[str, AwareDatetime] = Field(default_factory=dict)


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
        observed = {**cursor.observed_at}
        events = []
        for contract in contracts:
            if (figures := heard.figures.get(contract.dataset)) is None:
                continue
            record(contract, figures, heard.at, NOTIFICATIONS, said)
            if is_due(figures, observed.get(contract.dataset), heard.at):
                events.append(observation(contract, figures, heard.at, NOTIFICATIONS))
                observed[contract.dataset] = heard.at
        return answer(
            context,
            said,
            NotificationsCursor(ticked_at=heard.mark, observed_at=observed),
            requests=[batch_request(batch) for batch in heard.batches],
            events=events,
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
