"""A Glue that is busy, throttles, loses its answers or says no: the client waits where waiting
helps, never starts a second job run for one piece of work, and else names the remedy.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from resources.glue import GlueResource
from resources.remote_run import (
    RemoteWork,
    is_passing,
    poll_wait,
    refused_wait,
    service_failure,
)
from service_core.settings import Settings
from tests.glue_steps import GATED, GOOD, Job, Step, failure_of, opened_at_last, said, until

_REFUSED = {
    "EntityNotFoundException": (400, "Job run not found"),
    "ThrottlingException": (400, "Rate exceeded"),
    "AccessDeniedException": (400, "User is not authorized to perform glue:StartJobRun"),
    "OperationTimeoutException": (400, "The operation timed out."),
    "InternalServiceException": (500, "An internal service error occurred."),
}


class FaultyAws:
    """The embedded AWS behind a door that answers some requests wrongly.

    Attributes:
        faults: By Glue operation, what happens to the next requests: an error code to answer with,
            `lost` to carry the request out and never answer, or `is STATE` to tell of another
            state than the true one.
        asked: The Glue operations asked for.
        store_fails: Whether S3 refuses to read an object.
    """

    def __init__(self, endpoint: str) -> None:
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.store_fails = False
        door = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if door.store_fails and self.command == "GET" and self.path.endswith(".json"):
                    self._answer(403, b"")
                    return
                fault = door._fault(self.headers.get("X-Amz-Target") or "")
                if fault in _REFUSED:
                    status, message = _REFUSED[fault]
                    self._answer(status, json.dumps({"__type": fault, "message": message}).encode())
                    return
                status, answer, headers = _forward(endpoint, self, body)
                if fault == "lost":
                    self.close_connection = True
                    return
                if fault is not None:
                    told = json.loads(answer)
                    told["JobRun"]["JobRunState"] = fault.removeprefix("is ")
                    answer = json.dumps(told).encode()
                self._answer(status, answer, headers)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any

            def _answer(self, status: int, body: bytes, headers: Any = ()) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, target: str) -> str | None:
        service, _, operation = target.partition(".")
        if service != "AWSGlue":
            return None
        self.asked.append(operation)
        planned = self.faults.get(operation)
        return planned.pop(0) if planned else None


def _forward(endpoint: str, request: BaseHTTPRequestHandler, body: bytes
             ) -> tuple[int, bytes, list[tuple[str, str]]]:  # fmt: skip
    asked = urllib.request.Request(endpoint + request.path, data=body, method=request.command)
    for name, value in request.headers.items():
        if name.lower() not in {"host", "connection", "content-length", "expect"}:
            asked.add_header(name, value)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read(), list(answer.headers.items())
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read(), list(answer.headers.items())


@pytest.fixture
def faulty(settings: Settings) -> Iterator[FaultyAws]:
    assert settings.endpoint_url is not None
    door = FaultyAws(settings.endpoint_url)
    yield door
    door.close()


@pytest.fixture
def step(job: Job, faulty: FaultyAws) -> Step:
    """A step that reaches AWS through the faulty door."""
    behind = job.settings.model_copy(update={"endpoint_url": faulty.endpoint})
    return Step(GlueResource.of(behind), job.arguments)


def test_a_throttled_start_is_waited_out(
    job: Job, faulty: FaultyAws, step: Step, instance: dg.DagsterInstance
) -> None:
    job.does(GOOD)
    faulty.faults["StartJobRun"] = ["ThrottlingException", "ThrottlingException"]
    result = step.materialize(instance)
    assert result.success
    assert len(job.runs()) == 1
    assert step.runs[0].metadata["start_refused"] == 2
    log = said(instance, result.run_id)
    assert "failed with ThrottlingException: Rate exceeded." in log
    assert "Waiting for its turn, for at most" in log


@pytest.mark.parametrize(
    "fault", ["lost", pytest.param("InternalServiceException", marks=pytest.mark.soak)]
)
def test_a_start_without_a_good_answer_is_not_made_twice(
    job: Job, faulty: FaultyAws, step: Step, instance: dg.DagsterInstance, fault: str
) -> None:
    """StartJobRun knows no token that would tell one request made twice from two requests."""
    job.does(GOOD)
    faulty.faults["StartJobRun"] = [fault]
    assert step.materialize(instance).success
    assert len(job.runs()) == 1
    assert faulty.asked.count("StartJobRun") == (1 if fault == "lost" else 2)


@pytest.mark.soak
def test_a_permission_that_is_lost_meanwhile_fails_the_step_and_leaves_the_job_run_in_flight(
    job: Job, faulty: FaultyAws, instance: dg.DagsterInstance
) -> None:
    job.does(GATED)
    behind = job.settings.model_copy(update={"endpoint_url": faulty.endpoint})
    step = Step(GlueResource.of(behind), job.arguments, retries=1)
    with ThreadPoolExecutor(1) as pool, opened_at_last(job, "go"):
        running = pool.submit(step.materialize, instance)
        until(lambda: job.messages())
        faulty.faults["GetJobRun"] = ["AccessDeniedException"]
        until(lambda: not faulty.faults["GetJobRun"])
        job.open("go")
        result = running.result()
    assert not result.success
    # A permission that is missing now may be missing for good: it is not tried again.
    cause = failure_of(result).user_failure_data.description
    assert "AccessDeniedException" in cause
    assert cause.endswith("Give the orchestrator's role that permission.")
    until(lambda: job.states() == ["SUCCEEDED"])
    assert step.materialize(instance).success
    assert step.runs[0].metadata["reattached"] is True
    assert len(job.runs()) == 1


def test_a_retried_step_re_attaches_to_the_job_run_in_flight(
    job: Job, faulty: FaultyAws, instance: dg.DagsterInstance
) -> None:
    job.does(GATED)
    behind = job.settings.model_copy(update={"endpoint_url": faulty.endpoint})
    step = Step(GlueResource.of(behind), job.arguments, retries=1)
    with ThreadPoolExecutor(1) as pool, opened_at_last(job, "go"):
        running = pool.submit(step.materialize, instance)
        until(lambda: job.messages())
        faulty.faults["GetJobRun"] = ["OperationTimeoutException"]
        [run] = instance.get_runs()
        until(lambda: "Re-attached to the Glue job run" in said(instance, run.run_id))
        job.open("go")
        assert running.result().success
    assert len(job.runs()) == 1
    assert step.runs[0].metadata["reattached"] is True
    assert [check.check_name for check in step.runs[0].results.checks] == ["rows_conserved"]


def test_a_job_with_no_room_for_another_run_is_waited_for(
    job: Job, settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Exactly as many run at once as the job allows, and none is turned away."""
    one_at_a_time = settings.model_copy(update={"glue_concurrent_runs": 1})
    job.settings = one_at_a_time
    job.does(GATED)
    other = RemoteWork("orders", "2026-11-22", "b2", "first", "s3://curated/other.json")
    with ThreadPoolExecutor(2) as pool, opened_at_last(job, "go"):
        first = pool.submit(job.step().materialize, instance)
        until(lambda: job.messages())
        waiting = job.step(work=other)
        second = pool.submit(waiting.materialize, instance)
        until(
            lambda: any(
                "failed with ConcurrentRunsExceededException" in said(instance, run.run_id)
                for run in instance.get_runs()
            )
        )
        assert job.states() == ["RUNNING"]
        job.open("go")
        assert first.result().success
        assert second.result().success
    newer, older = job.runs()
    assert newer["StartedOn"] >= older["CompletedOn"]
    assert waiting.runs[0].metadata["start_refused"] >= 1
    assert waiting.runs[0].metadata["waited_to_start_seconds"] > 0


