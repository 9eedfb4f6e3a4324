"""A concurrency pool bounds how many Glue job runs Dagster has in flight, whoever asks for them.

In `deploy/dagster.yaml` the pool counts whole runs: one that has to wait stays in the queue, where
it costs no process. (Counted by steps, it would be started, and wait inside its own process for a
slot, in the place of runs that could work.) The pool has to be known before the first run asks for
it: Dagster 1.13.27 makes a pool out of `default_limit` only while it lets that first pass of the
queue go by unbounded. `dagster instance concurrency set glue N` makes it known.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import dagster as dg
import pytest

from tests.glue_steps import ROOT, Job, until

INSTANCE = """
telemetry: {enabled: false}
run_coordinator:
  module: dagster._core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
concurrency:
  runs: {max_concurrent_runs: 4}
  pools: {granularity: run, default_limit: 1}
"""

#: Two data sets, each with a job of two steps in one process, of which one goes to Glue.
CODE = """
import os
import dagster as dg
from resources.glue import GlueResource
from resources.remote_run import RemoteWork
from service_core.settings import Settings

settings = Settings.from_environment(os.environ)
glue = GlueResource.of(settings)

def assets(dataset):
    @dg.asset(key=["validated", dataset])
    def validated():
        pass

    @dg.asset(key=["curated", dataset], deps=[validated], pool="glue")
    def curated(context: dg.AssetExecutionContext):
        work = RemoteWork(dataset, "2026-11-21", "b1", "first", "s3://curated/request.json")
        glue.run(context, work, arguments={"--gates": settings.artifacts_bucket})

    return [validated, curated]

ALL = {dataset: assets(dataset) for dataset in ("orders", "customers")}
JOBS = [
    dg.define_asset_job(f"{dataset}_ingest", its, executor_def=dg.in_process_executor)
    for dataset, its in ALL.items()
]

@dg.sensor(jobs=JOBS, default_status=dg.DefaultSensorStatus.RUNNING)
def arrivals():
    return [dg.RunRequest(job_name=job.name, run_key=job.name) for job in JOBS]

defs = dg.Definitions(
    assets=[asset for its in ALL.values() for asset in its], jobs=JOBS, sensors=[arrivals]
)
"""


@pytest.mark.soak
def test_a_run_waits_in_the_queue_while_the_pool_is_full(job: Job, tmp_path: Path) -> None:
    job.does("""
        with reporting() as pipes:
            time.sleep(3)
            pipes.report_asset_materialization({"rows_accepted": 3})
    """)
    job.home.mkdir()
    (job.home / "dagster.yaml").write_text(INSTANCE)
    code = tmp_path / "location.py"
    code.write_text(textwrap.dedent(CODE))
    environment = {**os.environ, "DAGSTER_HOME": str(job.home), "PYTHONPATH": str(ROOT)}
    with dg.DagsterInstance.from_config(str(job.home)) as instance:
        # What `dagster instance concurrency set glue 1` does.
        instance.event_log_storage.set_concurrency_slots("glue", 1)
    with (
        dg.DagsterInstance.from_config(str(job.home)) as instance,
        (job.home / "daemon.log").open("wb") as log,
    ):
        daemon = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-f", str(code)],
            env=environment, cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            until(lambda: [run.is_finished for run in instance.get_runs()] == [True, True], 180)
        finally:
            daemon.terminate()
            daemon.wait(60)
        assert [run.status.value for run in instance.get_runs()] == ["SUCCESS", "SUCCESS"]
    newer, older = job.runs()
    assert newer["StartedOn"] >= older["CompletedOn"]
