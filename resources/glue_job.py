"""A Glue job and its runs, as the service tells of them.

A run is found again by an argument that it was started with, so nothing has to be remembered
anywhere else: a worker that died leaves no more behind than the job run itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

#: The argument that names the work which a job run is for.
IDENTITY_ARGUMENT = "--lakegate-identity"

#: Every state in which a job run has ended. dagster-aws 0.29 does not know EXPIRED and waits on.
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"})

#: DPUs of one worker of a type.
_DPU_OF_WORKER: Mapping[str, float] = {
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
#: Glue bills at least this much of a run.
_BILLED_AT_LEAST_SECONDS = 60.0

#: What Glue does where a job names no Timeout.
_DEFAULT_TIMEOUT_MINUTES = 480
_PAGE = 200
_PAGES = 10
_LOG_GROUP = "/aws-glue/jobs"
_LOG_LINES = 30

_ENDINGS: Mapping[str, str] = {
    "TIMEOUT": (
        "ran longer than the job's Timeout of {timeout} min and was ended by Glue. Give the job "
        "more workers, or a longer Timeout"
    ),
    "STOPPED": "was stopped from outside. Launch the run again when it may go on",
    "EXPIRED": "waited too long for capacity and expired",
    "ERROR": "ended in an error of Glue",
    "FAILED": "failed",
}


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a Glue job at one moment.

    Attributes:
        job: The job's name.
        id: The run's.
        state: Glue's word for how it stands.
        started: When it was started.
        seconds: How long it has executed, waiting and starting up not counted.
        dpu_seconds: What that used: as Glue says, else seconds times its capacity.
        capacity: DPUs.
        timeout_minutes: After how long Glue ends it.
        error: What Glue says went wrong; empty where it says nothing.
        log_group: The CloudWatch log group that its logs lie beside.
    """

    job: str
    id: str
    state: str
    started: datetime
    seconds: float
    dpu_seconds: float
    capacity: float
    timeout_minutes: int
    error: str
    log_group: str

    @property
    def ended(self) -> bool:
        """Whether it is over. A state that Glue may yet invent counts as in flight: the deadline
        bounds the wait for it."""
        return self.state in _ENDED

    @property
    def succeeded(self) -> bool:
        return self.state == "SUCCEEDED"

    def age(self) -> float:
        """Seconds since it was started."""
        return max(0.0, (datetime.now(UTC) - self.started).total_seconds())

    def cost(self, dpu_hour_price: float) -> float:
        """An estimate of what Glue bills for it, in the currency of the price."""
        billed = max(self.dpu_seconds, self.capacity * _BILLED_AT_LEAST_SECONDS)
        return round(billed / 3600 * dpu_hour_price, 4)

    def why_not(self, exception: str | None = None) -> str:
        """Why it has not succeeded, in a sentence or two.

        Args:
            exception: What its script said to have raised.
        """
        ending = _ENDINGS.get(self.state, f"ended {self.state}")
        said = f"The Glue job run {self.id} of {self.job} "
        said += ending.format(timeout=self.timeout_minutes)
        if self.error:
            said += f": {self.error.rstrip('.')}"
        if exception and exception.strip() not in self.error:
            said += f". Its script raised {exception.strip().rstrip('.')}"
        return said + "."

    def url(self, region: str) -> str:
        """Its page in the AWS console."""
        return (
            f"https://{region}.{_console(region)}/gluestudio/home?region={region}"
            f"#/job/{self.job}/run/{self.id}"
        )


