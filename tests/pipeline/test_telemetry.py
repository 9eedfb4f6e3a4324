"""Every line says whose it is, and no event is lost in silence."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import structlog

from resources.telemetry import EventBridgeEvents, EventsResource
from service_core.events import Event, EventName
from service_core.manifest import Manifest, Origin
from service_core.run import Run
from service_core.settings import Settings
from service_core.source_object import SourceObject
from service_core.telemetry import CONTEXT_KEYS, configure_logging, logger, stage

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been logged."""
    stream = io.StringIO()
    configure_logging(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def run(tmp_path: Path, replay_id: str | None = None) -> Run:
    return Run(id="run-1", attempt="1", clock=lambda: NOW, scratch=tmp_path, replay_id=replay_id)


def batch(files: int = 1) -> Manifest:
    return Manifest(
        dataset="orders",
        partition="2026-11-21",
        contract_version="1",
        contract_hash="h",
        origin=Origin.PERSON,
        objects=tuple(
            SourceObject(
                bucket="raw",
                key=f"orders/{n}\n.csv",
                etag="e",
                size=5,
                last_modified=NOW,
                partition="2026-11-21",
            )
            for n in range(files)
        ),
        created_at=NOW,
    )


def event(number: int = 0, **detail: Any) -> Event:
    return Event(
        name=EventName.QUARANTINED,
        dataset="orders",
        partition="2026-11-21",
        batch_id="b",
        run_id="r",
        source=f"s3://raw/{number}",
        at=NOW,
        detail=detail,
    )


class Bus:
    """EventBridge's answers, to order: for each call, which entries it refuses, or an error."""

    def __init__(self, *refusals: Callable[[int], bool] | Exception) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self._refusals = iter(refusals)

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls.append(Entries)
        refuse = next(self._refusals, lambda position: False)
        if isinstance(refuse, Exception):
            raise refuse
        answers = [
            {"ErrorCode": "ThrottlingException"} if refuse(position) else {"EventId": "1"}
            for position in range(len(Entries))
        ]
        return {"FailedEntryCount": sum("ErrorCode" in a for a in answers), "Entries": answers}


def test_a_stage_logs_its_start_and_end_with_everything_that_identifies_it(
    tmp_path: Path, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    with stage("validated", run=run(tmp_path, "replay-1"), manifest=batch(2)) as log:
        log.info("half way", rows=3)
        logger().warning("told by another function", source="s3://raw/x")
    started, half, other, ended = lines()
    for line in (started, half, other, ended):
        assert line["run_id"] == "run-1"
        assert line["batch_id"] == batch(2).batch_id
        assert (line["dataset"], line["partition"]) == ("orders", "2026-11-21")
        assert (line["stage"], line["replay_id"]) == ("validated", "replay-1")
        assert line["source"]
    assert (started["event"], started["files"], started["bytes"]) == ("stage started", 2, 10)
    assert half["source"] == "2 source objects"
    assert (other["source"], other["level"]) == ("s3://raw/x", "warning")
    assert ended["event"] == "stage ended"
    assert ended["duration_s"] >= 0


def test_a_stage_of_one_file_names_it_and_logs_its_failure(
    tmp_path: Path, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        stage("curated", run=run(tmp_path), manifest=batch()),
    ):
        _ = 1 // 0
    started, failed = lines()
    assert started["source"] == "s3://raw/orders/0\n.csv"
    assert "replay_id" not in started
    assert (failed["event"], failed["error"]) == ("stage failed", "ZeroDivisionError")
    assert failed["level"] == "error"


def test_a_line_outside_of_any_stage_has_the_same_keys(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    logger().info("looked", dataset="orders")
    (line,) = lines()
    assert set(CONTEXT_KEYS) <= set(line)
    assert (line["dataset"], line["run_id"]) == ("orders", "")


def test_what_is_logged_is_one_line_of_json_whatever_it_holds(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    logger().info("odd", source="a\nb\x00\udc80", path=Path("x"), at_=NOW)
    (line,) = lines()
    assert line["source"] == "a\nb\x00\udc80"


def test_dagsters_own_logging_goes_on(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    configure_logging()
    handlers = list(logging.getLogger().handlers)

    @dg.op
    def talk(context) -> None:  # type: ignore[no-untyped-def]
        context.log.info("from dagster")
        logger().info("from us", dataset="orders")

    @dg.job
    def talking() -> None:
        talk()

    with dg.DagsterInstance.ephemeral() as instance:
        result = talking.execute_in_process(instance=instance)
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    structlog.reset_defaults()
    assert "from dagster" in said
    assert logging.getLogger().handlers == handlers
    ours = [line for line in capsys.readouterr().err.splitlines() if "from us" in line]
    assert json.loads(ours[0])["dataset"] == "orders"


def test_the_embedded_bus_takes_every_event(settings: Settings) -> None:
    """Through a rule to a queue, which is how anything else learns of them."""
    from resources.aws import client

    sqs, rules = client(settings, "sqs"), client(settings, "events")
    name = settings.event_bus
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    pattern = json.dumps({"source": ["lakegate"]})
    rules.put_rule(Name="all", EventBusName=name, EventPattern=pattern)
    target = {"Id": "queue", "Arn": arn["Attributes"]["QueueArn"]}
    rules.put_targets(Rule="all", EventBusName=name, Targets=[target])
    EventsResource.of(settings).events().send([event(n, rows=n) for n in range(23)])
    received: dict[str, Any] = {}
    while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in found:
            body = json.loads(message["Body"])
            received[body["detail"]["source"]] = body
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert set(received) == {f"s3://raw/{n}" for n in range(23)}
    body = received["s3://raw/5"]
    assert (body["detail-type"], body["source"]) == ("Quarantined", "lakegate")
    assert body["detail"]["detail"] == {"rows": 5}
    assert (body["detail"]["run_id"], body["detail"]["batch_id"]) == ("r", "b")


def test_events_go_ten_to_a_request_and_never_more_bytes_than_it_takes() -> None:
    bus = Bus()
    EventBridgeEvents(bus, "bus").send([event(n) for n in range(23)])
    assert [len(call) for call in bus.calls] == [10, 10, 3]
    bus = Bus()
    EventBridgeEvents(bus, "bus").send([event(n, text="x" * 90_000) for n in range(5)])
    assert [len(call) for call in bus.calls] == [2, 2, 1]
    for call in bus.calls:
        assert sum(len(entry["Detail"].encode()) for entry in call) < 256 * 1024


def test_a_detail_that_is_too_long_says_what_was_left_out() -> None:
    bus = Bus()
    EventBridgeEvents(bus, "bus").send([event(0, rows=3, text="é" * 300_000)])
    ((entry,),) = bus.calls
    assert json.loads(entry["Detail"])["detail"] == {"rows": 3, "trimmed": ["text"]}


def test_only_the_events_that_were_refused_are_sent_again() -> None:
    bus = Bus(lambda position: position in {1, 3})
    waits: list[float] = []
    EventBridgeEvents(bus, "bus", waits.append).send([event(n) for n in range(5)])
    again = [json.loads(entry["Detail"])["source"] for entry in bus.calls[1]]
    assert again == ["s3://raw/1", "s3://raw/3"]
    assert len(waits) == 1


def test_a_bus_that_stays_away_is_logged_event_by_event_and_fails_nothing(
    settings: Settings, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    from botocore.exceptions import EndpointConnectionError

    away = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    bus = Bus(*[away] * 10)
    waits: list[float] = []
    EventBridgeEvents(bus, "bus", waits.append).send([event(1, rows=2), event(2)])
    assert len(bus.calls) == 5
    assert len(waits) == 4
    assert waits[0] < waits[-1]
    first, second = lines()
    assert (first["event"], first["level"]) == ("event lost", "error")
    assert (first["source"], second["source"]) == ("s3://raw/1", "s3://raw/2")
    assert first["undelivered"]["name"] == "Quarantined"
    assert first["undelivered"]["detail"] == {"rows": 2}
    assert "127.0.0.1:1" in first["because"]
