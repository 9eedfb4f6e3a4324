"""A job run of the embedded Glue is its script, really executed, and ends as the script does."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from deploy.local import EmbeddedAws
from tests.embedded_account import BUCKET, Account, alive, until

#: Of a job's Timeout.
MINUTE = 1.5

SLEEPER = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    apart = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                             start_new_session=True)
    print("in", os.getcwd())
    print("processes", os.getpid(), child.pid, apart.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with EmbeddedAws(glue_minute_seconds=MINUTE) as server:
        yield Account(server)


def test_a_script_finds_the_arguments_that_glue_would_give_it(aws: Account) -> None:
    name = aws.job(
        """
        import json, sys
        print(json.dumps(dict(zip(sys.argv[1::2], sys.argv[2::2]))))
        """,
        DefaultArguments={
            "--shade": "default",
            "--left": "default",
            "--enable-metrics": "true",
            "--additional-python-modules": "boto3",
            "--conf": "spark.a=1",
            "--TempDir": "s3://scratch/",
        },
        NonOverridableArguments={"--fixed": "the job's"},
    )
    given = {"--shade": "the run's", "--fixed": "the run's", "--text": "two words"}
    run = aws.ended_run(name, aws.start_run(name, given))
    assert run["JobRunState"] == "SUCCEEDED"
    [line] = aws.log(run["Id"])
    seen = json.loads(line)
    assert seen.pop("--JOB_ID").startswith("j_")
    assert seen == {
        "--JOB_NAME": name,
        "--JOB_RUN_ID": run["Id"],
        "--shade": "the run's",
        "--left": "default",
        "--text": "two words",
        "--fixed": "the job's",
        "--TempDir": "s3://scratch/",
    }
    assert run["Arguments"] == given


def test_a_script_runs_in_an_environment_of_its_own(aws: Account) -> None:
    run = aws.executed_script(
        """
        import os, time
        import boto3
        boto3.client("s3").put_object(Bucket="scripts", Key="written", Body=b"by a job")
        named = [n for n in os.environ if n.startswith(("LAKEGATE_", "DAGSTER_", "PYTEST_"))]
        print(named, os.environ["AWS_DEFAULT_REGION"], time.tzname[0], os.getcwd())
        """
    )
    assert run["JobRunState"] == "SUCCEEDED"
    [line] = aws.log(run["Id"])
    seen, directory = line.rsplit(" ", 1)
    assert seen == "[] us-east-1 UTC"
    assert not Path(directory).exists()
    written = aws("s3").get_object(Bucket=BUCKET, Key="written")["Body"].read()
    assert written == b"by a job"


def test_extra_python_files_come_before_everything_installed(aws: Account) -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("service_core/__init__.py", "VERSION = 'from the archive'")
    files = [
        aws.put("lib/archive.zip", archive.getvalue()),
        aws.put("lib/beside.py", "NAME = 'a module'"),
    ]
    run = aws.executed_script(
        "import service_core, beside; print(service_core.VERSION, beside.NAME)",
        DefaultArguments={"--extra-py-files": ",".join(files)},
    )
    assert aws.log(run["Id"]) == ["from the archive a module"]


def test_a_module_that_is_not_installed_is_told_in_the_log(aws: Account) -> None:
    wanted = "polars==0.0.1,not-there>=2,boto3,s3://scripts/own.whl,pandera[polars,io]"
    run = aws.executed_script(
        "print('on')", DefaultArguments={"--additional-python-modules": wanted}
    )
    assert run["JobRunState"] == "SUCCEEDED"
    remarks = aws.log(run["Id"], "error")
    assert len(remarks) == 3
    assert "polars==0.0.1 is wanted, and " in remarks[0]
    assert "not-there>=2 is not installed on this machine; install it with pip." in remarks[1]
    assert "s3://scripts/own.whl is not installed" in remarks[2]


def test_a_script_that_raises_fails_with_its_own_words(aws: Account) -> None:
    run = aws.executed_script(
        """
        import sys
        print("half way")
        raise ValueError("amount is 'abc', expected a number")
        """
    )
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"] == "ValueError: amount is 'abc', expected a number"
    assert run["StartedOn"] <= run["CompletedOn"] == run["LastModifiedOn"]
    assert aws.log(run["Id"]) == ["half way"]
    assert aws.log(run["Id"], "error")[0] == "Traceback (most recent call last):"


def test_a_script_that_exits_tells_its_cause_or_its_code(aws: Account) -> None:
    told = aws.executed_script("import sys; sys.exit('s3://raw/a.csv cannot be read.')")
    assert (told["JobRunState"], told["ErrorMessage"]) == (
        "FAILED",
        "s3://raw/a.csv cannot be read.",
    )
    silent = aws.executed_script("import sys; sys.exit(3)")
    assert silent["ErrorMessage"] == "Command failed with exit code 3"


def test_a_script_that_exits_with_0_has_succeeded(aws: Account) -> None:
    run = aws.executed_script("import sys; print('no more to say', file=sys.stderr); sys.exit(0)")
    assert run["JobRunState"] == "SUCCEEDED"
    assert "ErrorMessage" not in run
    assert run["ExecutionTime"] >= 0


def test_a_script_whose_process_is_killed_has_failed(aws: Account) -> None:
    name = aws.job(SLEEPER)
    run_id = aws.start_run(name)
    pids = [int(pid) for pid in aws.printed(run_id, "processes").split()[1:]]
    assert aws.run(name, run_id)["JobRunState"] == "RUNNING"
    os.kill(pids[0], signal.SIGKILL)
    run = aws.ended_run(name, run_id)
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"] == "Command failed: its process was ended by signal 9 (SIGKILL)"
    assert not any(alive(pid) for pid in pids)


def test_a_script_that_hangs_is_ended_at_its_timeout(aws: Account) -> None:
    name = aws.job(SLEEPER, Timeout=2)
    begun = time.monotonic()
    run = aws.ended_run(name, run_id := aws.start_run(name))
    assert 2 * MINUTE <= time.monotonic() - begun < 2 * MINUTE + 10
    assert run["JobRunState"] == "TIMEOUT"
    assert run["ErrorMessage"] == "Job run exceeded its timeout of 2 minutes"
    assert run["Timeout"] == 2
    assert not any(alive(int(pid)) for pid in aws.printed(run_id, "processes").split()[1:])


def test_a_run_that_is_stopped_takes_all_its_processes_with_it(aws: Account) -> None:
    name = aws.job(SLEEPER, MaxRetries=3)
    run_id = aws.start_run(name)
    pids = [int(pid) for pid in aws.printed(run_id, "processes").split()[1:]]
    assert all(alive(pid) for pid in pids)

    stopped = aws.stop_run(name, run_id, "jr_none")

    assert stopped["SuccessfulSubmissions"] == [{"JobName": name, "JobRunId": run_id}]
    [error] = stopped["Errors"]
    assert error["JobRunId"] == "jr_none"
    assert error["ErrorDetail"]["ErrorCode"] == "EntityNotFoundException"
    assert aws.run(name, run_id)["JobRunState"] in {"STOPPING", "STOPPED"}
    run = aws.ended_run(name, run_id)
    assert run["JobRunState"] == "STOPPED"
    assert "ErrorMessage" not in run
    assert not any(alive(pid) for pid in pids)
    again = aws.stop_run(name, run_id)
    [error] = again["Errors"]
    assert error["ErrorDetail"]["ErrorCode"] == "JobRunInvalidStateTransitionException"
    # What was stopped is not tried again.
    time.sleep(0.5)
    assert len(aws.runs(name)) == 1


def test_a_script_that_ignores_a_polite_request_is_ended_all_the_same(aws: Account) -> None:
    name = aws.job(
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(600)
        """
    )
    run_id = aws.start_run(name)
    aws.printed(run_id, "deaf")
    aws.stop_run(name, run_id)
    assert aws.ended_run(name, run_id, within=15)["JobRunState"] == "STOPPED"


