"""The platform as a person runs it: `lakegate up`, `lakegate land`, and the real daemon between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import ROOT, orders

pytestmark = pytest.mark.slow

_RUNS = """{ runsOrError { ... on Runs { results {
    status jobName tags { key value } assetMaterializations { assetKey { path } }
} } } }"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """`lakegate up` in a folder of its own, until the test ends."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAKEGATE_"))},
        "LAKEGATE_CONTRACTS": str(ROOT / "contracts"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_project.cli", "up", "--port", "0", "--sensor-seconds", "3"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        reach = tmp_path / ".lakegate" / "up.json"
        wait_for(lambda: reach.exists() or process.poll() is not None, seconds=150)
        assert process.poll() is None, process.stdout.read().decode()  # type: ignore[union-attr]
        yield {**json.loads(reach.read_text()), "folder": tmp_path, "environ": environment}
    finally:
        process.terminate()
        assert process.wait(60) == 0
        assert not reach.exists()


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


def test_a_landed_file_is_noticed_by_the_daemon_and_published(platform: dict[str, Any]) -> None:
    file = platform["folder"] / "orders_1.csv"
    file.write_bytes(orders(range(1, 11)))
    landed = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", "land", str(file), "--dataset", "orders",
         "--json"],
        cwd=platform["folder"], env=platform["environ"], capture_output=True, check=True,
    )  # fmt: skip
    (where,) = json.loads(landed.stdout)
    assert where["uri"].endswith("/orders_1.csv")

    def finished() -> Any:
        runs = ask(platform["ui"], _RUNS)["runsOrError"]["results"]
        return [run for run in runs if run["status"] in ("SUCCESS", "FAILURE")]

    (run,) = wait_for(finished, seconds=180)
    assert (run["jobName"], run["status"]) == ("orders_ingest", "SUCCESS")
    keys = ["/".join(m["assetKey"]["path"]) for m in run["assetMaterializations"]]
    assert keys == ["raw/orders", "validated/orders", "curated/orders", "published/orders"]
