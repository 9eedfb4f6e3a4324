"""What S3 tells of is taken once, however often, late or badly it is told; and what it never tells
of is found by listing.

On moto alone, whose buckets send notifications: SeaweedFS, the real S3 server of other tests, has
none. What becomes of a message is tested on it, too (`tests/real_s3/test_real_arrivals_scale.py`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import pytest
from click.testing import CliRunner

from dagster_project.cli import main
from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws
from resources.aws import clients
from resources.notifications import NotificationsResource, SqsNotifications
from service_core.arrival import (
    ArrivalCursor,
    Heard,
    Hearing,
    hear_notifications,
    look_for_arrivals,
)
from service_core.contract.model import Pace
from service_core.layout import Zone
from service_core.ports import QueueDepth
from service_core.settings import NotificationRoute, Settings
from tests.pipeline.conftest import Lake, orders


@pytest.fixture(autouse=True)
def told_by_s3(embedded_aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEGATE_NOTIFICATIONS", "sqs")


@pytest.fixture
def queue(settings: Settings, aws: Callable[[str], Any]) -> SqsNotifications:
    return _queue(settings, aws)


def _queue(settings: Settings, aws: Callable[[str], Any], **more: Any) -> SqsNotifications:
    """The embedded SQS asks all of its servers at once."""
    names = (settings.notifications_queue, settings.dead_letter_queue)
    return SqsNotifications(aws("sqs"), *names, more_seconds=0, **more)


def hear(lake: Lake, queue: Any, **more: Any) -> Heard:
    clock = more.pop("clock", lambda: datetime.now(UTC))
    return hear_notifications(
        [lake.contract],
        more.pop("store", lake.store()),
        more.pop("ledger", lake.ledger()),
        queue,
        clock=clock,
        since=more.pop("since", None),
        hearing=Hearing(wait_seconds=more.pop("wait_seconds", 0.0), **more),
    )


def list_them(lake: Lake, cursor: ArrivalCursor | None = None) -> Any:
    return look_for_arrivals(
        lake.contract,
        lake.store(),
        lake.ledger(),
        cursor or ArrivalCursor(),
        clock=lambda: datetime.now(UTC),
    )


def send(lake: Lake, aws: Callable[[str], Any], *bodies: str) -> None:
    sqs = aws("sqs")
    url = sqs.get_queue_url(QueueName=lake.settings.notifications_queue)["QueueUrl"]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)


def record(lake: Lake, key: str, event: str = "ObjectCreated:Put") -> str:
    """A notification as S3 sends it straight to a queue."""
    about = {"key": quote_plus(key), "size": 1, "eTag": "e", "sequencer": "0A"}
    bucket = {"name": lake.settings.bucket(Zone.RAW)}
    return json.dumps(
        {"Records": [{"eventName": event, "s3": {"bucket": bucket, "object": about}}]}
    )


def test_what_s3_tells_of_is_published_by_the_sensor_and_listing_finds_nothing_more(
    lake: Lake, queue: SqsNotifications
) -> None:
    """The whole way: the real bucket's notification, the real sensor, the real runs."""
    lake.land("orders_1.csv", orders([1]))
    lake.land("orders ü +&=.csv", orders([2]))
    tick = lake.session.tick_named("arrival_notifications")
    assert [r.job_name for r in tick.requests] == ["orders_ingest"]
    assert queue.depth() == QueueDepth(0, 0, 0)
    for request in tick.requests:
        assert lake.session.execute("orders", request).success
    assert lake.published_ids() == ["O000000001"]
    assert len(lake.quarantined_files()) == 1
    assert lake.session.tick("orders").requests == ()


def test_bootstrap_repeated_leaves_other_peoples_notifications_as_they_are(
    lake: Lake, aws: Callable[[str], Any]
) -> None:
    s3, sqs = aws("s3"), aws("sqs")
    bucket = lake.settings.bucket(Zone.RAW)
    sqs.create_queue(QueueName=f"{lake.settings.name_prefix}-theirs")
    arn = f"arn:aws:sqs:{lake.settings.region}:123456789012:{lake.settings.name_prefix}-theirs"
    before = s3.get_bucket_notification_configuration(Bucket=bucket)
    theirs = {"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectRemoved:*"]}
    ours = before["QueueConfigurations"]
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [*ours, theirs]}
    )
    bootstrap(lake.settings, clients(lake.settings))
    after = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert sorted(q["Id"] for q in after) == ["lakegate-arrivals", "theirs"]


def test_eventbridge_tells_of_the_same_arrivals(
    lake: Lake, queue: SqsNotifications, aws: Callable[[str], Any]
) -> None:
    by_bus = lake.settings.model_copy(update={"notifications": NotificationRoute.EVENTBRIDGE})
    bootstrap(by_bus, clients(by_bus))
    lake.land("orders_1.csv", orders([1]))
    lake.land("orders_2.csv", orders([2]))
    heard = hear(lake, queue)
    figures = heard.figures["orders"]
    # The bucket's test event came when the first route was set up.
    assert (heard.messages - heard.ignored, figures.new, figures.duplicate) == (2, 2, 0)
    assert len(heard.batches) == 1


