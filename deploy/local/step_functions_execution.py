"""One execution of a state machine: its start, its end, and each redrive of it.

A redriven execution goes on with the state at which it ended without success, with the input that
the state had, in the same history. What had succeeded is not run again; a Parallel or Map state is
run again as a whole, where Step Functions would leave out the branches that had succeeded.

Imported with the interpreter (see `step_functions_interpreter.py`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.stepfunctions.parser.api import (
    ExecutionRedrivenEventDetails,
    ExecutionStartedEventDetails,
    ExecutionStatus,
    HistoryEventExecutionDataDetails,
    HistoryEventType,
)
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.component.state.exec.state_task.state_task import StateTask
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.program_state import (
    ProgramEnded,
    ProgramError,
    ProgramStopped,
    ProgramTimedOut,
)
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend import execution as execution_module
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.utils import TMP_THREADS

_END_SECONDS = 10.0


class Worker(ExecutionWorker):
    """Carries one execution out, each redrive of it included.

    Attributes:
        env: There from the beginning, so that an execution can be stopped at any time.
        redrive_count: How many times it was redriven.
        redrive_date: When last; None where never.
    """

    redrive_count = 0
    redrive_date: datetime | None = None

    def start(self) -> None:
        """Begin at the first state."""
        self._program = self._get_evaluation_entrypoint()
        self.env = self._get_evaluation_environment()
        self._set_redriven(self.env)
        details = self._evaluation_details
        self._say(
            HistoryEventType.ExecutionStarted,
            executionStartedEventDetails=ExecutionStartedEventDetails(
                input=to_json_str(details.execution_details.inpt),
                inputDetails=HistoryEventExecutionDataDetails(truncated=False),
                roleArn=details.aws_execution_details.role_arn,
            ),
        )
        self.env.next_state_name = self._program.start_at.start_at_name
        self._go()

    def end(self, error: str | None, cause: str | None) -> None:
        """Stop the execution, and wait until it has stopped."""
        self.env.set_stop(stop_date=datetime.now(UTC), error=error, cause=cause)
        self._thread.join(_END_SECONDS)

    def redrive(self) -> None:
        """Go on with the state that did not succeed, with the input it had."""
        before = self.env
        name, given = _unfinished_state(before, self._program)
        env = self._get_evaluation_environment()
        env.event_manager = before.event_manager
        env.event_history_context = before.event_history_context
        env.variable_store = before.variable_store
        env.states.reset(given)
        self.redrive_count += 1
        self.redrive_date = datetime.now(UTC)
        self._set_redriven(env)
        self.env = env
        self._say(
            HistoryEventType.ExecutionRedriven,
            executionRedrivenEventDetails=ExecutionRedrivenEventDetails(
                redriveCount=self.redrive_count
            ),
        )
        env.next_state_name = name
        # Redriven, a task is scheduled again and not entered again.
        if isinstance(self._program.states.states[name], StateTask):
            env.enters_silently = name
        execution = self._execution_communication.execution
        execution.stop_date = execution.error = execution.cause = None
        execution.exec_status = ExecutionStatus.RUNNING
        self._go()

    def _go(self) -> None:
        self._thread = threading.Thread(target=self._carry_out, daemon=True)
        self._thread.start()

    def _carry_out(self) -> None:
        program, env = self._program, self.env
        limit = program.timeout_seconds.timeout_seconds if program.timeout_seconds else None
        states = threading.Thread(target=program._eval_body, args=(env,), daemon=True)
        states.start()
        states.join(limit)
        if states.is_alive():
            env.set_timed_out()
            states.join(_END_SECONDS)
        self._execution_communication.terminated()

    def _say(self, kind: HistoryEventType, **details: Any) -> None:
        self.env.event_manager.add_event(
            context=self.env.event_history_context,
            event_type=kind,
            event_details=EventDetails(**details),
            update_source_event_id=kind is not HistoryEventType.ExecutionStarted,
        )

    def _set_redriven(self, env: Environment) -> None:
        context = env.states.context_object.context_object_data["Execution"]
        context["RedriveCount"] = self.redrive_count
        if self.redrive_date is not None:
            context["RedriveTime"] = self.redrive_date.isoformat()


def apply() -> None:
    """Put it in the place of moto's."""
    execution_module.ExecutionWorker = Worker
    execution_module.BaseExecutionWorkerCommunication._reflect_execution_status = _reflect
    CommonStateField._eval_body = _entering_silently(CommonStateField._eval_body)


def _reflect(self: execution_module.BaseExecutionWorkerCommunication) -> None:
    """Write how an execution ended: its status last, because whoever reads it reads the rest."""
    execution = self.execution
    state = execution.exec_worker.env.program_state()
    status = ExecutionStatus.FAILED
    if isinstance(state, ProgramEnded):
        status = ExecutionStatus.SUCCEEDED
        execution.output = execution.exec_worker.env.states.get_input()
    elif isinstance(state, ProgramStopped):
        status = ExecutionStatus.ABORTED
        execution.error, execution.cause = state.error, state.cause
    elif isinstance(state, ProgramTimedOut):
        status = ExecutionStatus.TIMED_OUT
    elif isinstance(state, ProgramError):
        error = state.error or {}
        execution.error, execution.cause = error.get("error"), error.get("cause")
    execution.stop_date = datetime.now(UTC)
    execution.exec_status = status
    TMP_THREADS[:] = [thread for thread in TMP_THREADS if thread.is_alive()]


def _unfinished_state(env: Environment, program: Program) -> tuple[str, Any]:
    """The name and input of the state at which an execution ended without success."""
    entered: tuple[str, str] | None = None
    following = program.start_at.start_at_name
    given = to_json_str(env.states.context_object.context_object_data["Execution"]["Input"])
    for event in env.event_manager.get_event_history():
        kind = str(getattr(event["type"], "value", event["type"]))
        if kind.endswith("StateEntered"):
            details = event["stateEnteredEventDetails"]
            # States inside of a Parallel or Map are not the program's own.
            if details["name"] in program.states.states:
                entered = details["name"], details["input"]
        elif kind.endswith("StateExited"):
            details = event["stateExitedEventDetails"]
            if entered is not None and details["name"] == entered[0]:
                entered, given = None, details["output"]
                continues = program.states.states[details["name"]].continue_with
                following = getattr(getattr(continues, "next_state", None), "name", following)
    name, text = entered or (following, given)
    return name, json.loads(text)


def _entering_silently(stock: Callable[..., None]) -> Callable[..., None]:
    """Leave out the event that a state is entered where the environment says so."""

    def eval_body(self: CommonStateField, env: Environment) -> None:
        if env.__dict__.pop("enters_silently", None) == self.name:
            env.event_manager = _WithoutFirst(env, env.event_manager)
        stock(self, env)

    return eval_body


class _WithoutFirst:
    """An event manager that drops one event and then makes room for the real one."""

    def __init__(self, env: Environment, real: Any) -> None:
        self._env, self._real = env, real

    def add_event(self, context: Any, **event: Any) -> int:
        self._env.event_manager = self._real
        return int(context.last_published_event_id)
