"""A step that has its work done by Glue, and the Glue job that does it, for the client's tests.

The scripts are small, but report as `glue_scripts/curate.py` does; job runs are real processes.
"""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from deploy.glue_jobs import ensure_glue_job
from resources.glue import GlueResource
from resources.remote_run import RemoteRun, RemoteRunFailed, RemoteWork
from service_core.layout import Zone
from service_core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
CURATED = dg.AssetKey(["curated", "orders"])
ROWS = dg.AssetKey(["quarantine", "orders", "rows"])
WORK = RemoteWork("orders", "2026-11-21", "b1", "first", "s3://curated/request.json")

#: What every script of these tests opens with: the way `glue_scripts/curate.py` reports.
OPENING = """
import os, signal, sys, time
import boto3
from dagster_pipes import PipesCliArgsParamsLoader, PipesS3MessageWriter, open_dagster_pipes

S3 = boto3.client("s3")
ARGUMENTS = dict(zip(sys.argv[1::2], sys.argv[2::2]))
GATES = ARGUMENTS["--gates"]

def reporting():
    return open_dagster_pipes(
        params_loader=PipesCliArgsParamsLoader(),
        message_writer=PipesS3MessageWriter(S3, interval=0),
    )

def passed(gate):
    return "Contents" in S3.list_objects_v2(Bucket=GATES, Prefix=gate)

def wait_for(gate):
    while not passed(gate):
        time.sleep(0.1)

def conserved(pipes, rows):
    pipes.report_asset_check(
        "rows_conserved", True, metadata={"rows": rows}, asset_key="curated/orders"
    )

def materialized(pipes, rows):
    pipes.report_asset_materialization({"rows_accepted": rows}, asset_key="curated/orders")
"""

GOOD = """
with reporting() as pipes:
    pipes.log.info("curating " + ARGUMENTS["--request"])
    conserved(pipes, 3)
    materialized(pipes, 3)
"""

#: Reports a check, and its end only when it is let go on.
GATED = """
with reporting() as pipes:
    pipes.log.info("at the gate")
    conserved(pipes, 3)
    wait_for("go")
    materialized(pipes, 3)
"""


class Step:
    """A step that has its work done by Glue, as the curated assets do."""

    def __init__(
        self,
        glue: GlueResource,
        arguments: dict[str, str],
        *,
        retries: int = 0,
        work: RemoteWork = WORK,
        pool: str | None = None,
    ) -> None:
        self.runs: list[RemoteRun] = []

        @dg.multi_asset(
            name="orders_curated",
            specs=[dg.AssetSpec(CURATED, skippable=True), dg.AssetSpec(ROWS, skippable=True)],
            check_specs=[
                dg.AssetCheckSpec("rows_conserved", asset=CURATED, blocking=True),
                dg.AssetCheckSpec("amount_range", asset=CURATED),
            ],
            can_subset=True,
            retry_policy=dg.RetryPolicy(max_retries=retries, delay=0) if retries else None,
            pool=pool,
        )
        def curated(context: dg.AssetExecutionContext) -> Iterator[Any]:
            try:
                remote = glue.run(context, work, arguments=arguments)
            except RemoteRunFailed as failed:
                yield from failed.checks
                raise dg.Failure(
                    failed.cause, metadata=failed.metadata, allow_retries=failed.retryable
                ) from failed
            self.runs.append(remote)
            yield dg.MaterializeResult(
                asset_key=CURATED, metadata=remote.metadata, check_results=remote.results.checks
            )

        self.asset = curated

    def materialize(self, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        return dg.materialize([self.asset], instance=instance, raise_on_error=False)


class Job:
    """The Glue job of a test, as somebody with the AWS console sees it."""

    def __init__(self, settings: Settings, aws: Callable[[str], Any], folder: Path) -> None:
        self.settings, self.glue, self.s3 = settings, aws("glue"), aws("s3")
        self.arguments = {"--gates": settings.artifacts_bucket}
        self.home = folder / "home"
        self._script = folder / "curate.py"

    def does(self, body: str) -> None:
        """Upload a script as the job's."""
        self._script.write_text(OPENING + textwrap.dedent(body))
        ensure_glue_job(self.settings, self.glue, self.s3, script=self._script)

    def open(self, gate: str) -> None:
        self.s3.put_object(Bucket=self.settings.artifacts_bucket, Key=gate)

    def runs(self) -> list[dict[str, Any]]:
        """Newest first."""
        return self.glue.get_job_runs(JobName=self.settings.glue_job)["JobRuns"]

    def states(self) -> list[str]:
        return [run["JobRunState"] for run in self.runs()]

    def messages(self) -> list[str]:
        listed = self.s3.list_objects_v2(
            Bucket=self.settings.bucket(Zone.DQ_RESULTS), Prefix="_pipes/"
        )
        return [found["Key"] for found in listed.get("Contents", ())]

    def step(self, **how: Any) -> Step:
        return Step(GlueResource.of(self.settings), self.arguments, **how)


class Gated(Protocol):
    """Whose job waits at gates."""

    def open(self, gate: str) -> None: ...


@contextmanager
def opened_at_last(gated: Gated, gate: str) -> Iterator[None]:
    """A gate that is open in the end whatever the test finds: nobody waits at it for ever."""
    try:
        yield
    finally:
        gated.open(gate)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something that is about to be."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.1)
    return found


def said(instance: dg.DagsterInstance, run_id: str) -> str:
    """All that a person reads in the run's log."""
    return "\n".join(entry.user_message or entry.message for entry in instance.all_logs(run_id))


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def failure_of(result: dg.ExecuteInProcessResult) -> Any:
    [failed] = result.get_step_failure_events()
    return failed.step_failure_data


@contextmanager
def worker(job: Job, *, config: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that executes a run of the step, as a run worker does."""
    job.home.mkdir(exist_ok=True)
    (job.home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{config}")
    with (job.home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.glue_steps"],
            env={**os.environ, "DAGSTER_HOME": str(job.home)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def worked(job: Job) -> dg.DagsterInstance:
    """The instance of the worker's run."""
    return dg.DagsterInstance.from_config(str(job.home))


def _work() -> None:
    """What a worker does: a run of a step that Dagster would try again three times."""
    settings = Settings.from_environment(os.environ)
    arguments = {"--gates": settings.artifacts_bucket}
    with dg.DagsterInstance.get() as instance:
        Step(GlueResource.of(settings), arguments, retries=3).materialize(instance)


if __name__ == "__main__":
    _work()
