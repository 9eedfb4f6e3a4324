"""A redriven execution goes on where it ended without success."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deploy.local import EmbeddedAws
from tests.embedded_account import Account, glue_task, until

SLEEP = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with EmbeddedAws() as server:
        yield Account(server)


def test_a_redriven_execution_goes_on_where_it_failed(aws: Account) -> None:
    job = aws.job("raise SystemExit('not yet')", ExecutionProperty={"MaxConcurrentRuns": 3})
    states = {
        "Before": {"Type": "Pass", "Result": {"n": 1}, "ResultPath": "$.before", "Next": "Work"},
        "Work": glue_task(
            job,
            ResultPath="$.run",
            Next="After",
            Retry=[{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1}],
        ),
        "After": {
            "Type": "Pass",
            "Parameters": {
                "redriven.$": "$$.Execution.RedriveCount",
                "state.$": "$.run.JobRunState",
                "n.$": "$.before.n",
            },
            "End": True,
        },
    }
    machine, client = aws.machine(states, start="Before"), aws("stepfunctions")
    arn = aws.start(machine, {"batch": "b1"}, name="b1")
    with pytest.raises(client.exceptions.ExecutionNotRedrivable):
        client.redrive_execution(executionArn=arn)
    failed = aws.ended(arn)
    assert (failed["status"], failed["redriveStatus"]) == ("FAILED", "REDRIVABLE")
    assert failed["redriveCount"] == 0
    before = aws.history(arn)

    redriven = client.redrive_execution(executionArn=arn)

    running = aws.execution(arn)
    assert running["redriveCount"] == 1
    assert running["redriveDate"] == redriven["redriveDate"]
    assert running["startDate"] == failed["startDate"]
    if running["status"] == "RUNNING":
        assert not {"stopDate", "error", "cause"} & running.keys()
    # It has its retries again, and fails again.
    assert aws.ended(arn)["status"] == "FAILED"
    assert len(aws.runs(job)) == 4
    aws.script(job, "print('now')")
    client.redrive_execution(executionArn=arn)
    done = aws.ended(arn)
    assert (done["status"], done["redriveCount"]) == ("SUCCEEDED", 2)
    assert done["redriveStatus"] == "NOT_REDRIVABLE"
    assert json.loads(done["output"]) == {"redriven": 2, "state": "SUCCEEDED", "n": 1}
    history = aws.history(arn)
    assert history[: len(before)] == before
    assert [event["id"] for event in history] == list(range(1, len(history) + 1))
    assert [event["type"] for event in history[len(before) :][:3]] == [
        "ExecutionRedriven",
        "TaskScheduled",
        "TaskStarted",
    ]
    assert [
        event["executionRedrivenEventDetails"]["redriveCount"]
        for event in history
        if event["type"] == "ExecutionRedriven"
    ] == [1, 2]
    # The step that had succeeded was not run again, and the one that had not was entered once.
    assert [e["type"] for e in history].count("PassStateEntered") == 2
    assert [e["type"] for e in history].count("TaskStateEntered") == 1
    with pytest.raises(client.exceptions.ExecutionNotRedrivable):
        client.redrive_execution(executionArn=arn)
    with pytest.raises(client.exceptions.ExecutionDoesNotExist):
        client.redrive_execution(executionArn=arn + "x")


@pytest.mark.parametrize("how", ["stopped", "timed out"])
def test_an_execution_that_was_cut_off_can_be_redriven(aws: Account, how: str) -> None:
    job = aws.job(SLEEP)
    limit = {"TimeoutSeconds": 2} if how == "timed out" else {}
    arn = aws.start(aws.machine({"Work": glue_task(job)}, **limit))
    until(lambda: aws.runs(job), bool, 10)
    if how == "stopped":
        aws("stepfunctions").stop_execution(executionArn=arn)
    assert aws.ended(arn)["status"] == ("TIMED_OUT" if how == "timed out" else "ABORTED")
    until(lambda: aws.runs(job)[0]["JobRunState"], lambda state: state == "STOPPED", 15)
    aws.script(job, "print('short')")
    aws("stepfunctions").redrive_execution(executionArn=arn)
    done = aws.ended(arn)
    assert done["status"] == "SUCCEEDED"
    assert "error" not in done
    assert json.loads(done["output"])["JobRunState"] == "SUCCEEDED"
