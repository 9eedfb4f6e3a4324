"""One execution as a Dagster step sees it: followed to its end, or brought to one.

Everything that an execution does is told to the step once, in order; and an execution that is over
leaves no job run behind, and no status that says it still runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from dagster import AssetExecutionContext, MetadataValue

from resources.curation_status import move_status
from resources.execution_history import ExecutionHistory
from resources.execution_outcome import execution_metadata, job_run_metadata
from resources.glue_job import GlueJob, JobRun
from resources.pipes_messages import PipesMessages
from resources.remote_run import Deadline, error_code, poll_wait
from resources.state_machine import Execution, HistoryPages, StateMachine
from service_core.settings import Settings

#: How long an execution and its job run, asked to stop, are waited for.
_STOP_SECONDS = 20.0
#: The same where another one is to follow.
_STOPPING_SECONDS = 300.0
#: How long the service may take to know of what it has just done.
_LAG_SECONDS = 30.0


class DeadlinePassed(Exception):
    """An execution has not ended in time."""


class ExecutionWatch:
    """A step's view of one execution.

    Args:
        context: The step that is told.
        execution: The execution, as it stood when it was found or started.
        batch_id: The batch that it curates.
        messages: What its job says.
        machine: Its state machine.
        job: The Glue job that it runs.
        client: Gives a boto3 client of a service.
        settings: The names of everything.
    """

    def __init__(
        self,
        context: AssetExecutionContext,
        execution: Execution,
        *,
        batch_id: str,
        messages: PipesMessages,
        machine: StateMachine,
        job: GlueJob,
        client: Callable[[str], Any],
        settings: Settings,
    ) -> None:
        self._context = context
        self.execution = execution
        self._batch_id = batch_id
        self.messages = messages
        self._machine = machine
        self._job = job
        self._client = client
        self._settings = settings
        self.history = ExecutionHistory()
        self._pages: HistoryPages = machine.pages(execution.arn)

    def follow(self, seconds: float, *, redrives: int = 0) -> None:
        """Until it has ended; what it does and what the job says is handed on meanwhile.

        Args:
            seconds: How long it may take from its start, or from its redrive.
            redrives: How often it has been redriven. A redrive shows in the history only after
                moments, and the end before it is not the end.

        Raises:
            DeadlinePassed: it has not ended by then, and runs on.
        """
        before = 0.0 if redrives else self.execution.going_for
        deadline, began = Deadline.after(seconds, passed=before), time.monotonic()
        while True:
            waited = time.monotonic() - began
            self._tell(waited)
            self.messages.read()
            if self.history.status is not None and self.history.redrives >= redrives:
                return
            if deadline.passed:
                raise DeadlinePassed
            deadline.sleep(poll_wait(before + waited))

    def stop(self, *, error: str, cause: str) -> None:
        """Stop it and its job run, and wait a little for both."""
        self._machine.stop(self.execution.arn, error=error, cause=cause)
        deadline = Deadline.after(_STOP_SECONDS)
        self._tell(0.0)
        while self.history.status is None and not deadline.passed:
            deadline.sleep(poll_wait(deadline.seconds - deadline.left))
            self._tell(0.0)
        # Step Functions asks for that too, at its best effort.
        self.end_job_run(deadline)
        self.messages.read()
        self.close_status(cause)

    def end_job_run(self, deadline: Deadline | None = None) -> JobRun | None:
        """Make sure that it has left no job run in flight; returns the one that it started last."""
        deadline = deadline or Deadline.after(_STOPPING_SECONDS)
        run = self._job.newest(self.execution.name, since=self.execution.started)
        if run is None or run.ended:
            return run
        if run.state != "STOPPING" and (refused := self._job.stop(run.id)):
            self._context.log.warning(f"Glue does not stop the job run {run.id}: {refused}.")
        while not run.ended and not deadline.passed:
            deadline.sleep(poll_wait(deadline.seconds - deadline.left))
            run = self._job.look(run.id)
        return run

    def close_status(self, cause: str) -> None:
        """Set the batch's status to how it ended, where the state machine came no more to that."""
        if self.history.status not in {None, "SUCCEEDED"}:
            self._mark("RUNNING", str(self.history.status), cause)

    def reopen_status(self) -> None:
        """Set the batch's status to running again: a redrive goes on behind the state that does."""
        self._mark(self.execution.status, "RUNNING", "Redriven.")

    def _mark(self, was: str, status: str, cause: str) -> None:
        try:
            move_status(
                self._client("dynamodb"),
                self._settings.ledger_table,
                batch_id=self._batch_id,
                execution=self.execution.arn,
                was=was,
                status=status,
                cause=cause,
                at=datetime.now(UTC),
            )
        except (ClientError, BotoCoreError) as error:
            # People look at it; nothing is decided by it.
            self._context.log.warning(
                f"The status of batch {self._batch_id} could not be set to {status}: {error}"
            )

    def metadata(self) -> dict[str, Any]:
        """What to show of it as it stands."""
        execution = self.execution
        with suppress(ClientError, BotoCoreError):
            execution = self._machine.look(execution.arn)
        return {
            **execution_metadata(execution, self.history),
            **job_run_metadata(self._job, self.history, self._settings),
        }

    def log_tail(self) -> dict[str, Any]:
        """The end of the job run's log as metadata; waits a little for the job run to end."""
        with suppress(ClientError, BotoCoreError):
            run = self.end_job_run(Deadline.after(_STOP_SECONDS))
            if run is not None and (lines := self._job.log_tail(run)):
                return {"log_tail": MetadataValue.md("```\n" + "\n".join(lines) + "\n```")}
        return {}

    def clear_messages(self) -> None:
        """Remove what the job has said; only where it is not in flight."""
        try:
            self.messages.clear()
        except (ClientError, BotoCoreError) as error:
            self._context.log.warning(
                f"The messages of the execution {self.execution.name} could not be removed, and "
                f"may be by hand: {error}"
            )

    def _tell(self, waited: float) -> None:
        for line in self.history.take(self._events(waited)):
            self._context.log.info(line)

    def _events(self, waited: float) -> list[Mapping[str, Any]]:
        try:
            return self._pages.newest()
        except ClientError as error:
            if error_code(error) != "ExecutionDoesNotExist" or waited > _LAG_SECONDS:
                raise
            return []
