"""An AWS for the tests: one server for each worker, one set of buckets and tables for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws
from resources.aws import clients
from resources.ledger import DynamoLedger
from resources.object_store import ObjectStoreResource
from service_core.events import Event, EventName
from service_core.s3_store import S3ObjectStore
from service_core.settings import Settings

_NUMBERS = itertools.count(1)


class EventsLog:
    """An event bus that remembers. The embedded one takes events and shows them to nobody."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    def send(self, events: Sequence[Event]) -> None:
        self.sent += events

    def named(self, name: EventName) -> list[Event]:
        """Those of one name, in the order in which they were sent."""
        return [event for event in self.sent if event.name is name]


@pytest.fixture(scope="session")
def embedded_aws() -> Iterator[EmbeddedAws]:
    """The worker's own AWS; the environment points to it until the last test has ended."""
    with EmbeddedAws() as aws, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "LAKEGATE_"))]:
            patch.delenv(name)
        for name, value in aws.environment().items():
            patch.setenv(name, value)
        yield aws


@pytest.fixture
def settings(
    embedded_aws: EmbeddedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings with buckets and tables of the test's own, created and empty."""
    monkeypatch.setenv("LAKEGATE_NAME_PREFIX", f"t{next(_NUMBERS)}")
    monkeypatch.setenv("LAKEGATE_SCRATCH", str(tmp_path / "scratch"))
    settings = Settings.from_environment(os.environ)
    bootstrap(settings, clients(settings))
    return settings


@pytest.fixture
def aws(settings: Settings) -> Callable[[str], Any]:
    """`aws("s3")`: a boto3 client of a service."""
    return clients(settings)


@pytest.fixture
def object_store(settings: Settings) -> S3ObjectStore:
    return ObjectStoreResource.of(settings).store()


@pytest.fixture
def ledger(settings: Settings, aws: Callable[[str], Any]) -> DynamoLedger:
    return DynamoLedger(aws("dynamodb"), settings.ledger_table)


@pytest.fixture
def events_log() -> EventsLog:
    """A bus that remembers what it was sent: `events_log.sent`."""
    return EventsLog()
