"""The ledger moves objects along allowed edges only, once, whoever races whom."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources import dynamodb
from resources.ledger import DynamoLedger, LedgerResource
from service_core.ledger import KeyHead, Move, MoveRefusedError, State, Step
from service_core.manifest import Manifest, Origin
from service_core.ports import PendingBatch
from service_core.reasons import ReasonCode
from service_core.settings import Settings
from service_core.source_object import SourceObject

NOW = datetime(2026, 11, 21, 10, 30, 15, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def landed(key: str, version: str = "v1", *, second: int = 0, sequence: int = 0) -> SourceObject:
    return SourceObject(
        bucket="raw",
        key=key,
        version_id=version,
        etag="e",
        size=10,
        last_modified=NOW.replace(microsecond=0) + timedelta(seconds=second),
        sequence=sequence,
        partition="2026-11-21",
        late=key.startswith("late"),
    )


def manifest(objects: Sequence[SourceObject], contract_hash: str = "h1") -> Manifest:
    return Manifest(
        dataset="orders",
        partition="2026-11-21",
        contract_version=f"1.0.0+{contract_hash}",
        contract_hash=contract_hash,
        origin=Origin.SENSOR,
        objects=tuple(objects),
        created_at=NOW,
    )


def moved(
    ledger: DynamoLedger, batch: Manifest, to: State, *, at: datetime = NOW, **known: Any
) -> Counter[Step]:
    moves = [Move(object_id=o.id, to=to, **known) for o in batch.objects]
    return Counter(ledger.move(batch.batch_id, moves, run_id="run", at=at).values())


def published(ledger: DynamoLedger, batch: Manifest) -> None:
    ledger.receive(batch, run_id="run", at=NOW)
    for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
        assert moved(ledger, batch, state) == {Step.MAKE: len(batch.objects)}


def states(ledger: DynamoLedger, object_id: str) -> list[State]:
    return [line.state for line in ledger.history(object_id) if not line.note]


@pytest.fixture
def requests(ledger: DynamoLedger, aws: Callable[[str], Any]) -> Iterator[Counter[str]]:
    """How often each operation has been called."""
    calls: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        calls[model.name] += 1

    events = aws("dynamodb").meta.events
    events.register("before-call.dynamodb", count)
    yield calls
    events.unregister("before-call.dynamodb", count)


def test_an_object_is_received_with_all_that_is_known_of_it(ledger: DynamoLedger) -> None:
    batch = manifest([landed("late/a.csv")])
    ledger.receive(batch, run_id=None, at=NOW)
    (entry,) = ledger.entries([batch.objects[0].id, "unknown"]).values()
    assert entry.key == "late/a.csv"
    assert entry.state is State.RECEIVED
    assert entry.batch_id == batch.batch_id
    assert entry.contract_version == batch.contract_version
    assert entry.late
    assert (entry.size, entry.version_id, entry.run_id) == (10, "v1", None)
    assert entry.received_at == entry.updated_at == NOW
    assert entry.published_batch_id is None


def test_a_batch_moves_to_publication_and_its_history_tells_how(ledger: DynamoLedger) -> None:
    batch = manifest([landed("a"), landed("b")])
    published(ledger, batch)
    entry = ledger.entries([batch.objects[0].id])[batch.objects[0].id]
    assert entry.state is State.PUBLISHED
    assert entry.published_batch_id == batch.batch_id
    lines = ledger.history(batch.objects[0].id)
    assert [line.state for line in lines] == ["received", "validated", "curated", "published"]
    assert [line.previous for line in lines] == [None, "received", "validated", "curated"]
    assert {line.batch_id for line in lines} == {batch.batch_id}


def test_counts_and_reasons_stay_with_the_object(ledger: DynamoLedger) -> None:
    batch = manifest([landed("a")])
    ledger.receive(batch, run_id="run", at=NOW)
    moved(ledger, batch, State.VALIDATED, rows_read=7, content_hash="c0ffee")
    moved(ledger, batch, State.QUARANTINED, reason=ReasonCode.TOO_MANY_DIVERTED, rows_quarantined=7)
    entry = ledger.entries([batch.objects[0].id])[batch.objects[0].id]
    assert (entry.rows_read, entry.rows_quarantined, entry.content_hash) == (7, 7, "c0ffee")
    assert entry.reason is ReasonCode.TOO_MANY_DIVERTED
    assert ledger.history(batch.objects[0].id)[-1].reason is ReasonCode.TOO_MANY_DIVERTED


def test_a_move_that_is_repeated_is_made_once(ledger: DynamoLedger) -> None:
    batch = manifest([landed("a"), landed("b")])
    published(ledger, batch)
    before = ledger.entries([o.id for o in batch.objects])
    for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
        assert moved(ledger, batch, state, at=LATER, rows_read=99) == {Step.ALREADY_MADE: 2}
    ledger.receive(batch, run_id="again", at=LATER)
    assert ledger.entries([o.id for o in batch.objects]) == before
    assert len(ledger.history(batch.objects[0].id)) == 4


def test_an_edge_that_is_not_allowed_is_refused_and_nothing_of_its_request_is_written(
    ledger: DynamoLedger,
) -> None:
    batch = manifest([landed("a"), landed("b")])
    ledger.receive(batch, run_id="run", at=NOW)
    first, second = batch.objects
    ledger.move(batch.batch_id, [Move(object_id=first.id, to=State.VALIDATED)], run_id="r", at=NOW)
    with pytest.raises(MoveRefusedError, match="cannot move from received to curated"):
        moved(ledger, batch, State.CURATED)
    entries = ledger.entries([first.id, second.id])
    assert entries[first.id].state is State.VALIDATED
    assert entries[second.id].state is State.RECEIVED


def test_a_move_of_an_object_that_was_never_received_is_refused(ledger: DynamoLedger) -> None:
    with pytest.raises(MoveRefusedError, match="does not know it"):
        moved(ledger, manifest([landed("a")]), State.VALIDATED)


def test_another_batch_takes_an_object_over_and_publication_is_remembered(
    ledger: DynamoLedger,
) -> None:
    first, second = manifest([landed("a")]), manifest([landed("a")], "h2")
    (object_id,) = (o.id for o in first.objects)
    published(ledger, first)
    ledger.receive(second, run_id="replay", at=LATER)
    entry = ledger.entries([object_id])[object_id]
    assert (entry.state, entry.batch_id) == (State.RECEIVED, second.batch_id)
    assert entry.published_batch_id == first.batch_id
    assert entry.received_at == NOW
    assert entry.updated_at == LATER


def test_a_batch_that_has_lost_an_object_leaves_a_line_and_changes_nothing(
    ledger: DynamoLedger,
) -> None:
    first, second = manifest([landed("a")]), manifest([landed("a")], "h2")
    (object_id,) = (o.id for o in first.objects)
    ledger.receive(first, run_id="run", at=NOW)
    ledger.receive(second, run_id="replay", at=NOW)
    before = ledger.entries([object_id])
    for _ in range(2):
        assert moved(ledger, first, State.VALIDATED, at=LATER) == {Step.NOT_OWNER: 1}
    assert ledger.entries([object_id]) == before
    *_, line = ledger.history(object_id)
    assert line.batch_id == first.batch_id
    assert second.batch_id in line.note
    assert len(ledger.history(object_id)) == 3
    assert moved(ledger, second, State.VALIDATED, at=LATER) == {Step.MAKE: 1}


def test_superseding_ends_publication_and_is_made_once(ledger: DynamoLedger) -> None:
    old, new = manifest([landed("a")]), manifest([landed("a", "v2", second=1)])
    (object_id,) = (o.id for o in old.objects)
    published(ledger, old)
    for at in (LATER, LATER + timedelta(minutes=1)):
        ledger.supersede([object_id, "unknown"], by_batch=new.batch_id, run_id="r", at=at)
    entry = ledger.entries([object_id])[object_id]
    assert entry.state is State.SUPERSEDED
    assert entry.published_batch_id is None
    assert entry.updated_at == LATER
    *_, line = ledger.history(object_id)
    assert (line.previous, line.batch_id) == (State.PUBLISHED, new.batch_id)
    assert len(ledger.history(object_id)) == 5


def test_superseding_an_object_in_replay_clears_its_publication_and_keeps_its_state(
    ledger: DynamoLedger,
) -> None:
    old, replay = manifest([landed("a")]), manifest([landed("a")], "h2")
    (object_id,) = (o.id for o in old.objects)
    published(ledger, old)
    ledger.receive(replay, run_id="replay", at=NOW)
    ledger.supersede([object_id], by_batch="newer", run_id="r", at=LATER)
    entry = ledger.entries([object_id])[object_id]
    assert (entry.state, entry.batch_id) == (State.RECEIVED, replay.batch_id)
    assert entry.published_batch_id is None
    assert moved(ledger, replay, State.SUPERSEDED) == {Step.MAKE: 1}


def test_a_note_is_a_line_after_the_last_move(ledger: DynamoLedger) -> None:
    batch = manifest([landed("a")])
    (object_id,) = (o.id for o in batch.objects)
    ledger.receive(batch, run_id="run", at=NOW)
    for _ in range(2):
        ledger.note(object_id, "other", "Seen by a person.", run_id="r", at=LATER)
    moved(ledger, batch, State.VALIDATED)
    notes = [line.note for line in ledger.history(object_id)]
    assert notes == ["", "Seen by a person.", ""]
    assert ledger.entries([object_id])[object_id].state is State.VALIDATED
    with pytest.raises(KeyError, match="does not know source object nothing"):
        ledger.note("nothing", "b", "n", run_id="r", at=NOW)


def test_two_runs_of_one_batch_at_once_leave_what_one_would(ledger: DynamoLedger) -> None:
    batch = manifest([landed(f"f{n}") for n in range(120)])

    def run(_: int) -> Counter[Step]:
        made: Counter[Step] = Counter()
        ledger.receive(batch, run_id="run", at=NOW)
        for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
            made += moved(ledger, batch, state)
        return made

    with ThreadPoolExecutor(3) as pool:
        amounted = sum(pool.map(run, range(3)), Counter())
    assert amounted == {Step.MAKE: 360, Step.ALREADY_MADE: 720}
    entries = ledger.entries([o.id for o in batch.objects])
    assert {entry.state for entry in entries.values()} == {State.PUBLISHED}
    for o in batch.objects[::40]:
        assert states(ledger, o.id) == ["received", "validated", "curated", "published"]


def test_two_batches_at_once_never_mix_their_moves(ledger: DynamoLedger) -> None:
    """Each takes the same objects over; every object's history is one walk along the edges."""
    objects = [landed(f"f{n}") for n in range(30)]
    batches = [manifest(objects, "h1"), manifest(objects, "h2")]

    def run(batch: Manifest) -> None:
        ledger.receive(batch, run_id="run", at=NOW)
        moved(ledger, batch, State.VALIDATED)
        moved(ledger, batch, State.CURATED)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, batches))
    for o in objects:
        lines = [line for line in ledger.history(o.id) if not line.note]
        for before, after in itertools.pairwise(lines):
            assert after.previous is before.state
            assert after.batch_id == before.batch_id or after.state is State.RECEIVED
        assert ledger.entries([o.id])[o.id].state is lines[-1].state


