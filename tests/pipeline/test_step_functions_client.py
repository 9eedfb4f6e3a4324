"""The Step Functions client against executions that are really interpreted and job runs that are
really executed: whatever becomes of the execution, the step or the worker, the work is done once
and the step says what happened.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.remote_run import RemoteWork
from resources.state_machine import execution_name
from service_core.settings import Settings
from tests.execution_steps import (
    BREAKS_ONCE,
    GATED,
    GOOD,
    Machine,
    states_of,
    worked,
    worker,
)
from tests.glue_steps import CURATED, checks_of, failure_of, opened_at_last, said, until


@pytest.fixture
def machine(settings: Settings, aws: Callable[[str], Any], tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(settings, aws, tmp_path)
    yield machine
    machine.end()


# -- its name


def test_the_name_of_an_execution_tells_the_work_and_nothing_else() -> None:
    batch = "0123456789abcdef0123456789abcdef"
    work = RemoteWork("orders", "2026-11-21", batch, "1", "s3://b/one.json")
    again = RemoteWork("orders", "2026-11-21", batch, "1", "s3://b/two.json")
    assert execution_name(work) == f"orders-{batch}-1"
    assert execution_name(work) == execution_name(again)
    assert execution_name(work, 2) == f"orders-{batch}-1_2"


@pytest.mark.parametrize(
    "dataset", ["order_lines", "o", "d" * 60, "a-data-set-of-a-rather-remarkable-length-it-is"]
)
def test_every_name_is_one_that_step_functions_takes_and_logs(dataset: str) -> None:
    names = set()
    for judgement in ("1", "2", "1_2", "first/2", "ä" * 90):
        work = RemoteWork(dataset, "2026-11-21", "f" * 32, judgement, "s3://b/k")
        for attempt in (1, 2, 100):
            name = execution_name(work, attempt)
            assert len(name) <= 80
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
            names.add(name)
    assert len(names) == 15


# -- what came of it


def test_an_execution_is_reported_beside_what_it_materialised(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(GOOD)
    step = machine.step()
    result = step.materialize(instance)
    assert result.success
    [remote] = step.runs
    [run] = machine.job_runs()
    metadata = remote.metadata
    assert remote.results.materializations[CURATED]["rows_accepted"].value == 3
    assert checks_of(result)["rows_conserved"].passed
    assert checks_of(result)["rows_conserved"].metadata["rows"].value == 3
    assert metadata["execution"].endswith(f":execution:{machine.settings.state_machine}:"
                                          f"{machine.name()}")  # fmt: skip
    assert metadata["execution_url"].url.endswith(metadata["execution"])
    assert metadata["glue_job_run"] == run["Id"]
    assert metadata["dpu_seconds"] == run["ExecutionTime"] * 2
    assert (metadata["redrives"], metadata["reattached"]) == (0, False)
    assert 0 < metadata["execution_seconds"] < 60
    states = states_of(metadata)
    assert list(states) == [
        *("AnythingAccepted", "MarkRunning", "CurateOnGlue", "JobRunSucceeded", "MarkSucceeded"),
        *("AnnounceSuccess", "Curated"),
    ]
    assert states["CurateOnGlue"]["type"] == "Task"
    assert states["CurateOnGlue"]["outcome"] == "succeeded"
    assert states["CurateOnGlue"]["seconds"] > 0
    assert states["CurateOnGlue"]["retries"] == 0
    log = said(instance, result.run_id)
    assert "State CurateOnGlue entered at " in log
    assert f"Glue job run {run['Id']} started at " in log
    assert f"curating {machine.work.request_uri}" in log
    assert machine.messages() == []
    [materialized] = result.asset_materializations_for_node("orders_curated")
    assert materialized.metadata["states"].records


def test_where_nothing_was_accepted_the_work_is_done_without_a_report(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(GOOD)
    step = machine.step(accepted=0)
    assert step.materialize(instance).success
    assert machine.job_runs() == []
    assert step.runs[0].metadata["nothing_to_curate"] is True
    assert step.runs[0].results.materializations == {}


def test_a_job_that_raises_fails_with_its_own_words_and_the_checks_it_had_reported(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(BREAKS_ONCE)
    result = machine.step().materialize(instance)
    assert not result.success
    [run] = machine.job_runs()
    description = failure_of(result).user_failure_data.description
    assert description.startswith(f"The execution {machine.name()} failed: ")
    assert f"Glue job run {run['Id']} ended FAILED" in description
    assert "column amount has lost its type" in description
    assert "{" not in description
    assert checks_of(result)["rows_conserved"].metadata["rows"].value == 2
    metadata = failure_of(result).user_failure_data.metadata
    assert metadata["glue_state"].value == "FAILED"
    assert states_of(metadata)["CurateOnGlue"]["outcome"] == "caught"
    assert states_of(metadata)["CurationFailed"]["outcome"] == "failed"
    assert "column amount has lost its type" in metadata["log_tail"].value
    assert machine.messages() == []


def test_a_success_without_a_report_is_a_failure(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does('print("all is well")')
    result = machine.step().materialize(instance)
    assert not result.success
    assert "reported no materialisation" in failure_of(result).user_failure_data.description


def test_a_job_that_is_not_there_is_not_asked_for_again(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.has_no_job()
    step = machine.step(retries=3)
    result = step.materialize(instance)
    description = failure_of(result).user_failure_data.description
    assert "EntityNotFoundException" in description
    assert not step.failures[0].retryable
    assert len(machine.executions()) == 1


def test_a_state_machine_that_is_not_there_is_named_with_the_remedy(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.sfn.delete_state_machine(stateMachineArn=machine.arn)
    step = machine.step(retries=3)
    result = step.materialize(instance)
    description = failure_of(result).user_failure_data.description
    assert machine.settings.state_machine in description
    assert "lakegate bootstrap" in description
    assert len(step.failures) == 1


# -- time


@pytest.mark.slow
def test_a_job_that_hangs_past_its_timeout_fails_and_is_stopped(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """Step Functions lets a job run go on whose task has timed out."""

    def hurry(definition: dict[str, Any]) -> None:
        definition["States"]["CurateOnGlue"]["TimeoutSeconds"] = 3

    machine.is_defined(hurry)
    machine.job_does(GATED)
    result = machine.step().materialize(instance)
    description = failure_of(result).user_failure_data.description
    assert "did not end within the time" in description
    assert checks_of(result)["rows_conserved"].passed
    assert machine.job_states() == ["STOPPED"]
    assert machine.status()["status"] == "FAILED"


@pytest.mark.soak
def test_an_execution_that_times_out_as_a_whole_has_its_status_closed_and_goes_on_later(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.is_defined(lambda definition: definition.update(TimeoutSeconds=12))
    machine.job_does(GATED)
    result = machine.step().materialize(instance)
    description = failure_of(result).user_failure_data.description
    assert "ran longer than the TimeoutSeconds of its state machine" in description
    assert machine.job_states() == ["STOPPED"]
    assert machine.status()["status"] == "TIMED_OUT"
    machine.open("go")
    step = machine.step()
    assert step.materialize(instance).success
    assert step.runs[0].metadata["redrives"] == 1
    assert machine.executions() == {machine.name(): "SUCCEEDED"}
    assert machine.status()["status"] == "SUCCEEDED"


@pytest.mark.slow
def test_an_execution_past_its_deadline_is_stopped_with_its_job_run(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(GATED)
    result = machine.step(deadline_minutes=0.05).materialize(instance)
    description = failure_of(result).user_failure_data.description
    assert "had not ended after 0.05 minutes, which is its deadline" in description
    assert machine.executions() == {machine.name(): "ABORTED"}
    assert machine.job_states() == ["STOPPED"]
    assert machine.status()["status"] == "ABORTED"


# -- once, whoever asks and however often


@pytest.mark.slow
def test_two_steps_that_ask_for_the_same_work_follow_one_execution(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """Neither their run nor their Pipes context is the same."""
    machine.job_does(GATED)
    first, second = machine.step(), machine.step()
    with ThreadPoolExecutor(2) as pool, opened_at_last(machine, "go"):
        one = pool.submit(first.materialize, instance)
        until(machine.messages)
        two = pool.submit(second.materialize, instance)
        until(lambda: any("Re-attached" in said(instance, r.run_id) for r in instance.get_runs()))
        until(lambda: all("at the gate" in said(instance, r.run_id) for r in instance.get_runs()))
        machine.open("go")
        results = [one.result(), two.result()]
    assert machine.executions() == {machine.name(): "SUCCEEDED"}
    assert len(machine.job_runs()) == 1
    # Whoever is first has the report; whoever finds none any more would look for the verdict.
    assert any(result.success for result in results)


@pytest.mark.soak
def test_a_retried_step_re_attaches(machine: Machine, instance: dg.DagsterInstance) -> None:
    """The step dies for a reason of its own after the execution was started."""
    machine.job_does(GATED)

    def before(tries: int) -> None:
        if tries == 0:
            machine.step()
            with worker(machine) as process:
                until(machine.messages)
                process.kill()
            raise RuntimeError("the step has died")
        machine.open("go")

    step = machine.step(retries=2, before=before)
    result = step.materialize(instance)
    assert result.success
    assert machine.executions() == {machine.name(): "SUCCEEDED"}
    assert len(machine.job_runs()) == 1
    assert step.runs[0].metadata["reattached"] is True
    assert "Re-attached to the execution" in said(instance, result.run_id)
    assert "State CurateOnGlue entered at " in said(instance, result.run_id)
    assert checks_of(result)["rows_conserved"].passed


@pytest.mark.soak
def test_what_ended_well_while_nobody_looked_is_the_outcome(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(GATED)
    with worker(machine) as process:
        until(machine.messages)
        process.kill()
        process.wait()
    machine.open("go")
    until(lambda: machine.executions() == {machine.name(): "SUCCEEDED"})
    step = machine.step()
    assert step.materialize(instance).success
    assert len(machine.job_runs()) == 1
    assert step.runs[0].results.materializations[CURATED]["rows_accepted"].value == 3
    assert machine.messages() == []


@pytest.mark.soak
def test_the_deadline_of_a_redriven_execution_counts_from_its_redrive(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """A person redrove it in the console, long after it was started."""
    machine.job_does(GATED)
    assert not machine.step(deadline_minutes=0.05).materialize(instance).success
    arn = step_arn(machine)
    time.sleep(max(0.0, 12 - machine.age(arn)))
    machine.open("go")
    machine.sfn.redrive_execution(executionArn=arn)
    step = machine.step(deadline_minutes=0.2)
    assert step.materialize(instance).success
    assert step.runs[0].metadata["reattached"] is True
    assert machine.executions() == {machine.name(): "SUCCEEDED"}


@pytest.mark.soak
def test_work_whose_report_was_read_and_is_asked_for_again_is_done_again(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """Its verdict is gone, or nobody would ask."""
    machine.job_does(GOOD)
    assert machine.step().materialize(instance).success
    assert machine.step().materialize(instance).success
    assert machine.executions() == {machine.name(): "SUCCEEDED", machine.name(2): "SUCCEEDED"}


@pytest.mark.soak
def test_a_retry_after_a_job_that_broke_runs_under_the_next_name(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """What ended in a Fail state would fail again if it were redriven."""
    machine.job_does(BREAKS_ONCE)
    step = machine.step(retries=2, before=lambda tries: tries and machine.open("mended"))
    result = step.materialize(instance)
    assert result.success
    assert machine.executions() == {machine.name(): "FAILED", machine.name(2): "SUCCEEDED"}
    assert len(machine.job_runs()) == 2
    assert f"takes the place of {machine.name()}" in said(instance, result.run_id)
    assert machine.status()["status"] == "SUCCEEDED"
    assert machine.messages() == []


@pytest.mark.slow
def test_what_a_person_stopped_is_not_tried_again_but_goes_on_when_it_is_asked_for(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(GATED)
    step = machine.step(retries=3)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(step.materialize, instance)
        until(machine.messages)
        arn = step_arn(machine)
        machine.sfn.stop_execution(executionArn=arn, error="Enough", cause="Too dear today.")
        result = running.result()
    description = failure_of(result).user_failure_data.description
    assert "was stopped from outside (Enough: Too dear today)" in description
    assert len(step.failures) == 1
    assert machine.status()["status"] == "ABORTED"
    machine.open("go")
    later = machine.step()
    result = later.materialize(instance)
    assert result.success
    assert machine.executions() == {machine.name(): "SUCCEEDED"}
    assert later.runs[0].metadata["redrives"] == 1
    assert sorted(machine.job_states()) == ["STOPPED", "SUCCEEDED"]
    log = said(instance, result.run_id)
    assert "Redrove the execution" in log
    assert "State CurateOnGlue entered again" in log
    assert machine.status()["status"] == "SUCCEEDED"
    assert checks_of(result)["rows_conserved"].passed


@pytest.mark.slow
def test_what_could_not_be_written_down_is_redriven_with_the_report_that_was_there(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """The job has done its work: it is not paid for twice."""
    machine.job_does(GATED)
    dynamodb, table = machine.aws("dynamodb"), machine.settings.ledger_table
    definition = dynamodb.describe_table(TableName=table)["Table"]

    def restore(tries: int) -> None:
        if tries:
            machine.restore_table(definition)

    step = machine.step(retries=1, before=restore)
    with ThreadPoolExecutor(1) as pool, opened_at_last(machine, "go"):
        running = pool.submit(step.materialize, instance)
        until(machine.messages)
        dynamodb.delete_table(TableName=table)
        machine.open("go")
        result = running.result()
    assert result.success
    assert "MarkSucceeded" in said(instance, result.run_id)
    assert len(machine.job_runs()) == 1
    assert machine.executions() == {machine.name(): "SUCCEEDED"}
    assert step.runs[0].metadata["redrives"] == 1
    assert step.runs[0].results.materializations[CURATED]["rows_accepted"].value == 3


@pytest.mark.slow
def test_a_throttled_start_is_tried_again_inside_the_state_machine(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does('wait_for("other")', concurrent=1)
    machine.start()
    until(lambda: machine.job_states() == ["RUNNING"])
    machine.job_does(GOOD, concurrent=1)
    step = machine.step()
    with ThreadPoolExecutor(1) as pool, opened_at_last(machine, "other"):
        running = pool.submit(step.materialize, instance)
        [run] = until(instance.get_runs)
        until(lambda: "State CurateOnGlue: try 3 began" in said(instance, run.run_id))
        machine.open("other")
        result = running.result()
    assert result.success
    assert states_of(step.runs[0].metadata)["CurateOnGlue"]["retries"] >= 2
    assert "ConcurrentRunsExceeded" in said(instance, result.run_id)
    assert len(machine.job_runs()) == 2


def test_a_name_that_somebody_else_has_taken_is_not_mistaken_for_ours(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    machine.job_does(GOOD)
    machine.sfn.start_execution(stateMachineArn=machine.arn, name=machine.name(), input="{}")
    step = machine.step(retries=2)
    assert not step.materialize(instance).success
    [failed] = step.failures
    assert "Somebody else starts executions of this state machine" in failed.cause


# -- cancelled, or taken away


@pytest.mark.slow
def test_cancelling_the_run_stops_the_execution_and_the_job_run(machine: Machine) -> None:
    machine.job_does(GATED)
    with worker(machine) as process:
        until(machine.messages)
        with worked(machine) as instance:
            [run] = instance.get_runs()
            instance.report_run_canceling(run)
            process.terminate()
            process.wait(30)
            [run] = instance.get_runs()
            assert run.status is dg.DagsterRunStatus.CANCELED
            log = said(instance, run.run_id)
    assert f"the execution {machine.name()} stopped" in log
    assert machine.executions() == {machine.name(): "ABORTED"}
    assert machine.job_states() == ["STOPPED"]
    found = machine.look(step_arn(machine))
    assert (found["error"], found["cause"]) == (
        "Cancelled",
        f"The Dagster run {run.run_id} was cancelled.",
    )
    assert machine.status()["status"] == "ABORTED"
    assert machine.messages() == []


@pytest.mark.soak
def test_a_worker_that_is_taken_away_leaves_the_execution_to_the_next_one(
    machine: Machine, instance: dg.DagsterInstance
) -> None:
    """Its node is drained; run retries start the run again."""
    machine.job_does(GATED)
    with worker(machine, config="run_retries: {enabled: true, max_retries: 2}") as process:
        until(machine.messages)
        process.terminate()
        process.wait(30)
    assert machine.executions() == {machine.name(): "RUNNING"}
    step = machine.step()
    with ThreadPoolExecutor(1) as pool, opened_at_last(machine, "go"):
        running = pool.submit(step.materialize, instance)
        [run] = until(instance.get_runs)
        # Said before the second worker came.
        until(lambda: "at the gate" in said(instance, run.run_id))
        machine.open("go")
        result = running.result()
    assert result.success
    assert len(machine.job_runs()) == 1
    assert step.runs[0].metadata["reattached"] is True
    assert step.runs[0].results.materializations[CURATED]["rows_accepted"].value == 3


def step_arn(machine: Machine) -> str:
    """The ARN of the execution that the step started first."""
    return f"{machine.arn.replace(':stateMachine:', ':execution:')}:{machine.name()}"
