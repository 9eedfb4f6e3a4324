"""A lake behind a failing AWS, operated as Dagster operates it: a tick that fails is ticked again,
a run that fails is run again.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import dagster as dg
from botocore.retries.standard import ExponentialBackoff

from dagster_project.session import Session, Tick
from resources.outages import ServiceFailedError, sentence_of
from service_core.contract.model import Contract
from service_core.layout import REPLAY_REQUESTS, Zone
from service_core.naming import DATASET_TAG, REPLAYS_SENSOR
from service_core.rollback import roll_back
from service_core.run import Run
from service_core.settings import Settings
from tests.faults.oracle import Expected, faults_found, snapshots_found, states_found
from tests.faults.proxy import FaultProxy
from tests.pipeline.conftest import HEADER, order

#: A tick or run that fails more often than this has not been failing by chance.
_TRIES = 12

BAD_FILE = b"who,are,you\n1,2,3\n"


@contextmanager
def quick_waits() -> Iterator[None]:
    """Waits between tries of a call, and of a step, a hundredth as long. They are botocore's and
    Dagster's; what is tested is what comes after them."""
    as_it_is = ExponentialBackoff.delay_amount

    def short(self: Any, context: Any) -> float:
        return float(as_it_is(self, context)) / 100

    with (
        patch.object(ExponentialBackoff, "delay_amount", short),
        patch("assets.retries.outage_wait", lambda attempt: 0.02 * attempt),
    ):
        yield


