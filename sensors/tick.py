"""Ticks: how often they come, and how a sensor answers one."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import (
    AssetMaterialization,
    AssetObservation,
    RunRequest,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
)

from service_core.tick import Cursor

#: How often Dagster's daemon looks. A tick is bounded to less than the 60 s after which the daemon
#: gives up on it, by the budgets of `service_core`.
INTERVAL_SECONDS = 30


def answer(
    context: SensorEvaluationContext,
    said: str,
    cursor: Cursor,
    *,
    requests: Sequence[RunRequest] = (),
    events: Sequence[AssetMaterialization | AssetObservation] = (),
) -> SensorResult:
    """What a tick came to. It is said where the tick's log is, and on the sensor's page where no
    runs are asked for: Dagster shows these there otherwise."""
    context.log.info(said)
    return SensorResult(
        run_requests=list(requests),
        skip_reason=None if requests else SkipReason(said),
        asset_events=list(events),
        cursor=cursor.model_dump_json(),
    )
