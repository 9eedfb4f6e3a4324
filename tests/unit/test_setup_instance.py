"""The instance's configuration is checked by the Dagster that will read it: a misspelt limit would
otherwise be found when two runs of one partition have met."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import InstigatorType, TickStatus

ROOT = Path(__file__).parents[2]


@pytest.fixture()
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagsterInstance:
    shutil.copy(ROOT / "deploy" / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return DagsterInstance.get()


def test_one_run_of_a_data_sets_partition_at_a_time(instance: DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config

    assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
    assert queue is not None
    assert queue.tag_concurrency_limits == [
        {
            "key": "lakegate/partition",
            "value": {"applyLimitPerUniqueValue": True},
            "limit": 1,
        }
    ]


def test_a_dead_run_is_tried_again_and_a_failed_step_is_not(instance: DagsterInstance) -> None:
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert instance.run_retries_retry_on_asset_or_op_failure is False
    assert instance.run_monitoring_enabled


def test_skipped_ticks_do_not_pile_up(instance: DagsterInstance) -> None:
    retention = instance.get_tick_retention_settings(InstigatorType.SENSOR)

    assert retention[TickStatus.SKIPPED] == 3
    assert all(days > 0 for days in retention.values())


def test_nothing_is_reported_to_anyone(instance: DagsterInstance) -> None:
    assert instance.telemetry_enabled is False


def test_the_workspace_names_the_code_location() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())

    modules = [entry["python_module"]["module_name"] for entry in workspace["load_from"]]
    assert modules == ["dagster_project.definitions"]