def test_many_objects_take_few_requests(ledger: DynamoLedger, requests: Counter[str]) -> None:
    batch = manifest([landed(f"f{n:04}") for n in range(500)])
    requests.clear()
    ledger.receive(batch, run_id="run", at=NOW)
    moved(ledger, batch, State.VALIDATED)
    assert sum(requests.values()) <= 500 / 25 * 2
    requests.clear()
    assert len(ledger.entries([o.id for o in batch.objects])) == 500
    assert requests == {"BatchGetItem": 5}


def test_what_was_read_a_moment_ago_is_not_read_again(
    ledger: DynamoLedger, requests: Counter[str]
) -> None:
    batch = manifest([landed(f"f{n:04}") for n in range(200)])
    ids = [o.id for o in batch.objects]
    requests.clear()
    assert not ledger.known(ids)
    ledger.receive(batch, run_id="run", at=NOW)
    assert moved(ledger, batch, State.VALIDATED) == {Step.MAKE: 200}
    assert requests == {"BatchGetItem": 2, "TransactWriteItems": 8}
    requests.clear()
    ledger.entries(ids)
    assert moved(ledger, batch, State.CURATED) == {Step.MAKE: 200}
    assert requests == {"BatchGetItem": 2, "TransactWriteItems": 4}
    assert states(ledger, ids[0]) == [State.RECEIVED, State.VALIDATED, State.CURATED]


