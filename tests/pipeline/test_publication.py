"""A batch's publication from its verdict to the ledger, on a real store, catalog and ledger.

What is tried here is order: older after newer, twice, at once, and dying in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from resources.catalog import IcebergCatalog
from resources.published_tables import PublishedTables
from service_core.contract.model import Contract, PublicationMode
from service_core.events import Event, EventName
from service_core.gate import GateClosedError, read_verdict
from service_core.layout import Zone, verdict_key
from service_core.ledger import Entry, KeyHead, Move, State
from service_core.manifest import Manifest, Origin
from service_core.ports import Ledger, ObjectStore, Publication
from service_core.publication import (
    PublishedBatch,
    StaleVerdictError,
    decide_withheld,
    key_heads,
    publish_batch,
)
from service_core.reasons import ReasonCode
from service_core.run import Run
from service_core.settings import Settings
from service_core.source_object import SourceObject
from service_core.verdict import FileStatus, Verdict
from tests.judged_batches import NOON, PARTITION, Judged, column, contract, landed

APPEND = contract(publication=PublicationMode.APPEND)


class Bus:
    """A bus that remembers."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    def send(self, events: Sequence[Event]) -> None:
        self.sent += events


@dataclass
class Desk:
    """Takes batches up to the gate and through it."""

    store: ObjectStore
    ledger: Ledger
    catalog: IcebergCatalog
    judged: Judged
    run: Run
    bus: Bus

    def judge(
        self,
        of: Contract,
        rows: dict[SourceObject, Sequence[int]],
        *,
        quarantined: Sequence[SourceObject] = (),
        **changes: Any,
    ) -> Verdict:
        """Everything before publication: received, validated, curated, and judged."""
        manifest = Manifest(
            dataset=of.dataset,
            partition=PARTITION,
            contract_version=of.version,
            contract_hash=changes.pop("salt", of.hash),
            origin=Origin.SENSOR,
            objects=(*rows, *quarantined),
            created_at=NOON,
        )
        verdict = self.judged(
            of, rows, quarantined=quarantined, batch_id=manifest.batch_id, **changes
        )
        self.ledger.receive(manifest, run_id="run-1", at=NOON)
        for state in (State.VALIDATED, State.CURATED):
            moves = [Move(object_id=o.id, to=state) for o in rows]
            self.ledger.move(manifest.batch_id, moves, run_id="run-1", at=NOON)
        if quarantined:
            moves = [
                Move(object_id=o.id, to=State.QUARANTINED, reason=ReasonCode.ENCODING)
                for o in quarantined
            ]
            self.ledger.move(manifest.batch_id, moves, run_id="run-1", at=NOON)
        key = verdict_key(of.dataset, PARTITION, verdict.batch_id)
        self.store.write(Zone.DQ_RESULTS, key, verdict.model_dump_json().encode())
        return verdict

    def publish(self, of: Contract, verdict: Verdict, **instead: Any) -> PublishedBatch:
        fields: dict[str, Any] = {
            "store": self.store,
            "ledger": self.ledger,
            "catalog": self.catalog,
            "run": self.run,
            "events": self.bus,
        }
        return publish_batch(of, partition=PARTITION, batch_id=verdict.batch_id, **fields | instead)

    def ids(self, of: Contract) -> list[int]:
        return sorted(self.catalog.scan(of, columns=["id"]).read_all()["id"].to_pylist())

    def entry(self, source: SourceObject) -> Entry:
        return self.ledger.entries([source.id])[source.id]


@pytest.fixture
def desk(
    settings: Settings,
    aws: Callable[[str], Any],
    object_store: ObjectStore,
    ledger: Ledger,
    tmp_path: Path,
) -> Desk:
    run = Run(id="run-1", attempt="a1", clock=lambda: datetime.now(UTC), scratch=tmp_path)
    judged = Judged(aws("s3"), settings)
    return Desk(object_store, ledger, IcebergCatalog(settings), judged, run, Bus())


class Died(Exception):
    """The process is gone."""


class DiesAfterCommit(IcebergCatalog):
    """A catalog whose caller never hears of the commit."""

    def publish(self, *args: Any) -> Publication:
        super().publish(*args)
        raise Died


# --- The gate ------------------------------------------------------------------------------------


def test_a_batch_without_a_verdict_is_not_published(desk: Desk) -> None:
    with pytest.raises(GateClosedError, match="has no verdict at s3://"):
        read_verdict(desk.store, "orders", PARTITION, "b" * 32)


