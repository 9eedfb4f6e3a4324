"""Curation as a Step Functions execution that a Dagster step looks after, and does not own.

One piece of work has at most one execution in flight, whoever asks for it and however often. The
name of an execution is made of the work (`execution_name`), so a second start finds the first:

- running: the step re-attaches, and is told of everything from the beginning;
- ended well, with a report that nobody has read: that is the outcome;
- ended otherwise, in a state that can be entered again: it is redriven, and goes on from there;
- else it is spent, and the same question is asked of the work's next name (`..._2`, `..._3`).

A redrive of an execution that ended in a Fail state enters that state again and fails again, so
what our state machine has caught and announced as failed is always spent, while what was stopped,
timed out as a whole, or failed to write its status goes on.

What is asked of an execution is what the first to ask wrote into its input. Another Dagster run or
retry would write another Pipes context, which Step Functions takes for another input and refuses
with ExecutionAlreadyExists: that is no error here but the answer that there is one. The standing
input counts. It names the first asker's run and request, and that is harmless: a Pipes message
carries no run id and lies where the execution's name says, so it is read by whoever follows, and a
request under another attempt's key asks for the same judgement of the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from dagster import AssetExecutionContext

from resources.execution_history import ExecutionHistory, readable_cause
from resources.execution_outcome import no_report, why_failed
from resources.execution_watch import DeadlinePassed, ExecutionWatch
from resources.glue_job import GlueJob
from resources.pipes_messages import PipesMessages
from resources.remote_run import (
    INTERRUPTIONS,
    Deadline,
    RemoteRun,
    RemoteRunFailed,
    RemoteRunInterrupted,
    RemoteWork,
    is_cancelled,
    is_passing,
    refused_wait,
    service_failure,
    somebody_comes_back,
)
from resources.settings import SettingsResource
from resources.state_machine import Execution, StateMachine, execution_name
from service_core.layout import Zone, pipes_prefix
from service_core.naming import REPLAY_TAG
from service_core.settings import Settings

#: How many executions may be spent on one piece of work. A name is free again after 90 days.
_ATTEMPTS = 100
#: How often one execution is redriven.
_REDRIVES = 5
#: An execution that is older than this when it is started was there before.
_NEW_SECONDS = 5.0


class StepFunctionsResource(SettingsResource):
    """The state machine that curates: `StepFunctionsResource.of(settings)`.

    Attributes:
        deadline_minutes: How long an execution may take from its start, and how long one may wait
            to be started; then it is stopped. None: the state machine's own TimeoutSeconds and
            `margin_minutes`.
        margin_minutes: What ending by itself may take beyond the timeout.
    """

    deadline_minutes: float | None = None
    margin_minutes: float = 5.0

    def run(self, context: AssetExecutionContext, work: RemoteWork, *, accepted: int) -> RemoteRun:
        """Have work done by an execution, and wait for its end.

        The states that it goes through, and what the job logs by Dagster Pipes, are logged to the
        step while it runs.

        Args:
            context: The step.
            work: What is to be done.
            accepted: How many source objects validation accepted. For none the state machine runs
                no job: the results are empty, and the metadata has `nothing_to_curate`.

        Raises:
            RemoteRunFailed: it could not be started, failed, or reported nothing. Nothing is in
                flight then, except where the service could not be reached.
            RemoteRunInterrupted: the step was interrupted. The execution and its job run were
                stopped, unless another worker will come back for them.
        """
        from resources.aws import client

        settings = self.settings()
        machine = StateMachine(
            settings.state_machine,
            client(settings, "stepfunctions"),
            client(settings, "sts"),
            settings.region,
        )
        job = GlueJob(
            settings.glue_job,
            client(settings, "glue"),
            client(settings, "glue", attempts=1),
            partial(client, settings, "logs"),
        )
        try:
            limit = self._limit_seconds(machine)
        except (ClientError, BotoCoreError) as error:
            raise service_failure(error, f"Looking for the state machine {machine.name}") from error
        attendance = _Attendance(
            context, work, machine, job, partial(client, settings), settings, limit_seconds=limit
        )
        return attendance.run(accepted)

    def _limit_seconds(self, machine: StateMachine) -> float:
        if self.deadline_minutes is not None:
            return self.deadline_minutes * 60
        return (machine.timeout_seconds() or float("inf")) + self.margin_minutes * 60


class _Attendance:
    """One step's care for one piece of work."""

    def __init__(
        self,
        context: AssetExecutionContext,
        work: RemoteWork,
        machine: StateMachine,
        job: GlueJob,
        client: Callable[[str], Any],
        settings: Settings,
        *,
        limit_seconds: float,
    ) -> None:
        self._context = context
        self._work = work
        self._machine = machine
        self._job = job
        self._client = client
        self._settings = settings
        self._limit = limit_seconds
        self._watch: ExecutionWatch | None = None
        self._redrives = 0
        self._notes: dict[str, Any] = {}

    def run(self, accepted: int) -> RemoteRun:
        try:
            watch = self._found_or_started(accepted)
            watch.follow(self._limit, redrives=self._redrives)
            return self._conclude(watch)
        except DeadlinePassed:
            raise self._overdue() from None
        except INTERRUPTIONS:
            self._leave()
        except (ClientError, BotoCoreError) as error:
            doing = f"Looking after the state machine {self._machine.name}"
            raise self._failure(service_failure(error, doing)) from error

    # -- finding one, or starting one

    def _found_or_started(self, accepted: int) -> ExecutionWatch:
        """The execution that is in flight, or done, or new."""
        for attempt in range(1, _ATTEMPTS + 1):
            name, messages = execution_name(self._work, attempt), self._messages(attempt)
            execution = self._start(name, self._input(accepted, messages))
            if execution is not None:
                if execution.seconds > _NEW_SECONDS:
                    # Of this very run: its worker was replaced.
                    execution = self._machine.look(execution.arn)
                    self._tell_reattached(execution)
                else:
                    self._notes["reattached"] = False
                    self._context.log.info(f"Started the execution {name}: {execution.url()}")
                return self._watching(execution, messages)
            watch = self._watching(self._standing(name), messages)
            if self._usable(watch):
                return watch
        raise self._failure(
            RemoteRunFailed(
                f"All {_ATTEMPTS} executions that may be spent on batch {self._work.batch_id} have "
                f"failed; the last is {execution_name(self._work, _ATTEMPTS)}. Look at why, mend "
                "it, and have the batch judged anew.",
                retryable=False,
            )
        )

    def _start(self, name: str, asked: dict[str, Any]) -> Execution | None:
        """Start an execution as soon as Step Functions lets us; None where the name is taken."""
        if is_cancelled(self._context):
            raise RemoteRunInterrupted(
                "The Dagster run was cancelled; no execution was started for it."
            )
        doing = f"Starting the state machine {self._machine.name}"
        deadline, refusals = Deadline.after(self._limit), 0
        while True:
            try:
                execution = self._machine.start(name, asked)
                break
            except (ClientError, BotoCoreError) as error:
                failure = service_failure(error, doing)
                passing = isinstance(error, ClientError) and is_passing(error)
                if not passing or deadline.passed:
                    raise self._failure(failure) from error
            refusals += 1
            self._context.log.warning(f"{failure.cause} Waiting for its turn.")
            deadline.sleep(refused_wait(refusals))
        if refusals:
            self._notes["start_refused"] = refusals
        return execution

    def _input(self, accepted: int, messages: PipesMessages) -> dict[str, Any]:
        work, run = self._work, self._context.run
        return {
            "request": work.request_uri,
            "accepted": accepted,
            "dataset": work.dataset,
            "partition": work.partition,
            "batch_id": work.batch_id,
            "run_id": run.root_run_id or run.run_id,
            "replay_id": run.tags.get(REPLAY_TAG),
            "pipes": {
                "context": messages.context_parameter,
                "messages": messages.messages_parameter,
            },
        }

    def _standing(self, name: str) -> Execution:
        """The execution that has the name, made sure to be of this batch."""
        execution = self._machine.look(self._machine.execution_arn(name))
        batch = (self._work.dataset, self._work.partition, self._work.batch_id)
        found = tuple(execution.input.get(key) for key in ("dataset", "partition", "batch_id"))
        if found != batch:
            raise RemoteRunFailed(
                f"The execution {execution.arn} has the name of {'/'.join(batch)} and the input of "
                f"{'/'.join(map(str, found))}. Somebody else starts executions of this state "
                "machine: give them another one.",
                retryable=False,
            )
        return execution

    def _usable(self, watch: ExecutionWatch) -> bool:
        """Whether a standing execution has, or will have, the outcome of the work."""
        execution = watch.execution
        if execution.closed and execution.status != "SUCCEEDED":
            return self._redriven(watch)
        if execution.closed:
            watch.messages.read()
            if execution.input.get("accepted") and not watch.messages.reported.materializations:
                # Reported already, and cleared away since; or never. What it made is found by its
                # verdict, so whoever asks for it again wants it made again.
                return False
        self._tell_reattached(execution)
        return True

    def _redriven(self, watch: ExecutionWatch) -> bool:
        """Redrive an execution that has ended otherwise than well, where that can help."""
        execution, history = watch.execution, ExecutionHistory()
        history.take(self._machine.pages(execution.arn).newest())
        ended = f"which ended {execution.status}: {readable_cause(history.error, history.cause)}"
        watch.end_job_run()
        stuck = history.ended_in
        if (
            stuck is None
            or stuck.type == "Fail"
            or not execution.redrivable
            or execution.redrives >= _REDRIVES
        ):
            self._context.log.info(
                f"Another execution takes the place of {execution.name}, {ended}"
            )
            return False
        if not history.job_succeeded:
            # The job runs again and speaks anew. What it said before it succeeded is kept.
            watch.messages.clear()
        if not self._machine.redrive(execution):
            # By now somebody else may have.
            if self._machine.look(execution.arn).closed:
                return False
            self._tell_reattached(execution)
            return True
        self._redrives = execution.redrives + 1
        watch.reopen_status()
        self._notes["reattached"] = True
        self._context.log.info(
            f"Redrove the execution {execution.name} in its state {stuck.name}, {ended} "
            f"{execution.url()}"
        )
        return True

    def _tell_reattached(self, execution: Execution) -> None:
        self._notes["reattached"] = True
        self._context.log.info(
            f"Re-attached to the execution {execution.name}, which was started for the same work "
            f"at {execution.started:%Y-%m-%d %H:%M:%S} UTC and is {execution.status}: "
            f"{execution.url()}"
        )

    def _watching(self, execution: Execution, messages: PipesMessages) -> ExecutionWatch:
        self._watch = ExecutionWatch(
            self._context,
            execution,
            batch_id=self._work.batch_id,
            messages=messages,
            machine=self._machine,
            job=self._job,
            client=self._client,
            settings=self._settings,
        )
        return self._watch

    def _messages(self, attempt: int) -> PipesMessages:
        work = self._work
        judgement = work.judgement if attempt == 1 else f"{work.judgement}_{attempt}"
        return PipesMessages(
            self._context,
            self._client("s3"),
            bucket=self._settings.bucket(Zone.DQ_RESULTS),
            prefix=pipes_prefix(work.dataset, work.partition, work.batch_id, judgement),
        )

    # -- what came of it

    def _conclude(self, watch: ExecutionWatch) -> RemoteRun:
        execution, history, reported = watch.execution, watch.history, watch.messages.reported
        if history.status != "SUCCEEDED":
            failure = why_failed(execution, history, raised=watch.messages.exception)
            watch.close_status(failure.cause)
            raise self._failure(failure)
        worked = history.job_run_id is not None
        if worked and not reported.materializations:
            raise self._failure(no_report(execution, history))
        metadata = {**watch.metadata(), **self._notes}
        if not worked:
            metadata["nothing_to_curate"] = True
        watch.clear_messages()
        return RemoteRun(
            identity=self._work.identity,
            url=execution.url(),
            seconds=metadata["execution_seconds"],
            metadata=metadata,
            results=reported,
        )

    def _overdue(self) -> RemoteRunFailed:
        watch = self._watch
        assert watch is not None
        try:
            watch.stop(error="Overdue", cause="Its deadline has passed.")
        except (ClientError, BotoCoreError) as error:
            return self._failure(service_failure(error, "Stopping an execution that is overdue"))
        return self._failure(
            RemoteRunFailed(
                f"The execution {watch.execution.name} had not ended after "
                f"{self._limit / 60:.3g} minutes, which is its deadline; it was stopped. Give the "
                "job more workers, or the state machine a longer TimeoutSeconds."
            )
        )

    def _leave(self) -> NoReturn:
        """The step was interrupted: stop its work, or leave it to whoever comes back for it."""
        said = "The step was interrupted; no execution was in flight for it."
        watch = self._watch
        # Interrupted once more, or unable to reach the service, there is no more to be done.
        with suppress(*INTERRUPTIONS, ClientError, BotoCoreError):
            if watch is not None and watch.history.status is None:
                name = watch.execution.name
                said = (
                    f"The step was interrupted. The execution {name} is left in flight: whoever "
                    "takes up this step again re-attaches to it."
                )
                if not somebody_comes_back(self._context):
                    said = f"The step was interrupted, and the execution {name} stopped."
                    cause = f"The Dagster run {self._context.run_id} was cancelled."
                    watch.stop(error="Cancelled", cause=cause)
                    watch.clear_messages()
        self._context.log.warning(said)
        raise RemoteRunInterrupted(said)

    def _failure(self, failure: RemoteRunFailed) -> RemoteRunFailed:
        """The failure with all that is known of the execution."""
        watch = self._watch
        if watch is None:
            return failure
        metadata = {**watch.metadata(), **self._notes}
        if watch.history.status is not None:
            metadata |= watch.log_tail()
            # What it said before it succeeded is the outcome of a redrive.
            if not watch.history.job_succeeded:
                watch.clear_messages()
        return RemoteRunFailed(
            failure.cause,
            retryable=failure.retryable,
            checks=watch.messages.reported.checks,
            metadata=metadata,
        )
