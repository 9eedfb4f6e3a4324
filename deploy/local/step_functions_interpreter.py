"""moto's interpreter of state machines, mended where it differs from Step Functions.

An execution ends once and stays as it ended: what a task does after its execution was stopped or
timed out is neither in the history nor in the status, and whoever sees an end sees its output, its
error and the last event of its history. Stock moto waits out back-offs after a stop, lets a late
error overwrite it, writes a success for a task that was cut off, and fails on `glue:startJobRun`
with `.sync`, which it asks for a callback that only other tasks have.

Imported at the first request (see `step_functions.py`): it takes a second.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.core.exceptions import AWSError
from moto.stepfunctions.parser.api import (
    HistoryEventType,
    TaskFailedEventDetails,
)
from moto.stepfunctions.parser.asl.component.common.catch.catch_outcome import CatchOutcome
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.common.retry.max_attempts_decl import (
    MaxAttemptsOutcome,
)
from moto.stepfunctions.parser.asl.component.common.retry.retrier_decl import RetrierDecl
from moto.stepfunctions.parser.asl.component.common.retry.retrier_outcome import RetrierOutcome
from moto.stepfunctions.parser.asl.component.common.retry.retry_outcome import RetryOutcome
from moto.stepfunctions.parser.asl.component.state.exec.execute_state import ExecutionState
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_glue import (  # noqa: E501
    StateTaskServiceGlue,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import (
    WaitFunction,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.program_state import (
    ProgramEnded,
    ProgramRunning,
)
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from deploy.local import loopback, step_functions_execution

_COMPONENTS = "moto.stepfunctions.parser.asl.component."
_POLL_SECONDS = 0.1
_DEFINITIONS = 256
_JOB_RUN_FAILED = frozenset({"FAILED", "TIMEOUT", "ERROR", "EXPIRED"})
_JOB_RUN_DONE = frozenset({"SUCCEEDED", "STOPPED"})


class InvalidDefinition(AWSError):
    TYPE = "InvalidDefinition"
    STATUS = 400


class _CutOff(Exception):
    """The execution ended while a task of it was under way."""


def apply() -> None:
    """Mend the interpreter."""
    step_functions_execution.apply()
    StepFunctionsParserBackend._validate_definition = staticmethod(
        functools.lru_cache(_DEFINITIONS)(
            _naming_its_error(StepFunctionsParserBackend._validate_definition)
        )
    )
    _call_through_loopback()
    StateTaskServiceGlue._eval_integration_pattern = _wait_for_job_run
    # What a Fail, Parallel or Map state passes on may be an error of Step Functions' own; stock
    # moto then fails itself.
    _in_components("CustomErrorName", ErrorName)
    ExecutionState._eval_state = _eval_state
    RetrierDecl._eval_body = _retry
    WaitFunction._wait_interval = _wait
    Environment.set_error = _only_while_running(Environment.set_error)
    Environment.set_timed_out = _only_while_running(Environment.set_timed_out)


def _call_through_loopback() -> None:
    """Tasks call this server at the address it has, through clients that are made once."""

    def boto_client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        return loopback.client(service, region)

    _in_components("boto_client_for", boto_client_for)


def _in_components(name: str, thing: Any) -> None:
    """Put something in the place of what the components of a state machine import by a name."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(_COMPONENTS) and hasattr(module, name):
            setattr(module, name, thing)


def _naming_its_error(stock: Callable[..., None]) -> Callable[..., None]:
    """Stock moto loses the name of the error on its way to the client."""

    def validate(definition: str) -> None:
        try:
            stock(definition)
        except AWSError as error:
            raise InvalidDefinition(f"Invalid State Machine Definition: {error.message}") from error

    return validate