def test_a_batch_whose_verdict_failed_never_reaches_the_catalog(desk: Desk) -> None:
    of, one = contract(), landed("a.csv")
    verdict = desk.judge(of, {one: [1]}, passed=False)
    with pytest.raises(GateClosedError, match="its verdict failed"):
        desk.publish(of, verdict, catalog=None)
    assert desk.catalog.table(of) is None
    assert desk.entry(one).state is State.CURATED
    assert desk.ledger.key_heads("orders", [one.key]) == {}
    assert desk.bus.sent == []


def test_a_staged_file_that_has_gone_is_a_closed_gate_and_not_a_traceback(
    desk: Desk, aws: Callable[[str], Any]
) -> None:
    of = contract()
    verdict = desk.judge(of, {landed("a.csv"): [1]})
    bucket, key = verdict.staged[0].uri.removeprefix("s3://").split("/", 1)
    aws("s3").delete_object(Bucket=bucket, Key=key)
    with pytest.raises(GateClosedError, match=r"is not there\. Curate the batch again"):
        desk.publish(of, verdict)


# --- Publishing ----------------------------------------------------------------------------------


def test_a_published_batch_is_in_the_table_the_ledger_and_the_news(desk: Desk) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    verdict = desk.judge(of, {one: [1, 2], two: [3]})
    done = desk.publish(of, verdict)
    assert desk.ids(of) == [1, 2, 3]
    assert (done.publication.committed, done.withheld, done.rows_withheld) == (True, (), 0)
    entry = desk.entry(one)
    assert (entry.state, entry.rows_read, entry.rows_published) == (State.PUBLISHED, 2, 2)
    assert entry.published_batch_id == verdict.batch_id
    (news,) = desk.bus.sent
    assert (news.name, news.batch_id, news.dataset) == (
        EventName.PUBLISHED,
        verdict.batch_id,
        "orders",
    )
    assert news.detail["rows_added"] == 3
    assert news.detail["snapshot_id"] == str(done.publication.snapshot_id)


def test_publishing_again_changes_nothing(desk: Desk) -> None:
    of, one = contract(), landed("a.csv")
    verdict = desk.judge(of, {one: [1, 2]})
    first = desk.publish(of, verdict)
    history = desk.ledger.history(one.id)
    again = desk.publish(of, verdict)
    assert not again.publication.committed
    assert again.publication.snapshot_id == first.publication.snapshot_id
    assert desk.ids(of) == [1, 2]
    assert desk.ledger.history(one.id) == history


def test_a_newer_version_supersedes_the_older_one(desk: Desk) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    desk.publish(of, desk.judge(of, {old: [1, 2]}))
    desk.publish(of, desk.judge(of, {new: [2, 3]}))
    assert desk.ids(of) == [2, 3]
    assert desk.entry(old).state is State.SUPERSEDED
    assert desk.entry(new).state is State.PUBLISHED


def test_an_older_version_that_comes_later_does_not_bring_its_rows_back(desk: Desk) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    other = landed("b.csv")
    desk.publish(of, desk.judge(of, {new: [2, 3]}))
    late = desk.judge(of, {old: [1], other: [7]})
    done = desk.publish(of, late)
    assert desk.ids(of) == [2, 3, 7]
    assert (done.withheld, done.rows_withheld) == ((old.id,), 1)
    assert desk.entry(old).state is State.SUPERSEDED
    assert desk.entry(other).state is State.PUBLISHED
    assert desk.publish(of, late).withheld == (old.id,)
    assert desk.ids(of) == [2, 3, 7]


def test_versions_of_the_same_second_go_by_their_sequence(desk: Desk) -> None:
    of, old = contract(), landed("a.csv")
    new = landed("a.csv", "v2").model_copy(update={"sequence": 1})
    desk.publish(of, desk.judge(of, {new: [2]}))
    desk.publish(of, desk.judge(of, {old: [1]}))
    assert desk.ids(of) == [2]


def test_in_append_mode_no_version_gives_way(desk: Desk) -> None:
    old, new = landed("a.csv"), landed("a.csv", "v2", minutes=1)
    desk.publish(APPEND, desk.judge(APPEND, {new: [2]}))
    done = desk.publish(APPEND, desk.judge(APPEND, {old: [1]}))
    assert done.withheld == ()
    assert desk.ids(APPEND) == [1, 2]
    assert desk.entry(old).state is State.PUBLISHED


