"""A step that has its work done by Step Functions, and the state machine and job that do it, for
the tests of both. The state machine is the one that ships, the job runs are real processes.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from deploy.state_machines import curate_definition, ensure_state_machine
from resources.remote_run import RemoteRun, RemoteRunFailed, RemoteWork
from resources.state_machine import execution_name
from resources.step_functions import StepFunctionsResource
from service_core import ledger_table as keys
from service_core.events import Event
from service_core.layout import Zone
from service_core.settings import Settings
from tests.glue_steps import CURATED, ROOT, until

#: What every script of these tests opens with: the way `glue_scripts/curate.py` reports.
OPENING = """
import os, sys, time
import boto3
from dagster_pipes import PipesCliArgsParamsLoader, PipesS3MessageWriter, open_dagster_pipes

S3 = boto3.client("s3")
ARGUMENTS = dict(zip(sys.argv[1::2], sys.argv[2::2]))
GATES = ARGUMENTS["--request"].split("/")[2]

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

#: The first job run breaks.
BREAKS_ONCE = """
with reporting() as pipes:
    conserved(pipes, 2)
    if not passed("mended"):
        raise ValueError("column amount has lost its type")
    materialized(pipes, 3)
"""


class Machine:
    """The state machine of a test and its Glue job, as somebody with the AWS console sees them."""

    def __init__(self, settings: Settings, aws: Callable[[str], Any], folder: Path) -> None:
        self.settings, self.aws = settings, aws
        self.sfn, self.glue, self.s3 = aws("stepfunctions"), aws("glue"), aws("s3")
        self.home = folder / "home"
        self.work = RemoteWork(
            "orders", "2026-11-21", "b" * 32, "1", f"s3://{settings.artifacts_bucket}/request.json"
        )
        self.arn = ""
        self.is_defined(lambda definition: None)
        self._heard: Any = None

    def is_defined(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Define it as the one that ships, but for a change; no wait for a retry is long."""
        definition = curate_definition(self.settings)
        for state in definition["States"].values():
            for retrier in state.get("Retry", ()):
                retrier |= {"IntervalSeconds": 1, "MaxDelaySeconds": 2, "JitterStrategy": "NONE"}
        change(definition)
        self.arn = ensure_state_machine(
            self.settings, self.sfn, self.aws("sts"), definition=definition
        )

    def job_does(self, body: str, *, concurrent: int = 3) -> None:
        """Give the job a script."""
        key = "script.py"
        self.s3.put_object(
            Bucket=self.settings.artifacts_bucket,
            Key=key,
            Body=(OPENING + textwrap.dedent(body)).encode(),
        )
        update = {
            "Role": "job",
            "Command": {
                "Name": "glueetl",
                "ScriptLocation": f"s3://{self.settings.artifacts_bucket}/{key}",
                "PythonVersion": "3",
            },
            "GlueVersion": "5.1",
            "WorkerType": "G.1X",
            "NumberOfWorkers": 2,
            "ExecutionProperty": {"MaxConcurrentRuns": concurrent},
        }
        self.glue.update_job(JobName=self.settings.glue_job, JobUpdate=update)

    def has_no_job(self) -> None:
        self.glue.delete_job(JobName=self.settings.glue_job)

    def open(self, gate: str) -> None:
        self.s3.put_object(Bucket=self.settings.artifacts_bucket, Key=gate)

    def start(self, *, accepted: int = 1, name: str = "by-hand") -> str:
        """Start an execution as a person would; returns its ARN."""
        asked = {
            "request": self.work.request_uri,
            "accepted": accepted,
            "dataset": self.work.dataset,
            "partition": self.work.partition,
            "batch_id": self.work.batch_id,
            "run_id": "r1",
            "replay_id": None,
            "pipes": {"context": "none", "messages": "none"},
        }
        return self.sfn.start_execution(
            stateMachineArn=self.arn, name=name, input=json.dumps(asked)
        )["executionArn"]

    def ended(self, arn: str) -> dict[str, Any]:
        """The execution when it has ended."""
        return until(
            lambda: (
                found
                if (found := self.look(arn))["status"] not in {"RUNNING", "PENDING_REDRIVE"}
                else None
            )
        )

    def look(self, arn: str) -> dict[str, Any]:
        return self.sfn.describe_execution(executionArn=arn)

    def age(self, arn: str) -> float:
        """Seconds since an execution was started."""
        return (datetime.now(UTC) - self.look(arn)["startDate"]).total_seconds()

    def executions(self) -> dict[str, str]:
        """Every execution's status by its name."""
        try:
            found = self.sfn.list_executions(stateMachineArn=self.arn)["executions"]
        except self.sfn.exceptions.StateMachineDoesNotExist:
            return {}
        return {execution["name"]: execution["status"] for execution in found}

    def name(self, attempt: int = 1) -> str:
        return execution_name(self.work, attempt)

    def entered(self, arn: str) -> list[str]:
        """The states that an execution came into."""
        history = self.sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        return [
            event["stateEnteredEventDetails"]["name"]
            for event in history
            if "stateEnteredEventDetails" in event
        ]

    def retries(self, arn: str, state: str) -> int:
        """How often the task of a state was scheduled again."""
        history = self.sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        current, scheduled = "", 0
        for event in history:
            current = event.get("stateEnteredEventDetails", {}).get("name", current)
            scheduled += current == state and event["type"] == "TaskScheduled"
        return scheduled - 1

    def job_runs(self) -> list[dict[str, Any]]:
        """Newest first."""
        try:
            return self.glue.get_job_runs(JobName=self.settings.glue_job)["JobRuns"]
        except self.glue.exceptions.EntityNotFoundException:
            return []

    def job_states(self) -> list[str]:
        return [run["JobRunState"] for run in self.job_runs()]

    def end(self) -> None:
        """Leave nothing running."""
        for name, status in self.executions().items():
            if status == "RUNNING":
                arn = f"{self.arn.replace(':stateMachine:', ':execution:')}:{name}"
                self.sfn.stop_execution(executionArn=arn)
        if running := [r["Id"] for r in self.job_runs() if r["JobRunState"] == "RUNNING"]:
            self.glue.batch_stop_job_run(JobName=self.settings.glue_job, JobRunIds=running)

    def status(self) -> dict[str, str]:
        """The batch's status in the ledger table."""
        item = self.aws("dynamodb").get_item(
            TableName=self.settings.ledger_table,
            Key={
                keys.PK: {"S": keys.batch_pk(self.work.batch_id)},
                keys.SK: {"S": keys.CURATION},
            },
        )
        return {name: value["S"] for name, value in item.get("Item", {}).items()}

    def messages(self) -> list[str]:
        listed = self.s3.list_objects_v2(
            Bucket=self.settings.bucket(Zone.DQ_RESULTS), Prefix="_pipes/"
        )
        return [found["Key"] for found in listed.get("Contents", ())]

    def restore_table(self, described: Mapping[str, Any]) -> None:
        """Create a table anew that was deleted."""
        kept = ("TableName", "AttributeDefinitions", "KeySchema")
        self.aws("dynamodb").create_table(
            **{name: described[name] for name in kept},
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
                for index in described["GlobalSecondaryIndexes"]
            ],
        )

    def listens(self) -> None:
        """Have a queue take what the bus is told from now on."""
        sqs, events, name = self.aws("sqs"), self.aws("events"), self.settings.event_bus
        self._heard = sqs.create_queue(QueueName=f"{name}-heard")["QueueUrl"]
        queue = sqs.get_queue_attributes(QueueUrl=self._heard, AttributeNames=["QueueArn"])
        events.put_rule(
            Name="all", EventBusName=name, EventPattern=json.dumps({"source": ["lakegate"]})
        )
        events.put_targets(
            Rule="all",
            EventBusName=name,
            Targets=[{"Id": "queue", "Arn": queue["Attributes"]["QueueArn"]}],
        )

    def heard(self) -> list[Event]:
        """The events that the bus was told."""
        answer = self.aws("sqs").receive_message(QueueUrl=self._heard, MaxNumberOfMessages=10)
        bodies = [json.loads(message["Body"]) for message in answer.get("Messages", ())]
        return [Event(name=body["detail-type"], **body["detail"]) for body in bodies]

    def step(self, **how: Any) -> "Step":
        how.setdefault("work", self.work)
        return Step(StepFunctionsResource.of(self.settings), **how)