def test_a_run_that_is_stopped_as_it_starts_never_runs_on(aws: Account) -> None:
    name = aws.job(SLEEPER)
    run_id = aws.start_run(name)
    aws.stop_run(name, run_id)
    assert aws.ended_run(name, run_id)["JobRunState"] == "STOPPED"


def test_of_several_starts_as_many_win_as_may_run_at_once(aws: Account) -> None:
    name = aws.job(SLEEPER, ExecutionProperty={"MaxConcurrentRuns": 2})

    def start(number: int) -> str | None:
        try:
            return aws.start_run(name)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ConcurrentRunsExceededException"
            return None

    with ThreadPoolExecutor(6) as pool:
        run_ids = [run_id for run_id in pool.map(start, range(6)) if run_id]
    assert len(run_ids) == 2
    aws.stop_run(name, *run_ids)
    for run_id in run_ids:
        aws.ended_run(name, run_id)
    # There is room again once they have really ended.
    third = aws.start_run(name)
    aws.stop_run(name, third)
    aws.ended_run(name, third)


def test_a_failed_run_is_tried_again_as_often_as_its_job_allows(aws: Account) -> None:
    name = aws.job("raise SystemExit('no luck')", MaxRetries=2)
    first = aws.start_run(name)
    runs = until(
        lambda: aws.runs(name),
        lambda runs: len(runs) == 3 and all(run["JobRunState"] == "FAILED" for run in runs),
        30,
    )
    assert [run["Attempt"] for run in runs] == [2, 1, 0]
    assert [run["Id"] for run in runs] == [f"{first}_attempt_2", f"{first}_attempt_1", first]
    assert [run.get("PreviousRunId") for run in runs] == [f"{first}_attempt_1", first, None]


