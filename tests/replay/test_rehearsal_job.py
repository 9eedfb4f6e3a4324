"""Dry runs as an operator sees them: asked for by a manifest, carried out by a run, shown on an
asset."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from service_core.naming import REPLAY_TAG, rehearsal_job, rehearsal_step
from service_core.replay.rehearsal import read_report
from tests.pipeline.conftest import order, orders
from tests.replay.conftest import ReplayLake
from tests.replay.test_rehearsal import MIXED, traces


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What stands on the asset."""
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.asset_key == dg.AssetKey(["rehearsals", "orders"])
    return {name: value.value for name, value in event.materialization.metadata.items()}


def records(table: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in getattr(table, "records", table)]


def test_a_dry_run_is_carried_out_by_one_run_and_leaves_its_report_alone(
    replays: ReplayLake,
) -> None:
    lake = replays.lake
    lake.land("orders_1.csv", MIXED)
    lake.land("orders_2.csv", orders(range(20, 25)))
    lake.run_all()
    lake.land("orders_3.csv", orders(range(30, 36)) + order(36, amount="ten").encode() + b"\n")
    before = traces(lake)
    span = {"from": lake.today(), "to": lake.today()}
    replays.ask("r-1", selector={"partitions": span}, options={"dryRun": True, "force": True})
    (result,) = replays.run_all()
    assert result.success
    assert result.dagster_run.job_name == rehearsal_job("orders")
    assert result.dagster_run.tags[REPLAY_TAG] == "r-1"

    report = read_report(lake.store(), "r-1")
    assert report is not None and report.replay_id == "r-1"
    rows = report.total.rows
    assert (rows.published, rows.would_be, rows.added, rows.removed) == (17, 23, 6, 0)
    after = traces(lake)
    assert (after["ledger"], after["snapshot"]) == (before["ledger"], before["snapshot"])
    new = {key for zone, key, _ in after["objects"].keys() - before["objects"].keys()}
    assert new and all(key.startswith("_replays/") for key in new), new
    assert set(before["objects"]) <= set(after["objects"])

    metadata = shown(result)
    assert metadata["outcome"] == report.outcome == "Rows: 6 added."
    assert (metadata["rows_added"], metadata["rows_removed"], metadata["replay_id"]) == (
        6,
        0,
        "r-1",
    )
    assert metadata["report"].endswith("/_replays/r-1/difference.json")
    sample, *_ = records(metadata["sample_added"])
    assert (sample["order_id"], sample["row"]) == ("O000000030", 1)
    (partition,) = records(metadata["partitions"])
    assert (partition["partition"], partition["added"]) == (lake.today(), 6)
    assert {r["code"] for r in records(metadata["reasons"])} == {"TYPE"}
    assert not replays.open()


def test_a_dry_run_that_is_run_again_shows_the_report_that_there_is(replays: ReplayLake) -> None:
    key = replays.lake.land("orders_1.csv", orders([1, 2]))
    replays.ask("r-1", files=[replays.file(key)], options={"dryRun": True})
    (first,) = replays.run_all()
    replays.lake.land("orders_1.csv", orders([3]))
    job = replays.lake.session.definitions.resolve_job_def(rehearsal_job("orders"))
    again = job.execute_in_process(
        instance=replays.lake.session.instance, tags=dict(first.dagster_run.tags)
    )
    assert shown(again) == shown(first)


@pytest.mark.parametrize("span", ["today", "today..today", " today .. today "])
def test_partitions_can_be_rehearsed_from_the_ui_without_a_replay(
    replays: ReplayLake, span: str
) -> None:
    lake = replays.lake
    lake.land("orders_1.csv", MIXED)
    before = traces(lake)
    job = lake.session.definitions.resolve_job_def(rehearsal_job("orders"))
    config = {"partitions": span.replace("today", lake.today())}
    result = job.execute_in_process(
        instance=lake.session.instance,
        run_config={"ops": {rehearsal_step("orders"): {"config": config}}},
    )
    metadata = shown(result)
    assert metadata["rows_added"] == 12
    assert "report" not in metadata and "replay_id" not in metadata
    assert traces(lake) == before


@pytest.mark.parametrize(
    ("partitions", "said"),
    [("", "names no partitions"), ("yesterday", "yesterday"), ("2026-11-01..x", "'x'")],
)
def test_a_run_that_does_not_know_what_to_rehearse_says_so_and_is_not_retried(
    replays: ReplayLake, partitions: str, said: str
) -> None:
    job = replays.lake.session.definitions.resolve_job_def(rehearsal_job("orders"))
    result = job.execute_in_process(
        instance=replays.lake.session.instance,
        run_config={"ops": {rehearsal_step("orders"): {"config": {"partitions": partitions}}}},
        raise_on_error=False,
    )
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert said in str(failure.step_failure_data.user_failure_data.description)
    assert not [e for e in result.all_events if e.is_step_up_for_retry]
