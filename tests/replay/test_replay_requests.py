"""Whatever is dropped into the bucket is answered beside it; nothing stops the sensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from service_core.events import EventName
from service_core.layout import REPLAY_REQUESTS
from service_core.replay.progress import Replays, look_at_replays
from service_core.replay.request import MAX_BYTES
from tests.conftest import EventsLog
from tests.pipeline.conftest import orders
from tests.replay.conftest import ReplayLake


@pytest.fixture
def look(replays: ReplayLake, events_log: EventsLog) -> Callable[..., Replays]:
    """One look, as the sensor takes it, whose events are remembered."""

    def look(**more: Any) -> Replays:
        return look_at_replays(
            {"orders": replays.lake.contract},
            replays.lake.store(),
            replays.lake.ledger(),
            events_log,
            clock=lambda: datetime.now(UTC),
            **more,
        )

    return look


GOOD = {
    "replayId": "good",
    "reason": "a test wants it",
    "dataset": "orders",
    "selector": {"state": "quarantined"},
}


_OF_FILES = {name: value for name, value in GOOD.items() if name != "selector"}


def _span(first: str, last: str) -> dict[str, Any]:
    return {**GOOD, "selector": {"partitions": {"from": first, "to": last}}}


BAD: list[tuple[bytes | dict[str, Any], str]] = [
    (b"", "not JSON"),
    ({**GOOD, "surplus": 1}, "surplus"),
    ({**GOOD, "options": {"contractVersion": "0.0.1"}}, "Kept versions: none"),
    ({**GOOD, "dataset": "nothing"}, "Known: orders"),
    ({**GOOD, "selector": {"keyPrefix": "customers/"}}, "is not under 'orders/'"),
    ({**GOOD, "selector": {"batchId": "0" * 32}}, "no batch of orders"),
    (_span("2026-02-30", "2026-03-01"), "does not exist"),
    (_span("2026-03-02", "2026-03-01"), "exchange the two"),
    (_span("2026-01-01", "2099-01-01"), "10,000 partitions"),
    ({**_OF_FILES, "files": [{"bucket": "elsewhere", "key": "orders/x"}]}, "'elsewhere'"),
    ({**_OF_FILES, "files": [{"bucket": "elsewhere", "key": "customers/x"}]}, "do not lie under"),
    (b" " * (MAX_BYTES + 1), "4,194,304"),
]


def test_what_cannot_be_carried_out_is_rejected_in_sentences_and_holds_nothing_up(
    replays: ReplayLake, look: Callable[..., Replays], events_log: EventsLog
) -> None:
    keys = [replays.drop(f"bad-{number}", body) for number, (body, _) in enumerate(BAD)]
    replays.drop("good", GOOD)
    dry = replays.drop("dry", {**GOOD, "replayId": "dry", "options": {"dryRun": True}})
    found = look()
    assert set(found.intake.rejected) == {*keys, dry}
    assert found.completed == ["good"]
    events = {event.source: event for event in events_log.named(EventName.REPLAY_REJECTED)}
    for number, (_, said) in enumerate(BAD):
        answer = replays.paper(f"{REPLAY_REQUESTS}bad-{number}.rejected.json")
        assert said in " ".join(answer["problems"])
        assert all(problem.endswith(".") for problem in answer["problems"])
        assert events[keys[number]].detail["problems"] == answer["problems"]
    assert look().intake.rejected == [], "each is answered once"


def test_every_problem_of_a_request_is_told_at_once(
    replays: ReplayLake, look: Callable[..., Replays]
) -> None:
    replays.drop("bad", {"dataset": "Orders!", "files": [{"key": ""}], "options": {"force": 1}})
    look()
    problems = " ".join(replays.paper(f"{REPLAY_REQUESTS}bad.rejected.json")["problems"])
    for name in ("replayId", "reason", "dataset", "files[0].bucket", "files[0].key", "force"):
        assert f"`{name}`" in problems or f"`options.{name}`" in problems


def test_a_request_that_is_mended_in_its_place_is_read_again(
    replays: ReplayLake, look: Callable[..., Replays]
) -> None:
    replays.drop("r", b"{")
    assert look().intake.rejected
    replays.drop("r", {**GOOD, "replayId": "r"})
    assert look().intake.accepted == ["r"]
    assert replays.paper(f"{REPLAY_REQUESTS}r.accepted.json")["replayId"] == "r"


def test_an_id_belongs_to_one_content(
    replays: ReplayLake, look: Callable[..., Replays], events_log: EventsLog
) -> None:
    replays.drop("first", GOOD)
    replays.drop("same", json.dumps(GOOD, indent=7).encode())
    look()
    replays.drop("other", {**GOOD, "reason": "another"})
    found = look()
    assert found.intake.rejected == [f"{REPLAY_REQUESTS}other.json"]
    answer = replays.paper(f"{REPLAY_REQUESTS}other.rejected.json")
    assert "belongs to a replay with other content" in answer["problems"][0]
    assert len(events_log.named(EventName.REPLAY_COMPLETED)) == 1, "the same is the same replay"


def test_start_and_end_are_told_and_audited(
    replays: ReplayLake, look: Callable[..., Replays], events_log: EventsLog
) -> None:
    replays.lake.land("orders_1.csv", orders([1]))
    replays.lake.run_all()
    replays.drop(
        "good",
        {
            **GOOD,
            "requestedBy": "somebody",
            "selector": {"state": "published"},
            "options": {"force": True},
        },
    )
    (batch,) = look().batches
    assert events_log.named(EventName.REPLAY_COMPLETED) == []
    (started,) = events_log.named(EventName.REPLAY_STARTED)
    assert (started.replay_id, started.dataset, started.detail["objects"]) == ("good", "orders", 1)
    replays.run_all()
    assert batch.replay_id == "good"
    records = replays.records("good")
    assert list(records) == ["requested", "resolved", "batch-00000", "completed"]
    assert records["requested"].detail["requested_by"] == "somebody"
    assert "a test wants it" in records["requested"].said
    (fate,) = records["batch-00000"].fates
    assert fate.before is not None and fate.after is not None
    assert (fate.before.rows, fate.after.rows) == (1, 1)
    assert fate.before.batch_id != fate.after.batch_id == batch.batch_id