def test_what_was_read_a_moment_ago_is_never_believed(
    settings: Settings, aws: Callable[[str], Any], ledger: DynamoLedger
) -> None:
    """Whatever another process does in between, each object ends as if it had been read anew."""
    other = DynamoLedger(aws("dynamodb"), settings.ledger_table)
    mine = manifest([landed(f"f{n}") for n in range(4)], "h1")
    theirs = manifest(mine.objects[1:2], "h2")
    ids = [o.id for o in mine.objects]
    assert not ledger.known(ids)
    other.receive(mine, run_id="other", at=NOW)
    ledger.receive(mine, run_id="run", at=NOW)
    assert [len(ledger.history(i)) for i in ids] == [1] * 4
    other.receive(theirs, run_id="other", at=NOW)
    other.move(mine.batch_id, [Move(object_id=ids[2], to=State.VALIDATED)], run_id="other", at=NOW)
    moves = [Move(object_id=i, to=State.VALIDATED) for i in ids]
    amounted = ledger.move(mine.batch_id, moves, run_id="run", at=LATER)
    assert amounted == dict(
        zip(ids, [Step.MAKE, Step.NOT_OWNER, Step.ALREADY_MADE, Step.MAKE], strict=True)
    )
    assert ledger.entries(ids)[ids[1]].batch_id == theirs.batch_id
    assert [len(ledger.history(i)) for i in ids] == [2, 3, 2, 2]