def test_told_twice_late_and_in_no_order_each_version_is_taken_once(
    lake: Lake, queue: SqsNotifications, aws: Callable[[str], Any]
) -> None:
    first = lake.land("orders_1.csv", orders([1]))
    lake.land("orders_1.csv", orders([2]))
    lake.land("orders_2.csv", orders([3]))
    send(lake, aws, record(lake, first), record(lake, first))
    heard = hear(lake, queue)
    assert heard.figures["orders"].new == 3
    # Two versions of a key come in two batches, the older first.
    assert len(heard.batches) == 2
    send(lake, aws, record(lake, first))
    again = hear(lake, queue, since=heard.mark)
    assert (again.figures["orders"].new, again.batches) == (0, [])
    for request in lake.session.tick("orders").requests:
        raise AssertionError(f"listing has taken {request.run_key} once more")


def test_what_was_never_told_is_found_by_listing_and_told_later_is_known(
    lake: Lake, queue: SqsNotifications, aws: Callable[[str], Any]
) -> None:
    lake.land("orders_1.csv", orders([1]))
    lost = queue.receive(most=10, wait_seconds=0)
    queue.delete(lost)
    assert hear(lake, queue).messages == 0
    assert list_them(lake).new == 1
    send(lake, aws, lost[-1].body)
    assert hear(lake, queue).figures["orders"].new == 0


def test_what_is_no_arrival_is_ignored_and_what_nobody_understands_can_be_sent_back(
    lake: Lake, queue: SqsNotifications, aws: Callable[[str], Any]
) -> None:
    hear(lake, queue)
    gone = lake.key("orders_gone.csv")
    send(
        lake,
        aws,
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}),
        record(lake, lake.key("orders_1.csv"), event="ObjectRemoved:Delete"),
        record(lake, "nobody/knows.csv"),
        record(lake, gone),
        "no JSON",
        json.dumps({"Records": [{"eventName": "ObjectCreated:Put"}]}),
    )
    heard = hear(lake, queue)
    assert (heard.ignored, heard.given_up, heard.batches) == (3, 2, [])
    assert heard.figures["orders"].ignored == 1
    assert queue.depth() == QueueDepth(0, 0, 0)
    letters = queue.dead_letters()
    assert sorted(letter.reason for letter in letters) == [
        "It has no object `s3` where S3's notifications have one.",
        "The message is no JSON.",
    ]
    assert len(queue.dead_letters()) == 2, "looking takes nothing away"
    (no_json,) = [one for one in letters if one.body == "no JSON"]
    shown = CliRunner().invoke(main, ["notifications", "dead", "list"])
    assert shown.exit_code == 0, shown.output
    assert no_json.id in shown.output and "The message is no JSON." in shown.output
    sent = CliRunner().invoke(main, ["notifications", "dead", "redrive", no_json.id])
    assert (sent.exit_code, sent.output) == (0, "1 messages are in the queue again.\n")
    assert [one.body == "no JSON" for one in queue.dead_letters()] == [False]
    assert hear(lake, queue).given_up == 1
    assert queue.redrive(None) == 2
    assert queue.dead_depth() == QueueDepth(0, 0, 0)


class _Died(Exception):
    pass


class _Dies:
    """Something that dies at one of its methods."""

    def __init__(self, of: Any, method: str) -> None:
        self._of = of
        self._method = method

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            raise _Died
        return getattr(self._of, name)


def test_a_look_that_dies_anywhere_is_made_up_for_and_loses_no_message(
    lake: Lake, settings: Settings, aws: Callable[[str], Any]
) -> None:
    """A message is gone only after its manifest, its mark and its reception."""
    queue = _queue(settings, aws, visibility_seconds=1)
    since = hear(lake, queue).mark
    deaths = [("store", "write"), ("ledger", "open_batch"), ("ledger", "receive"),
              ("queue", "delete")]  # fmt: skip
    for number, (at, method) in enumerate(deaths):
        lake.land(f"orders_{number}.csv", orders([number]))
        hurt = {"store": lake.store(), "ledger": lake.ledger(), "queue": queue}
        hurt[at] = _Dies(hurt[at], method)
        with pytest.raises(_Died):
            hear(lake, hurt["queue"], store=hurt["store"], ledger=hurt["ledger"], since=since)
        heard = hear(lake, queue, wait_seconds=9, since=since)
        assert len(heard.batches) == 1, (at, method)
        assert queue.depth() == QueueDepth(0, 0, 0)
        pending = {b.batch_id for b in lake.ledger().pending_batches("orders")}
        assert len(pending) == number + 1 and heard.batches[0].batch_id in pending
        since = heard.mark


def test_messages_in_hand_do_not_come_back_however_long_the_work_takes(
    lake: Lake, settings: Settings, aws: Callable[[str], Any]
) -> None:
    queue = _queue(settings, aws, visibility_seconds=1)
    lake.land("orders_1.csv", orders([1]))
    mine = queue.receive(most=100, wait_seconds=1)
    with queue.in_hand(mine):
        assert queue.receive(most=100, wait_seconds=2) == []
        queue.delete(mine)
    assert queue.receive(most=100, wait_seconds=2) == []


