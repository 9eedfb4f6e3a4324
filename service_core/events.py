"""The events that the platform puts on its bus, and the fields that each carries."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

#: EventBridge's `Source` of every event.
SOURCE = "lakegate"


class EventName(StrEnum):
    """EventBridge's `DetailType`."""

    VALIDATION_PASSED = "ValidationPassed"
    VALIDATION_FAILED = "ValidationFailed"
    DQ_PASSED = "DQPassed"
    DQ_FAILED = "DQFailed"
    QUARANTINED = "Quarantined"
    PUBLISHED = "Published"
    CURATION_SUCCEEDED = "CurationSucceeded"
    CURATION_FAILED = "CurationFailed"
    REPLAY_REJECTED = "ReplayRejected"
    REPLAY_STARTED = "ReplayStarted"
    REPLAY_COMPLETED = "ReplayCompleted"
    ROLLED_BACK = "RolledBack"


class Event(BaseModel):
    """One event. `detail` holds what is particular to it, JSON values only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: EventName
    dataset: str
    partition: str
    batch_id: str
    run_id: str
    replay_id: str | None = None
    source: str = ""
    at: AwareDatetime
    detail: dict[str, Any] = {}
