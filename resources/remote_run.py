"""Work that runs on a service of AWS for a Dagster step: what came of it, and how one waits for it.

Whatever a service does, the step that asked for the work is given a `RemoteRun` or raises a
`RemoteRunFailed` with one sentence, the checks that were reported until then, and whether trying
again can mend it. Bad data is neither: the verdict says it, and the work has succeeded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    DagsterError,
    DagsterExecutionInterruptedError,
    DagsterRunStatus,
)

from service_core.layout import pipes_prefix

#: How Dagster ends a step from outside: by its own exception, or by Python's where no handler of
#: Dagster's stands.
INTERRUPTIONS = (DagsterExecutionInterruptedError, KeyboardInterrupt)

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 30.0
#: Waiting a tenth of what has passed finds an end at most a tenth late: 0.2 s for a job of seconds,
#: 30 s for one of hours.
_WAIT_SHARE = 0.1

#: Too much at once, or a service in trouble: the same request may pass later.
_PASSING = frozenset(
    {
        "ConcurrentRunsExceededException",
        "ResourceNumberLimitExceededException",
        "ExecutionLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "InternalServiceException",
        "InternalServerError",
        "InternalFailure",
        "InternalError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "OperationTimeoutException",
    }
)

#: What no second try mends, and what to do about it.
_ACCESS = "Give the orchestrator's role that permission."
_MISSING = "Create what the platform stands on with `lakegate bootstrap`."
_REQUEST = "This is a fault of the platform's configuration; trying again cannot mend it."
_PERMANENT: Mapping[str, str] = {
    "AccessDenied": _ACCESS,
    "AccessDeniedException": _ACCESS,
    "UnauthorizedOperation": _ACCESS,
    "EntityNotFoundException": _MISSING,
    "StateMachineDoesNotExist": _MISSING,
    "StateMachineDeleting": _MISSING,
    "NoSuchBucket": _MISSING,
    "InvalidInputException": _REQUEST,
    "InvalidArn": _REQUEST,
    "InvalidName": _REQUEST,
    "InvalidExecutionInput": _REQUEST,
    "ValidationException": _REQUEST,
    "ParamValidationError": _REQUEST,
}


@dataclass(frozen=True, slots=True)
class RemoteWork:
    """What a remote engine is asked to do: one judgement of one batch.

    Attributes:
        dataset: The data set.
        partition: The partition.
        batch_id: The batch.
        judgement: Which judgement of the batch: the same for every retry, re-execution and resumed
            run of the step that asks for it, another one where it is to be judged again.
        request_uri: Where the `CurationRequest` lies.
    """

    dataset: str
    partition: str
    batch_id: str
    judgement: str
    request_uri: str

    @property
    def identity(self) -> str:
        """What tells this work from any other, in all of the account."""
        return f"{self.dataset}/{self.partition}/{self.batch_id}/{self.judgement}"

    @property
    def messages_prefix(self) -> str:
        """Where in the dq-results bucket it says how it goes."""
        return pipes_prefix(self.dataset, self.partition, self.batch_id, self.judgement)


@dataclass(frozen=True, slots=True)
class Reported:
    """What a job told of itself by Dagster Pipes.

    Attributes:
        materializations: The metadata of each asset that it said to have materialised.
        checks: The checks that it evaluated; of one evaluated twice, the last.
    """

    materializations: Mapping[AssetKey, Mapping[str, Any]] = field(default_factory=dict)
    checks: tuple[AssetCheckResult, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """Work that has succeeded and said so.

    Attributes:
        identity: That of the `RemoteWork`.
        url: Where a person looks at it: a page of the AWS console.
        seconds: How long it ran, as the service says.
        metadata: What to show of it beside the materialisation.
        results: What it reported.
    """

    identity: str
    url: str
    seconds: float
    metadata: Mapping[str, Any]
    results: Reported


class RemoteRunFailed(Exception):
    """Work that has not succeeded: a system error, never bad data.

    Attributes:
        cause: One sentence or two, for a person: what failed, where, why, what to do.
        checks: What was reported before it failed.
        metadata: What to show of it beside the failure.
        retryable: Whether the same request may succeed later. False for what only a person mends,
            and for work that was cancelled.
    """

    def __init__(
        self,
        cause: str,
        *,
        retryable: bool = True,
        checks: tuple[AssetCheckResult, ...] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.retryable = retryable
        self.checks = checks
        self.metadata: Mapping[str, Any] = dict(metadata or {})


class RemoteRunInterrupted(DagsterError, DagsterExecutionInterruptedError):
    """The step was interrupted while its work was in flight; says what became of the work.

    Dagster 1.13.27 asks for another try of an interrupted step that has a retry policy
    (`op_execution_error_boundary`), which would start anew what a person has just cancelled. A
    `DagsterError` passes that by, and as an interruption it still ends the run as one: cancelled
    where a person asked for it, else as a crash, which run retries follow up.
    """


def service_failure(error: ClientError | BotoCoreError, doing: str) -> RemoteRunFailed:
    """What a service's refusal means.

    Args:
        error: What boto3 raised, its own tries used up.
        doing: What was being done, such as "Starting the Glue job lakegate-dev-curate".
    """
    if isinstance(error, ClientError):
        code = error_code(error)
        said = str(error.response.get("Error", {}).get("Message") or "").strip().rstrip(".")
        remedy = _PERMANENT.get(code)
        return RemoteRunFailed(
            f"{doing} failed with {code}: {said or 'no message'}. "
            f"{remedy or 'It may pass: it is tried again.'}",
            retryable=remedy is None,
        )
    known = _PERMANENT.get(type(error).__name__)
    return RemoteRunFailed(
        f"{doing} failed: {str(error).rstrip('.')}. {known or 'It may pass: it is tried again.'}",
        retryable=known is None,
    )


def error_code(error: ClientError) -> str:
    """Such as `ThrottlingException`."""
    return str(error.response.get("Error", {}).get("Code") or "Unknown")


def is_passing(error: ClientError) -> bool:
    """Whether the service only asks for patience."""
    return error_code(error) in _PASSING or _status(error) == 429 or is_fault(error)


def is_fault(error: ClientError) -> bool:
    """Whether the fault is the service's own; what was asked for may have been done all the
    same."""
    return _status(error) >= 500


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_forbidden(message: str) -> bool:
    """Whether a job's own words say that its role lacks a permission."""
    return "AccessDenied" in message or "is not authorized to perform" in message


