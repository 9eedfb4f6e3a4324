"""Step Functions really interprets its state machines, and its API says what AWS's says.

Stock moto runs nothing unless told to; told to, it takes no execution without a name, tells of no
end by time-out, gives a history in one page and one order, passes no error or cause on to a stop,
and has no RedriveExecution. The mends of the interpreter itself are in
`step_functions_interpreter.py`; it takes a second to import, and is not before the first request.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from typing import Any

from moto.core.config import default_user_config
from moto.core.responses import ActionResult
from moto.stepfunctions import responses
from moto.stepfunctions.exceptions import (
    AWSError,
    InvalidExecutionInput,
    InvalidName,
)
from moto.stepfunctions.responses import StepFunctionResponse

_LOCK = threading.RLock()
_ENDED = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"})
_EVENTS_PER_PAGE = 100
_INPUT_BYTES = 256 * 1024
#: At most 80 characters, none of them blank, a bracket, a wildcard, special, or a control.
_NAME = re.compile(r'[^\s<>{}\[\]?*"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}')

_installed = False


class StateMachineAlreadyExists(AWSError):
    TYPE = "StateMachineAlreadyExists"
    STATUS = 400


class InvalidToken(AWSError):
    TYPE = "InvalidToken"
    STATUS = 400


class ExecutionNotRedrivable(AWSError):
    TYPE = "ExecutionNotRedrivable"
    STATUS = 400


def apply() -> None:
    """Turn moto's interpreter on, and replace what its API says of executions."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    stock_backend = responses.get_backend
    stock_create = StepFunctionResponse.create_state_machine

    def get_backend(account: str, region: str) -> Any:
        _install()
        return stock_backend(account, region)

    def create_state_machine(self: StepFunctionResponse) -> ActionResult:
        # Looks for the name and then takes it.
        with _LOCK:
            name, definition = self._get_param("name"), self._get_param("definition")
            for there in self.stepfunction_backend.state_machines:
                if there.name == name and there.definition != definition:
                    raise StateMachineAlreadyExists(
                        f"State Machine Already Exists: '{there.arn}' with another definition"
                    )
            return stock_create(self)

    responses.get_backend = get_backend
    StepFunctionResponse.create_state_machine = create_state_machine
    StepFunctionResponse.start_execution = _start_execution
    StepFunctionResponse.stop_execution = _stop_execution
    StepFunctionResponse.describe_execution = _describe_execution
    StepFunctionResponse.list_executions = _list_executions
    StepFunctionResponse.get_execution_history = _get_execution_history
    StepFunctionResponse.redrive_execution = _redrive_execution


def _install() -> None:
    """Import and mend the interpreter, once."""
    global _installed
    with _LOCK:
        if not _installed:
            from deploy.local import step_functions_interpreter

            step_functions_interpreter.apply()
            _installed = True


def _start_execution(self: StepFunctionResponse) -> ActionResult:
    name = self._get_param("name") or str(uuid.uuid4())
    text = self._get_param("input", if_none="{}")
    if not _NAME.fullmatch(name):
        raise InvalidName(f"Invalid Name: '{name}'")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidExecutionInput(f"Invalid State Machine Execution Input: '{error}'") from error
    if len(text.encode()) > _INPUT_BYTES:
        raise InvalidExecutionInput(
            "Invalid State Machine Execution Input: it is longer than 262144 bytes"
        )
    # Of several starts under one name, one begins the execution and the others find it.
    with _LOCK:
        execution = self.stepfunction_backend.start_execution(
            self._get_param("stateMachineArn"), name, text
        )
    return ActionResult(
        {"executionArn": execution.execution_arn, "startDate": execution.start_date}
    )


def _stop_execution(self: StepFunctionResponse) -> ActionResult:
    execution = _found(self)
    if execution.status not in _ENDED:
        execution.exec_worker.end(self._get_param("error"), self._get_param("cause"))
    return ActionResult({"stopDate": execution.stop_date})


def _redrive_execution(self: StepFunctionResponse) -> ActionResult:
    execution = _found(self)
    with _LOCK:
        status, why = _redrivable(execution)
        if status != "REDRIVABLE":
            raise ExecutionNotRedrivable(str(why))
        execution.exec_worker.redrive()
    return ActionResult({"redriveDate": execution.exec_worker.redrive_date})


def _describe_execution(self: StepFunctionResponse) -> ActionResult:
    execution = _found(self)
    status, why = _redrivable(execution)
    answer = {
        **_summary(execution),
        "input": execution.execution_input,
        "inputDetails": {"included": True},
        "redriveStatus": status,
        "redriveStatusReason": why,
        "error": execution.error,
        "cause": execution.cause,
    }
    if execution.status == "SUCCEEDED":
        output = execution.output
        answer["output"] = output if isinstance(output, str) else json.dumps(output)
        answer["outputDetails"] = {"included": True}
    return ActionResult({name: value for name, value in answer.items() if value is not None})


def _list_executions(self: StepFunctionResponse) -> ActionResult:
    backend, arn = self.stepfunction_backend, self._get_param("stateMachineArn")
    found, next_token = backend.list_executions(
        arn,
        status_filter=self._get_param("statusFilter"),
        max_results=self._get_int_param("maxResults"),
        next_token=self._get_param("nextToken"),
    )
    summaries = [
        {name: value for name, value in _summary(execution).items() if value is not None}
        for execution in found
    ]
    return ActionResult({"executions": summaries, "nextToken": next_token})


def _get_execution_history(self: StepFunctionResponse) -> ActionResult:
    events = _found(self).exec_worker.env.event_manager.get_event_history()
    if self._get_param("reverseOrder"):
        events.reverse()
    if self._get_param("includeExecutionData") is False:
        events = [_without_data(event) for event in events]
    token, limit = self._get_param("nextToken"), self._get_int_param("maxResults")
    if token is not None and not token.isdigit():
        raise InvalidToken(f"Invalid Token: '{token}'")
    start = int(token or 0)
    end = start + (limit or _EVENTS_PER_PAGE)
    following = str(end) if end < len(events) else None
    return ActionResult({"events": events[start:end], "nextToken": following})


def _without_data(event: dict[str, Any]) -> dict[str, Any]:
    left_out = {"input", "output", "parameters", "inputDetails", "outputDetails"}
    return {
        name: {k: v for k, v in value.items() if k not in left_out}
        if isinstance(value, dict)
        else value
        for name, value in event.items()
    }


def _found(self: StepFunctionResponse) -> Any:
    arn = self._get_param("executionArn")
    # An execution that is just being started is there once it has been.
    with _LOCK:
        return self.stepfunction_backend.describe_execution(arn)


def _summary(execution: Any) -> dict[str, Any]:
    worker = execution.exec_worker
    return {
        "executionArn": execution.execution_arn,
        "stateMachineArn": execution.state_machine_arn,
        "name": execution.name,
        "status": execution.status,
        "startDate": execution.start_date,
        "stopDate": execution.stop_date if execution.status in _ENDED else None,
        "redriveCount": worker.redrive_count,
        "redriveDate": worker.redrive_date,
    }


def _redrivable(execution: Any) -> tuple[str, str | None]:
    if execution.status in {"FAILED", "TIMED_OUT", "ABORTED"}:
        return "REDRIVABLE", None
    return "NOT_REDRIVABLE", f"Execution is {execution.status} and cannot be redriven"
