"""An embedded AWS of the tests' own, with jobs that are made from a script each and state machines
that are made from their states.
"""

import json
import textwrap
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import boto3

from deploy.local import EmbeddedAws

BUCKET = "scripts"

_ROLE = "arn:aws:iam::123456789012:role/tests"
_NUMBERS = count(1)

Json = dict[str, Any]


class Account:
    """`account("glue")` is a boto3 client of the server."""

    def __init__(self, server: EmbeddedAws) -> None:
        self._server = server
        self._clients: dict[str, Any] = {}
        self("s3").create_bucket(Bucket=BUCKET)

    def __call__(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self._server.endpoint,
                region_name="us-east-1",
                aws_access_key_id="embedded",
                aws_secret_access_key="embedded",
            )
        return self._clients[service]

    def put(self, key: str, body: bytes | str) -> str:
        """The URI of an object that holds this."""
        data = body if isinstance(body, bytes) else body.encode()
        self("s3").put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    # -- Glue

    def script(self, job: str, text: str) -> str:
        """What a job does from its next run on."""
        return self.put(f"{job}.py", textwrap.dedent(text))

    def job(self, script: str, **definition: Any) -> str:
        name = f"job-{next(_NUMBERS)}"
        self("glue").create_job(
            Name=name,
            Role=_ROLE,
            Command={
                "Name": "glueetl",
                "PythonVersion": "3",
                "ScriptLocation": self.script(name, script),
            },
            **{"GlueVersion": "5.1", "WorkerType": "G.1X", "NumberOfWorkers": 2, **definition},
        )
        return name

    def start_run(self, job: str, arguments: dict[str, str] | None = None, **asked: Any) -> str:
        started = self("glue").start_job_run(JobName=job, Arguments=arguments or {}, **asked)
        return str(started["JobRunId"])

    def stop_run(self, job: str, *run_ids: str) -> Json:
        return dict(self("glue").batch_stop_job_run(JobName=job, JobRunIds=list(run_ids)))

    def run(self, job: str, run_id: str) -> Json:
        return dict(self("glue").get_job_run(JobName=job, RunId=run_id)["JobRun"])

    def runs(self, job: str) -> list[Json]:
        """Newest first."""
        return list(self("glue").get_job_runs(JobName=job)["JobRuns"])

    def ended_run(self, job: str, run_id: str, within: float = 60) -> Json:
        return until(
            lambda: self.run(job, run_id),
            lambda run: run["JobRunState"] not in {"STARTING", "RUNNING", "STOPPING"},
            within,
        )

    def executed_script(self, script: str, within: float = 60, **definition: Any) -> Json:
        """The ended run of a job that does this."""
        name = self.job(script, **definition)
        return self.ended_run(name, self.start_run(name), within)

    def log(self, run_id: str, group: str = "output") -> list[str]:
        logs, lines, token = self("logs"), [], {}
        while True:
            try:
                page = logs.get_log_events(
                    logGroupName=f"/aws-glue/jobs/{group}",
                    logStreamName=run_id,
                    startFromHead=True,
                    **token,
                )
            except logs.exceptions.ResourceNotFoundException:
                return []
            if not page["events"]:
                return lines
            lines += [event["message"] for event in page["events"]]
            token = {"nextToken": page["nextForwardToken"]}

    def printed(self, run_id: str, start: str, within: float = 60) -> str:
        """The first line of a run's output that starts so; waits for it."""
        return str(
            until(
                lambda: [line for line in self.log(run_id) if line.startswith(start)],
                bool,
                within,
            )[0]
        )

    # -- Step Functions

    def machine(self, states: Json, start: str = "Work", **rest: Any) -> str:
        definition = json.dumps({"StartAt": start, "States": states, **rest})
        made = self("stepfunctions").create_state_machine(
            name=f"machine-{next(_NUMBERS)}", definition=definition, roleArn=_ROLE
        )
        return str(made["stateMachineArn"])

    def start(self, machine: str, given: Json | None = None, **name: str) -> str:
        started = self("stepfunctions").start_execution(
            stateMachineArn=machine, input=json.dumps(given or {}), **name
        )
        return str(started["executionArn"])

    def execution(self, arn: str) -> Json:
        return dict(self("stepfunctions").describe_execution(executionArn=arn))

    def ended(self, arn: str, within: float = 60) -> Json:
        return until(lambda: self.execution(arn), lambda e: e["status"] != "RUNNING", within)

    def executed(self, machine: str, given: Json | None = None) -> Json:
        """An ended execution."""
        return self.ended(self.start(machine, given))

    def history(self, arn: str, **asked: Any) -> list[Json]:
        pages = self("stepfunctions").get_paginator("get_execution_history")
        return [
            event for page in pages.paginate(executionArn=arn, **asked) for event in page["events"]
        ]

    def types(self, arn: str) -> list[str]:
        return [event["type"] for event in self.history(arn)]


def glue_task(job: str, **rest: Any) -> Json:
    """A state that waits for a run of a job."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::glue:startJobRun.sync",
        "Parameters": {"JobName": job},
        **({} if "Next" in rest else {"End": True}),
        **rest,
    }


def until(look: Callable[[], Any], enough: Callable[[Any], bool], within: float) -> Any:
    """What is seen once it is enough."""
    deadline = time.monotonic() + within
    while not enough(seen := look()):
        assert time.monotonic() < deadline, f"after {within:g} s still {seen}"
        time.sleep(0.05)
    return seen


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # A zombie waits only for whoever inherited it.
    return stat.rpartition(")")[2].split()[0] != "Z"