def test_runs_are_listed_newest_first_page_by_page(aws: Account) -> None:
    name = aws.job("pass", ExecutionProperty={"MaxConcurrentRuns": 5})
    started = [aws.start_run(name) for _ in range(5)]
    for run_id in started:
        aws.ended_run(name, run_id)
    pages = (
        aws("glue")
        .get_paginator("get_job_runs")
        .paginate(JobName=name, PaginationConfig={"PageSize": 2})
    )
    listed = [[run["Id"] for run in page["JobRuns"]] for page in pages]
    assert [len(page) for page in listed] == [2, 2, 1]
    assert [run_id for page in listed for run_id in page] == started[::-1]


def test_what_a_script_prints_can_be_read_while_it_runs(aws: Account) -> None:
    name = aws.job(
        r"""
        import sys, time
        out = sys.stdout.buffer
        out.write("smörgås ".encode() + b"\xff\n\n\nafter two empty lines\n")
        out.write(b"x" * 200_000 + b"\n")
        out.write(b"y\n" * 20_000)
        print("to the error log", file=sys.stderr, flush=True)
        out.write(b"ready\n")
        out.flush()
        time.sleep(600)
        """
    )
    run_id = aws.start_run(name)
    aws.printed(run_id, "ready")
    assert aws.run(name, run_id)["JobRunState"] == "RUNNING"
    lines = aws.log(run_id)
    assert lines[:2] == ["smörgås �", "after two empty lines"]
    assert sum(line.count("x") for line in lines) == 200_000
    assert lines.count("y") == 20_000
    assert aws.log(run_id, "error") == ["to the error log"]
    assert aws.run(name, run_id)["LogGroupName"] == "/aws-glue/jobs"
    aws.stop_run(name, run_id)
    aws.ended_run(name, run_id)


def test_a_run_says_what_it_costs(aws: Account) -> None:
    name = aws.job("import time; time.sleep(1.1)", WorkerType="G.2X", NumberOfWorkers=3)
    run = aws.ended_run(name, aws.start_run(name))
    assert (run["WorkerType"], run["NumberOfWorkers"]) == ("G.2X", 3)
    assert (run["MaxCapacity"], run["AllocatedCapacity"]) == (6.0, 6)
    assert run["ExecutionTime"] == 1
    # Glue tells DPU-seconds of these two kinds of runs only.
    assert "DPUSeconds" not in run
    for asked in (
        {"ExecutionClass": "FLEX"},
        {"arguments": {"--enable-auto-scaling": "true"}},
    ):
        run = aws.ended_run(
            name, aws.start_run(name, WorkerType="G.1X", NumberOfWorkers=2, **asked)
        )
        assert run["DPUSeconds"] == pytest.approx(2 * 1.1, abs=1)


def test_a_script_that_is_not_there_fails_in_a_sentence(aws: Account) -> None:
    name = aws.job("pass")
    aws("s3").delete_object(Bucket=BUCKET, Key=f"{name}.py")
    run = aws.ended_run(name, aws.start_run(name))
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"].startswith(
        f"Error downloading from S3 for bucket: {BUCKET}, key: {name}.py: "
    )
    assert aws.run(name, run["Id"])["ExecutionTime"] == 0


def test_a_job_keeps_its_runs_when_it_is_created_again_or_changed(aws: Account) -> None:
    client, name = aws("glue"), aws.job("pass", Timeout=7)
    run_id = aws.start_run(name)
    aws.ended_run(name, run_id)
    job = client.get_job(JobName=name)["Job"]
    same = {key: job[key] for key in ("Role", "Command", "GlueVersion", "WorkerType", "Timeout")}
    client.create_job(Name=name, NumberOfWorkers=2, **same)
    with pytest.raises(client.exceptions.IdempotentParameterMismatchException):
        client.create_job(Name=name, NumberOfWorkers=9, **same)
    client.update_job(JobName=name, JobUpdate={**same, "Timeout": 9, "NumberOfWorkers": 5})
    job = client.get_job(JobName=name)["Job"]
    assert (job["Timeout"], job["NumberOfWorkers"], job["GlueVersion"]) == (9, 5, "5.1")
    assert [run["Id"] for run in aws.runs(name)] == [run_id]
    with pytest.raises(client.exceptions.EntityNotFoundException):
        client.update_job(JobName="none", JobUpdate=same)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_of_a_job_outlives_the_server(how: signal.Signals) -> None:
    with EmbeddedAws() as server:
        aws = Account(server)
        run_id = aws.start_run(aws.job(SLEEPER))
        pids = [int(pid) for pid in aws.printed(run_id, "processes").split()[1:]]
        directory = Path(aws.printed(run_id, "in ").removeprefix("in "))
        assert directory.is_dir()
        assert server.pid is not None
        os.kill(server.pid, how)
        until(lambda: [pid for pid in pids if alive(pid)], lambda left: not left, 10)
        until(directory.exists, lambda there: not there, 10)
