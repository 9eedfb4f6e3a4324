"""The replay demo shows what it says, or ends with a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.demo import DemoError
from dagster_project.demo_replay import contract_texts
from tests.pipeline.conftest import ROOT


@pytest.mark.soak
def test_the_replay_demo_verifies_every_claim_and_ends_by_itself(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAKEGATE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", "demo", "--replay"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    for shown in (
        "$ lakegate quarantine list --dataset orders",
        "-              validValues: [USD, GBP, INR, JPY]",
        "$ lakegate contract backtest proposed/orders.yaml --partitions",
        "Rows: 88 added.",
        "--reason 'euros are money' --dry-run",
        "--id euro-is-a-currency --wait",
        "$ lakegate history orders/dt=",
        "Released from quarantine by replay euro-is-a-currency",
        "rows published          152    240",
    ):
        assert shown in done.stdout, shown
    assert done.stdout.count("✓") == 6
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_contract_that_the_demo_does_not_know_any_more_is_said() -> None:
    with pytest.raises(DemoError, match="up to date"):
        contract_texts("name: orders\nversion: 3.0.0\n")
