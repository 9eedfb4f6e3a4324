"""The Glue job stands as the settings say, however often and by whoever it is made; what it runs is
uploaded when it changes, and never changed under a job run's feet.
"""

import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deploy.glue_jobs import MODULES, GlueJobError, ensure_glue_job
from resources.glue_job import JobRun
from service_core.settings import Settings

SCRIPT = "print('curated')"


@pytest.fixture
def make(settings: Settings, aws: Callable[[str], Any], tmp_path: Path) -> Callable[..., Any]:
    def make(script: str = SCRIPT, **changes: Any) -> Any:
        path = tmp_path / "curate.py"
        path.write_text(script)
        changed = settings.model_copy(update=changes)
        return ensure_glue_job(changed, aws("glue"), aws("s3"), script=path)

    return make


@pytest.fixture
def standing(settings: Settings, aws: Callable[[str], Any]) -> Callable[[], dict[str, Any]]:
    return lambda: aws("glue").get_job(JobName=settings.glue_job)["Job"]


def artifacts(settings: Settings, aws: Callable[[str], Any]) -> dict[str, datetime]:
    listed = aws("s3").list_objects_v2(Bucket=settings.artifacts_bucket, Prefix="glue/")
    return {found["Key"]: found["LastModified"] for found in listed.get("Contents", ())}


def test_the_job_is_made_as_the_settings_say(
    settings: Settings, make: Callable[..., Any], standing: Callable[[], Any],
    aws: Callable[[str], Any], tmp_path: Path,
) -> None:  # fmt: skip
    make(glue_workers=10, glue_worker_type="G.2X", glue_timeout_minutes=30, glue_concurrent_runs=3)
    job = standing()
    assert job["GlueVersion"] == "5.1"
    assert job["Command"]["Name"] == "glueetl"
    assert job["Command"]["PythonVersion"] == "3"
    assert (job["WorkerType"], job["NumberOfWorkers"]) == ("G.2X", 10)
    assert job["Timeout"] == 30
    assert job.get("MaxRetries", 0) == 0
    assert job["ExecutionProperty"] == {"MaxConcurrentRuns": 3}
    assert job["Role"] == f"{settings.glue_job}-job"
    archive = job["DefaultArguments"]["--extra-py-files"]
    bucket, _, key = archive.removeprefix("s3://").partition("/")
    assert bucket == settings.artifacts_bucket
    assert re.search(r"/lakegate_service_core-[\d.]+-[0-9a-f]{12}\.zip$", archive)
    aws("s3").download_file(bucket, key, str(tmp_path / "archive.zip"))
    assert "service_core/curation/kernel.py" in zipfile.ZipFile(tmp_path / "archive.zip").namelist()


def test_the_job_has_the_versions_that_the_orchestrator_runs_with(
    make: Callable[..., Any], standing: Callable[[], Any]
) -> None:
    make()
    modules = standing()["DefaultArguments"]["--additional-python-modules"].split(",")
    assert len(modules) == len(MODULES)
    assert f"polars=={metadata.version('polars')}" in modules
    assert f"pandera[polars]=={metadata.version('pandera')}" in modules
    assert f"dagster-pipes=={metadata.version('dagster-pipes')}" in modules


def test_made_again_nothing_is_uploaded_or_changed(
    settings: Settings, make: Callable[..., Any], standing: Callable[[], Any],
    aws: Callable[[str], Any],
) -> None:  # fmt: skip
    make()
    # So that a second upload would show in the time of the object.
    keys = artifacts(settings, aws)
    for key in keys:
        aws("s3").put_object(Bucket=settings.artifacts_bucket, Key=key, Body=b"as it was")
    before = standing()
    make()
    assert artifacts(settings, aws).keys() == keys.keys()
    for key in keys:
        body = aws("s3").get_object(Bucket=settings.artifacts_bucket, Key=key)["Body"].read()
        assert body == b"as it was"
    assert standing() == before


def test_a_changed_script_gets_a_name_of_its_own_and_the_old_one_stays(
    settings: Settings, make: Callable[..., Any], standing: Callable[[], Any],
    aws: Callable[[str], Any],
) -> None:  # fmt: skip
    make()
    first = standing()["Command"]["ScriptLocation"]
    make("print('curated better')")
    second = standing()["Command"]["ScriptLocation"]
    assert first != second
    keys = artifacts(settings, aws)
    assert {uri.partition("artifacts/")[2] for uri in (first, second)} <= keys.keys()


def test_a_changed_setting_changes_the_job_and_keeps_its_runs(
    settings: Settings, make: Callable[..., Any], standing: Callable[[], Any],
    aws: Callable[[str], Any],
) -> None:  # fmt: skip
    make()
    run = aws("glue").start_job_run(JobName=settings.glue_job)["JobRunId"]
    make(glue_workers=6)
    assert standing()["NumberOfWorkers"] == 6
    assert [r["Id"] for r in aws("glue").get_job_runs(JobName=settings.glue_job)["JobRuns"]] == [
        run
    ]


def test_several_processes_may_make_it_at_once(
    make: Callable[..., Any], standing: Callable[[], Any]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: make(), range(8)))
    assert standing()["GlueVersion"] == "5.1"


def test_a_script_that_is_missing_is_said_so(
    settings: Settings, aws: Callable[[str], Any], tmp_path: Path
) -> None:
    missing = tmp_path / "gone.py"
    with pytest.raises(GlueJobError, match=r"gone\.py, cannot be read: No such file"):
        ensure_glue_job(settings, aws("glue"), aws("s3"), script=missing)


# -- a job run as Glue tells of it


def run(**changes: Any) -> JobRun:
    told = {
        "job": "j", "id": "jr_1", "state": "SUCCEEDED", "seconds": 600.0, "dpu_seconds": 2400.0,
        "started": datetime.now(UTC) - timedelta(minutes=11), "capacity": 4.0,
        "timeout_minutes": 120, "error": "", "log_group": "/aws-glue/jobs",
    }  # fmt: skip
    return JobRun(**{**told, **changes})


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"])
def test_every_state_in_which_a_job_run_has_ended_is_known(state: str) -> None:
    assert run(state=state).ended
    assert run(state=state).succeeded == (state == "SUCCEEDED")


@pytest.mark.parametrize("state", ["WAITING", "STARTING", "RUNNING", "STOPPING", "A NEW STATE"])
def test_any_other_state_is_in_flight(state: str) -> None:
    assert not run(state=state).ended


def test_an_estimate_of_the_cost_counts_a_minute_at_least() -> None:
    assert run().cost(0.44) == pytest.approx(600 * 4 / 3600 * 0.44, abs=1e-4)
    assert run(seconds=5.0, dpu_seconds=20.0).cost(0.44) == pytest.approx(4 / 60 * 0.44, abs=1e-4)


@pytest.mark.parametrize(
    ("region", "begins"),
    [
        ("eu-central-1", "https://eu-central-1.console.aws.amazon.com/gluestudio/home?region=eu-c"),
        ("cn-north-1", "https://cn-north-1.console.amazonaws.cn/gluestudio/home?region=cn-north-1"),
        ("us-gov-west-1", "https://us-gov-west-1.console.amazonaws-us-gov.com/gluestudio/home?"),
    ],
)
def test_the_link_leads_to_the_region_s_console(region: str, begins: str) -> None:
    url = run().url(region)
    assert url.startswith(begins)
    assert url.endswith("#/job/j/run/jr_1")
