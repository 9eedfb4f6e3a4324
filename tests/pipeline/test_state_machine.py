"""The state machine that ships: sound as a document, and true to what it says when it is executed.

Every test executes the definition that is deployed, on the embedded AWS; the job runs are real.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.bootstrap import bootstrap
from deploy.state_machines import StateMachineError, curate_definition, ensure_state_machine
from resources.aws import clients
from resources.ledger import DynamoLedger
from service_core.events import EventName
from service_core.settings import Settings
from tests.execution_steps import Machine
from tests.glue_steps import until

#: Step Functions' limits: bytes of a definition, characters of a state's name.
_DEFINITION_BYTES = 1024 * 1024
_NAME_CHARACTERS = 80

QUIET = 'print("nothing is reported by Dagster Pipes")'
BREAKS = 'sys.exit("ValueError: column amount has lost its type")'


@pytest.fixture
def machine(settings: Settings, aws: Callable[[str], Any], tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(settings, aws, tmp_path)
    yield machine
    machine.end()


# -- as a document


def _followers(state: dict[str, Any]) -> Iterator[str]:
    for part in (state, *state.get("Choices", ()), *state.get("Catch", ())):
        if "Next" in part:
            yield part["Next"]
    if "Default" in state:
        yield state["Default"]


def _strings(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield key
            yield from _strings(value)
    elif isinstance(part, list):
        for value in part:
            yield from _strings(value)
    elif isinstance(part, str):
        yield part


def test_every_state_can_be_reached_and_every_way_leads_to_an_end() -> None:
    definition = curate_definition(Settings())
    states = definition["States"]
    reached, waiting = set(), [definition["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _followers(states[name])
    assert reached == set(states)
    for name, state in states.items():
        ends = state["Type"] in {"Succeed", "Fail"}
        assert ends != bool(list(_followers(state))), name


def test_the_definition_keeps_to_the_limits_of_step_functions_and_to_json_path() -> None:
    definition = curate_definition(Settings())
    assert len(json.dumps(definition)) < _DEFINITION_BYTES
    for name in definition["States"]:
        assert len(name) <= _NAME_CHARACTERS
        assert name.isalnum()
    for text in _strings(definition):
        assert "${" not in text
        assert "JSONata" not in text
        assert not text.startswith("{%")
    assert "QueryLanguage" not in set(_strings(definition))


def test_whatever_fails_at_a_service_is_tried_again_and_what_the_job_does_is_not() -> None:
    states = curate_definition(Settings())["States"]
    for name, state in states.items():
        if state["Type"] == "Task":
            assert state["Retry"], name
            for retrier in state["Retry"]:
                assert retrier["JitterStrategy"] == "FULL"
                assert retrier["BackoffRate"] > 1
                assert retrier["MaxAttempts"] > 1
    job = states["CurateOnGlue"]
    assert {error for retrier in job["Retry"] for error in retrier["ErrorEquals"]}.isdisjoint(
        {"States.ALL", "States.TaskFailed", "States.Timeout"}
    )
    assert job["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


@pytest.mark.parametrize("minutes", [1, 120, 10_080])
def test_the_job_times_out_before_its_task_does_and_the_task_before_the_machine(
    minutes: int,
) -> None:
    """Step Functions leaves a job run alone whose task has timed out."""
    definition = curate_definition(Settings(glue_timeout_minutes=minutes))
    task = definition["States"]["CurateOnGlue"]["TimeoutSeconds"]
    assert minutes * 60 < task < definition["TimeoutSeconds"]


# -- in an account


def test_bootstrapping_again_changes_a_state_machine_only_where_it_differs(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    stepfunctions = aws("stepfunctions")
    arn = ensure_state_machine(settings, stepfunctions, aws("sts"))
    assert arn.endswith(f":stateMachine:{settings.state_machine}")
    first = stepfunctions.describe_state_machine(stateMachineArn=arn)
    assert json.loads(first["definition"]) == curate_definition(settings)
    assert first["roleArn"] == f"arn:aws:iam::123456789012:role/{settings.state_machine}"

    role = "arn:aws:iam::210987654321:role/teams/curation"
    other = settings.model_copy(
        update={"state_machine_role": role, "glue_timeout_minutes": 7, "name_prefix": "other"}
    )
    same_machine = other.model_copy(update={"name_prefix": settings.name_prefix})
    bootstrap(same_machine, clients(same_machine))
    changed = stepfunctions.describe_state_machine(stateMachineArn=arn)
    assert changed["roleArn"] == role
    assert json.loads(changed["definition"]) == curate_definition(same_machine)
    assert json.loads(changed["definition"]) != json.loads(first["definition"])


def test_a_definition_that_is_refused_fails_the_bootstrap_with_a_sentence(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    broken = {**curate_definition(settings), "StartAt": 7}
    with pytest.raises(StateMachineError, match=f"{settings.state_machine} cannot be created"):
        ensure_state_machine(settings, aws("stepfunctions"), aws("sts"), definition=broken)


# -- executed


def test_what_is_curated_has_its_status_written_and_its_success_announced(
    machine: Machine, ledger: DynamoLedger
) -> None:
    machine.job_does(QUIET)
    machine.listens()
    arn = machine.start()
    ended = machine.ended(arn)
    assert ended["status"] == "SUCCEEDED"
    [run] = machine.job_runs()
    arguments = run["Arguments"]
    assert arguments["--request"] == machine.work.request_uri
    assert arguments["--lakegate-identity"] == "by-hand"
    assert set(arguments) == {
        *("--request", "--dagster-pipes-context", "--dagster-pipes-messages"),
        "--lakegate-identity",
    }
    status = machine.status()
    assert status["status"] == "SUCCEEDED"
    assert status["job_run_id"] == run["Id"]
    assert status["execution_arn"] == arn
    assert status["started_at"] < status["ended_at"]
    assert (status["dataset"], status["partition"]) == ("orders", "2026-11-21")
    [event] = machine.heard()
    assert event.name is EventName.CURATION_SUCCEEDED
    assert (event.dataset, event.batch_id, event.run_id) == ("orders", "b" * 32, "r1")
    assert event.detail == {"execution": arn, "job_run_id": run["Id"]}
    # Of all that the ledger reads, nothing has come into being.
    assert list(ledger.in_partition("orders", "2026-11-21")) == []
    assert ledger.pending_batches("orders") == ()


def test_where_nothing_was_accepted_no_job_is_run(machine: Machine) -> None:
    machine.job_does(QUIET)
    arn = machine.start(accepted=0)
    assert machine.ended(arn)["status"] == "SUCCEEDED"
    assert machine.entered(arn)[-1] == "NothingToCurate"
    assert machine.job_runs() == []
    assert machine.status()["status"] == "NOTHING_TO_CURATE"


def test_a_job_that_breaks_is_not_run_again_and_its_failure_is_told_everywhere(
    machine: Machine,
) -> None:
    machine.job_does(BREAKS)
    machine.listens()
    arn = machine.start()
    ended = machine.ended(arn)
    assert ended["status"] == "FAILED"
    [run] = machine.job_runs()
    assert run["JobRunState"] == "FAILED"
    assert ended["error"] == "CurationJobFailed"
    assert ended["cause"].startswith(f"The Glue job run {run['Id']} ended FAILED: ")
    assert "column amount has lost its type" in ended["cause"]
    status = machine.status()
    assert (status["status"], status["error"]) == ("FAILED", "CurationJobFailed")
    assert status["cause"] == ended["cause"]
    [event] = machine.heard()
    assert event.name is EventName.CURATION_FAILED
    assert event.detail["cause"] == ended["cause"]


@pytest.mark.slow
def test_a_start_without_a_place_is_tried_again_until_there_is_one(machine: Machine) -> None:
    machine.job_does('wait_for("go")', concurrent=1)
    first = machine.start(name="first")
    until(lambda: machine.job_states() == ["RUNNING"])
    second = machine.start(name="second")
    until(lambda: machine.retries(second, "CurateOnGlue"))
    assert len(machine.job_runs()) == 1
    machine.open("go")
    assert machine.ended(first)["status"] == "SUCCEEDED"
    assert machine.ended(second)["status"] == "SUCCEEDED"
    assert machine.job_states() == ["SUCCEEDED", "SUCCEEDED"]


def test_a_job_that_is_not_there_is_a_failure_that_is_caught(machine: Machine) -> None:
    machine.has_no_job()
    arn = machine.start()
    ended = machine.ended(arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "CurationNotRun")
    assert "EntityNotFoundException" in ended["cause"]
    assert machine.status()["status"] == "FAILED"


@pytest.mark.slow
def test_a_task_that_times_out_is_caught_and_announced(machine: Machine) -> None:
    def hurry(definition: dict[str, Any]) -> None:
        definition["States"]["CurateOnGlue"]["TimeoutSeconds"] = 2

    machine.is_defined(hurry)
    machine.job_does('wait_for("never")')
    machine.listens()
    arn = machine.start()
    ended = machine.ended(arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "CurationJobTimedOut")
    assert machine.status()["status"] == "FAILED"
    assert [event.name for event in machine.heard()] == [EventName.CURATION_FAILED]


@pytest.mark.slow
def test_stopping_an_execution_stops_its_job_run(machine: Machine) -> None:
    machine.job_does('wait_for("never")')
    arn = machine.start()
    until(lambda: machine.job_runs() and machine.job_states() == ["RUNNING"])
    machine.sfn.stop_execution(executionArn=arn, error="Enough", cause="It was a mistake.")
    ended = machine.ended(arn)
    assert (ended["status"], ended["error"]) == ("ABORTED", "Enough")
    until(lambda: machine.job_states() == ["STOPPED"])


@pytest.mark.slow
def test_a_job_run_that_is_stopped_is_no_success(machine: Machine) -> None:
    """To Step Functions the task is done."""
    machine.job_does('wait_for("never")')
    arn = machine.start()
    until(lambda: machine.job_runs() and machine.job_states() == ["RUNNING"])
    [run] = machine.job_runs()
    machine.glue.batch_stop_job_run(JobName=machine.settings.glue_job, JobRunIds=[run["Id"]])
    ended = machine.ended(arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "CurationJobEnded")
    assert "ended STOPPED" in ended["cause"]


@pytest.mark.slow
def test_what_cannot_be_written_down_is_redriven_without_running_the_job_again(
    machine: Machine, settings: Settings
) -> None:
    machine.job_does('wait_for("go")')
    arn = machine.start()
    until(lambda: machine.job_runs() and machine.job_states() == ["RUNNING"])
    machine.aws("dynamodb").delete_table(TableName=settings.ledger_table)
    machine.open("go")
    failed = machine.ended(arn)
    assert failed["status"] == "FAILED"
    assert failed["error"].startswith("DynamoDB.")
    assert failed["redriveStatus"] == "REDRIVABLE"
    bootstrap(settings, clients(settings))
    machine.sfn.redrive_execution(executionArn=arn)
    ended = machine.ended(arn)
    assert (ended["status"], ended["redriveCount"]) == ("SUCCEEDED", 1)
    assert len(machine.job_runs()) == 1
    assert machine.status()["status"] == "SUCCEEDED"


@pytest.mark.slow
def test_a_bus_that_is_not_there_undoes_nothing(machine: Machine, settings: Settings) -> None:
    machine.job_does(QUIET)
    machine.aws("events").delete_event_bus(Name=settings.event_bus)
    arn = machine.start()
    assert machine.ended(arn)["status"] == "SUCCEEDED"