def test_a_replay_that_quarantines_an_object_withdraws_its_rows(desk: Desk) -> None:
    of, bad, good = contract(), landed("a.csv"), landed("b.csv")
    desk.publish(of, desk.judge(of, {bad: [1], good: [2]}))
    verdict = desk.judge(of, {good: [2]}, quarantined=[bad], salt="another contract")
    desk.publish(of, verdict)
    assert desk.ids(of) == [2]
    entry = desk.entry(bad)
    assert (entry.state, entry.published_batch_id) == (State.QUARANTINED, None)


def test_a_batch_that_has_lost_an_object_to_another_leaves_it_alone(desk: Desk) -> None:
    """The other may have quarantined it, and nothing is ever both."""
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    slow = desk.judge(of, {one: [1], two: [2]})
    replay = desk.judge(of, {one: [10]}, salt="another contract")
    desk.publish(of, replay)
    done = desk.publish(of, slow)
    assert desk.ids(of) == [2, 10]
    assert done.withheld == (one.id,)
    entry = desk.entry(one)
    assert (entry.state, entry.batch_id) == (State.PUBLISHED, replay.batch_id)
    assert "taken it over" in desk.ledger.history(one.id)[-1].note


def test_a_batch_that_accepted_no_row_and_removes_none_commits_nothing(desk: Desk) -> None:
    of = contract()
    one = landed("a.csv")
    done = desk.publish(of, desk.judge(of, {one: []}))
    assert done.publication.snapshot_id is None
    assert desk.catalog.table(of) is None
    assert desk.entry(one).state is State.PUBLISHED
    assert desk.bus.sent == []


# --- Dying, and racing ---------------------------------------------------------------------------


def test_dying_between_commit_and_ledger_is_made_up_for_by_running_again(
    desk: Desk, settings: Settings
) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    desk.publish(of, desk.judge(of, {old: [1]}))
    verdict = desk.judge(of, {new: [2]})
    with pytest.raises(Died):
        desk.publish(of, verdict, catalog=DiesAfterCommit(settings))
    assert desk.entry(new).state is State.CURATED
    assert desk.entry(old).state is State.PUBLISHED
    done = desk.publish(of, verdict)
    assert not done.publication.committed
    assert desk.entry(new).state is State.PUBLISHED
    assert desk.entry(old).state is State.SUPERSEDED
    assert desk.ids(of) == [2]
    assert len(desk.bus.sent) == 2


def test_dying_after_the_commit_and_being_overtaken_ends_as_superseded(
    desk: Desk, settings: Settings
) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    overtaken = desk.judge(of, {old: [1]})
    with pytest.raises(Died):
        desk.publish(of, overtaken, catalog=DiesAfterCommit(settings))
    desk.publish(of, desk.judge(of, {new: [2]}))
    desk.publish(of, overtaken)
    assert desk.ids(of) == [2]
    assert desk.entry(old).state is State.SUPERSEDED
    assert desk.entry(old).published_batch_id is None


def test_being_overtaken_between_the_commit_and_the_ledger_ends_as_superseded(
    desk: Desk, settings: Settings
) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    newer = desk.judge(of, {new: [2]})

    class Overtaken(IcebergCatalog):
        def publish(self, *args: Any) -> Publication:
            done = super().publish(*args)
            desk.publish(of, newer)
            return done

    desk.publish(of, desk.judge(of, {old: [1]}), catalog=Overtaken(settings))
    assert desk.ids(of) == [2]
    assert desk.entry(old).state is State.SUPERSEDED
    assert desk.entry(old).published_batch_id is None


@pytest.mark.slow
def test_versions_of_a_key_published_at_once_leave_the_newest(
    desk: Desk, settings: Settings
) -> None:
    of = contract()
    versions = [landed("a.csv", f"v{n}", minutes=n) for n in range(6)]
    verdicts = [desk.judge(of, {version: [n]}) for n, version in enumerate(versions)]

    def publish(verdict: Verdict) -> PublishedBatch:
        return desk.publish(of, verdict, catalog=IcebergCatalog(settings))

    with ThreadPoolExecutor(len(verdicts)) as publishers:
        list(publishers.map(publish, verdicts))
    assert desk.ids(of) == [5]
    states = [desk.entry(version).state for version in versions]
    assert states == [State.SUPERSEDED] * 5 + [State.PUBLISHED]


# --- Keys that were published meanwhile ----------------------------------------------------------


def test_keys_published_since_the_batch_was_judged_send_it_back_to_be_curated(desk: Desk) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    verdict = desk.judge(of, {two: [2, 3]})
    desk.publish(of, desk.judge(of, {one: [1, 2]}))
    with pytest.raises(StaleVerdictError, match=r"row 2 of .*a\.csv.* id of its own. Curate"):
        desk.publish(of, verdict)
    assert desk.ids(of) == [1, 2]
    assert desk.entry(two).state is State.CURATED