def poll_wait(elapsed: float) -> float:
    """Seconds to wait before looking again at work that has run for so many seconds."""
    return min(_LONGEST_WAIT_SECONDS, max(_FIRST_WAIT_SECONDS, elapsed * _WAIT_SHARE))


def refused_wait(refusals: int, *, longest: float = _LONGEST_WAIT_SECONDS) -> float:
    """Seconds to wait after so many refusals (from 1): doubled each time, and with jitter, so that
    those who were refused together do not come back together."""
    bound = min(longest, 0.5 * 2.0 ** min(refusals, 16))
    return random.uniform(bound / 2, bound)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point of time after which one does not wait any more.

    Attributes:
        seconds: How long it was away when it was set.
    """

    seconds: float
    _at: float

    @classmethod
    def after(cls, seconds: float, *, passed: float = 0.0) -> Deadline:
        """So many seconds away, less those that have passed already."""
        return cls(seconds, time.monotonic() + seconds - max(0.0, passed))

    @property
    def left(self) -> float:
        """Seconds; negative once it has passed."""
        return self._at - time.monotonic()

    @property
    def passed(self) -> bool:
        return self.left <= 0

    def sleep(self, seconds: float) -> None:
        """Sleep so long, but not past it."""
        time.sleep(max(0.0, min(seconds, self.left)))


def is_cancelled(context: AssetExecutionContext) -> bool:
    """Whether a person has cancelled the step's run."""
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is not None and run.status in {DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED}


def somebody_comes_back(context: AssetExecutionContext) -> bool:
    """Whether an interrupted step's work should be left running.

    A worker that is taken away (a restarted node, a deployment) is followed by another one, where
    the instance resumes or retries runs: that one re-attaches. Where a person cancelled the run,
    or nobody will come back, the work has to be stopped.
    """
    if is_cancelled(context):
        return False
    instance = context.instance
    return instance.run_will_resume(context.run.run_id) or instance.run_retries_enabled
