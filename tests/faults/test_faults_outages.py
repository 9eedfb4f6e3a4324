"""A service is away altogether: one clear sentence, and no help needed when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import resources.telemetry
from dagster_project.cli import main
from resources.catalog import IcebergCatalog
from resources.outages import TRIED_AGAIN, ServiceFailedError
from service_core.naming import DEAD_RUN_TAG, ISOLATION_SENSOR
from tests.dying_runs import die
from tests.faults.house import House, orders
from tests.faults.plan import Kind, Plan

RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
NAMES = {
    "s3": "S3",
    "dynamodb": "DynamoDB",
    "glue": "the catalog (AWS Glue)",
    "events": "the event bus (EventBridge)",
}


@pytest.fixture
def house(make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> House:
    """Its clients and its catalog lose patience at once."""
    monkeypatch.setitem(IcebergCatalog.__init__.__kwdefaults__, "patience", 0.1)
    monkeypatch.setattr(resources.telemetry, "_FIRST_WAIT_SECONDS", 0.001)
    return make_house(attempts=2, read_seconds=1.0)


def require_sentence(said: str | None, service: str) -> None:
    assert said is not None
    assert said.startswith(f"{NAMES[service]} "), said
    assert said.endswith("."), said
    assert "\n" not in said and "Traceback" not in said and "botocore" not in said, said


@contextmanager
def away(house: House, service: str, *kinds: Kind) -> Iterator[Plan]:
    with house.proxy.failing(Plan(1, 1.0, frozenset({service}), kinds=kinds or None)) as plan:
        yield plan


def test_a_tick_says_which_service_is_away_and_the_next_one_makes_up_for_it(house: House) -> None:
    for number, (service, kind) in enumerate(
        [
            ("s3", Kind.THROTTLED),
            ("s3", Kind.RESET),
            ("s3", Kind.TIMEOUT_BEFORE),
            ("s3", Kind.TRUNCATED_BODY),
            ("dynamodb", Kind.THROTTLED),
            ("dynamodb", Kind.ERROR_500),
        ]
    ):
        house.land(f"orders_{number}.csv", orders(range(number, number + 1)))
        with away(house, service, kind), pytest.raises(ServiceFailedError) as failed:
            house.session.tick_named("orders_arrivals")
        require_sentence(str(failed.value), service)
        (request,) = house.arrivals()
        house.aws("dynamodb").delete_item(
            TableName=house.settings.ledger_table,
            Key={"pk": {"S": "PENDING#orders"}, "sk": {"S": request.run_key}},
        )


def test_the_isolation_of_a_dead_run_says_which_service_is_away_and_makes_up_for_it(
    house: House,
) -> None:
    for number in range(2):
        house.land(f"orders_{number}.csv", orders(range(number, number + 1)))
    (request,) = house.arrivals()
    house.session.definitions.resources["ledger"].ledger().close_batch("orders", request.run_key)
    dead = die(house.session, request)
    for service, kind in [
        ("s3", Kind.THROTTLED),
        ("s3", Kind.TIMEOUT_BEFORE),
        ("s3", Kind.TRUNCATED_BODY),
        ("dynamodb", Kind.ERROR_500),
    ]:
        with away(house, service, kind), pytest.raises(ServiceFailedError) as failed:
            house.session.tick_named(ISOLATION_SENSOR)
        require_sentence(str(failed.value), service)
    halves = house.session.tick_named(ISOLATION_SENSOR).requests
    assert [half.tags[DEAD_RUN_TAG] for half in halves] == [dead.run_id] * 2
    for half in halves:
        assert house.session.execute("orders", half).success
    assert house.problems() == ""


@pytest.mark.slow
def test_a_run_waits_until_a_service_is_back(house: House) -> None:
    """And where it stays away, says so, and lets the run be tried again."""
    for number, service in enumerate(["s3", "dynamodb", "glue"]):
        house.land(f"orders_{number}.csv", orders(range(number, number + 1)))
        (request,) = house.arrivals()
        with pytest.MonkeyPatch.context() as patch, away(house, service):
            patch.setattr("assets.retries.OUTAGE_RETRIES", 1)
            result = house.session.execute("orders", request)
        assert not result.success
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        said = failure.step_failure_data.user_failure_data.description
        require_sentence(said, service)
        assert said.endswith(TRIED_AGAIN)
        assert house.session.instance.get_run_by_id(result.run_id).tags[RETRY_TAG] == "true"

        plan = Plan(2, 1.0, frozenset({service}), kinds=(Kind.THROTTLED, Kind.RESET), until=5)
        with house.proxy.failing(plan):
            result = house.session.execute("orders", request)
        assert result.success
        assert plan.injected.total() == 5
        assert any(event.is_step_up_for_retry for event in result.all_events)
        assert result.dagster_run.tags[RETRY_TAG] == "false"
    assert house.problems() == ""


def test_arrow_s_own_client_is_waited_for_too(house: House) -> None:
    """It reads the tables' data files, past botocore."""
    house.land("orders_1.csv", orders(range(3)))
    (request,) = house.arrivals()
    reads = frozenset({"ArrowGetObject", "ArrowHeadObject"})
    with house.proxy.failing(Plan(1, 1.0, operations=reads, kinds=(Kind.ERROR_503,), until=6)):
        result = house.session.execute("orders", request)
    assert result.success
    (retried,) = {e.step_key for e in result.all_events if e.is_step_up_for_retry}
    assert retried == "orders_published"
    error = next(e for e in result.all_events if e.is_step_up_for_retry)
    require_sentence(error.step_retry_data.error.cause.message.partition(": ")[2].strip(), "s3")
    assert house.problems() == ""


def test_a_publication_does_not_wait_for_the_event_bus(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    house.land("orders_1.csv", orders(range(3)))
    (request,) = house.arrivals()
    with away(house, "events", Kind.ERROR_500, Kind.TRUNCATED_BODY) as plan:
        result = house.session.execute("orders", request)
    assert result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    assert plan.injected.total() >= 15, "each is tried five times"
    lost = "".join(capfd.readouterr())
    assert lost.count("event lost") >= 3
    assert house.problems() == ""


def test_a_command_says_which_service_is_away(house: House, tmp_path: Path) -> None:
    key = house.land("orders_1.csv", orders(range(3)))
    (result,) = house.settle(quiet=1)
    batch = result.dagster_run.tags["lakegate/batch_id"]
    rollback = ["rollback", "--dataset", "orders", "--batch", batch, "--reason", "a test"]
    status = ["status", "orders"]
    for service, command in [
        ("s3", rollback), ("dynamodb", rollback), ("glue", rollback), ("dynamodb", status)
    ]:  # fmt: skip
        require_said(house, service, command)
    # It may have been done: the answer was lost, perhaps, and not the call.
    done = CliRunner().invoke(main, rollback)
    assert done.exit_code == 0, done.output
    house.expected.undone.add(key)
    assert house.problems() == ""
    (file := tmp_path / "orders_2.csv").write_bytes(orders(range(3)))
    require_said(house, "s3", ["land", str(file), "--dataset", "orders"])


def require_said(house: House, service: str, command: list[str]) -> None:
    """Run a command while a service is away."""
    with away(house, service):
        done = CliRunner().invoke(main, command)
    assert done.exit_code == 1, (command, done.output, done.exception)
    assert isinstance(done.exception, SystemExit), (command, done.exception)
    (line,) = done.output.strip().splitlines()
    require_sentence(line.removeprefix("AWS could not be asked: "), service)
    assert "Run the command again" in line
