"""Curation as a Glue job run that a Dagster step looks after, and does not own.

One piece of work has at most one job run in flight, whoever asks for it and however often: what is
in flight is re-attached to, by the identity in its arguments; what has ended well and said so is
taken as done; only then is another one started. So a step may die anywhere. Where a person cancels
the Dagster run, the job run is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from dagster import AssetExecutionContext, MetadataValue

from resources.glue_job import GlueJob, JobRun
from resources.pipes_messages import PipesMessages
from resources.remote_run import (
    INTERRUPTIONS,
    Deadline,
    RemoteRun,
    RemoteRunFailed,
    RemoteRunInterrupted,
    RemoteWork,
    error_code,
    is_cancelled,
    is_fault,
    is_forbidden,
    is_passing,
    poll_wait,
    refused_wait,
    service_failure,
    somebody_comes_back,
)
from resources.settings import SettingsResource
from service_core.layout import Zone
from service_core.settings import Settings

REQUEST_ARGUMENT = "--request"

#: How long a run that was asked to stop is waited for.
_STOP_SECONDS = 20.0
#: The same for one that somebody else has asked to stop, where another one is to follow it.
_STOPPING_SECONDS = 300.0
#: How long Glue may take to know of a job run that it has just started.
_LAG_SECONDS = 30.0
#: How often in a row a start may fail without an answer from Glue.
_UNANSWERED = 8
#: How often the run's log says that a start is still refused.
_SAID_AGAIN_SECONDS = 300.0
#: Job runs that are older than the deadline by this much are not looked for.
_OVERLAP = timedelta(days=1)


class GlueResource(SettingsResource):
    """The Glue job that curates: `GlueResource.of(settings)`.

    Attributes:
        deadline_minutes: How long a job run may take from its start, and how long one may wait to
            be started; then it is stopped. None: the job's own Timeout and `margin_minutes`.
        margin_minutes: What waiting for capacity and starting up may take beyond the Timeout,
            which counts execution alone.
    """

    deadline_minutes: float | None = None
    margin_minutes: float = 15.0

    def run(
        self,
        context: AssetExecutionContext,
        work: RemoteWork,
        *,
        arguments: Mapping[str, str] | None = None,
    ) -> RemoteRun:
        """Have work done by a job run, and wait for its end.

        What the job logs by Dagster Pipes is logged to the step while it runs.

        Args:
            context: The step.
            work: What is to be done.
            arguments: Further arguments of the job run; never changed.

        Raises:
            RemoteRunFailed: the job could not be started, failed, or reported nothing. Nothing is
                in flight then, unless Glue itself could not be asked.
            RemoteRunInterrupted: the step was interrupted. The job run was stopped, unless another
                worker will come back for it.
        """
        from resources.aws import client

        settings = self.settings()
        job = GlueJob(
            settings.glue_job,
            client(settings, "glue"),
            client(settings, "glue", attempts=1),
            partial(client, settings, "logs"),
        )
        try:
            minutes = self.deadline_minutes or job.timeout_minutes() + self.margin_minutes
        except (ClientError, BotoCoreError) as error:
            raise service_failure(error, f"Looking for the Glue job {job.name}") from error
        attendance = _Attendance(
            context, work, job, client(settings, "s3"), settings, limit_seconds=minutes * 60
        )
        return attendance.run({REQUEST_ARGUMENT: work.request_uri, **(arguments or {})})


class _Attendance:
    """One step's care for one piece of work."""

    def __init__(
        self,
        context: AssetExecutionContext,
        work: RemoteWork,
        job: GlueJob,
        s3: Any,
        settings: Settings,
        *,
        limit_seconds: float,
    ) -> None:
        self._context = context
        self._work = work
        self._job = job
        self._s3 = s3
        self._settings = settings
        self._limit = limit_seconds
        self._messages = self._new_messages()
        self._before: JobRun | None = None
        self._run: JobRun | None = None
        self._notes: dict[str, Any] = {}

    def run(self, arguments: Mapping[str, str]) -> RemoteRun:
        if is_cancelled(self._context):
            # Dagster may try a step again whose run is being cancelled.
            self._leave()
        try:
            return self._conclude(self._until_ended(self._adopted() or self._started(arguments)))
        except INTERRUPTIONS:
            self._leave()
        except (ClientError, BotoCoreError) as error:
            doing = f"Looking after the Glue job {self._job.name}"
            # What the job run has said is for whoever tries again.
            raise self._known(service_failure(error, doing)) from error

    # -- finding one, or starting one

    def _adopted(self) -> JobRun | None:
        """The job run that is in flight, or done, for this work."""
        self._before = run = self._newest()
        if run is not None and run.state == "STOPPING":
            run = self._until_ended(run, Deadline.after(_STOPPING_SECONDS))
        if run is None or (run.ended and not run.succeeded):
            return None
        if run.succeeded:
            self._messages.read()
            if not self._messages.reported.materializations:
                # Reported already, and cleared away since; or never. What it made is found by its
                # verdict, so whoever asks for it again wants it made again.
                return None
        self._notes["reattached"] = True
        self._context.log.info(
            f"Re-attached to the Glue job run {run.id}, which was started for the same work at "
            f"{run.started:%Y-%m-%d %H:%M:%S} UTC and is {run.state}: {self._url(run)}"
        )
        return run

    def _started(self, arguments: Mapping[str, str]) -> JobRun:
        self._run, self._messages = None, self._new_messages()
        # Whatever lies there belongs to a job run that has ended.
        self._messages.clear()
        self._notes["reattached"] = False
        run_id = self._start({**arguments, **self._messages.arguments})
        self._run = run = self._first_look(run_id)
        self._context.log.info(f"Started the Glue job run {run.id}: {self._url(run)}")
        return run

    def _start(self, arguments: Mapping[str, str]) -> str:
        """Start a job run as soon as Glue lets us; returns its id."""
        doing = f"Starting the Glue job {self._job.name}"
        deadline, began = Deadline.after(self._limit), time.monotonic()
        refusals = unanswered = 0
        said = -_SAID_AGAIN_SECONDS
        while True:
            try:
                run_id = self._job.start(self._work.identity, arguments)
                break
            except (ClientError, BotoCoreError) as error:
                answered = isinstance(error, ClientError) and not is_fault(error)
                unanswered = 0 if answered else unanswered + 1
                failure = service_failure(error, doing)
                passing = not answered or (isinstance(error, ClientError) and is_passing(error))
                if not passing or deadline.passed or unanswered >= _UNANSWERED:
                    raise self._known(failure) from error
            refusals += 1
            if time.monotonic() - began - said >= _SAID_AGAIN_SECONDS:
                said = time.monotonic() - began
                self._context.log.warning(
                    f"{failure.cause} Waiting for its turn, for at most {_minutes(deadline.left)}."
                )
            deadline.sleep(refused_wait(refusals))
            # A request whose answer was lost may have started a run nevertheless.
            if not answered and (found := self._newest()) and found.id != _id(self._before):
                run_id = found.id
                break
        if refusals:
            self._notes["start_refused"] = refusals
            self._notes["waited_to_start_seconds"] = round(time.monotonic() - began, 1)
        return run_id

    def _first_look(self, run_id: str) -> JobRun:
        """A job run that was started just now, and that Glue may take a moment to know of."""
        deadline = Deadline.after(_LAG_SECONDS)
        while True:
            try:
                return self._job.look(run_id)
            except ClientError as error:
                if error_code(error) != "EntityNotFoundException" or deadline.passed:
                    raise
            deadline.sleep(1.0)

    def _newest(self) -> JobRun | None:
        since = datetime.now(UTC) - timedelta(seconds=self._limit) - _OVERLAP
        return self._job.newest(self._work.identity, since=since)

    # -- waiting for its end

    def _until_ended(self, run: JobRun, deadline: Deadline | None = None) -> JobRun:
        """The job run when it has ended; what it says is handed on meanwhile."""
        deadline = deadline or Deadline.after(self._limit, passed=run.age())
        self._run, state = run, ""
        while True:
            if run.state != state:
                state = run.state
                self._context.log.info(f"The Glue job run {run.id} is {state}.")
            self._messages.read()
            if run.ended:
                return run
            if deadline.passed:
                self._overdue(run, deadline)
            deadline.sleep(poll_wait(run.age()))
            self._run = run = self._job.look(run.id)

    def _overdue(self, run: JobRun, deadline: Deadline) -> NoReturn:
        run = self._stop(run)
        self._messages.read()
        raise self._failure(
            RemoteRunFailed(
                f"The Glue job run {run.id} of {run.job} had not ended after "
                f"{_minutes(deadline.seconds)}, which is its deadline; it was asked to stop and is "
                f"{run.state}. Give the job more workers, or a longer Timeout."
            )
        )

    def _stop(self, run: JobRun) -> JobRun:
        """Stop a job run and wait a little for that; the run as it then stands."""
        refused = self._job.stop(run.id)
        if refused:
            self._context.log.warning(f"Glue does not stop the job run {run.id}: {refused}.")
        deadline = Deadline.after(_STOP_SECONDS)
        run = self._job.look(run.id)
        while not run.ended and not deadline.passed:
            deadline.sleep(poll_wait(deadline.seconds - deadline.left))
            run = self._job.look(run.id)
        self._run = run
        return run

    def _leave(self) -> NoReturn:
        """The step was interrupted: stop the job run, or leave it to whoever comes back for it."""
        said = "The step was interrupted; no Glue job run was in flight for it."
        # Interrupted once more, or unable to reach Glue, there is no more to be done.
        with suppress(*INTERRUPTIONS, ClientError, BotoCoreError):
            run = self._run or self._newest()
            if run is not None and not run.ended:
                said = (
                    f"The step was interrupted. The Glue job run {run.id} is left in flight: "
                    "whoever takes up this step again re-attaches to it."
                )
                if not somebody_comes_back(self._context):
                    said = f"The step was interrupted; Glue was asked to stop the job run {run.id}."
                    run = self._stop(run)
                    said = f"{said} It is {run.state}."
                    self._messages.read()
                    if run.ended:
                        self._clear_messages()
        self._context.log.warning(said)
        raise RemoteRunInterrupted(said)

    # -- what came of it

    def _conclude(self, run: JobRun) -> RemoteRun:
        reported = self._messages.reported
        if not run.succeeded:
            raise self._failure(
                RemoteRunFailed(
                    run.why_not(self._messages.exception),
                    # What a person stopped, a person starts again.
                    retryable=run.state != "STOPPED" and not is_forbidden(run.error),
                )
            )
        if not reported.materializations:
            raise self._failure(
                RemoteRunFailed(
                    f"The Glue job run {run.id} of {run.job} ended SUCCEEDED, but reported no "
                    "materialisation by Dagster Pipes, so what it did is not known. Does its "
                    "script still report to where --dagster-pipes-messages says?"
                )
            )
        self._clear_messages()
        return RemoteRun(
            identity=self._work.identity,
            url=self._url(run),
            seconds=run.seconds,
            metadata=self._metadata(),
            results=reported,
        )

    def _failure(self, failure: RemoteRunFailed) -> RemoteRunFailed:
        """The failure of a job run that has been heard to its end; its messages are removed."""
        run, tail = self._run, {}
        if run is not None and run.ended:
            if lines := self._job.log_tail(run):
                tail["log_tail"] = MetadataValue.md("```\n" + "\n".join(lines) + "\n```")
                if not run.succeeded and not run.error:
                    failure = RemoteRunFailed(
                        f"{failure.cause} Its log ends: {lines[-1]}", retryable=failure.retryable
                    )
            self._clear_messages()
        return self._known(failure, tail)

    def _known(
        self, failure: RemoteRunFailed, more: Mapping[str, Any] | None = None
    ) -> RemoteRunFailed:
        """The failure with all that is known of the job run."""
        return RemoteRunFailed(
            failure.cause,
            retryable=failure.retryable,
            checks=self._messages.reported.checks,
            metadata={**self._metadata(), **(more or {})},
        )

    def _metadata(self) -> dict[str, Any]:
        run = self._run
        if run is None:
            return dict(self._notes)
        return {
            "glue_job_run": run.id,
            "glue_job_run_url": MetadataValue.url(self._url(run)),
            "glue_state": run.state,
            "glue_seconds": run.seconds,
            "dpu_seconds": round(run.dpu_seconds, 1),
            "estimated_cost": run.cost(self._settings.dpu_hour_price),
            **self._notes,
        }

    def _new_messages(self) -> PipesMessages:
        return PipesMessages(
            self._context,
            self._s3,
            bucket=self._settings.bucket(Zone.DQ_RESULTS),
            prefix=self._work.messages_prefix,
        )

    def _clear_messages(self) -> None:
        try:
            self._messages.clear()
        except (ClientError, BotoCoreError) as error:
            self._context.log.warning(
                f"The messages under {self._work.messages_prefix} of the dq-results bucket could "
                f"not be removed, and may be by hand: {error}"
            )

    def _url(self, run: JobRun) -> str:
        return run.url(self._settings.region)


def _id(run: JobRun | None) -> str | None:
    return run.id if run else None


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} min"