def test_waiting_for_room_ends_at_the_deadline(
    job: Job, settings: Settings, instance: dg.DagsterInstance
) -> None:
    job.settings = settings.model_copy(update={"glue_concurrent_runs": 1})
    job.does(GATED)
    job.glue.start_job_run(JobName=settings.glue_job, Arguments=job.arguments)
    impatient = GlueResource.of(settings).model_copy(update={"deadline_minutes": 0.03})
    result = Step(impatient, job.arguments).materialize(instance)
    assert not result.success
    cause = failure_of(result).user_failure_data.description
    assert "ConcurrentRunsExceededException" in cause
    assert len(job.runs()) == 1
    job.open("go")


def test_a_job_that_is_not_there_names_the_command_that_creates_it(
    job: Job, settings: Settings, instance: dg.DagsterInstance
) -> None:
    elsewhere = settings.model_copy(update={"name_prefix": "nowhere"})
    step = Step(GlueResource.of(elsewhere), job.arguments, retries=3)
    result = step.materialize(instance)
    assert not result.success
    cause = failure_of(result).user_failure_data.description
    assert cause.startswith("Looking for the Glue job nowhere-dev-curate failed with EntityNotFoun")
    assert cause.endswith("Create what the platform stands on with `lakegate bootstrap`.")
    assert "retry" not in said(instance, result.run_id).lower()


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("EXPIRED", "waited too long for capacity and expired"),
        ("ERROR", "ended in an error of Glue"),
        ("TIMEOUT", "ran longer than the job's Timeout of 120 min"),
    ],
)
def test_every_way_in_which_a_job_run_may_end_ends_the_step(
    job: Job, faulty: FaultyAws, step: Step, instance: dg.DagsterInstance, state: str, cause: str
) -> None:
    job.does(GATED)
    faulty.faults["GetJobRun"] = [f"is {state}"]
    result = step.materialize(instance)
    assert not result.success
    assert cause in failure_of(result).user_failure_data.description
    assert failure_of(result).user_failure_data.metadata["glue_state"].value == state
    job.open("go")