def _wait_for_job_run(
    self: StateTaskServiceGlue,
    env: Environment,
    resource_runtime_part: Any,
    normalised_parameters: dict[str, Any],
    state_credentials: Any,
) -> None:
    """`glue:startJobRun.sync`: the task takes as long as the job run, and its output is the run.

    As Step Functions documents it, a job run is stopped with the execution that waits for it. It is
    not when only the task's own `TimeoutSeconds` has passed.
    """
    started = env.stack.pop()
    name, run_id = started["JobName"], started["JobRunId"]
    glue = loopback.client("glue", resource_runtime_part.region)
    while env.is_running():
        job_run = glue.get_job_run(JobName=name, RunId=run_id)["JobRun"]
        if job_run["JobRunState"] in _JOB_RUN_FAILED:
            raise FailureEventException(_task_failed(self, env, _with_milliseconds(job_run)))
        if job_run["JobRunState"] in _JOB_RUN_DONE:
            env.stack.append(_with_milliseconds(job_run))
            return
        time.sleep(_POLL_SECONDS)
    if not isinstance(env.program_state(), ProgramEnded):
        with suppress(BotoCoreError, ClientError):
            glue.batch_stop_job_run(JobName=name, JobRunIds=[run_id])
    raise _CutOff


def _task_failed(
    task: StateTaskServiceGlue, env: Environment, job_run: dict[str, Any]
) -> FailureEvent:
    failed = StatesErrorNameType.StatesTaskFailed
    return FailureEvent(
        env=env,
        error_name=StatesErrorName(typ=failed),
        event_type=HistoryEventType.TaskFailed,
        event_details=EventDetails(
            taskFailedEventDetails=TaskFailedEventDetails(
                resource=task._get_sfn_resource(),
                resourceType=task._get_sfn_resource_type(),
                error=failed.to_name(),
                cause=json.dumps(job_run, separators=(",", ":")),
            )
        ),
    )


def _with_milliseconds(job_run: dict[str, Any]) -> dict[str, Any]:
    """A job run as Step Functions shows it: points in time are milliseconds since 1970."""
    return json.loads(json.dumps(job_run, default=lambda when: int(when.timestamp() * 1000)))


def _eval_state(self: ExecutionState, env: Environment) -> None:
    """Try the state until it succeeds, is caught, or fails; nothing more once the execution is
    over."""
    env.states.context_object.context_object_data["State"]["RetryCount"] = 0
    while env.is_running():
        try:
            self._evaluate_with_timeout(env)
            return
        except Exception as error:  # noqa: BLE001 - whatever a task raises, its state failed
            if not env.is_running():
                return
            failure = self._from_error(env=env, ex=error)
        env.event_manager.add_event(
            context=env.event_history_context,
            event_type=failure.event_type,
            event_details=failure.event_details,
        )
        error_output = self._construct_error_output_value(failure_event=failure)
        env.states.set_error_output(error_output)
        env.states.set_result(error_output)
        if self.retry:
            outcome = self._handle_retry(env=env, failure_event=failure)
            if outcome == RetryOutcome.CanRetry:
                continue
        if not env.is_running():
            return
        if self.catch:
            self._handle_catch(env=env, failure_event=failure)
            if env.stack[-1] == CatchOutcome.Caught:
                return
        self._handle_uncaught(env=env, failure_event=failure)


def _retry(self: RetrierDecl, env: Environment) -> None:
    self.error_equals.eval(env)
    if not env.stack.pop():
        env.stack.append(RetrierOutcome.Skipped)
        return
    self.max_attempts.eval(env=env)
    if env.stack.pop() == MaxAttemptsOutcome.EXHAUSTED:
        env.stack.append(RetrierOutcome.Failed)
        return
    self.interval_seconds.eval(env=env)
    self.backoff_rate.eval(env=env)
    self.max_delay_seconds.eval(env=env)
    self.jitter_strategy.eval(env=env)
    _wait(None, env, env.stack.pop())
    env.stack.append(RetrierOutcome.Executed)


def _wait(self: object, env: Environment, wait_seconds: float) -> None:
    """Until the time is over or the execution is."""
    deadline = time.monotonic() + wait_seconds
    while env.is_running() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _POLL_SECONDS))


def _only_while_running(stock: Callable[..., None]) -> Callable[..., None]:
    """The first end of an execution is the one that counts."""

    def end(self: Environment, *args: Any, **kwargs: Any) -> None:
        with self._state_mutex:
            if isinstance(self._program_state, ProgramRunning):
                stock(self, *args, **kwargs)

    return end