class Step:
    """A step that has its work done by Step Functions, as the curated assets do."""

    def __init__(
        self,
        step_functions: StepFunctionsResource,
        *,
        work: RemoteWork,
        accepted: int = 1,
        retries: int = 0,
        deadline_minutes: float | None = None,
        before: Callable[[int], object] = lambda tries: None,
    ) -> None:
        self.runs: list[RemoteRun] = []
        self.failures: list[RemoteRunFailed] = []
        if deadline_minutes is not None:
            step_functions = step_functions.model_copy(
                update={"deadline_minutes": deadline_minutes}
            )

        @dg.multi_asset(
            name="orders_curated",
            specs=[dg.AssetSpec(CURATED, skippable=True)],
            check_specs=[
                dg.AssetCheckSpec("rows_conserved", asset=CURATED, blocking=True),
                dg.AssetCheckSpec("amount_range", asset=CURATED),
            ],
            can_subset=True,
            retry_policy=dg.RetryPolicy(max_retries=retries, delay=0) if retries else None,
        )
        def curated(context: dg.AssetExecutionContext) -> Iterator[Any]:
            before(context.retry_number)
            try:
                remote = step_functions.run(context, work, accepted=accepted)
            except RemoteRunFailed as failed:
                self.failures.append(failed)
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


def states_of(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The state table by the name of the state; of one entered twice, the last."""
    return {record.data["state"]: record.data for record in metadata["states"].records}


@contextmanager
def worker(machine: Machine, *, config: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that executes a run of the step, as a run worker does."""
    machine.home.mkdir(exist_ok=True)
    (machine.home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{config}")
    with (machine.home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.execution_steps", machine.work.request_uri],
            env={**os.environ, "DAGSTER_HOME": str(machine.home)},
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


def worked(machine: Machine) -> dg.DagsterInstance:
    """The instance of the worker's run."""
    return dg.DagsterInstance.from_config(str(machine.home))


def _work() -> None:
    """What a worker does: a run of a step that Dagster would try again three times."""
    settings = Settings.from_environment(os.environ)
    work = RemoteWork("orders", "2026-11-21", "b" * 32, "1", sys.argv[1])
    with dg.DagsterInstance.get() as instance:
        Step(StepFunctionsResource.of(settings), work=work, retries=3).materialize(instance)


if __name__ == "__main__":
    _work()
