"""The Glue client against job runs that are really executed: whatever becomes of the job run, the
step or the worker, the work is done once and the step says what happened.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws
from resources.aws import clients
from resources.glue import GlueResource
from resources.glue_job import IDENTITY_ARGUMENT
from service_core.settings import Settings
from tests.glue_steps import (
    CURATED,
    GATED,
    GOOD,
    WORK,
    Job,
    Step,
    checks_of,
    failure_of,
    opened_at_last,
    said,
    until,
    worked,
    worker,
)

# -- what came of it


def test_a_job_run_is_reported_beside_what_it_materialised(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does(GOOD)
    given = dict(job.arguments)
    step = job.step()
    result = step.materialize(instance)
    assert result.success
    [run] = job.runs()
    [remote] = step.runs
    assert remote.identity == run["Arguments"][IDENTITY_ARGUMENT] == WORK.identity
    assert run["Arguments"]["--request"] == WORK.request_uri
    assert remote.url == (
        "https://us-east-1.console.aws.amazon.com/gluestudio/home?region=us-east-1"
        f"#/job/{job.settings.glue_job}/run/{run['Id']}"
    )
    assert remote.metadata["glue_job_run"] == run["Id"]
    assert remote.metadata["glue_state"] == "SUCCEEDED"
    assert remote.metadata["glue_seconds"] == remote.seconds == run["ExecutionTime"]
    assert remote.metadata["dpu_seconds"] == run["ExecutionTime"] * 4
    # Glue bills a minute at least: 4 DPUs at 0.44 an hour.
    assert remote.metadata["estimated_cost"] == pytest.approx(4 / 60 * 0.44, abs=1e-4)
    assert remote.metadata["reattached"] is False
    assert remote.results.materializations[CURATED]["rows_accepted"].value == 3
    assert checks_of(result)["rows_conserved"].metadata["rows"].value == 3
    assert f"curating {WORK.request_uri}" in said(instance, result.run_id)
    assert job.messages() == []
    assert job.arguments == given


def test_what_a_job_says_reaches_the_run_while_it_works(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does(GATED)
    with ThreadPoolExecutor(1) as pool, opened_at_last(job, "go"):
        running = pool.submit(job.step().materialize, instance)
        [run] = until(instance.get_runs)
        until(lambda: "at the gate" in said(instance, run.run_id))
        assert job.states() == ["RUNNING"]
        job.open("go")
        assert running.result().success


def test_a_job_that_raises_fails_the_step_with_its_reason_and_keeps_the_checks(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does("""
        with reporting() as pipes:
            pipes.log.info("reading the request")
            conserved(pipes, 3)
            print("about to write", file=sys.stderr)
            raise OSError("No space left on device")
    """)
    result = job.step().materialize(instance)
    assert not result.success
    assert job.states() == ["FAILED"]
    failed = failure_of(result)
    cause = failed.user_failure_data.description
    assert cause.startswith(f"The Glue job run {job.runs()[0]['Id']} of {job.settings.glue_job} ")
    assert "failed: " in cause
    assert cause.count("No space left on device") == 1
    assert failed.user_failure_data.metadata["glue_state"].value == "FAILED"
    assert "about to write" in failed.user_failure_data.metadata["log_tail"].value
    assert checks_of(result)["rows_conserved"].passed
    assert "reading the request" in said(instance, result.run_id)
    assert job.messages() == []


def test_a_job_that_is_killed_fails_the_step_with_the_checks_that_it_had_reported(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does("""
        with reporting() as pipes:
            conserved(pipes, 3)
            zone = GATES.replace("artifacts", "dq-results")
            while "Contents" not in S3.list_objects_v2(Bucket=zone, Prefix="_pipes/"):
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    result = job.step().materialize(instance)
    assert not result.success
    assert failure_of(result).user_failure_data.metadata["glue_state"].value == "FAILED"
    assert checks_of(result)["rows_conserved"].passed
    assert job.messages() == []


