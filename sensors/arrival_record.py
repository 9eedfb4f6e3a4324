"""What a look for arrivals leaves for people: the figures on the asset's plot and in the log."""

from __future__ import annotations

from datetime import datetime, timedelta

from dagster import AssetKey, AssetObservation

from service_core.arrival.figures import ArrivalFigures, how_old
from service_core.contract.model import Contract
from service_core.telemetry import logger

#: Dagster keeps events for ever. While nothing happens, one an hour keeps the plot's line; while
#: something waits, one every few minutes shows how it grows.
_QUIET = timedelta(hours=1)
_WAITING = timedelta(minutes=5)


def observation(contract: Contract, figures: ArrivalFigures, now: datetime, way: str
                ) -> AssetObservation:  # fmt: skip
    """The figures as numeric metadata of the raw asset, which the UI plots over time."""
    return AssetObservation(
        asset_key=AssetKey(["raw", contract.dataset]),
        description=f"Arrivals, by {way}.",
        metadata={f"arrivals/{name}": value for name, value in figures.numbers(now).items()},
    )


def is_due(figures: ArrivalFigures, before: datetime | None, now: datetime) -> bool:
    """Whether the figures are worth an observation, `before` being when there was one last."""
    if figures.new or figures.late or before is None:
        return True
    # The last one may have been recorded by a clock that is wrong.
    return abs(now - before) >= (_WAITING if figures.waiting or figures.pending else _QUIET)


def record(contract: Contract, figures: ArrivalFigures, now: datetime, way: str, said: str) -> None:
    """Write the figures to the log."""
    logger().info("arrivals", dataset=contract.dataset, source=contract.landing.prefix,
                  stage="arrival", run_id=None, batch_id=None, way=way, said=said,
                  **figures.numbers(now))  # fmt: skip


def clauses(figures: ArrivalFigures, now: datetime) -> list[str]:
    """What is late, and what waits, for the sentence of a tick."""
    parts = []
    if figures.late:
        parts.append(f"{figures.late} late")
    if figures.pending:
        parts.append(
            f"{figures.pending} batches wait for their runs, the oldest for "
            f"{how_old(figures.oldest_pending, now)}"
        )
    return parts


def left_behind(figures: ArrivalFigures, why: str, where: str, now: datetime) -> str:
    """How much was left in the bucket or the queue, how old it is, and why."""
    return (
        f"at least {figures.waiting:,} files ({figures.waiting_bytes:,} bytes), the oldest of them "
        f"{how_old(figures.oldest_waiting, now)} old, wait in the {where}, because {why}"
    )