def test_a_job_run_that_is_not_known_at_once_is_waited_for(
    job: Job, faulty: FaultyAws, step: Step, instance: dg.DagsterInstance
) -> None:
    job.does(GOOD)
    faulty.faults["GetJobRun"] = ["EntityNotFoundException"]
    assert step.materialize(instance).success
    assert len(job.runs()) == 1


def test_what_a_job_has_said_outlives_a_store_that_fails_while_it_is_read(
    job: Job, faulty: FaultyAws, step: Step, instance: dg.DagsterInstance
) -> None:
    job.does(GOOD)
    faulty.store_fails = True
    result = step.materialize(instance)
    assert not result.success
    assert "403" in failure_of(result).user_failure_data.description
    faulty.store_fails = False
    until(lambda: job.states() == ["SUCCEEDED"])
    assert step.materialize(instance).success
    assert len(job.runs()) == 1
    assert step.runs[0].metadata["reattached"] is True


# -- the decisions themselves


def _refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "No."}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "StartJobRun",
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "passing", "retryable"),
    [
        ("ConcurrentRunsExceededException", 400, True, True),
        ("ThrottlingException", 400, True, True),
        ("SomethingNewException", 503, True, True),
        ("SomethingNewException", 400, False, True),
        ("AccessDeniedException", 400, False, False),
        ("AccessDenied", 403, False, False),
        ("EntityNotFoundException", 400, False, False),
        ("InvalidInputException", 400, False, False),
        ("StateMachineDoesNotExist", 400, False, False),
    ],
)
def test_what_a_refusal_means(code: str, status: int, passing: bool, retryable: bool) -> None:
    error = _refusal(code, status)
    assert is_passing(error) is passing
    failure = service_failure(error, "Starting the Glue job j")
    assert failure.retryable is retryable
    assert failure.cause.startswith(f"Starting the Glue job j failed with {code}: No. ")


def test_an_aws_that_cannot_be_reached_is_tried_again_and_a_wrong_request_is_not() -> None:
    gone = service_failure(EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "Asking")
    assert gone.retryable
    wrong = service_failure(ParamValidationError(report="Timeout is no number"), "Asking")
    assert not wrong.retryable


def test_polling_is_quick_at_first_and_never_slower_than_half_a_minute() -> None:
    assert poll_wait(0) == 0.2
    assert poll_wait(60) == 6
    assert poll_wait(7200) == 30


def test_those_who_were_refused_together_do_not_come_back_together() -> None:
    waits = [refused_wait(4) for _ in range(50)]
    assert all(4 <= wait <= 8 for wait in waits)
    assert len(set(waits)) > 40
    assert refused_wait(1_000) <= 30
