"""The history of a Step Functions execution, read into what a person wants to know of it.

The history is the only witness: what an execution is doing, what it has done and why it failed are
all told from its events, taken in once each and in their order, however they are cut into pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

_ENTERED = "StateEntered"
_EXITED = "StateExited"
_FAILED_ATTEMPT = frozenset(
    {
        "TaskFailed",
        "TaskTimedOut",
        "TaskStartFailed",
        "TaskSubmitFailed",
        "LambdaFunctionFailed",
        "LambdaFunctionTimedOut",
        "ActivityFailed",
        "ActivityTimedOut",
    }
)
#: How an execution ends, and what is then said of the states that it had not left.
_ENDINGS: Mapping[str, tuple[str, str]] = {
    "ExecutionSucceeded": ("SUCCEEDED", "succeeded"),
    "ExecutionFailed": ("FAILED", "failed"),
    "ExecutionAborted": ("ABORTED", "aborted"),
    "ExecutionTimedOut": ("TIMED_OUT", "timed out"),
}
_ATTEMPT_FAILED = "attempt failed"
_SAID_OF_AN_ERROR = 500


@dataclass(frozen=True, slots=True)
class StateVisit:
    """One stay in one state.

    Attributes:
        name: The state's name.
        type: Its type: `Task`, `Choice`, `Pass`, `Wait`, `Succeed`, `Fail`, ...
        entered: When the execution came into it.
        exited: When it left it, or was ended in it; None while it runs.
        outcome: `running`, `succeeded`, `caught` (an error was, and the execution went on), or
            how the execution ended in it: `failed`, `aborted`, `timed out`.
        attempts: How often its task was scheduled; 0 for a state that is no task.
        error: The last error that it met; empty for none.
    """

    name: str
    type: str
    entered: datetime
    exited: datetime | None = None
    outcome: str = "running"
    attempts: int = 0
    error: str = ""

    @property
    def retries(self) -> int:
        """How often the state machine tried its task again."""
        return max(0, self.attempts - 1)


class ExecutionHistory:
    """What the events taken in so far amount to."""

    def __init__(self) -> None:
        self._visits: list[StateVisit] = []
        self._visit_of_event: dict[int, int] = {}
        self.last_event = 0
        """The id of the newest event taken in; ids rise by one from 1."""
        self.status: str | None = None
        """How the execution ended; None while it runs."""
        self.error = ""
        self.cause = ""
        self.redrives = 0
        self.ended_in: StateVisit | None = None
        """The state in which the execution ended without having left it: a redrive goes on there.
        """
        self.task_error = ""
        """The name of the last error of the task that runs the job, such as `States.Timeout`."""
        self.job_run: Mapping[str, Any] | None = None
        """What Glue said last of the job run: from its start `JobRunId`, from its end `Id` and the
        rest."""
        self.job_succeeded = False
        """Whether the task that runs the job has come to its end without an error."""

    @property
    def visits(self) -> tuple[StateVisit, ...]:
        """Every stay in a state, in the order of entering."""
        return tuple(self._visits)

    @property
    def job_run_id(self) -> str | None:
        """The id of the Glue job run that was started last."""
        if self.job_run is None:
            return None
        return str(self.job_run.get("Id") or self.job_run.get("JobRunId") or "") or None

    def take(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Take in events, those known already passed over; returns what to tell of the new ones, a
        line each."""
        lines = []
        for event in sorted(events, key=lambda event: int(event["id"])):
            if int(event["id"]) > self.last_event:
                self.last_event = int(event["id"])
                lines += self._take(event)
        return lines

    def _take(self, event: Mapping[str, Any]) -> list[str]:
        kind, at = str(event["type"]), _utc(event["timestamp"])
        if kind.endswith(_ENTERED):
            name = str(event["stateEnteredEventDetails"]["name"])
            self._visits.append(StateVisit(name, kind.removesuffix(_ENTERED), at))
            self._visit_of_event[int(event["id"])] = len(self._visits) - 1
            return [f"State {name} entered at {_clock(at)}."]
        if kind in _ENDINGS:
            return self._end(event, kind, at)
        if kind == "ExecutionRedriven":
            return self._redriven(event, at)
        index = self._visit_index(event)
        if index is None:
            return []
        self._visit_of_event[int(event["id"])] = index
        if kind.endswith(_EXITED):
            return self._exit(index, at)
        if kind == "TaskScheduled":
            return self._scheduled(event, index, at)
        if kind == "TaskSubmitted":
            return self._submitted(event, at)
        if kind == "TaskSucceeded":
            self._note_job_run(event.get("taskSucceededEventDetails"), ended=True)
        if kind in _FAILED_ATTEMPT:
            return self._failed_attempt(event, kind, index, at)
        return []

    def _exit(self, index: int, at: datetime) -> list[str]:
        visit = self._visits[index]
        caught = visit.outcome == _ATTEMPT_FAILED
        visit = replace(visit, exited=at, outcome="caught" if caught else "succeeded")
        self._visits[index] = visit
        if visit.type != "Task":
            # What decides or rewrites is left as soon as it is entered.
            return []
        how = f"; its error was caught: {visit.error}" if caught else "."
        seconds = (at - visit.entered).total_seconds()
        return [f"State {visit.name} left at {_clock(at)} after {seconds:.1f} s{how}"]

    def _scheduled(self, event: Mapping[str, Any], index: int, at: datetime) -> list[str]:
        visit = self._visits[index]
        if visit.exited is not None:
            # Redriven, a task is scheduled again without being entered again.
            self._visits.append(StateVisit(visit.name, visit.type, at, attempts=1))
            self._visit_of_event[int(event["id"])] = len(self._visits) - 1
            return [f"State {visit.name} entered again at {_clock(at)}."]
        visit = replace(visit, attempts=visit.attempts + 1, outcome="running")
        self._visits[index] = visit
        if visit.attempts == 1:
            return []
        return [f"State {visit.name}: try {visit.attempts} began at {_clock(at)}."]

    def _submitted(self, event: Mapping[str, Any], at: datetime) -> list[str]:
        before = self.job_run_id
        self._note_job_run(event.get("taskSubmittedEventDetails"), ended=False)
        if self.job_run_id in {None, before}:
            return []
        return [f"Glue job run {self.job_run_id} started at {_clock(at)}."]

    def _note_job_run(self, details: Mapping[str, Any] | None, *, ended: bool) -> None:
        details = details or {}
        if details.get("resourceType") == "glue" and (said := _object(details.get("output"))):
            self.job_run = said
            self.job_succeeded = ended

    def _failed_attempt(
        self, event: Mapping[str, Any], kind: str, index: int, at: datetime
    ) -> list[str]:
        details = event.get(f"{kind[0].lower()}{kind[1:]}EventDetails") or {}
        error, cause = str(details.get("error") or ""), str(details.get("cause") or "")
        if details.get("resourceType") == "glue":
            self.task_error = error
            if (said := _object(cause)) and "Id" in said:
                self.job_run = said
        visit = self._visits[index]
        why = readable_cause(error, cause)
        self._visits[index] = replace(visit, outcome=_ATTEMPT_FAILED, error=why)
        return [f"State {visit.name}: its task failed at {_clock(at)}: {why}"]

    def _end(self, event: Mapping[str, Any], kind: str, at: datetime) -> list[str]:
        self.status, outcome = _ENDINGS[kind]
        details = event.get(f"{kind[0].lower()}{kind[1:]}EventDetails") or {}
        self.error, self.cause = str(details.get("error") or ""), str(details.get("cause") or "")
        if self.status == "TIMED_OUT" and not self.cause:
            self.cause = "it ran longer than the TimeoutSeconds of its state machine"
        done = self.status == "SUCCEEDED"
        for index, visit in enumerate(self._visits):
            if visit.exited is None:
                error = visit.error or readable_cause(self.error, self.cause)
                self._visits[index] = visit = replace(
                    visit, outcome=outcome, exited=at, error="" if done else error
                )
                self.ended_in = visit
        return [f"The execution ended {self.status} at {_clock(at)}."]

    def _redriven(self, event: Mapping[str, Any], at: datetime) -> list[str]:
        details = event.get("executionRedrivenEventDetails") or {}
        self.redrives = int(details.get("redriveCount") or self.redrives + 1)
        self.status, self.error, self.cause, self.ended_in = None, "", "", None
        return [f"The execution was redriven at {_clock(at)} (redrive {self.redrives})."]

    def _visit_index(self, event: Mapping[str, Any]) -> int | None:
        """Whose event it is: of the state whose event came before it, by which branches are told
        apart; else of the state entered last."""
        details = event.get("stateExitedEventDetails")
        if details is not None:
            return next(
                (
                    index
                    for index in range(len(self._visits) - 1, -1, -1)
                    if self._visits[index].name == details["name"]
                    and self._visits[index].exited is None
                ),
                None,
            )
        before = self._visit_of_event.get(int(event.get("previousEventId") or 0))
        return before if before is not None else (len(self._visits) - 1 if self._visits else None)


