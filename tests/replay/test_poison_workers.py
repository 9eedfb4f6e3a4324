"""Files that really kill and really hang the processes that read them: a code server starts the
runs, and sees them die or has them ended."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.test_utils import (
    create_run_for_test,
    create_test_daemon_workspace_context,
    instance_for_test,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from dagster_project.session import Session
from sensors.run_deaths import death_of
from service_core.contract.model import Contract
from service_core.isolation.decision import How
from service_core.naming import (
    BATCH_TAG,
    ISOLATION_SENSOR,
    ISOLATION_TAG,
    MAX_RUNTIME_TAG,
    SPLIT_ROOT_TAG,
    ingest_job,
)
from service_core.reasons import ReasonCode
from service_core.replay.held import held_files
from service_core.settings import Settings
from tests.pipeline.conftest import ROOT, Lake, orders

LOG = logging.getLogger("daemons")
PATIENCE = 150.0

pytestmark = pytest.mark.slow


class Workers:
    """A code server with a process for each run that it is asked for, and the run monitor."""

    def __init__(self, workspace: WorkspaceProcessContext, scratch: Path) -> None:
        self.workspace, self.instance = workspace, workspace.instance
        self.hung = scratch / "hung.pid"

    def run(
        self, request: dg.RunRequest, meanwhile: Callable[[], object] = lambda: None
    ) -> dg.DagsterRun:
        """Run to its end, which for a hung one is what the monitor puts to it; `meanwhile`, once
        it hangs."""
        context = self.workspace.create_request_context()
        (repository,) = context.get_code_location("lakegate").get_repositories().values()
        job = repository.get_full_job(request.job_name or ingest_job("orders"))
        run_id = create_run_for_test(
            self.instance,
            job_name=job.name,
            tags={**job.tags, **request.tags, PARTITION_NAME_TAG: request.partition_key},
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(),
        ).run_id
        self.instance.launch_run(run_id, context)
        deadline = time.monotonic() + PATIENCE
        while not (run := self.instance.get_run_by_id(run_id)).is_finished:
            assert time.monotonic() < deadline, self.instance.all_logs(run_id)[-1]
            if self.hung.exists():
                meanwhile()
                # The limit that the job gives its runs would take hours to pass.
                self.instance.add_run_tags(run_id, {MAX_RUNTIME_TAG: "1"})
                list(execute_run_monitoring_iteration(self.workspace, LOG))
            time.sleep(0.2)
        return run


@pytest.fixture
def workers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workers]:
    contracts, scratch = tmp_path / "contracts", tmp_path / "scratch"
    contracts.mkdir()
    scratch.mkdir()
    shutil.copy(ROOT / "contracts" / "orders.yaml", contracts)
    monkeypatch.setenv("LAKEGATE_CONTRACTS", str(contracts))
    target = ModuleTarget(
        module_name="tests.replay.poisoned_location",
        attribute="defs",
        working_directory=str(ROOT),
        location_name="lakegate",
    )
    overrides = {
        "run_retries": {"enabled": True, "max_retries": 0},
        "run_monitoring": {"enabled": True},
        "telemetry": {"enabled": False},
    }
    with (
        instance_for_test(overrides=overrides) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        workers = Workers(workspace, scratch)
        try:
            yield workers
        finally:
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(workers.hung.read_text()), signal.SIGKILL)


@pytest.mark.soak
def test_a_file_that_kills_and_one_that_hangs_end_in_quarantine_and_the_rest_is_published(
    workers: Workers, settings: Settings, aws: Callable[[str], Any], orders_contract: Contract
) -> None:
    """Only what dies needs a worker; the other runs are executed here, on the same instance."""
    lake = Lake(Session([orders_contract], settings, workers.instance), orders_contract, aws("s3"))
    today, tomorrow = lake.today(), f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    lake.land("orders_good.csv", orders([1, 2]), today)
    lake.land("orders_kills.csv", orders([999000001]), today)
    lake.land("orders_hangs.csv", orders([999000002]), tomorrow)

    both, hanging = sorted(
        lake.session.tick("orders").requests, key=lambda request: str(request.partition_key)
    )
    whole = workers.run(both)
    good, killing = lake.session.tick_named(ISOLATION_SENSOR).requests
    assert lake.session.execute("orders", good).success
    killed = workers.run(killing)
    lake.land("orders_more.csv", orders([3]), today)
    hung = workers.run(hanging, meanwhile=lake.run_all)
    give_up_killing, give_up_hanging = lake.session.tick_named(ISOLATION_SENSOR).requests
    lake.session.execute("orders", give_up_killing)
    lake.session.execute("orders", give_up_hanging)
    assert lake.session.tick_named(ISOLATION_SENSOR).requests == ()

    assert lake.published_ids() == ["O000000001", "O000000002", "O000000003"]
    held = {
        file.record.source_object.key.rsplit("/")[-1]: file.record
        for file in held_files(lake.store(), lake.ledger(), "orders")
    }
    assert {name: record.code for name, record in held.items()} == {
        "orders_kills.csv": ReasonCode.PROCESSING_FAILURE,
        "orders_hangs.csv": ReasonCode.PROCESSING_FAILURE,
    }
    assert "killed its worker in step orders_validated" in held["orders_kills.csv"].message
    assert "SIGKILL" in held["orders_kills.csv"].message
    assert killed.run_id in held["orders_kills.csv"].message
    assert "hung its worker in step orders_validated" in held["orders_hangs.csv"].message
    assert "Exceeded maximum runtime of 1 seconds." in held["orders_hangs.csv"].message
    assert all(record.content_uri for record in held.values())

    deaths = [death_of(workers.instance, run) for run in (whole, killed, hung)]
    assert [death.how for death in deaths if death] == [How.DIED, How.DIED, How.HUNG]
    split = workers.instance.get_run_by_id(whole.run_id)
    assert split is not None and split.tags[ISOLATION_TAG] == f"split: run {whole.run_id}"
    assert {r.tags[SPLIT_ROOT_TAG] for r in (good, killing, give_up_killing)} == {
        both.tags[BATCH_TAG]
    }


def test_a_process_that_does_not_end_when_it_is_told_to_ends_itself() -> None:
    """And says where it hung. A thread that sleeps keeps its process alive whatever its main
    thread does."""
    script = """
import threading, time
from types import SimpleNamespace
import assets.watchdog as watchdog
watchdog.GRACE_SECONDS = 0.1
run = SimpleNamespace(tags={"dagster/max_runtime": "0.2", ".dagster/grpc_info": "{}"})
def this_never_ends():
    while True:
        time.sleep(1)
with watchdog.watched(run):
    threading.Thread(target=this_never_ends).start()
    time.sleep(60)
"""

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT
    )

    assert done.returncode == 1
    assert "this_never_ends" in done.stderr