def test_more_is_read_than_one_answer_holds(
    ledger: DynamoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB may leave any of the keys unprocessed, and says which."""
    batch = manifest([landed(f"f{n}") for n in range(40)])
    ledger.receive(batch, run_id="run", at=NOW)
    monkeypatch.setattr(dynamodb, "_FIRST_WAIT_SECONDS", 0.001)
    client = ledger._table._client

    class Sparing:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def batch_get_item(self, RequestItems: dict[str, Any]) -> Any:
            ((table, asked),) = RequestItems.items()
            answer = client.batch_get_item(
                RequestItems={table: {**asked, "Keys": asked["Keys"][:7]}}
            )
            if left := asked["Keys"][7:]:
                answer["UnprocessedKeys"] = {table: {**asked, "Keys": left}}
            return answer

    sparing = DynamoLedger(Sparing(), ledger._table.name)
    ids = [o.id for o in batch.objects]
    assert sparing.entries(ids) == ledger.entries(ids)


def test_a_throttled_transaction_is_tried_again(
    ledger: DynamoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb, "_FIRST_WAIT_SECONDS", 0.001)
    client = ledger._table._client
    troubles = iter(["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def transact_write_items(self, **asked: Any) -> Any:
            if (code := next(troubles, None)) is not None:
                response = {
                    "Error": {"Code": "TransactionCanceledException"},
                    "CancellationReasons": [{"Code": code}, {"Code": "None"}],
                }
                raise client.exceptions.TransactionCanceledException(response, "T")
            return client.transact_write_items(**asked)

    batch = manifest([landed("a")])
    DynamoLedger(Busy(), ledger._table.name).receive(batch, run_id="run", at=NOW)
    assert len(ledger.history(batch.objects[0].id)) == 1


@pytest.mark.parametrize(
    "key", ["c\x00\x01\x1f\x7f\x85", "nl\n\r\tx", "lone\udc80surrogate", "back\\x00slash", "漢😀"]
)
def test_any_key_survives(ledger: DynamoLedger, key: str) -> None:
    one = landed(key)
    ledger.receive(manifest([one]), run_id="run", at=NOW)
    assert ledger.entries([one.id])[one.id].key == key
    moved(ledger, manifest([one]), State.VALIDATED)
    assert ledger.entries([one.id])[one.id].key == key
    assert ledger.claim_content("orders", {"sha": one}) == {"sha": (one.id, key)}
    head = KeyHead(
        key=key, object_id=one.id, last_modified=one.last_modified, sequence=0, batch_id="b"
    )
    assert ledger.raise_key_heads("orders", [head]) == {key: head}
    assert ledger.key_heads("orders", [key]) == {key: head}


def test_of_several_claims_of_one_content_the_first_holds(ledger: DynamoLedger) -> None:
    objects = [landed(f"f{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda o: ledger.claim_content("orders", {"sha": o})["sha"], objects))
    assert len(set(held)) == 1
    assert held[0] in {(o.id, o.key) for o in objects}
    assert ledger.claim_content("orders", {"sha": landed("late comer")})["sha"] == held[0]
    other = landed("f0")
    assert ledger.claim_content("payments", {"sha": other})["sha"] == (other.id, other.key)


def test_another_version_of_the_key_takes_a_claim_over_and_another_key_never_does(
    ledger: DynamoLedger,
) -> None:
    first, second = landed("a", "v1"), landed("a", "v2", second=1)
    assert ledger.claim_content("orders", {"sha": first}) == {"sha": (first.id, "a")}
    assert ledger.claim_content("orders", {"sha": landed("b")}) == {"sha": (first.id, "a")}
    assert ledger.claim_content("orders", {"sha": second}) == {"sha": (second.id, "a")}
    assert ledger.claim_content("orders", {"sha": landed("b")}) == {"sha": (second.id, "a")}
    assert ledger.claim_content("orders", {"sha": second}) == {"sha": (second.id, "a")}


def test_many_claims_are_made_at_once(ledger: DynamoLedger, requests: Counter[str]) -> None:
    objects = {f"sha{n}": landed(f"f{n}") for n in range(250)}
    requests.clear()
    held = ledger.claim_content("orders", objects)
    assert held == {sha: (o.id, o.key) for sha, o in objects.items()}
    assert sum(requests.values()) == 6


def head(key: str, second: int, sequence: int = 0, batch_id: str = "b") -> KeyHead:
    one = landed(key, f"v{second}.{sequence}", second=second, sequence=sequence)
    return KeyHead(
        key=key,
        object_id=one.id,
        last_modified=one.last_modified,
        sequence=sequence,
        batch_id=batch_id,
    )


def test_a_head_only_rises(ledger: DynamoLedger) -> None:
    assert ledger.key_heads("orders", ["a"]) == {}
    assert ledger.raise_key_heads("orders", [head("a", 2)]) == {"a": head("a", 2)}
    assert ledger.raise_key_heads("orders", [head("a", 1)]) == {"a": head("a", 2)}
    assert ledger.raise_key_heads("orders", [head("a", 2, 1)]) == {"a": head("a", 2, 1)}
    assert ledger.raise_key_heads("orders", [head("a", 2)]) == {"a": head("a", 2, 1)}
    assert ledger.key_heads("orders", ["a", "b"]) == {"a": head("a", 2, 1)}
    assert ledger.key_heads("payments", ["a"]) == {}


def test_a_replay_of_the_newest_version_becomes_its_heads_batch(ledger: DynamoLedger) -> None:
    ledger.raise_key_heads("orders", [head("a", 1, batch_id="first")])
    replay = head("a", 1, batch_id="replay")
    assert ledger.raise_key_heads("orders", [replay]) == {"a": replay}


def test_racing_heads_end_at_the_newest(ledger: DynamoLedger) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ledger.raise_key_heads("orders", [head("a", n)]), range(16)))
    assert ledger.key_heads("orders", ["a"]) == {"a": head("a", 15)}


def test_a_batch_waits_until_its_run_has_begun(ledger: DynamoLedger) -> None:
    def waiting(batch_id: str, minutes: int) -> PendingBatch:
        return PendingBatch(
            dataset="orders",
            partition="2026-11-21",
            batch_id=batch_id,
            manifest_uri=f"s3://manifests/{batch_id}.json",
            requested_at=NOW + timedelta(minutes=minutes),
        )

    younger, older = waiting("a", 2), waiting("b", 1)
    for batch in (younger, older, older):
        ledger.open_batch(batch)
    assert ledger.pending_batches("orders") == (older, younger)
    assert ledger.pending_batches("payments") == ()
    ledger.close_batch("orders", "b")
    ledger.close_batch("orders", "b")
    assert ledger.pending_batches("orders") == (younger,)


def test_a_partition_is_found_by_state(ledger: DynamoLedger) -> None:
    batch = manifest([landed("a"), landed("b"), landed("c")])
    ledger.receive(batch, run_id="run", at=NOW)
    refused = batch.objects[1]
    ledger.move(
        batch.batch_id, [Move(object_id=refused.id, to=State.QUARANTINED)], run_id="r", at=NOW
    )
    found = list(ledger.in_partition("orders", "2026-11-21", State.QUARANTINED))
    assert [entry.object_id for entry in found] == [refused.id]
    assert len(list(ledger.in_partition("orders", "2026-11-21"))) == 3
    assert list(ledger.in_partition("orders", "2026-11-22")) == []


def test_the_resource_reaches_the_same_ledger(settings: Settings, ledger: DynamoLedger) -> None:
    batch = manifest([landed("a")])
    ledger.receive(batch, run_id="run", at=NOW)
    again = LedgerResource.of(settings).ledger()
    assert again.entries([batch.objects[0].id]) == ledger.entries([batch.objects[0].id])


def test_a_claim_of_an_object_that_nobody_sees_any_more_is_taken_over_by_another_key(
    ledger: DynamoLedger,
) -> None:
    """But not while the newest version of the holder's key has that content, whoever claims it."""
    old, other, late = landed("a", "v1"), landed("b"), landed("c")
    ledger.receive(manifest([old]), run_id="r", at=NOW)
    ledger.claim_content("orders", {"sha": old})
    assert ledger.claim_content("orders", {"sha": other}) == {"sha": (old.id, "a")}
    for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
        moved(ledger, manifest([old]), state, content_hash="sha")
    assert ledger.claim_content("orders", {"sha": other}) == {"sha": (old.id, "a")}
    new = landed("a", "v2", second=1)
    ledger.receive(manifest([new]), run_id="r", at=NOW)
    for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
        moved(ledger, manifest([new]), state, content_hash="sha")
    ledger.supersede([old.id], by_batch=manifest([new]).batch_id, run_id="r", at=LATER)
    head = KeyHead(
        key="a", object_id=new.id, last_modified=new.last_modified, sequence=0, batch_id="b"
    )
    ledger.raise_key_heads("orders", [head])
    assert ledger.claim_content("orders", {"sha": other}) == {"sha": (old.id, "a")}
    ledger.supersede([new.id], by_batch="newest", run_id="r", at=LATER)
    assert ledger.claim_content("orders", {"sha": other}) == {"sha": (other.id, "b")}
    ledger.receive(manifest([other]), run_id="r", at=LATER)
    assert ledger.claim_content("orders", {"sha": late}) == {"sha": (other.id, "b")}
