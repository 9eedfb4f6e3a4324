"""A Glue job run is its script, really executed: it can succeed, fail, time out and be stopped.

Stock moto only writes down that a run was asked for and calls it succeeded the third time somebody
looks. Here the script is fetched from S3 and run as a process (`job_process.py`); the state and the
message of the run are the process's. A reader never sees an end without its reason.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from datetime import datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.glue.exceptions import ConcurrentRunsExceededException, JobRunNotFoundException
from moto.glue.models import FakeJob
from moto.glue.responses import GlueResponse

from deploy.local.glue_arguments import sort_arguments

_LOG = logging.getLogger(__name__)

_UNENDED = frozenset({"STARTING", "RUNNING", "STOPPING"})
_DEFAULT_TIMEOUT_MINUTES = 480
_DEFAULT_CAPACITY = 10.0
_RUNS_PER_PAGE = 200
#: Data processing units of one worker.
_UNITS = {
    "Standard": 1.0,
    "G.025X": 0.25,
    "G.1X": 1.0,
    "G.2X": 2.0,
    "G.4X": 4.0,
    "G.8X": 8.0,
    "G.12X": 12.0,
    "G.16X": 16.0,
    "R.1X": 1.0,
    "R.2X": 2.0,
    "R.4X": 4.0,
    "R.8X": 8.0,
    "Z.2X": 2.0,
}

#: How long a minute of a job's Timeout lasts; see `set_minute`.
_minute_seconds = 60.0


def set_minute(seconds: float) -> None:
    """Let the minutes of a job's `Timeout` pass faster, so that a test need not wait for one."""
    global _minute_seconds
    _minute_seconds = seconds


class JobRun:
    """One attempt at a job: what was asked for, the process that does it, and how it stands."""

    def __init__(
        self, job: FakeJob, asked: dict[str, Any], *, run_id: str, attempt: int, before: str | None
    ) -> None:
        self.job, self.asked, self.attempt, self.before = job, asked, attempt, before
        self.job_run_id = run_id
        self.started_on = self._modified_on = utcnow()
        self._completed_on: datetime | None = None
        self._state = "STARTING"
        self._error: str | None = None
        self._running_since: float | None = None
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._process: Any = None

    @property
    def state(self) -> str:
        """Glue's word for how it stands."""
        return self._state

    @property
    def is_over(self) -> bool:
        return self._state not in _UNENDED

    @property
    def timeout_minutes(self) -> float:
        return self.asked.get("Timeout") or self.job.timeout or _DEFAULT_TIMEOUT_MINUTES

    def carry_out(self) -> None:
        """Fetch and run the script, and hold its end. Takes as long as the script does."""
        try:
            self._run()
        except Exception as error:
            self._end("FAILED", f"{type(error).__name__}: {error}")
            raise

    def stop(self) -> None:
        """Ask the process to end; the run is STOPPING until it has.

        Raises:
            JsonRESTError: it has ended already.
        """
        with self._lock:
            if self.is_over:
                raise JsonRESTError(
                    "JobRunInvalidStateTransitionException",
                    f"Job run {self.job_run_id} cannot be stopped: it is {self._state}.",
                )
            self._turn("STOPPING")
            process = self._process
        if process is not None:
            process.stop()

    def as_dict(self) -> dict[str, Any]:
        """The JobRun structure of Glue's API."""
        with self._lock:
            return self._as_dict()

    def _run(self) -> None:
        # Not before a job runs: Spark's part of the library would make the server's start slower.
        from deploy.local.job_process import JobProcess, LaunchError

        job = self.job
        merged = {
            **job.default_arguments,
            **(self.asked.get("Arguments") or {}),
            **(job.non_overridable_arguments or {}),
        }
        launch = sort_arguments(
            merged,
            job_name=job.name,
            job_id="j_" + hashlib.sha256(job.arn.encode()).hexdigest(),
            run_id=self.job_run_id,
        )
        command: Any = job.command or {}
        process = JobProcess(
            command.get("ScriptLocation") or "",
            launch,
            run_id=self.job_run_id,
            region=job.backend.region_name,
        )
        with self._lock:
            if self._state == "STOPPING":
                self._end_now("STOPPED", None)
                return
            self._process = process
        try:
            process.start()
        except LaunchError as error:
            self._end("FAILED", str(error))
            return
        with self._lock:
            self._running_since = time.monotonic()
            if self._state == "STARTING":
                self._turn("RUNNING")
        ended = process.wait(self.timeout_minutes * _minute_seconds)
        if ended.timed_out:
            self._end(
                "TIMEOUT", f"Job run exceeded its timeout of {self.timeout_minutes:g} minutes"
            )
        elif ended.error is None:
            self._end("SUCCEEDED", None)
        else:
            self._end("FAILED", ended.error)

    def _end(self, state: str, error: str | None) -> None:
        with self._lock:
            # Whatever a process that was told to stop did last.
            if self._state == "STOPPING":
                state, error = "STOPPED", None
            self._end_now(state, error)

    def _end_now(self, state: str, error: str | None) -> None:
        if self._running_since is not None:
            self._seconds = time.monotonic() - self._running_since
        self._error = error
        self._completed_on = utcnow()
        self._process = None
        self._turn(state)

    def _turn(self, state: str) -> None:
        self._modified_on = utcnow()
        self._state = state

    def _as_dict(self) -> dict[str, Any]:
        asked, job = self.asked, self.job
        worker_type = asked.get("WorkerType") or job.worker_type
        workers = asked.get("NumberOfWorkers") or job.number_of_workers
        capacity = (
            asked.get("MaxCapacity")
            or asked.get("AllocatedCapacity")
            or (_UNITS.get(worker_type, 1.0) * workers if workers else None)
            or job.max_capacity
            or job.allocated_capacity
            or _DEFAULT_CAPACITY
        )
        execution_class = asked.get("ExecutionClass") or job.execution_class
        arguments = asked.get("Arguments") or {}
        described = {
            "Id": self.job_run_id,
            "Attempt": self.attempt,
            "PreviousRunId": self.before,
            "JobName": job.name,
            "JobMode": "SCRIPT",
            "StartedOn": self.started_on,
            "LastModifiedOn": self._modified_on,
            "CompletedOn": self._completed_on,
            "JobRunState": self._state,
            "ErrorMessage": self._error,
            "Arguments": arguments or None,
            "PredecessorRuns": [],
            "AllocatedCapacity": int(capacity),
            "ExecutionTime": round(self._seconds) if self.is_over else self._seconds_so_far(),
            "Timeout": self.timeout_minutes,
            "MaxCapacity": float(capacity),
            "WorkerType": worker_type,
            "NumberOfWorkers": workers,
            "LogGroupName": "/aws-glue/jobs",
            "GlueVersion": job.glue_version or "5.1",
            "ExecutionClass": execution_class,
            "NotificationProperty": asked.get("NotificationProperty") or job.notification_property,
            "SecurityConfiguration": asked.get("SecurityConfiguration")
            or job.security_configuration,
        }
        merged = {**job.default_arguments, **arguments}
        # Glue tells it for no other runs.
        if self.is_over and (
            execution_class == "FLEX" or merged.get("--enable-auto-scaling") == "true"
        ):
            described["DPUSeconds"] = self._seconds * float(capacity)
        return {name: value for name, value in described.items() if value is not None}

    def _seconds_so_far(self) -> int:
        since = self._running_since
        return 0 if since is None else round(time.monotonic() - since)


