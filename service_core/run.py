"""The run on whose behalf a step works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """Who works, when, and where it may leave files in hand.

    Attributes:
        id: Dagster's run id (the root run's, where a run is retried or resumed, so that what one
            attempt left is found by the next).
        attempt: Unique to this attempt; it names what this attempt stages.
        clock: The current time, in UTC; injected so that nothing reads a clock by itself.
        scratch: An existing folder of this attempt's own, removed by whoever made it.
        replay_id: The replay that the run is part of, if any.
    """

    id: str
    attempt: str
    clock: Callable[[], datetime]
    scratch: Path
    replay_id: str | None = None