def direct(endpoint: str) -> Callable[[str], Any]:
    """Clients past the proxy."""
    session = boto3.session.Session(
        region_name="us-east-1",
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = session.client(service, endpoint_url=endpoint)
        return made[service]

    return client


@dataclass
class House:
    """A data set's lake behind a proxy.

    Attributes:
        aws: Clients past the proxy.
        failures: What failed ticks, runs and calls said, and how often each.
    """

    session: Session
    contract: Contract
    proxy: FaultProxy
    aws: Callable[[str], Any]
    expected: Expected = field(default_factory=Expected)
    failures: Counter[str] = field(default_factory=Counter)
    unnamed: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return self.session.settings

    @property
    def dataset(self) -> str:
        return self.contract.dataset

    def land(self, name: str, body: bytes, *, partition: str | None = None) -> str:
        """Put a file where the producer would; the producer's own calls do not fail."""
        day = partition or f"{datetime.now(UTC):%Y-%m-%d}"
        key = f"{self.contract.landing.prefix}dt={day}/{name}"
        self.aws("s3").put_object(Bucket=self.settings.bucket(Zone.RAW), Key=key, Body=body)
        self.expected.landed(key, body)
        return key

    def tick(self, name: str) -> Tick:
        """Tick a sensor until it does not fail, as the daemon does."""
        return self._again(lambda: self.session.tick_named(name))

    def arrivals(self) -> list[dg.RunRequest]:
        return list(self.tick(f"{self.dataset}_arrivals").requests)

    def work(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Execute a run, and again while it fails."""
        for _ in range(_TRIES):
            result = self.session.execute(request.tags.get(DATASET_TAG, self.dataset), request)
            if self._ended(result):
                return result
            assert not self.unnamed, self.unnamed[0]
        raise AssertionError(f"the run still fails after {_TRIES} tries: {self.failures}")

    def settle(self, quiet: int = 3) -> list[dg.ExecuteInProcessResult]:
        """Tick arrivals and run until so many ticks in turn ask for nothing: a listing may be
        stale."""
        results: list[dg.ExecuteInProcessResult] = []
        nothing = 0
        while nothing < quiet:
            requests = self.arrivals()
            nothing = 0 if requests else nothing + 1
            results += [self.work(request) for request in requests]
        return results

    def replay(self, replay_id: str, request: bytes) -> None:
        """Ask for a replay and see it through."""
        self.aws("s3").put_object(
            Bucket=self.settings.bucket(Zone.MANIFESTS),
            Key=f"{REPLAY_REQUESTS}{replay_id}.json",
            Body=request,
        )
        done = f"_replays/{replay_id}/completed.json"
        for _ in range(40):
            for asked in self.tick(REPLAYS_SENSOR).requests:
                self.work(asked)
            listed = self.aws("s3").list_objects_v2(
                Bucket=self.settings.bucket(Zone.MANIFESTS), Prefix=done
            )
            if listed["KeyCount"]:
                return
        raise AssertionError(f"the replay {replay_id} does not end: {self.failures}")

    def undo(self, batch_id: str) -> None:
        """Roll a batch back, and again while that fails."""
        resources = self.session.definitions.resources
        with tempfile.TemporaryDirectory() as scratch:
            run = Run("undo", "undo", lambda: datetime.now(UTC), Path(scratch))
            self._again(
                lambda: roll_back(
                    self.contract,
                    store=resources["object_store"].store(),
                    ledger=resources["ledger"].ledger(),
                    catalog=resources["catalog"].catalog(),
                    events=resources["events"].events(),
                    run=run,
                    batch_id=batch_id,
                    reason="a test wants it",
                )
            )

    def problems(self) -> str:
        """The oracle's verdict: what is not as it should be, and nothing where all is well."""
        return "; ".join(faults_found(self.aws, self.settings, self.dataset, self.expected))

    def states(self) -> list[str]:
        """The state of every source object, as the ledger's table has it."""
        return states_found(self.aws, self.settings)

    def snapshots(self) -> list[str]:
        """The batch of every commit that the table's own metadata file tells of."""
        return snapshots_found(self.aws, self.settings, self.dataset)

    def _again(self, call: Callable[[], Any]) -> Any:
        for _ in range(_TRIES):
            try:
                return call()
            except Exception as error:
                said = sentence_in(error) or sentence_of(error)
                if said is None:
                    raise
                self.failures[said] += 1
        raise AssertionError(f"it still fails after {_TRIES} tries: {self.failures}")

    def _ended(self, result: dg.ExecuteInProcessResult) -> bool:
        """Whether a run came to an end: to success, or to checks that block its batch."""
        blocked = False
        for event in result.all_events:
            if event.is_step_up_for_retry or event.is_step_failure:
                error = event.event_specific_data.error
                whole = error.to_string() if error else "?"
                if event.is_step_failure and "DagsterAssetCheckFailedError" in whole:
                    blocked = True
                    continue
                named = "ServiceFailedError" in whole or "Failure: " in whole
                self.failures["named" if named else "unnamed"] += 1
                if not named:
                    self.unnamed.append(whole)
        return blocked or result.success


def sentence_in(error: BaseException | None) -> str | None:
    """What the person reads who opens a failed tick."""
    while error is not None:
        if isinstance(error, ServiceFailedError):
            return str(error)
        error = error.__cause__ or getattr(error, "user_exception", None) or error.__context__
    return None


def orders(numbers: range, *, bad: int | None = None) -> bytes:
    """An orders file; the row of `bad` has no amount that is a number."""
    lines = [order(n, **({"amount": "many"} if n == bad else {})) for n in numbers]
    return "\n".join([HEADER, *lines, ""]).encode()


def story(house: House) -> None:
    """The whole path: arrivals, a refused file, a diverted row, a newer version, a replay, a
    rollback."""
    now = datetime.now(UTC)
    another, third = (f"{now - timedelta(days=n):%Y-%m-%d}" for n in (1, 2))
    house.land("orders_a.csv", orders(range(0, 20), bad=3))
    house.land("orders_b.csv", orders(range(20, 40)))
    house.land("orders_c.csv", orders(range(40, 60)), partition=another)
    house.land("orders_d.csv", BAD_FILE, partition=third)
    house.settle()
    house.land("orders_a.csv", orders(range(100, 125)))
    house.settle()
    house.replay(
        "again",
        b'{"replayId": "again", "reason": "a test wants it", "dataset": "orders",'
        b' "selector": {"keyPrefix": "orders/"}, "options": {"force": true}}',
    )
    house.settle(quiet=1)
    wrong = house.land("orders_e.csv", orders(range(60, 70)))
    results = house.settle()
    batches = {r.dagster_run.tags["lakegate/batch_id"] for r in results}
    assert len(batches) == 1, batches
    house.undo(batches.pop())
    house.expected.undone.add(wrong)
