"""The sensor that reports landed objects under no contract."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dagster import (
    AssetKey,
    AssetMaterialization,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.outages import in_a_sentence
from resources.telemetry import EventsResource
from sensors.tick import answer
from service_core.contract.model import Contract
from service_core.naming import UNCLAIMED
from service_core.run import Run
from service_core.tick import Cursor
from service_core.unclaimed import look_for_unclaimed

#: They hurry nobody, and the whole bucket is listed for them.
_INTERVAL_SECONDS = 60


class UnclaimedCursor(Cursor):
    """What one tick leaves for the next: where the listing goes on, None at its beginning."""

    resume: tuple[str, str] | None = None


def unclaimed_sensor(
    contracts: Sequence[Contract],
    *,
    status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
    interval_seconds: int = _INTERVAL_SECONDS,
) -> SensorDefinition:
    """One sensor for the whole raw bucket. It asks for no runs: there is no contract to run."""
    prefixes = [contract.landing.prefix for contract in contracts]

    @sensor(
        name="unclaimed_arrivals",
        minimum_interval_seconds=interval_seconds,
        default_status=status,
        description="Reports, once each, landed files that lie under no contract's prefix.",
    )
    def unclaimed(
        context: SensorEvaluationContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        events: EventsResource,
    ) -> SensorResult:
        with in_a_sentence(), tempfile.TemporaryDirectory(prefix="lakegate-") as scratch:
            run = Run(
                id="unclaimed_arrivals",
                attempt="unclaimed_arrivals",
                clock=lambda: datetime.now(UTC),
                scratch=Path(scratch),
            )
            found = look_for_unclaimed(
                prefixes,
                object_store.in_a_hurry().store(),
                ledger.in_a_hurry().ledger(),
                events.in_a_hurry().events(),
                run,
                resume=UnclaimedCursor.parse(context.cursor).resume,
            )
        key = AssetKey(["quarantine", UNCLAIMED, "files"])
        return answer(
            context,
            f"{len(found.objects)} files under no contract's prefix are new in quarantine."
            if found.objects
            else "No new files under no contract's prefix.",
            UnclaimedCursor(resume=found.resume),
            events=[
                AssetMaterialization(
                    asset_key=key,
                    metadata={
                        "key": o.key,
                        "bytes": o.size,
                        "landed": o.last_modified.isoformat(),
                        "what_to_do": "Land it under a contract's prefix, or write a contract.",
                    },
                )
                for o in found.objects
            ],
        )

    return unclaimed
