"""What becomes of batches whose runs die, through the real sensors, jobs and replays. The deaths
are made up, as a code server writes them down; `test_poison_workers` has real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from dagster_project.session import private_instance
from sensors.run_deaths import death_of, is_tried_again, last_death
from service_core import publication
from service_core.arrival import read_manifest
from service_core.contract.model import Contract, Engine
from service_core.curation.request import CurationRequest, write_request
from service_core.isolation.decision import How
from service_core.ledger import State
from service_core.naming import (
    ISOLATION_SENSOR,
    ISOLATION_TAG,
    MANIFEST_TAG,
    MAX_RETRIES_TAG,
    REPLAYS_SENSOR,
    SPLIT_OF_TAG,
)
from service_core.reasons import ReasonCode
from service_core.replay.audit import Outcome
from service_core.replay.held import held_files
from service_core.run import Run
from tests.dying_runs import die
from tests.pipeline.conftest import Lake, orders
from tests.replay.conftest import ReplayLake


@dataclass
class Poisoned:
    """A lake whose workers die of some files.

    Attributes:
        kills: Names of the files that do it.
        asked: Every run that isolation asked for.
        deaths: How many runs died.
    """

    replays: ReplayLake
    kills: set[str] = field(default_factory=set)
    asked: list[dg.RunRequest] = field(default_factory=list)
    deaths: int = 0

    @property
    def lake(self) -> Lake:
        return self.replays.lake

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.lake.session.instance

    def tick(self, name: str) -> Any:
        return self.lake.session.tick_named(name)

    def settle(self) -> None:
        """Tick all sensors and run, or let die, what they ask for, until they ask for no more."""
        while True:
            arrived = self.lake.session.tick("orders").requests
            replayed = self.tick(REPLAYS_SENSOR).requests
            parts = self.tick(ISOLATION_SENSOR).requests
            self.asked += parts
            if not (requests := [*arrived, *replayed, *parts]):
                return
            for request in requests:
                self.run(request)

    def run(self, request: dg.RunRequest) -> None:
        manifest = read_manifest(self.lake.store(), request.tags[MANIFEST_TAG])
        names = {o.key.rsplit("/", 1)[1] for o in manifest.objects}
        if manifest.given_up is None and names & self.kills:
            self.ledger_before_death(manifest)
            die(self.lake.session, request)
            self.deaths += 1
        else:
            self.replays.execute(request)

    def ledger_before_death(self, manifest: Any) -> None:
        """As far as the first step came."""
        self.lake.ledger().receive(manifest, run_id="dead", at=datetime.now(UTC))
        self.lake.ledger().close_batch("orders", manifest.batch_id)

    def states(self) -> dict[str, State]:
        return {name: entry.state for name, entry in self.replays.entries().items()}

    def held(self) -> dict[str, str]:
        found = held_files(self.lake.store(), self.lake.ledger(), "orders")
        return {f.record.source_object.key.rsplit("/", 1)[1]: f.record.code for f in found}


@pytest.fixture
def poisoned(make_lake: Callable[..., Lake], orders_contract: Contract) -> Poisoned:
    return Poisoned(ReplayLake(make_lake(orders_contract)))


def test_a_file_at_fault_is_quarantined_released_and_never_costs_what_was_published(
    poisoned: Poisoned,
) -> None:
    replays, lake = poisoned.replays, poisoned.lake

    # It arrives among others, which are published; it alone goes to quarantine.
    for number, name in enumerate("abc"):
        lake.land(f"orders_{name}.csv", orders([number]))
    poisoned.kills = {"orders_c.csv"}
    poisoned.settle()

    assert lake.published_ids() == ["O000000000", "O000000001"]
    assert poisoned.states() == {
        "orders_a.csv": State.PUBLISHED,
        "orders_b.csv": State.PUBLISHED,
        "orders_c.csv": State.QUARANTINED,
    }
    assert poisoned.held() == {"orders_c.csv": ReasonCode.PROCESSING_FAILURE}
    # The whole; a, b and c, b, c; and the one that gives c up.
    assert poisoned.deaths == 3
    assert len(poisoned.asked) == 5
    assert all(SPLIT_OF_TAG in request.tags for request in poisoned.asked)
    assert [r.tags.get(MAX_RETRIES_TAG) for r in poisoned.asked] == [None, "0", None, None, None]
    dead = [r for r in poisoned.instance.get_runs() if death_of(poisoned.instance, r)]
    assert sorted(r.tags[ISOLATION_TAG].split(":")[0] for r in dead) == [
        "given_up", "split", "split"
    ]  # fmt: skip

    # Nothing else is processed since: the worker itself may be at fault, and the replay waits.
    replays.ask("again", selector={"reasonCodes": ["PROCESSING_FAILURE"]}, options={"force": True})
    poisoned.settle()
    assert "the worker itself may be at fault" in poisoned.tick(ISOLATION_SENSOR).said
    assert replays.open() == ["again"]
    assert poisoned.states()["orders_c.csv"] is State.RECEIVED

    # Somebody else's file is, so it was this one.
    lake.land("orders_d.csv", orders([3]))
    poisoned.settle()
    assert replays.open() == []
    assert replays.completed("again").outcomes == {Outcome.QUARANTINED: 1}
    assert poisoned.held() == {"orders_c.csv": ReasonCode.PROCESSING_FAILURE}

    # The cause is gone, and it is released.
    poisoned.kills = set()
    replays.ask("mended", selector={"reasonCodes": ["PROCESSING_FAILURE"]}, options={"force": True})
    poisoned.settle()
    assert replays.completed("mended").outcomes == {Outcome.PUBLISHED: 1}
    assert poisoned.held() == {}
    rows = replays.rows()
    assert len(rows) == 4

    # A published file that kills its worker in a replay stays published as it was.
    poisoned.kills = {"orders_a.csv"}
    replays.ask("all", selector={"keyPrefix": "orders/"}, options={"force": True})
    poisoned.settle()
    assert replays.completed("all").outcomes == {Outcome.PUBLISHED: 3, Outcome.KEPT: 1}
    assert replays.fates("all")["orders_a.csv"].outcome is Outcome.KEPT
    assert replays.rows() == rows
    assert poisoned.held() == {}
    assert set(poisoned.states().values()) == {State.PUBLISHED}
    keys = [request.run_key for request in poisoned.asked]
    assert len(set(keys)) == len(keys)


def test_a_tick_that_died_is_made_up_for_and_one_that_did_not_is_not_repeated(
    poisoned: Poisoned,
) -> None:
    lake = poisoned.lake
    for number, name in enumerate("ab"):
        lake.land(f"orders_{name}.csv", orders([number]))
    (request,) = lake.session.tick("orders").requests
    poisoned.kills = {"orders_b.csv"}
    poisoned.run(request)

    first = poisoned.tick(ISOLATION_SENSOR).requests
    lake.session._cursors.pop(ISOLATION_SENSOR)
    again = poisoned.tick(ISOLATION_SENSOR).requests
    for one in first:
        poisoned.run(one)
    lake.session._cursors.pop(ISOLATION_SENSOR)
    after = poisoned.tick(ISOLATION_SENSOR).requests

    assert [r.run_key for r in first] == [r.run_key for r in again]
    assert [r.tags for r in first] == [r.tags for r in again]
    # One half went through; only the other's death is new.
    (given_up,) = after
    assert given_up.tags[SPLIT_OF_TAG] == first[1].tags["lakegate/batch_id"]
    # A person runs the dead batch again, and it dies again: that is another death.
    poisoned.run(given_up)
    poisoned.run(request)
    repeated = poisoned.tick(ISOLATION_SENSOR).requests
    assert [r.tags["lakegate/batch_id"] for r in repeated] == [
        r.tags["lakegate/batch_id"] for r in first
    ]
    assert not {r.run_key for r in repeated} & {r.run_key for r in first}
    for one in repeated:
        poisoned.run(one)
    poisoned.settle()
    assert poisoned.states() == {"orders_a.csv": State.PUBLISHED, "orders_b.csv": State.QUARANTINED}
    assert lake.published_ids() == ["O000000000"]


def test_a_death_that_says_nothing_of_the_files_is_left_to_a_person(
    poisoned: Poisoned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the table must not go to quarantine, though the ledger does not know it yet; and
    who waits for Glue dies of something else than a file."""
    lake = poisoned.lake

    def dies(*_: Any) -> None:
        raise dg.Failure("here the process would be gone", allow_retries=False)

    lake.land("orders_a.csv", orders([0]))
    (committed,) = lake.session.tick("orders").requests
    with monkeypatch.context() as patch:
        patch.setattr(publication, "_record", dies)
        poisoned.replays.execute(committed)
    assert poisoned.states() == {"orders_a.csv": State.CURATED}
    assert lake.published_ids() == ["O000000000"]
    lake.land("orders_b.csv", orders([1]))
    (remote,) = lake.session.tick("orders").requests
    store = lake.store()
    manifest = read_manifest(store, remote.tags[MANIFEST_TAG])
    request = CurationRequest.of(
        lake.contract,
        manifest,
        store,
        Run(id="r", attempt="r-0", clock=lambda: datetime.now(UTC), scratch=tmp_path),
        manifest_uri=remote.tags[MANIFEST_TAG],
        published=None,
        engine=Engine.GLUE,
        force=False,
    )
    write_request(store, request)
    dead = [die(lake.session, committed), die(lake.session, remote)]
    lake.land("orders_c.csv", orders([2]))
    lake.run_all()

    tick = poisoned.tick(ISOLATION_SENSOR)

    assert tick.requests == ()
    assert "its rows are in the table already" in tick.said
    assert "it is curated on glue" in tick.said
    tags = [poisoned.instance.get_run_by_id(run.run_id).tags for run in dead]
    assert [t[ISOLATION_TAG] for t in tags] == [f"left: run {run.run_id}" for run in dead]
    assert poisoned.held() == {}
    poisoned.replays.execute(committed)
    assert poisoned.states()["orders_a.csv"] is State.PUBLISHED
    assert lake.published_ids() == ["O000000000", "O000000002"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with private_instance() as instance:
        yield instance


@dg.job
def work() -> None: ...


def group_of(first: dg.DagsterRun) -> dict[str, str]:
    return {ROOT_RUN_ID_TAG: first.run_id}


def failed(
    instance: dg.DagsterInstance,
    *events: DagsterEvent,
    data: Any = None,
    after: dg.DagsterRun | None = None,
) -> dg.DagsterRun:
    before = (
        {"root_run_id": after.run_id, "parent_run_id": after.run_id, "tags": group_of(after)}
        if after
        else {}
    )
    run = instance.create_run_for_job(work, **before)
    for event in events:
        instance.report_dagster_event(event, run.run_id)
    instance.report_run_failed(run, "Some words.", data)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def event(kind: DagsterEventType, **what: Any) -> DagsterEvent:
    return DagsterEvent(event_type_value=kind.value, job_name="work", **what)


def test_only_a_worker_that_could_not_say_why_it_ended_has_died(
    instance: dg.DagsterInstance,
) -> None:
    from dagster._core.events import JobFailureData, RunFailureReason
    from dagster._core.execution.plan.objects import StepFailureData
    from dagster._utils.error import SerializableErrorInfo

    began = event(DagsterEventType.RUN_START)
    too_long = event(
        DagsterEventType.RUN_CANCELING,
        message="Canceling due to exceeding maximum runtime of 60 seconds.",
    )
    ended_by_hand = event(DagsterEventType.RUN_CANCELING, message="Sending run termination.")

    def how(*events: DagsterEvent, reason: RunFailureReason | None = None) -> How | None:
        data = JobFailureData(error=None, failure_reason=reason) if reason else None
        found = death_of(instance, failed(instance, *events, data=data))
        return found.how if found else None

    def step_failure(error: SerializableErrorInfo) -> DagsterEvent:
        return event(
            DagsterEventType.STEP_FAILURE,
            step_key="orders_curated",
            event_specific_data=StepFailureData(error=error, user_failure_data=None),
        )

    memory = SerializableErrorInfo("no memory", [], "MemoryError")
    wrapped = SerializableErrorInfo("Memory is short.", [], "Failure", cause=memory)
    broken = SerializableErrorInfo("503", [], "ServiceFailedError")

    assert how(began) is How.DIED
    assert how(began, reason=RunFailureReason.RUN_WORKER_RESTART) is How.DIED
    assert how(began, too_long) is How.HUNG
    assert how(began, step_failure(wrapped), reason=RunFailureReason.STEP_FAILURE) is (
        How.OUT_OF_MEMORY
    )
    # A service that is down, a person, a queue that was too long, code that does not load.
    assert how(began, step_failure(broken), reason=RunFailureReason.STEP_FAILURE) is None
    assert how(began, ended_by_hand) is None
    assert how() is None
    assert how(reason=RunFailureReason.START_TIMEOUT) is None
    assert how(began, reason=RunFailureReason.UNEXPECTED_TERMINATION) is None
    assert how(began, reason=RunFailureReason.RUN_EXCEPTION) is None


def test_a_run_that_dagster_tries_again_has_not_died_for_good() -> None:
    settings = {"run_retries": {"enabled": True, "max_retries": 1}, "telemetry": {"enabled": False}}
    with dg.DagsterInstance.ephemeral(settings=settings) as retrying:
        first = failed(retrying, event(DagsterEventType.RUN_START))
        death = death_of(retrying, first)
        assert death is not None
        assert is_tried_again(retrying, first)
        assert last_death(retrying, first, death) is None

        again = failed(retrying, event(DagsterEventType.RUN_START), after=first)
        final = death_of(retrying, again)
        assert final is not None
        assert not is_tried_again(retrying, again)
        known = last_death(retrying, again, final)
        assert known is not None
        assert set(known.attempts) == {first.run_id, again.run_id}

        # A person's own try is under way.
        retrying.create_run_for_job(
            work, root_run_id=first.run_id, parent_run_id=again.run_id, tags=group_of(first)
        )
        assert last_death(retrying, again, final) is None
