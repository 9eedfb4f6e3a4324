"""The embedded Step Functions interprets state machines, and an execution ends once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from deploy.local import EmbeddedAws
from tests.embedded_account import Account, Json, glue_task, until

SLEEP = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with EmbeddedAws() as server:
        yield Account(server)


def test_a_glue_task_takes_as_long_as_its_job_run_and_gives_the_run(aws: Account) -> None:
    job = aws.job("import sys, time; time.sleep(0.5); print(sys.argv[-2:])")
    task = glue_task(
        job,
        Parameters={"JobName": job, "Arguments": {"--request.$": "$.request"}},
        ResultPath="$.run",
    )
    execution = aws.executed(aws.machine({"Work": task}), {"request": "s3://a/b", "kept": 1})
    assert execution["status"] == "SUCCEEDED"
    assert execution["startDate"] <= execution["stopDate"]
    output = json.loads(execution["output"])
    assert output["kept"] == 1
    [run] = aws.runs(job)
    given = output["run"]
    assert (given["Id"], given["JobName"]) == (run["Id"], job)
    assert given["JobRunState"] == "SUCCEEDED"
    assert given["Arguments"] == run["Arguments"] == {"--request": "s3://a/b"}
    assert given["CompletedOn"] == int(run["CompletedOn"].timestamp() * 1000)
    assert aws.types(execution["executionArn"]) == [
        "ExecutionStarted",
        "TaskStateEntered",
        "TaskScheduled",
        "TaskStarted",
        "TaskSubmitted",
        "TaskSucceeded",
        "TaskStateExited",
        "ExecutionSucceeded",
    ]


def test_a_failed_job_run_is_the_cause_of_a_failed_task(aws: Account) -> None:
    job = aws.job("raise ValueError('no such column')")
    execution = aws.executed(aws.machine({"Work": glue_task(job)}))
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(execution["cause"])
    assert cause["JobRunState"] == "FAILED"
    assert cause["ErrorMessage"] == "ValueError: no such column"
    assert cause["Id"] == aws.runs(job)[0]["Id"]
    assert isinstance(cause["CompletedOn"], int)
    [failed] = [
        event["taskFailedEventDetails"]
        for event in aws.history(execution["executionArn"])
        if event["type"] == "TaskFailed"
    ]
    assert failed["resource"] == "startJobRun.sync"
    assert failed["cause"] == execution["cause"]


def test_a_job_run_that_was_stopped_ends_its_task_without_an_error(aws: Account) -> None:
    job = aws.job(SLEEP)
    execution = aws.start(aws.machine({"Work": glue_task(job)}))
    [run] = until(lambda: aws.runs(job), bool, 10)
    aws.stop_run(job, run["Id"])
    ended = aws.ended(execution)
    assert ended["status"] == "SUCCEEDED"
    assert json.loads(ended["output"])["JobRunState"] == "STOPPED"


def test_a_task_waits_for_room_with_a_growing_back_off(aws: Account) -> None:
    job = aws.job(SLEEP)
    occupying = aws.start_run(job)
    until(lambda: aws.runs(job)[0]["JobRunState"], lambda state: state == "RUNNING", 10)
    aws.script(job, "print('at last')")
    retry = {
        "ErrorEquals": ["Glue.ConcurrentRunsExceededException"],
        "IntervalSeconds": 1,
        "BackoffRate": 2,
        "MaxAttempts": 5,
    }
    arn = aws.start(aws.machine({"Work": glue_task(job, Retry=[retry])}))
    until(lambda: aws.types(arn).count("TaskFailed"), lambda n: n == 2, 30)
    aws.stop_run(job, occupying)
    assert aws.ended(arn)["status"] == "SUCCEEDED"
    history = aws.history(arn)
    failed = [event for event in history if event["type"] == "TaskFailed"]
    scheduled = [event for event in history if event["type"] == "TaskScheduled"]
    assert len(failed) == 2
    assert len(scheduled) == 3
    for event in failed:
        details = event["taskFailedEventDetails"]
        assert details["error"] == "Glue.ConcurrentRunsExceededException"
        assert job in details["cause"]
    waits = [
        (again["timestamp"] - event["timestamp"]).total_seconds()
        for event, again in zip(failed, scheduled[1:], strict=True)
    ]
    assert 1 <= waits[0] < 2 <= waits[1] < 3.5


def test_an_error_that_no_retrier_names_is_not_tried_again(aws: Account) -> None:
    job = aws.job("raise SystemExit('for good')")
    retry = [
        {"ErrorEquals": ["Glue.ConcurrentRunsExceededException"]},
        {"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1},
    ]
    assert aws.executed(aws.machine({"Work": glue_task(job, Retry=retry)}))["status"] == "FAILED"
    assert len(aws.runs(job)) == 1


def test_retries_are_used_up_and_what_is_left_is_caught(aws: Account) -> None:
    job = aws.job("raise SystemExit('for good')")
    task = glue_task(
        job,
        Retry=[{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 1, "MaxAttempts": 1}],
        Catch=[
            {"ErrorEquals": ["States.Timeout"], "Next": "Wrong"},
            {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Read"},
        ],
    )
    states = {
        "Work": task,
        "Read": {
            "Type": "Pass",
            "Parameters": {
                "batch.$": "$.batch",
                "error.$": "$.failure.Error",
                "run.$": "States.StringToJson($.failure.Cause)",
            },
            "Next": "Told",
        },
        "Told": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.run.ErrorMessage", "StringEquals": "for good", "Next": "Over"}
            ],
            "Default": "Wrong",
        },
        "Over": {"Type": "Fail", "ErrorPath": "$.error", "CausePath": "$.run.ErrorMessage"},
        "Wrong": {"Type": "Succeed"},
    }
    execution = aws.executed(aws.machine(states), {"batch": "b1"})
    assert (execution["status"], execution["error"], execution["cause"]) == (
        "FAILED",
        "States.TaskFailed",
        "for good",
    )
    assert len(aws.runs(job)) == 2
    entered = [
        event["stateEnteredEventDetails"]["name"]
        for event in aws.history(execution["executionArn"])
        if event["type"].endswith("StateEntered")
    ]
    assert entered == ["Work", "Read", "Told", "Over"]


def test_a_task_that_takes_too_long_times_out_and_leaves_its_job_run(aws: Account) -> None:
    job = aws.job(SLEEP)
    states = {
        "Work": glue_task(
            job,
            TimeoutSeconds=1,
            Catch=[{"ErrorEquals": ["States.Timeout"], "ResultPath": "$.e", "Next": "Late"}],
        ),
        "Late": {"Type": "Pass", "End": True},
    }
    execution = aws.executed(aws.machine(states))
    assert execution["status"] == "SUCCEEDED"
    assert json.loads(execution["output"])["e"]["Error"] == "States.Timeout"
    # Nothing of the task that was given up turns up later.
    time.sleep(0.5)
    types = aws.types(execution["executionArn"])
    assert types[4:] == [
        "TaskSubmitted",
        "TaskTimedOut",
        "TaskStateExited",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]
    [run] = aws.runs(job)
    assert run["JobRunState"] == "RUNNING"
    aws.stop_run(job, run["Id"])


def test_an_execution_that_takes_too_long_takes_its_job_run_with_it(aws: Account) -> None:
    job = aws.job(SLEEP)
    execution = aws.executed(aws.machine({"Work": glue_task(job)}, TimeoutSeconds=1))
    assert execution["status"] == "TIMED_OUT"
    assert "stopDate" in execution
    assert aws.types(execution["executionArn"])[-1] == "ExecutionTimedOut"
    until(lambda: aws.runs(job)[0]["JobRunState"], lambda state: state == "STOPPED", 15)


def test_a_stopped_execution_takes_its_job_run_with_it(aws: Account) -> None:
    job = aws.job(SLEEP)
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Work"}]
    arn = aws.start(aws.machine({"Work": glue_task(job, Catch=catch)}))
    until(lambda: aws.runs(job), bool, 10)
    stopped = aws("stepfunctions").stop_execution(
        executionArn=arn, error="Cancelled", cause="The run was cancelled."
    )
    execution = aws.execution(arn)
    assert execution["status"] == "ABORTED"
    assert execution["stopDate"] == stopped["stopDate"]
    assert (execution["error"], execution["cause"]) == ("Cancelled", "The run was cancelled.")
    until(lambda: aws.runs(job)[0]["JobRunState"], lambda state: state == "STOPPED", 15)
    assert aws.types(arn)[-2:] == ["TaskSubmitted", "ExecutionAborted"]
    last = aws.history(arn, reverseOrder=True)[0]
    assert last["executionAbortedEventDetails"]["error"] == "Cancelled"
    # It stays as it is.
    aws("stepfunctions").stop_execution(executionArn=arn)
    assert aws.execution(arn)["error"] == "Cancelled"
    assert len(aws.runs(job)) == 1


@pytest.mark.parametrize("waiting", ["a back-off", "a wait"])
def test_an_execution_can_be_stopped_while_it_waits(aws: Account, waiting: str) -> None:
    job = aws.job("raise SystemExit('again')")
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 300}]
    machine = aws.machine(
        {
            "Work": glue_task(job, Retry=retry)
            if waiting == "a back-off"
            else {"Type": "Wait", "Seconds": 300, "End": True}
        }
    )
    arn = aws.start(machine)
    sign = "TaskFailed" if waiting == "a back-off" else "WaitStateEntered"
    until(lambda: aws.types(arn), lambda types: sign in types, 30)
    aws("stepfunctions").stop_execution(executionArn=arn)
    assert aws.ended(arn, within=5)["status"] == "ABORTED"
    assert aws.types(arn)[-2:] == [sign, "ExecutionAborted"]


def test_an_execution_can_be_stopped_the_moment_it_is_started(aws: Account) -> None:
    machine = aws.machine({"Work": {"Type": "Wait", "Seconds": 300, "End": True}})
    for _ in range(5):
        arn = aws.start(machine)
        assert aws.history(arn)[0]["type"] == "ExecutionStarted"
        aws("stepfunctions").stop_execution(executionArn=arn)
        assert aws.execution(arn)["status"] == "ABORTED"


def test_of_many_starts_under_one_name_one_begins_and_the_others_find_it(aws: Account) -> None:
    machine = aws.machine({"Work": {"Type": "Wait", "Seconds": 300, "End": True}})
    with ThreadPoolExecutor(8) as pool:
        arns = set(pool.map(lambda _: aws.start(machine, {"n": 1}, name="b1-first"), range(8)))
    assert len(arns) == 1
    [arn] = arns
    assert aws.types(arn).count("ExecutionStarted") == 1
    listed = aws("stepfunctions").list_executions(stateMachineArn=machine)["executions"]
    assert [execution["name"] for execution in listed] == ["b1-first"]
    client = aws("stepfunctions")
    with pytest.raises(client.exceptions.ExecutionAlreadyExists):
        aws.start(machine, {"n": 2}, name="b1-first")
    client.stop_execution(executionArn=arn)
    with pytest.raises(client.exceptions.ExecutionAlreadyExists):
        aws.start(machine, {"n": 1}, name="b1-first")


def test_a_start_needs_no_name_but_a_good_one(aws: Account) -> None:
    machine = aws.machine({"Work": {"Type": "Pass", "End": True}})
    client = aws("stepfunctions")
    arns = {client.start_execution(stateMachineArn=machine)["executionArn"] for _ in range(3)}
    assert len(arns) == 3
    for bad in ("two words", "a" * 81, "path/like", "a:b", "*"):
        with pytest.raises(client.exceptions.InvalidName):
            aws.start(machine, name=bad)
    aws.start(machine, name="b1.first_attempt-2+3=5@x!")
    with pytest.raises(client.exceptions.InvalidExecutionInput):
        client.start_execution(stateMachineArn=machine, input="not json")


def test_a_state_machine_is_not_created_twice_with_different_meanings(aws: Account) -> None:
    client = aws("stepfunctions")
    definition = {"StartAt": "Work", "States": {"Work": {"Type": "Pass", "End": True}}}
    given = {"name": "once", "roleArn": "arn:aws:iam::123456789012:role/tests"}
    arn = client.create_state_machine(definition=json.dumps(definition), **given)
    same = client.create_state_machine(definition=json.dumps(definition), **given)
    assert same["stateMachineArn"] == arn["stateMachineArn"]
    definition["Comment"] = "changed"
    with pytest.raises(client.exceptions.StateMachineAlreadyExists):
        client.create_state_machine(definition=json.dumps(definition), **given)
    client.update_state_machine(
        stateMachineArn=arn["stateMachineArn"], definition=json.dumps(definition)
    )
    described = client.describe_state_machine(stateMachineArn=arn["stateMachineArn"])
    assert json.loads(described["definition"]) == definition
    with pytest.raises(client.exceptions.InvalidDefinition):
        client.update_state_machine(stateMachineArn=arn["stateMachineArn"], definition="{}")


def test_a_history_can_be_read_in_pages_from_either_end(aws: Account) -> None:
    states: Json = {
        f"Step{n}": {"Type": "Pass", "Next": f"Step{n + 1}" if n < 60 else "Work"}
        for n in range(61)
    }
    states["Work"] = {"Type": "Pass", "End": True}
    arn = aws.start(aws.machine(states, start="Step0"), {"secret": 1})
    aws.ended(arn)
    ids = [event["id"] for event in aws.history(arn)]
    assert ids == list(range(1, 2 + 62 * 2 + 1))
    page = aws("stepfunctions").get_execution_history(executionArn=arn, maxResults=10)
    assert len(page["events"]) == 10
    backwards = aws.history(arn, reverseOrder=True, PaginationConfig={"PageSize": 7})
    assert [event["id"] for event in backwards] == ids[::-1]
    assert all(isinstance(event["timestamp"], datetime) for event in backwards)
    bare = aws.history(arn, includeExecutionData=False)
    assert "secret" not in json.dumps(bare, default=str)
    with pytest.raises(ClientError, match="InvalidToken"):
        aws("stepfunctions").get_execution_history(executionArn=arn, nextToken="x")


def test_tasks_write_items_and_put_events_for_real(aws: Account) -> None:
    dynamodb, events, sqs = aws("dynamodb"), aws("events"), aws("sqs")
    dynamodb.create_table(
        TableName="status",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    events.create_event_bus(Name="bus")
    queue = sqs.create_queue(QueueName="heard")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    events.put_rule(Name="all", EventBusName="bus", EventPattern='{"source": ["lakegate"]}')
    events.put_targets(
        Rule="all",
        EventBusName="bus",
        Targets=[{"Id": "1", "Arn": queue_arn["Attributes"]["QueueArn"]}],
    )
    states = {
        "Put": {
            "Type": "Task",
            "Resource": "arn:aws:states:::dynamodb:putItem",
            "Parameters": {
                "TableName": "status",
                "Item": {"pk": {"S.$": "$.batch"}, "status": {"S": "RUNNING"}},
                "ConditionExpression": "attribute_not_exists(pk)",
            },
            "Catch": [
                {
                    "ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"],
                    "ResultPath": "$.failure",
                    "Next": "Known",
                }
            ],
            "ResultPath": None,
            "Next": "Update",
        },
        "Update": {
            "Type": "Task",
            "Resource": "arn:aws:states:::dynamodb:updateItem",
            "Parameters": {
                "TableName": "status",
                "Key": {"pk": {"S.$": "States.Format('{}', $.batch)"}},
                "UpdateExpression": "SET #s = :s, arn = :arn",
                "ExpressionAttributeNames": {"#s": "status"},
                "ExpressionAttributeValues": {
                    ":s": {"S": "DONE"},
                    ":arn": {"S.$": "$$.Execution.Id"},
                },
            },
            "ResultPath": None,
            "Next": "Tell",
        },
        "Tell": {
            "Type": "Task",
            "Resource": "arn:aws:states:::events:putEvents",
            "Parameters": {
                "Entries": [
                    {
                        "Source": "lakegate",
                        "DetailType": "Curated",
                        "EventBusName": "bus",
                        "Detail": {"batch.$": "$.batch"},
                    }
                ]
            },
            "ResultPath": "$.told",
            "End": True,
        },
        "Known": {"Type": "Succeed"},
    }
    machine = aws.machine(states, start="Put")
    execution = aws.executed(machine, {"batch": "b1"})
    assert execution["status"] == "SUCCEEDED", execution
    assert json.loads(execution["output"])["told"]["FailedEntryCount"] == 0
    item = dynamodb.get_item(TableName="status", Key={"pk": {"S": "b1"}})["Item"]
    assert item["status"] == {"S": "DONE"}
    assert item["arn"] == {"S": execution["executionArn"]}
    [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
    heard = json.loads(message["Body"])
    assert (heard["detail-type"], heard["detail"]) == ("Curated", {"batch": "b1"})
    assert execution["executionArn"] in heard["resources"]
    again = aws.executed(machine, {"batch": "b1"})
    assert again["status"] == "SUCCEEDED"
    failure = json.loads(again["output"])["failure"]
    assert failure["Error"] == "DynamoDB.ConditionalCheckFailedException"


def test_many_executions_at_once_do_not_hold_each_other_up(aws: Account) -> None:
    """Tasks call the very server that interprets them, which lets each service do one thing at a
    time."""
    job = aws.job(
        "import boto3; boto3.client('s3').list_buckets()",
        ExecutionProperty={"MaxConcurrentRuns": 8},
    )
    machine = aws.machine({"Work": glue_task(job)})
    with ThreadPoolExecutor(8) as pool:
        arns = list(pool.map(lambda _: aws.start(machine), range(8)))
    assert [aws.ended(arn)["status"] for arn in arns] == ["SUCCEEDED"] * 8
    assert len({run["Id"] for run in aws.runs(job)}) == 8


def test_a_branch_that_fails_takes_the_job_runs_of_the_others_with_it(aws: Account) -> None:
    long, bad = aws.job(SLEEP), aws.job("import time; time.sleep(1); raise SystemExit('no')")
    branches = [
        {"StartAt": name, "States": {name: glue_task(job)}}
        for name, job in (("Long", long), ("Bad", bad))
    ]
    parallel = {"Type": "Parallel", "Branches": branches, "ResultPath": None, "End": True}
    machine = aws.machine({"Work": parallel})
    arn = aws.start(machine)
    execution = aws.ended(arn)
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    until(lambda: aws.runs(long)[0]["JobRunState"], lambda state: state == "STOPPED", 15)
    for job in (long, bad):
        aws.script(job, "print('done')")
    aws("stepfunctions").redrive_execution(executionArn=arn)
    assert aws.ended(arn)["status"] == "SUCCEEDED"


def test_a_stopped_execution_stops_in_all_its_branches(aws: Account) -> None:
    jobs = [aws.job(SLEEP), aws.job(SLEEP)]
    branches = [
        {"StartAt": name, "States": {name: glue_task(job)}}
        for name, job in zip(("One", "Two"), jobs, strict=True)
    ]
    arn = aws.start(aws.machine({"Work": {"Type": "Parallel", "Branches": branches, "End": True}}))
    for job in jobs:
        until(lambda job=job: aws.runs(job), bool, 10)
    aws("stepfunctions").stop_execution(executionArn=arn)
    assert aws.ended(arn, within=10)["status"] == "ABORTED"
    for job in jobs:
        until(lambda job=job: aws.runs(job)[0]["JobRunState"], lambda s: s == "STOPPED", 15)


def test_the_interpreter_is_imported_when_it_is_needed_and_not_before() -> None:
    """It takes a second, and most users of the server never ask for it."""
    program = (
        "import sys; from deploy.local.server import MENDS; [mend() for mend in MENDS]; "
        "print([m for m in sys.modules if m.startswith('moto.stepfunctions.parser.asl')])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
