"""The platform as a person runs it: `lakegate up`, `lakegate land`, and the real daemon between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from dagster_project.session import environment
from dagster_project.up import _prepare_instance
from deploy.local import EmbeddedAws
from resources.aws import clients
from resources.catalog import CatalogResource
from service_core.contract import load_contract
from service_core.s3_store import S3ObjectStore
from service_core.settings import Settings
from tests.pipeline.conftest import ROOT, orders

pytestmark = pytest.mark.slow

_RUNS = """{ runsOrError { ... on Runs { results {
    status jobName tags { key value } assetMaterializations { assetKey { path } }
} } } }"""


@contextmanager
def platform(
    folder: Path, *options: str, end: signal.Signals = signal.SIGTERM
) -> Iterator[dict[str, Any]]:
    """`lakegate up` in a folder of its own, until the block ends."""
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAKEGATE_"))},
        "LAKEGATE_CONTRACTS": str(ROOT / "contracts"),
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dagster_project.cli", "up"),
            *("--port", "0", "--sensor-seconds", "3", *options),
        ],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    reach = folder / ".lakegate" / "up.json"
    try:
        # One that was killed leaves its own behind.
        wait_for(
            lambda: (
                (reach.exists() and json.loads(reach.read_text())["pid"] == process.pid)
                or process.poll() is not None
            ),
            seconds=150,
        )
        assert process.poll() is None, process.stdout.read().decode()  # type: ignore[union-attr]
        yield {**json.loads(reach.read_text()), "folder": folder, "environ": variables}
    finally:
        process.send_signal(end)
        assert process.wait(60) == (0 if end is signal.SIGTERM else -end)
        assert reach.exists() == (end is signal.SIGKILL)


def wait_for(happened: Callable[[], Any], *, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if outcome := happened():
            return outcome
        time.sleep(0.5)
    raise AssertionError(f"nothing happened within {seconds:g} s")


def ask(ui: str, query: str) -> Any:
    request = urllib.request.Request(
        f"{ui}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())["data"]


def answers(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def command(at: dict[str, Any], *arguments: str) -> Any:
    """What a command says in JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", *arguments, "--json"],
        cwd=at["folder"], env=at["environ"], capture_output=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def finished(at: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The runs, once so many of them have ended; the last is the first."""

    def ended() -> Any:
        runs = ask(at["ui"], _RUNS)["runsOrError"]["results"]
        runs = [run for run in runs if run["status"] in ("SUCCESS", "FAILURE")]
        return runs if len(runs) >= count else None

    runs: list[dict[str, Any]] = wait_for(ended, seconds=180)
    assert [(r["jobName"], r["status"]) for r in runs] == [("orders_ingest", "SUCCESS")] * count
    return runs


def rows(variables: Mapping[str, str]) -> list[str]:
    """The orders that a reader sees, once for each time that they are there."""
    with environment(variables):
        catalog = CatalogResource.of(Settings.from_environment(os.environ)).catalog()
        found = catalog.scan(load_contract(ROOT / "contracts" / "orders.yaml"))
        return sorted(order for batch in found for order in batch.column("order_id").to_pylist())


def land(at: dict[str, Any], name: str, numbers: range) -> str:
    """Land orders as a producer would; returns the key."""
    file = at["folder"] / name
    file.write_bytes(orders(numbers))
    (where,) = command(at, "land", str(file), "--dataset", "orders")
    return str(where["uri"]).split("/", 3)[3]


def test_runs_whose_processes_ended_with_the_platform_are_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster cannot see the process of a run on its own machine, and would wait for it for ever,
    with every other run of its partition behind it."""
    shutil.copyfile(ROOT / "deploy" / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        statuses = {
            create_run_for_test(instance, job_name="orders_ingest", status=status).run_id: status
            for status in (
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.NOT_STARTED,
                dg.DagsterRunStatus.SUCCESS,
            )
        }
    _prepare_instance()
    with dg.DagsterInstance.get() as instance:
        started, waiting, done = (instance.get_run_by_id(run_id) for run_id in statuses)
        assert started is not None and waiting is not None and done is not None
        assert started.status is dg.DagsterRunStatus.FAILURE
        assert started.tags["dagster/will_retry"] == "true"
        assert waiting.status is dg.DagsterRunStatus.NOT_STARTED
        assert done.status is dg.DagsterRunStatus.SUCCESS


@pytest.mark.soak
def test_what_lands_is_published_by_the_daemon_and_survives_the_end_of_everything(
    tmp_path: Path,
) -> None:
    """Killed with the signal that cannot be caught, a platform leaves no process behind and a
    state that the next one goes on from: history, cursors, objects, ledger and catalog."""
    kept = tmp_path / "kept"
    with platform(tmp_path, "--durable", str(kept), end=signal.SIGKILL) as at:
        first = land(at, "orders_1.csv", range(1, 11))
        (run,) = finished(at, 1)
        before = rows(at["environment"])
    wait_for(lambda: not (answers(at["ui"]) or answers(at["endpoint"])), seconds=20)
    keys = ["/".join(m["assetKey"]["path"]) for m in run["assetMaterializations"]]
    assert keys == ["raw/orders", "validated/orders", "curated/orders", "published/orders"]
    assert before == [f"O{n:09d}" for n in range(1, 11)]

    with platform(tmp_path, "--durable", str(kept)) as at:
        assert rows(at["environment"]) == before
        second = land(at, "orders_2.csv", range(11, 16))
        # Had the first file been taken for new, its run would be among them.
        assert len(finished(at, 2)) == 2
        known = command(at, "status", first)
        assert [o["state"] for o in known] == ["published"], known
        after = rows(at["environment"])
    assert after == [f"O{n:09d}" for n in range(1, 16)]

    with EmbeddedAws(durable=kept) as aws, environment(aws.environment()):
        assert rows({}) == after
        settings = Settings.from_environment(os.environ)
        listed = S3ObjectStore(clients(settings)("s3"), settings).list_versions("orders/")
        assert [o.key for o in listed.objects] == [first, second]