def readable_cause(error: str, cause: str) -> str:
    """Why something failed, as one sentence for a person.

    Step Functions gives the whole job run as JSON for the cause of a Glue job's failure, and the
    message of an AWS exception, with its service and request id in brackets, for that of a call.
    """
    said = _object(cause)
    if said is not None and "JobRunState" in said:
        message = str(said.get("ErrorMessage") or "").strip()
        return _sentence(
            f"the Glue job run {said.get('Id', '?')} ended {said['JobRunState']}"
            + (f": {message}" if message else " and gave no reason")
        )
    if said is not None:
        message = str(said.get("errorMessage") or said.get("ErrorMessage") or cause)
        return _sentence(f"{error}: {message}" if error else message)
    cause = cause.partition(" (Service: ")[0].strip()
    if error.startswith("Curation") and cause:
        # Of our own state machine, whose causes are sentences.
        return _sentence(cause)
    if error and cause:
        return _sentence(f"{error}: {cause}")
    return _sentence(error or cause or "no reason was given")


def state_table(visits: Sequence[StateVisit]) -> MetadataValue:
    """Stays in states as a table of Dagster's."""
    columns = {
        "state": "string",
        "type": "string",
        "entered": "string",
        "exited": "string",
        "seconds": "float",
        "outcome": "string",
        "retries": "int",
        "error": "string",
    }
    records = [
        TableRecord(
            {
                "state": visit.name,
                "type": visit.type,
                "entered": _iso(visit.entered),
                "exited": _iso(visit.exited) if visit.exited else None,
                "seconds": (
                    round((visit.exited - visit.entered).total_seconds(), 3)
                    if visit.exited
                    else None
                ),
                "outcome": visit.outcome,
                "retries": visit.retries,
                "error": visit.error,
            }
        )
        for visit in visits
    ]
    schema = TableSchema(columns=[TableColumn(name, type=kind) for name, kind in columns.items()])
    return MetadataValue.table(records=records, schema=schema)


def _object(text: Any) -> Mapping[str, Any] | None:
    try:
        said = json.loads(text) if text else None
    except (TypeError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > _SAID_OF_AN_ERROR:
        text = text[:_SAID_OF_AN_ERROR].rstrip() + " ..."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")
