"""Deaths of runs: how a Dagster instance has a run whose own process could not say why it ended.

A process that fails says so itself, with a reason. Where somebody else had to say it (the code
server, the run monitor), the worker was killed, or was ended because it took too long.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, EventLogEntry
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from service_core.isolation.decision import Death, How

_LOOKED_AT = {
    DagsterEventType.RUN_START,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELING,
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.ENGINE_EVENT,
}
#: How Python, Arrow and DuckDB say that there is no memory left.
_OUT_OF_MEMORY = frozenset({"MemoryError", "ArrowMemoryError", "OutOfMemoryException"})
#: What the run monitor writes when it ends a run that took too long; a person's request to end
#: one says something else (Dagster 1.13.27, `dagster._daemon.monitoring.run_monitoring`).
_TOO_LONG = "exceeding maximum runtime"
#: What the code server writes when a run's process is gone (`dagster._utils`).
_PROCESS_GONE = "Run execution process for"


def death_of(instance: DagsterInstance, run: DagsterRun) -> Death | None:
    """How a run died; None where it has not, or said itself why it ended."""
    if run.status not in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED):
        return None
    events = instance.all_logs(run.run_id, of_type=_LOOKED_AT)
    failures = [e for e in events if _type(e) is DagsterEventType.RUN_FAILURE]
    if not failures or not any(_type(e) is DagsterEventType.RUN_START for e in events):
        return None
    how = _how(events, failures[-1])
    if how is None:
        return None
    return Death(
        run_id=run.run_id,
        how=how,
        said=_said(events, failures[-1]),
        step=_step_in_hand(events),
        attempts=(run.run_id,),
    )


def last_death(instance: DagsterInstance, run: DagsterRun, death: Death) -> Death | None:
    """The death with all of its attempts; None where the run is tried again, or others of its
    tries are under way or came to a good end."""
    _, group = instance.get_run_group(run.run_id)
    if any(not other.is_finished or other.is_success for other in group):
        return None
    if is_tried_again(instance, run):
        return None
    died = [
        other.run_id
        for other in group
        if other.run_id == run.run_id or death_of(instance, other) is not None
    ]
    return Death(death.run_id, death.how, death.said, death.step, tuple(died))


def is_tried_again(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether Dagster has started a dead run again, will do so, or has yet to decide."""
    if AUTO_RETRY_RUN_ID_TAG in run.tags:
        return True
    will = run.tags.get(WILL_RETRY_TAG)
    return instance.run_retries_enabled if will is None else will == "true"


def _how(events: Sequence[EventLogEntry], failure: EventLogEntry) -> How | None:
    data = failure.get_dagster_event().event_specific_data
    reason = data.failure_reason if isinstance(data, JobFailureData) else None
    if reason is RunFailureReason.STEP_FAILURE:
        return How.OUT_OF_MEMORY if _ran_out_of_memory(events) else None
    if reason not in (None, RunFailureReason.RUN_WORKER_RESTART):
        return None
    endings = [e for e in events if _type(e) is DagsterEventType.RUN_CANCELING]
    if not endings:
        return How.DIED
    # Otherwise a person has ended it, which says nothing about the batch.
    return How.HUNG if any(_TOO_LONG in _message(e) for e in endings) else None


def _ran_out_of_memory(events: Sequence[EventLogEntry]) -> bool:
    for entry in events:
        if _type(entry) is not DagsterEventType.STEP_FAILURE:
            continue
        error = entry.get_dagster_event().step_failure_data.error
        while error is not None:
            if error.cls_name in _OUT_OF_MEMORY:
                return True
            error = error.cause
    return False


def _said(events: Sequence[EventLogEntry], failure: EventLogEntry) -> str:
    for entry in reversed(events):
        _, found, rest = _message(entry).partition(_PROCESS_GONE)
        if found:
            return found + rest
    return _message(failure)


def _step_in_hand(events: Sequence[EventLogEntry]) -> str | None:
    """The last step that began and did not succeed."""
    step: str | None = None
    for entry in events:
        if _type(entry) is DagsterEventType.STEP_START:
            step = entry.step_key
        elif _type(entry) is DagsterEventType.STEP_SUCCESS and entry.step_key == step:
            step = None
    return step


def _type(entry: EventLogEntry) -> DagsterEventType | None:
    return entry.get_dagster_event().event_type if entry.is_dagster_event else None


def _message(entry: EventLogEntry) -> str:
    event = entry.get_dagster_event() if entry.is_dagster_event else None
    return (event.message if event else None) or entry.user_message or ""
