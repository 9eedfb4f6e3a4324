"""No arrival is lost and none is doubled, whatever the key and whenever the tick dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from service_core.arrival import ArrivalCursor, Budget, look_for_arrivals
from service_core.contract.model import Contract, Pace
from service_core.layout import Zone
from service_core.ledger import State
from service_core.telemetry import configure_logging
from tests.pipeline.conftest import Lake, orders


def look(lake: Lake, cursor: ArrivalCursor | None = None, **budget: Any) -> Any:
    return look_for_arrivals(
        lake.contract,
        lake.store(),
        lake.ledger(),
        cursor or ArrivalCursor(),
        clock=lambda: datetime.now(UTC),
        budget=Budget(**budget),
    )


def test_files_of_one_second_are_all_taken_in_one_batch(lake: Lake) -> None:
    for n in range(5):
        lake.land(f"orders_{n}.csv", orders([n]))
    found = look(lake)
    assert (found.new, len(found.batches)) == (5, 1)


def test_what_was_taken_once_is_not_taken_again(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    first = look(lake)
    second = look(lake, first.cursor)
    assert (first.new, second.new, second.batches) == (1, 0, [])


def test_a_lost_cursor_doubles_nothing(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    first = look(lake)
    again = look(lake)
    assert again.new == 0
    assert [b.batch_id for b in again.batches] == [b.batch_id for b in first.batches]


def test_a_key_overwritten_with_new_content_is_taken_again(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    first = look(lake)
    lake.land("orders_1.csv", orders([2]))
    second = look(lake, first.cursor)
    assert second.new == 1
    assert first.batches[0].batch_id != second.batches[0].batch_id


def test_two_versions_landed_between_two_ticks_are_both_taken(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    lake.land("orders_1.csv", orders([2]))
    found = look(lake)
    assert (found.new, len(found.batches)) == (2, 2)


def test_a_key_deleted_before_the_tick_is_still_an_arrival(lake: Lake) -> None:
    key = lake.land("orders_1.csv", orders([1]))
    lake.s3.delete_object(Bucket=lake.settings.bucket(Zone.RAW), Key=key)
    assert look(lake).new == 1
    lake.run_all()
    assert lake.published_ids() == ["O000000001"]


@pytest.mark.parametrize(
    "name",
    [
        "orders with spaces.csv",
        "orders_ünï-😀.csv",
        "orders_%2F_1.csv",
        "orders_+&=?#.csv",
        "../orders_1.csv",
        "sub/folder/orders_1.csv",
        "orders_\x01_control.csv",
        "orders_\ttab.csv",
    ],
)
def test_a_hostile_key_ends_in_a_state_of_its_own(lake: Lake, name: str) -> None:
    lake.land(name, orders([1]))
    assert look(lake).new == 1
    results = lake.run_all()
    assert len(results) == 1
    (outcome,) = lake.verdict_of(results[0]).files
    entry = lake.ledger().entries([outcome.source_object.id])[outcome.source_object.id]
    assert outcome.source_object.key.endswith(name)
    assert entry.state in (State.PUBLISHED, State.QUARANTINED)


def test_a_tick_that_died_after_marking_is_finished_by_the_next(lake: Lake) -> None:
    """The worst moment: the batch is pending and its objects are not yet received."""

    class Died(Exception):
        pass

    class DiesBeforeReceiving:
        def __init__(self, ledger: Any) -> None:
            self._ledger = ledger

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ledger, name)

        def receive(self, *_: object, **__: object) -> None:
            raise Died

    lake.land("orders_1.csv", orders([1]))
    ledger = DiesBeforeReceiving(lake.ledger())
    with pytest.raises(Died):
        look_for_arrivals(
            lake.contract, lake.store(), ledger, ArrivalCursor(), clock=lambda: datetime.now(UTC)
        )  # fmt: skip
    again = look(lake)
    assert (again.resumed, again.new) == (1, 0)
    lake.run_all()
    assert lake.published_ids() == ["O000000001"]


def test_a_file_older_than_the_window_is_found_by_the_sweep_and_marked_late(
    lake: Lake,
) -> None:
    old = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}"
    lake.land("orders_1.csv", orders([1]), partition=old)
    found = look(lake)
    assert (found.new, found.late) == (1, 1)


def test_a_listing_that_runs_out_of_budget_goes_on_at_the_next_tick(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake = make_lake(orders_contract)
    for n in range(3):
        lake.land(f"orders_{n}.csv", orders([n]))
    cursor, ticks, new = ArrivalCursor(), 0, 0
    while new < 3 and ticks < 10:
        found = look(lake, cursor, batches=1, seconds=20)
        cursor, ticks, new = found.cursor, ticks + 1, new + found.new
    assert new == 3


def test_where_too_much_waits_arrivals_stay_in_the_bucket(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    first = look(lake)
    lake.land("orders_2.csv", orders([2]))
    lake.contract = replace(lake.contract, pace=Pace(max_runs=1))
    held = look(lake, first.cursor)
    assert held.held_back and held.new == 0
    assert (held.figures().waiting, held.why_left) == (
        1,
        "1 runs are in flight (pace.maxRuns is 1)",
    )
    lake.ledger().close_batch("orders", first.batches[0].batch_id)
    assert look(lake, held.cursor).new == 1


def test_a_look_whose_time_is_up_leaves_the_rest_to_the_next_one(lake: Lake) -> None:
    """Dagster gives up on a tick after 60 s, and would not hear of what it has made by then."""
    lake.contract = replace(
        lake.contract, landing=replace(lake.contract.landing, max_batch_files=1)
    )
    for n in range(2):
        lake.land(f"orders_{n}.csv", orders([n]))
    first = look(lake, taking_seconds=0.0)
    assert (first.new, first.figures().waiting) == (1, 1)
    assert first.why_left == "this look's time is up"
    assert look(lake, first.cursor).new == 1


def test_a_key_under_no_partition_is_filed_under_its_day_of_arrival(lake: Lake) -> None:
    bucket = lake.settings.bucket(Zone.RAW)
    lake.s3.put_object(Bucket=bucket, Key="orders/dt=2026-13-45/orders_1.csv", Body=orders([1]))
    found = look(lake)
    assert (found.new, found.misplaced) == (1, 1)
    (result,) = lake.run_all()
    (outcome,) = lake.verdict_of(result).files
    assert [f.code.value for f in outcome.findings] == ["PARTITION_INVALID"]


def test_a_clock_that_went_backwards_does_not_lose_an_unfinished_tick(lake: Lake) -> None:
    future = datetime.now(UTC) + timedelta(hours=1)
    lake.land("orders_1.csv", orders([1]))
    found = look(lake, ArrivalCursor(ticked_at=future))
    assert found.new == 1
    assert found.batches[0].requested_at > future


def test_batches_are_bounded_by_files(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    landing = replace(orders_contract.landing, max_batch_files=2)
    lake = make_lake(orders_contract, landing=landing)
    for n in range(5):
        lake.land(f"orders_{n}.csv", orders([n]))
    assert len(look(lake).batches) == 3


def test_a_key_under_no_contract_is_reported_once(lake: Lake) -> None:
    bucket = lake.settings.bucket(Zone.RAW)
    lake.s3.put_object(Bucket=bucket, Key="nobody/knows.csv", Body=b"x")
    lake.land("orders_1.csv", orders([1]))
    first = lake.session.tick_named("unclaimed_arrivals")
    second = lake.session.tick_named("unclaimed_arrivals")
    assert "1 files under no contract" in first.said
    assert "No new files" in second.said
    records = [k for k in lake.store().keys(Zone.QUARANTINE, "_unclaimed/")
               if k.endswith("record.json")]  # fmt: skip
    assert len(records) == 1


def test_the_figures_of_a_tick_are_on_the_assets_plot_in_the_log_and_in_the_sentence(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    old = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}"
    lake.land("orders_1.csv", orders([1]))
    lake.land("orders_2.csv", orders([2]), partition=old)
    configure_logging()
    first = evaluate(lake)
    (observed,) = first.asset_events
    assert observed.asset_key == dg.AssetKey(["raw", "orders"])
    figures = {name: value.value for name, value in observed.metadata.items()}
    assert {name: figures[f"arrivals/{name}"] for name in ("seen", "new", "late", "pending")} == {
        "seen": 2, "new": 2, "late": 1, "pending": 2,
    }  # fmt: skip
    line = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (line["new"], line["late"], line["dataset"]) == (2, 1, "orders")
    assert "2 versions listed, 2 new in 2 batches; 1 late" in line["said"]
    assert len(first.run_requests) == 2


def evaluate(lake: Lake) -> Any:
    session = lake.session
    with dg.build_sensor_context(
        instance=session.instance,
        definitions=session.definitions,
        sensor_name="orders_arrivals",
        resources=session.definitions.resources,
    ) as context:
        return session.definitions.get_sensor_def("orders_arrivals").evaluate_tick(context)


def test_a_batch_that_was_marked_and_never_requested_is_requested_once_dagster_knows_no_run(
    lake: Lake,
) -> None:
    """Messages that were deleted bring nobody back to the batch that they have become."""
    lake.land("orders_1.csv", orders([1]))
    (marked,) = look(lake).batches
    lake.ledger().open_batch(
        replace(marked, way="notifications", requested_at=datetime.now(UTC) - timedelta(hours=1))
    )
    lake.session.tick("orders")
    (request,) = lake.session.tick("orders").requests
    assert request.run_key == marked.batch_id
    assert lake.session.execute("orders", request).success
    assert lake.session.tick("orders").requests == ()
