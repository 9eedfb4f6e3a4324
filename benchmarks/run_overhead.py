"""What a run costs before it does anything, and what an idle code location costs.

The run: a code server is up, as in a deployment; the clock starts when the instance is asked to
launch the run of a batch that has arrived, and stops when the step that opens the landed file
starts. In between lie the run's own process, its imports, its definitions, and the step that
takes inventory. What that step then loads before it opens a file is timed in processes of its own,
and added. The code location: a process of its own, from its start until the definitions of 200
contracts have been loaded. Medians.

    python benchmarks/run_overhead.py
    python benchmarks/run_overhead.py --repeats 1 --contracts 20

The last line of stdout is one JSON object with the results.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _measuring import ROOT, Figure, progress, tell
from path_vs_copy import CONTRACT, orders_file

sys.path.insert(0, str(ROOT))

_FIRST = 910_000_000
_PATIENCE = 120.0
_LOAD = "from dagster_project.definitions import defs; defs().get_repository_def()"
_OPEN = f"""{_LOAD}
import time
began = time.perf_counter()
import service_core.validation.batch
print(time.perf_counter() - began)
"""


def seconds_to_first_read(repeats: int) -> list[float]:
    """From a run's launch until its file is opened."""
    from dagster import DagsterEventType
    from dagster._core.storage.tags import PARTITION_NAME_TAG
    from dagster._core.test_utils import (
        create_run_for_test,
        create_test_daemon_workspace_context,
        instance_for_test,
    )
    from dagster._core.workspace.load_target import ModuleTarget

    from dagster_project.landing import land_files, landing_keys
    from dagster_project.session import Session, environment
    from deploy.bootstrap import bootstrap
    from deploy.local import EmbeddedAws
    from resources.aws import client, clients
    from service_core.contract import load_contract
    from service_core.naming import ingest_job
    from service_core.settings import Settings

    with tempfile.TemporaryDirectory() as folder, EmbeddedAws() as aws:
        shutil.copy(CONTRACT, folder)
        with (
            environment({**aws.environment(), "LAKEGATE_CONTRACTS": folder}),
            instance_for_test(overrides={"telemetry": {"enabled": False}}) as instance,
        ):
            settings = Settings.from_environment(os.environ)
            bootstrap(settings, clients(settings))
            target = ModuleTarget(
                module_name="dagster_project.definitions",
                attribute=None,
                working_directory=str(ROOT),
                location_name="lakegate",
            )
            contract = load_contract(CONTRACT)
            session = Session([contract], settings, instance)
            found = []
            with create_test_daemon_workspace_context(target, instance) as workspace:
                context = workspace.create_request_context()
                (repository,) = context.get_code_location("lakegate").get_repositories().values()
                job = repository.get_full_job(ingest_job("orders"))
                for turn in range(repeats):
                    path = orders_file(10, _FIRST + 10 * turn)
                    landed = landing_keys(contract, [path], "2026-11-21")
                    land_files(landed, settings, client(settings, "s3"))
                    (request,) = session.tick("orders").requests
                    run_id = create_run_for_test(
                        instance,
                        job_name=job.name,
                        tags={
                            **job.tags,
                            **request.tags,
                            PARTITION_NAME_TAG: str(request.partition_key),
                        },
                        remote_job_origin=job.get_remote_origin(),
                        job_code_origin=job.get_python_origin(),
                    ).run_id
                    asked = time.time()
                    instance.launch_run(run_id, context)
                    while not (run := instance.get_run_by_id(run_id)) or not run.is_finished:
                        if time.time() > asked + _PATIENCE:
                            raise SystemExit(f"Run {run_id} did not end in {_PATIENCE:g} s.")
                        time.sleep(0.05)
                    if not run.is_success:
                        raise SystemExit(f"Run {run_id} failed: {instance.all_logs(run_id)[-1]}")
                    started = next(
                        entry.timestamp
                        for entry in instance.all_logs(run_id, DagsterEventType.STEP_START)
                        if entry.step_key == "orders_validated"
                    )
                    found.append(started - asked)
                    progress(f"{turn + 1}/{repeats} its step began after {found[-1]:.2f} s")
    return found


def seconds_to_open(repeats: int) -> list[float]:
    """What a run loads with its first file, beyond what its definitions did."""
    from dagster_project.session import environment

    with tempfile.TemporaryDirectory() as folder, environment({"LAKEGATE_CONTRACTS": folder}):
        shutil.copy(CONTRACT, folder)
        return [
            float(
                subprocess.run(
                    [sys.executable, "-c", _OPEN],
                    cwd=ROOT,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout
            )
            for _ in range(repeats)
        ]


def seconds_to_load(contracts: int, repeats: int) -> list[float]:
    """From the start of a process until it has loaded the code location."""
    from dagster_project.session import environment

    with tempfile.TemporaryDirectory() as folder:
        text = CONTRACT.read_text()
        for number in range(contracts):
            name = f"orders{number:03d}"
            own = text.replace("name: orders\n", f"name: {name}\n").replace("orders/", f"{name}/")
            Path(folder, f"{name}.yaml").write_text(own)
        with environment({"LAKEGATE_CONTRACTS": folder}):
            found = []
            for turn in range(repeats):
                started = time.perf_counter()
                subprocess.run([sys.executable, "-c", _LOAD], cwd=ROOT, check=True)
                found.append(time.perf_counter() - started)
                progress(f"{turn + 1}/{repeats} {contracts} contracts after {found[-1]:.2f} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--contracts", type=int, default=200)
    options = parser.parse_args()
    started = statistics.median(seconds_to_first_read(options.repeats))
    first_read = started + statistics.median(seconds_to_open(options.repeats))
    load = statistics.median(seconds_to_load(options.contracts, options.repeats))
    tell(
        [
            Figure("run request to first byte read", first_read, "s", 3),
            Figure(f"code location load, {options.contracts} contracts", load, "s", 5),
        ]
    )


if __name__ == "__main__":
    main()
