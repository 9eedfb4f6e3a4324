"""What came of an execution: why it failed, in words, and what there is to show of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from dagster import MetadataValue

from resources.execution_history import ExecutionHistory, readable_cause, state_table
from resources.glue_job import GlueJob
from resources.remote_run import RemoteRunFailed, is_forbidden, service_failure
from resources.state_machine import Execution
from service_core.settings import Settings

#: So much of a message tells whether two are the same.
_TELLING_CHARACTERS = 80


def why_failed(
    execution: Execution, history: ExecutionHistory, *, raised: str | None
) -> RemoteRunFailed:
    """Why an execution has not succeeded.

    Args:
        execution: The execution.
        history: Its history, to the end.
        raised: What the job's script said by Dagster Pipes that it raised.
    """
    why = readable_cause(history.error, history.cause)
    said = f"The execution {execution.name}"
    if history.status == "ABORTED":
        return RemoteRunFailed(
            f"{said} was stopped from outside ({why.rstrip('.')}). Launch the run again when it "
            "may go on.",
            # What a person stopped, a person starts again.
            retryable=False,
        )
    if history.status == "TIMED_OUT":
        return RemoteRunFailed(
            f"{said} ran longer than the TimeoutSeconds of its state machine and was ended. Give "
            "the job more workers, or the state machine a longer TimeoutSeconds."
        )
    # Glue's message is most often the last line of the same.
    if raised and raised.partition(": ")[2].strip()[:_TELLING_CHARACTERS] not in why:
        why = f"{why.rstrip('.')}. Its script raised {raised.strip().rstrip('.')}."
    # Of the services' own errors, a task's are named `Glue.EntityNotFoundException`.
    code = (history.task_error or history.error).rpartition(".")[2]
    refused = ClientError({"Error": {"Code": code}}, "StartJobRun")
    return RemoteRunFailed(
        f"{said} failed: {why}",
        retryable=service_failure(refused, said).retryable and not is_forbidden(why),
    )


def no_report(execution: Execution, history: ExecutionHistory) -> RemoteRunFailed:
    """Why an execution that has succeeded is none that has."""
    return RemoteRunFailed(
        f"The execution {execution.name} ended SUCCEEDED, but its Glue job run "
        f"{history.job_run_id} reported no materialisation by Dagster Pipes, so what it did is not "
        "known. Does its script still report to where --dagster-pipes-messages says?"
    )


def execution_metadata(execution: Execution, history: ExecutionHistory) -> dict[str, Any]:
    """What to show of an execution."""
    return {
        "execution": execution.arn,
        "execution_url": MetadataValue.url(execution.url()),
        "execution_status": history.status or execution.status,
        "execution_seconds": round(execution.seconds, 1),
        "redrives": max(execution.redrives, history.redrives),
        "states": state_table(history.visits),
    }


def job_run_metadata(job: GlueJob, history: ExecutionHistory, settings: Settings) -> dict[str, Any]:
    """What to show of the job run that the execution started; nothing where it started none."""
    run_id = history.job_run_id
    if run_id is None:
        return {}
    try:
        run = job.look(run_id)
    except (ClientError, BotoCoreError):
        return {"glue_job_run": run_id, **_as_told(history.job_run or {})}
    return {
        "glue_job_run": run.id,
        "glue_job_run_url": MetadataValue.url(run.url(settings.region)),
        "glue_state": run.state,
        "glue_seconds": run.seconds,
        "dpu_seconds": round(run.dpu_seconds, 1),
        "estimated_cost": run.cost(settings.dpu_hour_price),
    }


def _as_told(job_run: Mapping[str, Any]) -> dict[str, Any]:
    """The same from the output of the task, where Glue itself may not be asked."""
    seconds = float(job_run.get("ExecutionTime") or 0)
    used = job_run.get("DPUSeconds") or seconds * float(job_run.get("MaxCapacity") or 0)
    return {
        "glue_state": str(job_run.get("JobRunState") or "unknown"),
        "glue_seconds": seconds,
        "dpu_seconds": round(float(used), 1),
    }
