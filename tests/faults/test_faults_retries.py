"""What fails of AWS is tried again, what fails of the data never is: on an instance on disk, by the
shipped configuration, and asked of the daemon's own code that decides about run retries."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import filter_runs_to_should_retry

from assets.retries import SYSTEM_RETRIES
from dagster_project.definitions import build_definitions
from resources.outages import OUTAGE_RETRIES, outage_wait
from service_core.contract import load_contract
from service_core.settings import Settings
from tests.faults.house import BAD_FILE, House, orders
from tests.faults.plan import Kind, Plan

ROOT = Path(__file__).resolve().parents[2]


def ingest_of_orders() -> dg.JobDefinition:
    """The job, as a run worker builds it."""
    orders = load_contract(ROOT / "contracts" / "orders.yaml")
    definitions = build_definitions([orders], Settings.from_environment(os.environ))
    return definitions.resolve_job_def("orders_ingest")


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance of the shipped configuration."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def worked(
    instance: dg.DagsterInstance, request: dg.RunRequest, again: str | None = None
) -> dg.JobExecutionResult:
    """Execute a run, or re-execute one from its failure."""
    # A worker builds its job once; the lake is another in each test.
    ReconstructableJob.get_definition.cache_clear()  # type: ignore[attr-defined]
    ReconstructableJob.get_repository_definition.cache_clear()  # type: ignore[attr-defined]
    options = dg.ReexecutionOptions.from_failure(again, instance) if again else None
    tags = {**request.tags, "dagster/partition": str(request.partition_key)}
    return dg.execute_job(
        dg.reconstructable(ingest_of_orders),
        instance,
        tags=tags,
        reexecution_options=options,
        raise_on_error=False,
    )


def is_run_again(instance: dg.DagsterInstance, run_id: str) -> bool:
    """What the daemon decides about a run that has failed."""
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.status is dg.DagsterRunStatus.FAILURE
    return bool(list(filter_runs_to_should_retry([run], instance)))


def retried(result: dg.JobExecutionResult) -> set[str]:
    return {event.step_key for event in result.all_events if event.is_step_up_for_retry}


def relations(family: list[str]) -> dict[str, str]:
    return {"dagster/parent_run_id": family[-1], "dagster/root_run_id": family[0]}


def said(result: dg.JobExecutionResult) -> list[str]:
    """What its failed steps tell."""
    failed = [event for event in result.all_events if event.is_step_failure]
    return [str(event.step_failure_data.error) for event in failed]


def test_bad_data_is_tried_once_by_every_mechanism(
    make_house: Callable[..., House], on_disk: dg.DagsterInstance
) -> None:
    """Not by the op, not by the daemon; and whoever re-executes it changes nothing."""
    house = make_house()
    house.land("orders_1.csv", BAD_FILE)
    (request,) = house.arrivals()
    result = worked(on_disk, request)
    assert not result.success
    assert retried(result) == set()
    assert not is_run_again(on_disk, result.run_id)

    again = worked(on_disk, request, result.run_id)
    assert "source_objects_accepted" in "".join(said(again))
    assert retried(again) == set()
    assert not is_run_again(on_disk, again.run_id)
    assert house.problems() == ""


def test_a_run_that_cannot_be_carried_out_is_tried_once(
    make_house: Callable[..., House], on_disk: dg.DagsterInstance
) -> None:
    """Its manifest does not exist: no waiting will bring it."""
    house = make_house()
    house.land("orders_1.csv", orders(range(3)))
    (request,) = house.arrivals()
    lost = {**request.tags, "lakegate/manifest": request.tags["lakegate/manifest"] + "x"}
    result = worked(on_disk, dg.RunRequest(partition_key=request.partition_key, tags=lost))
    assert not result.success
    assert retried(result) == set()
    assert not is_run_again(on_disk, result.run_id)


def test_an_outage_is_tried_again_by_the_op_then_by_the_run_then_by_hand(
    make_house: Callable[..., House], on_disk: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Re-executed from its failure, a run takes up where it was; and what it inherits of the tags
    of an outage does not have it tried again for its data."""
    monkeypatch.setattr("assets.retries.OUTAGE_RETRIES", 2)
    house = make_house(attempts=1)
    house.land("orders_1.csv", orders(range(3)))
    (request,) = house.arrivals()
    writes = frozenset({"CopyObject", "PutObject"})
    with house.proxy.failing(Plan(1, 1.0, operations=writes, kinds=(Kind.THROTTLED,))) as plan:
        result = worked(on_disk, request)
    assert not result.success
    assert retried(result) == {"orders_validated"}, said(result)
    assert plan.injected.total() == 3, "once, and twice again"
    assert is_run_again(on_disk, result.run_id)

    again = worked(on_disk, request, result.run_id)
    assert again.success, said(again)
    ran = {event.step_key for event in again.all_events if event.is_step_success}
    assert ran == {"orders_validated", "orders_curated", "orders_published"}
    assert again.dagster_run.root_run_id == result.run_id
    run = on_disk.get_run_by_id(again.run_id)
    assert run is not None
    assert run.tags["dagster/retry_on_asset_or_op_failure"] == "false"
    assert house.problems() == ""


def test_a_dead_worker_s_run_is_tried_twice_again(
    make_house: Callable[..., House], on_disk: dg.DagsterInstance
) -> None:
    """No step failed, so nothing is known of the data."""
    house = make_house()
    house.land("orders_1.csv", orders(range(3)))
    (request,) = house.arrivals()
    family: list[str] = []
    decided = []
    for _ in range(3):
        run = on_disk.create_run_for_job(
            ingest_of_orders(),
            tags={**request.tags, **(relations(family) if family else {})},
            status=dg.DagsterRunStatus.STARTED,
            parent_run_id=family[-1] if family else None,
            root_run_id=family[0] if family else None,
        )
        family.append(run.run_id)
        # What Dagster's code server does when a run's process is gone.
        on_disk.report_run_failed(run)
        decided.append(is_run_again(on_disk, run.run_id))
    assert decided == [True, True, False]


def test_waits_grow_and_are_jittered() -> None:
    longest = [max(outage_wait(n) for _ in range(200)) for n in range(1, OUTAGE_RETRIES + 1)]
    assert longest[:6] == sorted(longest[:6])
    assert 3 < longest[0] <= 4 and 200 < longest[-1] <= 240
    assert 400 < sum(longest) < 900, "some ten minutes, and the clients' own tries beside them"
    assert len({outage_wait(3) for _ in range(20)}) > 10
    delays = {SYSTEM_RETRIES.calculate_delay(2) for _ in range(20)}
    assert len(delays) > 10


def test_the_shipped_launcher_cannot_resume_a_run(tmp_path: Path) -> None:
    """So `max_resume_run_attempts` is not set: with it, no instance would start at all. A launcher
    that can resume (one of containers) may have it set."""
    text = (ROOT / "deploy" / "dagster.yaml").read_text()
    assert "run_monitoring:\n  enabled: true\n" in text
    text = text.replace("run_monitoring:\n", "run_monitoring:\n  max_resume_run_attempts: 1\n")
    (tmp_path / "dagster.yaml").write_text(text)
    with pytest.raises(Exception, match="does not support resuming runs"):
        dg.DagsterInstance.from_config(str(tmp_path))
