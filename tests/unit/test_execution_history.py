"""What the events of an execution amount to, in the shapes in which Step Functions gives them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from resources.execution_history import ExecutionHistory, readable_cause
from resources.state_machine import HistoryPages

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ARN = "arn:aws:states:us-east-1:123456789012:execution:lakegate-dev-curate:orders-1"


class Events:
    """Events as they happen: each a second after the one before, and told of by it."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def add(self, kind: str, *, after: int | None = None, **details: Any) -> int:
        number = len(self.all) + 1
        self.all.append(
            {
                "id": number,
                "previousEventId": number - 1 if after is None else after,
                "timestamp": NOON + timedelta(seconds=number),
                "type": kind,
                **details,
            }
        )
        return number

    def entered(self, name: str, kind: str = "Task", **where: Any) -> int:
        return self.add(f"{kind}StateEntered", stateEnteredEventDetails={"name": name}, **where)

    def exited(self, name: str, kind: str = "Task", **where: Any) -> int:
        return self.add(f"{kind}StateExited", stateExitedEventDetails={"name": name}, **where)

    def submitted(self, run_id: str) -> int:
        output = json.dumps({"JobRunId": run_id, "JobName": "curate"})
        return self.add(
            "TaskSubmitted",
            taskSubmittedEventDetails={"resourceType": "glue", "output": output},
        )

    def failed(self, error: str, cause: str) -> int:
        details = {"resourceType": "glue", "error": error, "cause": cause}
        return self.add("TaskFailed", taskFailedEventDetails=details)


@pytest.fixture
def events() -> Events:
    events = Events()
    events.add("ExecutionStarted")
    return events


def test_a_retried_task_is_one_stay_with_as_many_tries(events: Events) -> None:
    events.entered("CurateOnGlue")
    for _ in range(2):
        events.add("TaskScheduled")
        events.add("TaskStarted")
        events.failed(
            "Glue.ConcurrentRunsExceededException",
            "Concurrent runs exceeded for curate (Service: AWSGlue; Status Code: 400; Error Code: "
            "ConcurrentRunsExceededException; Request ID: 1; Proxy: null)",
        )
    events.add("TaskScheduled")
    events.submitted("jr_1")
    output = json.dumps({"Id": "jr_1", "JobRunState": "SUCCEEDED", "DPUSeconds": 66.0})
    events.add(
        "TaskSucceeded", taskSucceededEventDetails={"resourceType": "glue", "output": output}
    )
    events.exited("CurateOnGlue")
    history = ExecutionHistory()
    lines = history.take(events.all)
    [visit] = history.visits
    assert (visit.outcome, visit.retries) == ("succeeded", 2)
    assert history.job_succeeded
    assert history.job_run_id == "jr_1"
    assert history.task_error == "Glue.ConcurrentRunsExceededException"
    assert (
        "State CurateOnGlue: its task failed at 12:00:05: Glue.ConcurrentRunsExceededException: "
        "Concurrent runs exceeded for curate."
    ) in lines
    assert "State CurateOnGlue: try 3 began at 12:00:09." in lines
    assert "Glue job run jr_1 started at 12:00:10." in lines


def test_events_that_are_told_twice_and_in_another_order_count_once(events: Events) -> None:
    events.entered("MarkRunning")
    events.add("TaskScheduled")
    events.exited("MarkRunning")
    events.entered("CurateOnGlue")
    events.add("TaskScheduled")
    history = ExecutionHistory()
    first = history.take(reversed(events.all[:4]))
    assert [line.partition(" at ")[0] for line in first] == [
        "State MarkRunning entered",
        "State MarkRunning left",
    ]
    second = history.take(events.all)
    assert [line.partition(" at ")[0] for line in second] == ["State CurateOnGlue entered"]
    assert history.take(events.all) == []
    assert [visit.attempts for visit in history.visits] == [1, 1]


@pytest.mark.parametrize("enters_again", [False, True])
def test_a_redrive_goes_on_in_the_state_that_was_not_left(
    events: Events, enters_again: bool
) -> None:
    events.entered("CurateOnGlue")
    events.add("TaskScheduled")
    events.submitted("jr_1")
    events.add(
        "ExecutionAborted", executionAbortedEventDetails={"error": "Enough", "cause": "Too dear."}
    )
    history = ExecutionHistory()
    history.take(events.all)
    assert history.status == "ABORTED"
    assert history.ended_in is not None
    assert (history.ended_in.name, history.ended_in.outcome) == ("CurateOnGlue", "aborted")
    assert history.ended_in.error == "Enough: Too dear."
    events.add("ExecutionRedriven", executionRedrivenEventDetails={"redriveCount": 1})
    if enters_again:
        events.entered("CurateOnGlue")
    events.add("TaskScheduled")
    events.submitted("jr_2")
    history.take(events.all)
    assert (history.status, history.ended_in, history.redrives) == (None, None, 1)
    assert history.job_run_id == "jr_2"
    assert [(visit.outcome, visit.attempts) for visit in history.visits] == [
        ("aborted", 1),
        ("running", 1),
    ]