class _Slow:
    """SQS as it is from afar: each answer takes a while. Counts how many are waited for at once."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs
        self._lock = threading.Lock()
        self._waiting = 0
        self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sqs, name)

    def receive_message(self, **asked: Any) -> Any:
        with self._lock:
            self._waiting += 1
            self.most = max(self.most, self._waiting)
        time.sleep(0.02)
        try:
            return self._sqs.receive_message(**asked)
        finally:
            with self._lock:
                self._waiting -= 1


def test_a_flood_of_messages_is_received_by_many_requests_at_once(
    lake: Lake, settings: Settings, aws: Callable[[str], Any]
) -> None:
    """One request brings ten messages at most and takes some 15 ms: one after the other would be
    no more than 670 messages a second."""
    bodies = [record(lake, lake.key(f"orders_{n}.csv")) for n in range(80)]
    send(lake, aws, *bodies)
    sqs = _Slow(aws("sqs"))
    names = (settings.notifications_queue, settings.dead_letter_queue)
    queue = SqsNotifications(sqs, *names, more_seconds=0)
    received = queue.receive(most=1_000, wait_seconds=1)
    assert sorted(n.body for n in received if "Records" in n.body) == sorted(bodies)
    assert sqs.most >= 4


def test_what_back_pressure_leaves_waits_in_the_queue_and_is_taken_when_there_is_room(
    lake: Lake, queue: SqsNotifications
) -> None:
    lake.contract = replace(lake.contract, pace=Pace(max_runs=1))
    lake.land("orders_1.csv", orders([1]))
    first = hear(lake, queue)
    lake.land("orders_2.csv", orders([2]))
    held = hear(lake, queue)
    figures = held.figures["orders"]
    assert (figures.new, figures.waiting) == (0, 1)
    assert held.why_left["orders"] == "1 runs are in flight (pace.maxRuns is 1)"
    assert held.depth == QueueDepth(ready=0, in_hand=0, postponed=1)
    lake.ledger().close_batch("orders", first.batches[0].batch_id)
    # Listing may take it meanwhile, for it lies in the bucket as well.
    assert list_them(lake).new == 1


def test_while_listing_cuts_batches_of_a_data_set_its_messages_wait(
    lake: Lake, queue: SqsNotifications
) -> None:
    lake.land("orders_1.csv", orders([1]))
    at = datetime.now(UTC)
    desk = lake.ledger().take_desk("orders", "listing", at=at, seconds=90)
    heard = hear(lake, queue)
    assert heard.why_left == {"orders": "listing is cutting batches"}
    lake.ledger().leave_desk(desk, paid_until=None)
    assert list_them(lake).new == 1


def test_listing_and_notifications_racing_each_other_put_no_object_into_two_batches(
    lake: Lake, queue: SqsNotifications
) -> None:
    lake.contract = replace(lake.contract, landing=replace(lake.contract.landing,
                                                           max_batch_files=3))  # fmt: skip
    for number in range(30):
        lake.land(f"orders_{number:02}.csv", orders([number]))
    batches: list[Any] = []
    ways = [
        threading.Thread(target=lambda: batches.extend(list_them(lake).batches)),
        threading.Thread(target=lambda: batches.extend(hear(lake, queue).batches)),
    ]
    for way in ways:
        way.start()
    for way in ways:
        way.join()
    batches += list_them(lake, ArrivalCursor(ticked_at=datetime.now(UTC))).batches
    from service_core.arrival import read_manifest

    keys = [
        o.key
        for uri in {b.manifest_uri for b in batches}
        for o in read_manifest(lake.store(), uri).objects
    ]
    assert len(keys) == len(set(keys)) == 30


def test_a_trickle_gathers_for_a_window_and_no_longer(lake: Lake, queue: SqsNotifications) -> None:
    lake.contract = replace(lake.contract, pace=Pace(max_wait=timedelta(hours=1)))
    lake.land("orders_1.csv", orders([1]))
    heard = hear(lake, queue)
    listed = list_them(lake)
    assert (heard.batches, listed.batches) == ([], [])
    assert heard.figures["orders"].waiting == listed.figures().waiting == 1
    assert heard.depth.postponed == 1
    later = hear_later(lake, hours=1)
    assert later.new == 1


def hear_later(lake: Lake, *, hours: int) -> Any:
    return look_for_arrivals(
        lake.contract,
        lake.store(),
        lake.ledger(),
        ArrivalCursor(),
        clock=lambda: datetime.now(UTC) + timedelta(hours=hours),
    )


def test_a_queue_that_is_empty_is_no_outage(settings: Settings) -> None:
    """A long poll that outlasts the client's patience would be told as SQS not answering."""
    impatient = settings.model_copy(update={"aws_read_seconds": 2.0, "aws_attempts": 1})
    queue = NotificationsResource.of(impatient).queue()
    queue.delete(queue.receive(most=10, wait_seconds=0))
    assert queue.receive(most=10, wait_seconds=20) == []
