"""A lake in which replays are asked for as anybody does: by a manifest in the bucket."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from service_core.contract.model import Contract
from service_core.layout import REPLAY_REQUESTS, Zone
from service_core.ledger import Entry
from service_core.naming import DATASET_TAG, REPLAYS_SENSOR
from service_core.replay import audit
from service_core.replay.folder import ReplayFolder
from service_core.run import Run
from tests.conftest import EventsLog
from tests.pipeline.conftest import Lake, make_lake, orders_contract

if TYPE_CHECKING:
    from tests.replay.undoing import Undoing

__all__ = ["make_lake", "orders_contract"]


@dataclass
class ReplayLake:
    """A lake, and what a test asks of its replays."""

    lake: Lake

    @property
    def raw(self) -> str:
        return self.lake.settings.bucket(Zone.RAW)

    @property
    def manifests(self) -> str:
        return self.lake.settings.bucket(Zone.MANIFESTS)

    def drop(self, name: str, body: bytes | dict[str, Any]) -> str:
        """Put a request where a person would; returns its key."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = f"{REPLAY_REQUESTS}{name}.json"
        self.lake.s3.put_object(Bucket=self.manifests, Key=key, Body=text)
        return key

    def ask(self, replay_id: str, *, options: dict[str, Any] | None = None, **what: Any) -> str:
        """Drop a good request; `what` is `files` or `selector`."""
        return self.drop(
            replay_id,
            {
                "replayId": replay_id,
                "reason": "a test wants it",
                "dataset": self.lake.contract.dataset,
                **what,
                **({"options": options} if options else {}),
            },
        )

    def file(self, key: str, **more: Any) -> dict[str, Any]:
        return {"bucket": self.raw, "key": key, **more}

    def tick(self) -> Any:
        return self.lake.session.tick_named(REPLAYS_SENSOR)

    def run_all(self, ticks: int = 20) -> list[dg.ExecuteInProcessResult]:
        """Tick the replay sensor and execute what it asks for, until no replay is open."""
        results = []
        for _ in range(ticks):
            tick = self.tick()
            results += [self.execute(request) for request in tick.requests]
            if not tick.requests and not self.open():
                return results
        raise AssertionError(f"replays are still open after {ticks} ticks: {tick.said}")

    def execute(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self.lake.session.execute(request.tags[DATASET_TAG], request)

    def replay(self, replay_id: str, **what: Any) -> audit.AuditRecord:
        """Ask for a replay and see it through; returns the record of its end."""
        self.ask(replay_id, **what)
        self.run_all()
        return self.completed(replay_id)

    def open(self) -> list[str]:
        return self.names("_replays/open/")

    def names(self, prefix: str) -> list[str]:
        keys = self.lake.store().keys(Zone.MANIFESTS, prefix)
        return [key.removeprefix(prefix) for key in keys]

    def paper(self, key: str) -> dict[str, Any]:
        return json.loads(self.lake.store().read(Zone.MANIFESTS, key))

    def folder(self, replay_id: str) -> ReplayFolder:
        return ReplayFolder(self.lake.store(), replay_id)

    def records(self, replay_id: str) -> dict[str, audit.AuditRecord]:
        return {record.fact: record for record in audit.records(self.folder(replay_id))}

    def completed(self, replay_id: str) -> audit.AuditRecord:
        return self.records(replay_id)[audit.COMPLETED]

    def fates(self, replay_id: str) -> dict[str, audit.Fate]:
        """What became of each object, by its file's name."""
        return {
            fate.key.rsplit("/", 1)[1]: fate
            for record in self.records(replay_id).values()
            for fate in record.fates
        }

    def entries(self) -> dict[str, Entry]:
        """The ledger's entry of each key's latest version, by its file's name."""
        from service_core.arrival import source_object_of

        listed = self.lake.store().list_versions(self.lake.contract.landing.prefix).objects
        ids = {
            source_object_of(self.lake.contract, self.raw, o).id: o.key.rsplit("/", 1)[1]
            for o in listed
            if o.is_latest
        }
        return {ids[i]: entry for i, entry in self.lake.ledger().entries(ids).items()}

    def rows(self) -> set[tuple[str, str, int]]:
        """What a reader sees, without who brought it: order, key and row of it."""
        return {(r["order_id"], r["_source_key"], r["_source_row"]) for r in self.lake.published()}


@pytest.fixture
def replays(make_lake: Callable[..., Lake], orders_contract: Contract) -> ReplayLake:
    """The orders data set, empty."""
    return ReplayLake(make_lake(orders_contract))


@pytest.fixture
def undoing(replays: ReplayLake, tmp_path: Path, events_log: EventsLog) -> Undoing:
    """The same, for those who undo."""
    from tests.replay.undoing import Undoing

    run = Run(id="undo-1", attempt="a1", clock=lambda: datetime.now(UTC), scratch=tmp_path)
    return Undoing(replays, run, events_log)


def requests_of(results: Sequence[dg.ExecuteInProcessResult]) -> list[dict[str, str]]:
    return [dict(result.dagster_run.tags) for result in results]