class GlueJob:
    """One Glue job.

    Args:
        name: Its name.
        glue: A boto3 Glue client.
        starter: One that tries a request only once: StartJobRun knows no token by which a request
            made twice would be told from two requests.
        logs: Gives a boto3 CloudWatch Logs client, asked for only when a run has failed.
    """

    def __init__(self, name: str, glue: Any, starter: Any, logs: Any) -> None:
        self.name = name
        self._glue = glue
        self._starter = starter
        self._logs = logs

    def timeout_minutes(self) -> int:
        """After how long Glue ends its runs.

        Raises:
            ClientError: there is no such job, among others.
        """
        job = self._glue.get_job(JobName=self.name)["Job"]
        return int(job.get("Timeout") or _DEFAULT_TIMEOUT_MINUTES)

    def newest(self, identity: str, *, since: datetime) -> JobRun | None:
        """The newest run started for this identity, among those not much older than `since`.

        Glue lists the newest first; at most 2,000 are looked through.
        """
        asked: dict[str, Any] = {"JobName": self.name, "MaxResults": _PAGE}
        for _ in range(_PAGES):
            answer = self._glue.get_job_runs(**asked)
            page = answer.get("JobRuns", ())
            if mine := [r for r in page if _identity(r) == identity]:
                return _job_run(self.name, max(mine, key=_started))
            if "NextToken" not in answer or (page and max(map(_started, page)) < since):
                return None
            asked["NextToken"] = answer["NextToken"]
        return None

    def start(self, identity: str, arguments: Mapping[str, str]) -> str:
        """Start a run, in one request that is not repeated; returns its id."""
        answer = self._starter.start_job_run(
            JobName=self.name, Arguments={**arguments, IDENTITY_ARGUMENT: identity}
        )
        return str(answer["JobRunId"])

    def look(self, run_id: str) -> JobRun:
        """A run as it stands now."""
        return _job_run(
            self.name, self._glue.get_job_run(JobName=self.name, RunId=run_id)["JobRun"]
        )

    def stop(self, run_id: str) -> str:
        """Ask for a run to be stopped; returns what Glue has against it, empty for nothing."""
        answer = self._glue.batch_stop_job_run(JobName=self.name, JobRunIds=[run_id])
        return "; ".join(
            str(error.get("ErrorDetail", {}).get("ErrorMessage") or error)
            for error in answer.get("Errors", ())
        )

    def log_tail(self, run: JobRun) -> list[str]:
        """The last lines of a run's error log, where there is one and it may be read."""
        try:
            events = self._logs().get_log_events(
                logGroupName=f"{run.log_group}/error",
                logStreamName=run.id,
                limit=_LOG_LINES,
                startFromHead=False,
            )["events"]
        except (ClientError, BotoCoreError):
            # A log is a courtesy: the run has failed with or without it.
            return []
        lines = [line.rstrip() for event in events for line in event["message"].splitlines()]
        return [line for line in lines if line][-_LOG_LINES:]


def _identity(answer: Mapping[str, Any]) -> str | None:
    identity: str | None = answer.get("Arguments", {}).get(IDENTITY_ARGUMENT)
    return identity


def _started(answer: Mapping[str, Any]) -> datetime:
    started: datetime = answer["StartedOn"]
    return started if started.tzinfo else started.replace(tzinfo=UTC)


def _job_run(job: str, answer: Mapping[str, Any]) -> JobRun:
    seconds = float(answer.get("ExecutionTime") or 0)
    capacity = _capacity(answer)
    return JobRun(
        job=job,
        id=answer["Id"],
        state=answer["JobRunState"],
        started=_started(answer),
        seconds=seconds,
        # Glue reports it only of runs with auto scaling or flexible execution.
        dpu_seconds=float(answer.get("DPUSeconds") or seconds * capacity),
        capacity=capacity,
        timeout_minutes=int(answer.get("Timeout") or _DEFAULT_TIMEOUT_MINUTES),
        error=str(answer.get("ErrorMessage") or "").strip(),
        log_group=str(answer.get("LogGroupName") or _LOG_GROUP),
    )


def _capacity(answer: Mapping[str, Any]) -> float:
    if workers := answer.get("NumberOfWorkers"):
        worker = _DPU_OF_WORKER.get(str(answer.get("WorkerType")))
        if worker is not None:
            return float(workers) * worker
    return float(answer.get("MaxCapacity") or answer.get("AllocatedCapacity") or 0)


def _console(region: str) -> str:
    if region.startswith("cn-"):
        return "console.amazonaws.cn"
    if region.startswith("us-gov-"):
        return "console.amazonaws-us-gov.com"
    return "console.aws.amazon.com"