def test_the_events_of_parallel_branches_are_told_apart(events: Events) -> None:
    parallel = events.entered("Both", kind="Parallel")
    left = events.entered("Left", after=parallel)
    right = events.entered("Right", after=parallel)
    left = events.add("TaskScheduled", after=left)
    right = events.add("TaskScheduled", after=right)
    left = events.add("TaskFailed", after=left, taskFailedEventDetails={"error": "E", "cause": "c"})
    events.add("TaskScheduled", after=left)
    events.exited("Right", after=right)
    history = ExecutionHistory()
    history.take(events.all)
    assert {visit.name: (visit.outcome, visit.attempts) for visit in history.visits} == {
        "Both": ("running", 0),
        "Left": ("running", 2),
        "Right": ("succeeded", 1),
    }


def test_an_execution_that_ended_in_a_fail_state_says_so(events: Events) -> None:
    events.entered("CurateOnGlue")
    events.add("TaskScheduled")
    events.failed("States.TaskFailed", json.dumps({"Id": "jr_1", "JobRunState": "FAILED"}))
    events.exited("CurateOnGlue")
    events.entered("CurationFailed", kind="Fail")
    events.add(
        "ExecutionFailed",
        executionFailedEventDetails={"error": "CurationJobFailed", "cause": "The job broke."},
    )
    history = ExecutionHistory()
    history.take(events.all)
    assert history.ended_in is not None
    assert history.ended_in.type == "Fail"
    assert [visit.outcome for visit in history.visits] == ["caught", "failed"]
    assert history.job_run_id == "jr_1"
    assert not history.job_succeeded


@pytest.mark.parametrize(
    ("error", "cause", "sentence"),
    [
        (
            "States.TaskFailed",
            json.dumps({"Id": "jr_1", "JobRunState": "FAILED", "ErrorMessage": "KeyError: 'a'"}),
            "the Glue job run jr_1 ended FAILED: KeyError: 'a'.",
        ),
        (
            "States.TaskFailed",
            json.dumps({"Id": "jr_1", "JobRunState": "TIMEOUT"}),
            "the Glue job run jr_1 ended TIMEOUT and gave no reason.",
        ),
        (
            "DynamoDB.ResourceNotFoundException",
            "Requested resource not found (Service: AmazonDynamoDBv2; Status Code: 400; Error "
            "Code: ResourceNotFoundException; Request ID: X; Proxy: null)",
            "DynamoDB.ResourceNotFoundException: Requested resource not found.",
        ),
        ("Boom", json.dumps({"errorMessage": "of a Lambda"}), "Boom: of a Lambda."),
        ("CurationJobFailed", "The job broke.", "The job broke."),
        ("States.Timeout", "", "States.Timeout."),
        ("", "{not json\nat all", "{not json at all."),
        ("", "", "no reason was given."),
    ],
    ids=["job", "no message", "call", "lambda", "ours", "no cause", "no json", "nothing"],
)
def test_a_cause_is_one_sentence(error: str, cause: str, sentence: str) -> None:
    assert readable_cause(error, cause) == sentence


# -- page by page


@pytest.fixture
def service() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client(
        "stepfunctions",
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    with Stubber(client) as stubber:
        yield client, stubber


def _page(numbers: range, following: str | None = None) -> dict[str, Any]:
    page: dict[str, Any] = {
        "events": [{"id": n, "timestamp": NOON, "type": "TaskStarted"} for n in numbers]
    }
    return page if following is None else {**page, "nextToken": following}


def test_only_the_last_page_is_fetched_again(service: tuple[Any, Stubber]) -> None:
    client, stubber = service
    asked = {"executionArn": ARN, "maxResults": 1000}
    for token, page in [
        (None, _page(range(1, 1001), "second")),
        ("second", _page(range(1001, 1004))),
        ("second", _page(range(1001, 2001), "third")),
        ("third", _page(range(2001, 2002))),
    ]:
        expected = asked if token is None else {**asked, "nextToken": token}
        stubber.add_response("get_execution_history", page, expected)
    pages = HistoryPages(client, ARN)
    assert [event["id"] for event in pages.newest()] == list(range(1, 1004))
    assert [event["id"] for event in pages.newest()] == list(range(1001, 2002))
    stubber.assert_no_pending_responses()


def test_a_page_whose_token_has_expired_is_read_from_the_beginning(
    service: tuple[Any, Stubber],
) -> None:
    """A token is good for a day, and so long may an execution take."""
    client, stubber = service
    stubber.add_response("get_execution_history", _page(range(1, 3), "second"))
    stubber.add_response("get_execution_history", _page(range(3, 4)))
    stubber.add_client_error("get_execution_history", "InvalidToken")
    stubber.add_response("get_execution_history", _page(range(1, 3), "anew"))
    stubber.add_response("get_execution_history", _page(range(3, 5)))
    pages = HistoryPages(client, ARN)
    pages.newest()
    assert [event["id"] for event in pages.newest()] == [1, 2, 3, 4]
    stubber.assert_no_pending_responses()