def test_other_keys_published_since_then_do_not(desk: Desk) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    verdict = desk.judge(of, {two: [3, 4]})
    desk.publish(of, desk.judge(of, {one: [1, 2]}))
    desk.publish(of, verdict)
    assert desk.ids(of) == [1, 2, 3, 4]


def test_keys_of_the_rows_that_a_batch_replaces_are_not_in_its_way(desk: Desk) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    verdict = desk.judge(of, {new: [1, 2]})
    desk.publish(of, desk.judge(of, {old: [1]}))
    desk.publish(of, verdict)
    assert desk.ids(of) == [1, 2]


def test_in_append_mode_the_older_versions_keys_are_in_the_way_and_its_own_are_not(
    desk: Desk,
) -> None:
    old, new = landed("a.csv"), landed("a.csv", "v2", minutes=1)
    verdict = desk.judge(APPEND, {new: [1]})
    desk.publish(APPEND, desk.judge(APPEND, {old: [1]}))
    with pytest.raises(StaleVerdictError):
        desk.publish(APPEND, verdict)
    desk.publish(APPEND, desk.judge(APPEND, {old: [1]}, salt="again"))
    assert desk.ids(APPEND) == [1]


def test_a_null_key_meets_no_other(desk: Desk) -> None:
    """Both files have a null in a unique column, and share nothing else."""
    of = contract()
    code = column("code", of.columns[0].type.logical, unique=True)
    of = contract(columns=(*of.columns, code))
    verdict = desk.judge(of, {landed("b.csv"): [2]})
    desk.publish(of, desk.judge(of, {landed("a.csv"): [1]}))
    desk.publish(of, verdict)
    assert desk.ids(of) == [1, 2]


@pytest.mark.slow
def test_of_two_batches_with_one_key_published_at_once_one_is_sent_back(
    desk: Desk, settings: Settings
) -> None:
    of = contract()
    verdicts = [desk.judge(of, {landed(name): [1]}) for name in ("a.csv", "b.csv")]

    def publish(verdict: Verdict) -> bool:
        try:
            desk.publish(of, verdict, catalog=IcebergCatalog(settings))
        except StaleVerdictError:
            return False
        return True

    with ThreadPoolExecutor(2) as publishers:
        assert sorted(publishers.map(publish, verdicts)) == [False, True]
    assert desk.ids(of) == [1]


def test_a_batch_overtaken_while_it_creates_the_table_decides_anew(
    desk: Desk, settings: Settings
) -> None:
    """What was decided before there was a table does not hold once another has filled it."""
    of = contract()
    first, second = (desk.judge(of, {landed(name): [1]}) for name in ("a.csv", "b.csv"))

    class Overtaken(PublishedTables):
        def make(self, contract: Contract) -> Any:
            desk.publish(of, first)
            return super().make(contract)

    catalog = IcebergCatalog(settings)
    catalog._tables = Overtaken(settings, catalog._patience)
    with pytest.raises(StaleVerdictError):
        desk.publish(of, second, catalog=catalog)
    assert desk.ids(of) == [1]


# --- The decision itself -------------------------------------------------------------------------


def head(of: SourceObject, batch_id: str = "b") -> KeyHead:
    return KeyHead(
        key=of.key,
        object_id=of.id,
        last_modified=of.last_modified,
        sequence=of.sequence,
        batch_id=batch_id,
    )


def test_only_a_newer_version_of_an_accepted_object_withholds_it(desk: Desk) -> None:
    of = contract()
    old, new = landed("a.csv"), landed("a.csv", "v2", minutes=1)
    accepted = desk.judged(of, {old: [1]})
    refused = desk.judged(of, {}, quarantined=[old])
    newer, older = {old.key: head(new)}, {old.key: head(old)}
    assert decide_withheld(of, accepted, newer, {}).outdated == {old.id: new.id}
    assert decide_withheld(of, accepted, older, {}).ids == frozenset()
    assert decide_withheld(of, accepted, {}, {}).ids == frozenset()
    assert decide_withheld(of, refused, newer, {}).ids == frozenset()
    assert decide_withheld(APPEND, accepted, newer, {}).ids == frozenset()
    assert [h.object_id for h in key_heads(accepted)] == [old.id]
    assert key_heads(refused) == ()
    assert refused.files[0].status is FileStatus.QUARANTINED