def apply() -> None:
    """Replace moto's StartJobRun, GetJobRun and GetJobRuns, and add BatchStopJobRun."""

    def start_job_run(self: GlueResponse) -> ActionResult:
        asked = dict(self.parameters)
        job = self.glue_backend.get_job(asked["JobName"])
        if asked.get("AllocatedCapacity") and asked.get("MaxCapacity"):
            raise JsonRESTError(
                "InvalidInputException", "Please set only Allocated Capacity or Max Capacity"
            )
        limit = job.execution_property.get("MaxConcurrentRuns", 1)
        if sum(not run.is_over for run in job.job_runs) >= limit:
            raise ConcurrentRunsExceededException(
                f"Concurrent runs exceeded for {job.name}: its limit is {limit}"
            )
        before = asked.get("JobRunId")
        if before is not None:
            _found(job, before)
        run = _start(job, asked, f"jr_{uuid.uuid4().hex}{uuid.uuid4().hex}", 0, before)
        return ActionResult({"JobRunId": run.job_run_id})

    def get_job_run(self: GlueResponse) -> ActionResult:
        job = self.glue_backend.get_job(self.parameters["JobName"])
        return ActionResult({"JobRun": _found(job, self.parameters["RunId"]).as_dict()})

    def get_job_runs(self: GlueResponse) -> ActionResult:
        job = self.glue_backend.get_job(self.parameters["JobName"])
        newest_first = list(reversed(job.job_runs))
        limit = int(self.parameters.get("MaxResults") or _RUNS_PER_PAGE)
        token = self.parameters.get("NextToken")
        start = 0
        if token is not None:
            ids = [run.job_run_id for run in newest_first]
            start = ids.index(token) if token in ids else len(ids)
        page, rest = newest_first[start : start + limit], newest_first[start + limit :]
        answer: dict[str, Any] = {"JobRuns": [run.as_dict() for run in page]}
        if rest:
            answer["NextToken"] = rest[0].job_run_id
        return ActionResult(answer)

    def batch_stop_job_run(self: GlueResponse) -> ActionResult:
        name = self.parameters["JobName"]
        job = self.glue_backend.get_job(name)
        stopped, errors = [], []
        for run_id in self.parameters["JobRunIds"]:
            named = {"JobName": name, "JobRunId": run_id}
            try:
                _found(job, run_id).stop()
            except JsonRESTError as error:
                detail = {"ErrorCode": error.error_type, "ErrorMessage": error.message}
                errors.append({**named, "ErrorDetail": detail})
            else:
                stopped.append(named)
        return ActionResult({"SuccessfulSubmissions": stopped, "Errors": errors})

    GlueResponse.start_job_run = start_job_run
    GlueResponse.get_job_run = get_job_run
    GlueResponse.get_job_runs = get_job_runs
    GlueResponse.batch_stop_job_run = batch_stop_job_run


def _found(job: FakeJob, run_id: str) -> JobRun:
    for run in job.job_runs:
        if run.job_run_id == run_id:
            return run
    raise JobRunNotFoundException(run_id)


def _start(
    job: FakeJob, asked: dict[str, Any], run_id: str, attempt: int, before: str | None
) -> JobRun:
    run = JobRun(job, asked, run_id=run_id, attempt=attempt, before=before)
    job.job_runs.append(run)
    threading.Thread(target=_see_through, args=(run,), name=run_id, daemon=True).start()
    return run


def _see_through(run: JobRun) -> None:
    """Carry a run out, and the attempts that its job allows after it, as Glue does: a run that
    failed is tried again, one that was stopped or timed out is not."""
    run.carry_out()
    if run.state == "FAILED" and run.attempt < int(run.job.max_retries or 0):
        first = run.job_run_id.partition("_attempt_")[0]
        attempt = run.attempt + 1
        _start(run.job, run.asked, f"{first}_attempt_{attempt}", attempt, run.job_run_id)
