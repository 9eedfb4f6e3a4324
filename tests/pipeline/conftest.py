"""A session for each test: real sensors, jobs and assets on the test's own buckets and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.session import Session, private_instance
from resources.catalog import CatalogResource
from service_core.contract import load_contract
from service_core.contract.model import Contract
from service_core.gate import read_verdict
from service_core.layout import Zone
from service_core.naming import BATCH_TAG
from service_core.settings import Settings
from service_core.verdict import Verdict
from tests.glue_steps import Job

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"

HEADER = "order_id,customer_id,amount,currency,event_ts,status,country,quantity,note"


def order(number: int, **changes: object) -> str:
    """One good line of the orders data set, or one changed for the worse."""
    fields = {
        "order_id": f"O{number:09d}",
        "customer_id": "C000001",
        "amount": "10.50",
        "currency": "EUR",
        "event_ts": "2026-11-01T10:00:00Z",
        "status": "paid",
        "country": "DE",
        "quantity": "2",
        "note": "",
    }
    return ",".join(str(changes.get(name, value)) for name, value in fields.items())


def orders(numbers: Any, **changes: object) -> bytes:
    """A whole orders file."""
    return "\n".join([HEADER, *(order(n, **changes) for n in numbers), ""]).encode()


@dataclass
class Lake:
    """What a test does to a lake and sees of it."""

    session: Session
    contract: Contract
    s3: Any

    @property
    def settings(self) -> Settings:
        return self.session.settings

    def today(self) -> str:
        return f"{datetime.now(UTC):%Y-%m-%d}"

    def key(self, name: str, partition: str | None = None) -> str:
        return f"{self.contract.landing.prefix}dt={partition or self.today()}/{name}"

    def land(self, name: str, body: bytes, partition: str | None = None) -> str:
        """Put a file where the producer would; returns its key."""
        key = self.key(name, partition)
        self.s3.put_object(Bucket=self.settings.bucket(Zone.RAW), Key=key, Body=body)
        return key

    def run_all(self) -> list[dg.ExecuteInProcessResult]:
        """Tick and execute until the sensor finds no more."""
        results = []
        while requests := self.session.tick(self.contract.dataset).requests:
            results += [self.session.execute(self.contract.dataset, r) for r in requests]
        return results

    def verdict_of(self, result: dg.ExecuteInProcessResult) -> Verdict:
        run = result.dagster_run
        return read_verdict(
            self.store(), self.contract.dataset, run.tags["dagster/partition"],
            run.tags[BATCH_TAG],
        )  # fmt: skip

    def store(self) -> Any:
        return self.session.definitions.resources["object_store"].store()

    def ledger(self) -> Any:
        return self.session.definitions.resources["ledger"].ledger()

    def published(self) -> list[dict[str, Any]]:
        """Every published row."""
        catalog = CatalogResource.of(self.settings).catalog()
        return [row for batch in catalog.scan(self.contract) for row in batch.to_pylist()]

    def published_ids(self) -> list[str]:
        return sorted(row["order_id"] for row in self.published())

    def quarantined_files(self) -> list[str]:
        return [k for k in self.store().keys(Zone.QUARANTINE, f"{self.contract.dataset}/files/")
                if k.endswith("record.json")]  # fmt: skip


@pytest.fixture
def orders_contract() -> Contract:
    return load_contract(ROOT / "contracts" / "orders.yaml")


@pytest.fixture
def make_lake(settings: Settings, aws: Callable[[str], Any]
              ) -> Iterator[Callable[..., Lake]]:  # fmt: skip
    instances: list[dg.DagsterInstance] = []

    def make(contract: Contract, **changes: Any) -> Lake:
        contract = replace(contract, **changes)
        instance = private_instance()
        instances.append(instance)
        return Lake(Session([contract], settings, instance), contract, aws("s3"))

    yield make
    for instance in instances:
        instance.dispose()


@pytest.fixture
def lake(make_lake: Callable[..., Lake], orders_contract: Contract) -> Lake:
    """The orders data set, empty."""
    return make_lake(orders_contract)


@pytest.fixture
def job(settings: Settings, aws: Callable[[str], Any], tmp_path: Path) -> Job:
    """A Glue job of the test's own; it does what `job.does(script)` says."""
    return Job(settings, aws, tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with private_instance() as instance:
        yield instance