def test_a_job_that_succeeds_without_a_report_is_a_failure(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does("print('done, I think')")
    result = job.step().materialize(instance)
    assert job.states() == ["SUCCEEDED"]
    assert not result.success
    cause = failure_of(result).user_failure_data.description
    assert "ended SUCCEEDED, but reported no materialisation by Dagster Pipes" in cause


def test_a_job_that_hangs_is_stopped_at_the_deadline(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does(GATED)
    glue = GlueResource.of(job.settings).model_copy(update={"deadline_minutes": 0.1})
    result = Step(glue, job.arguments).materialize(instance)
    assert not result.success
    assert job.states() == ["STOPPED"]
    cause = failure_of(result).user_failure_data.description
    assert "had not ended after 0.1 min, which is its deadline" in cause
    assert "STOPPED" in cause
    assert checks_of(result)["rows_conserved"].passed


@pytest.mark.soak
def test_a_job_that_runs_past_its_timeout_is_ended_by_glue(
    settings: Settings, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with EmbeddedAws(glue_minute_seconds=4) as hurried:
        there = settings.model_copy(
            update={"endpoint_url": hurried.endpoint, "glue_timeout_minutes": 1}
        )
        bootstrap(there, clients(there))
        job = Job(there, clients(there), tmp_path)
        job.does(GATED)
        result = job.step().materialize(instance)
        assert job.states() == ["TIMEOUT"]
    assert not result.success
    cause = failure_of(result).user_failure_data.description
    assert "ran longer than the job's Timeout of 1 min and was ended by Glue" in cause
    assert checks_of(result)["rows_conserved"].passed


def test_a_job_that_somebody_stops_in_the_console_is_not_started_again(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does(GATED)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(job.step(retries=2).materialize, instance)
        until(lambda: job.messages())
        [run] = job.runs()
        job.glue.batch_stop_job_run(JobName=job.settings.glue_job, JobRunIds=[run["Id"]])
        result = running.result()
    assert not result.success
    assert job.states() == ["STOPPED"]
    assert "was stopped from outside" in failure_of(result).user_failure_data.description


# -- one piece of work, one job run


def test_a_retry_after_a_failure_starts_anew_and_hears_nothing_of_the_failed_run(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does("""
        with reporting() as pipes:
            if not passed("tried"):
                pipes.report_asset_check("amount_range", False, asset_key="curated/orders")
                S3.put_object(Bucket=GATES, Key="tried")
                time.sleep(2)
                os._exit(3)
            conserved(pipes, 3)
            materialized(pipes, 3)
    """)
    step = job.step(retries=1)
    result = step.materialize(instance)
    assert result.success
    assert job.states() == ["SUCCEEDED", "FAILED"]
    assert [check.check_name for check in step.runs[0].results.checks] == ["rows_conserved"]


@pytest.mark.slow
def test_a_job_that_has_ended_well_and_is_still_to_be_heard_is_taken_as_done(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does(GATED)
    with worker(job) as process:
        until(lambda: job.messages())
        process.kill()
    job.open("go")
    until(lambda: job.states() == ["SUCCEEDED"])
    step = job.step()
    result = step.materialize(instance)
    assert result.success
    assert len(job.runs()) == 1
    assert step.runs[0].metadata["reattached"] is True
    assert checks_of(result)["rows_conserved"].passed
    assert job.messages() == []


def test_work_that_was_reported_before_is_done_again_for_whoever_asks_again(
    job: Job, instance: dg.DagsterInstance
) -> None:
    job.does(GOOD)
    assert job.step().materialize(instance).success
    assert job.step().materialize(instance).success
    assert job.states() == ["SUCCEEDED", "SUCCEEDED"]


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.soak)])
def test_cancelling_the_run_stops_the_job_run_and_nothing_is_started_after_it(
    job: Job, signal_name: str
) -> None:
    """Dagster itself would ask for a retry of the interrupted step, which has a retry policy."""
    job.does(GATED)
    with worker(job) as process:
        until(lambda: job.messages())
        with worked(job) as instance:
            [run] = instance.get_runs()
            instance.report_run_canceling(run)
            process.send_signal(getattr(signal, signal_name))
            process.wait(30)
            [run] = instance.get_runs()
            assert run.status is dg.DagsterRunStatus.CANCELED
            assert "Glue was asked to stop the job run" in said(instance, run.run_id)
    assert job.states() == ["STOPPED"]
    assert job.messages() == []


@pytest.mark.slow
def test_an_interrupted_worker_that_nobody_follows_stops_the_job_run(job: Job) -> None:
    job.does(GATED)
    with worker(job) as process:
        until(lambda: job.messages())
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert job.states() == ["STOPPED"]
    with worked(job) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]


@pytest.mark.slow
@pytest.mark.parametrize("end", [pytest.param("SIGTERM", marks=pytest.mark.soak), "SIGKILL"])
def test_a_worker_that_is_taken_away_leaves_the_job_run_to_the_next_one(
    job: Job, instance: dg.DagsterInstance, end: str
) -> None:
    """Its node is drained, or it runs out of memory; run retries start the run again."""
    job.does(GATED)
    with worker(job, config="run_retries: {enabled: true, max_retries: 2}") as process:
        until(lambda: job.messages())
        process.send_signal(getattr(signal, end))
        process.wait(30)
    assert job.states() == ["RUNNING"]
    step = job.step()
    with ThreadPoolExecutor(1) as pool, opened_at_last(job, "go"):
        running = pool.submit(step.materialize, instance)
        [run] = until(instance.get_runs)
        # Said before the second worker came.
        until(lambda: "at the gate" in said(instance, run.run_id))
        job.open("go")
        result = running.result()
    assert result.success
    assert len(job.runs()) == 1
    assert step.runs[0].metadata["reattached"] is True
    assert "Re-attached to the Glue job run" in said(instance, result.run_id)
    assert checks_of(result)["rows_conserved"].passed
    assert step.runs[0].results.materializations[CURATED]["rows_accepted"].value == 3
    assert job.messages() == []
