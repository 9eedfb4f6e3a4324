"""What a test of undoing does to a lake: publish, undo, and look at what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from resources.catalog import IcebergCatalog
from service_core.contract.model import Contract
from service_core.ledger import Entry
from service_core.publication import PublishedBatch, publish_batch
from service_core.rollback import RolledBack, roll_back
from service_core.run import Run
from tests.conftest import EventsLog
from tests.pipeline.conftest import Lake
from tests.replay.conftest import ReplayLake


def ids(numbers: Iterable[int]) -> list[str]:
    return sorted(f"O{n:09d}" for n in numbers)


@dataclass
class Undoing:
    """A lake, and what a test undoes in it."""

    replays: ReplayLake
    run: Run
    bus: EventsLog

    @property
    def lake(self) -> Lake:
        return self.replays.lake

    @property
    def catalog(self) -> IcebergCatalog:
        return self.lake.session.definitions.resources["catalog"].catalog()

    def publish(self, name: str, body: bytes, partition: str | None = None) -> str:
        """Land a file and take it all the way; returns its batch's id."""
        self.lake.land(name, body, partition)
        (result,) = self.lake.run_all()
        assert result.success
        return self.lake.verdict_of(result).batch_id

    def undo(self, **what: Any) -> RolledBack:
        fields: dict[str, Any] = {
            "store": self.lake.store(),
            "ledger": self.lake.ledger(),
            "catalog": self.catalog,
            "run": self.run,
            "events": self.bus,
        }
        return roll_back(self.lake.contract, **fields | what)

    def publish_again(self, batch_id: str, **instead: Any) -> PublishedBatch:
        fields: dict[str, Any] = {
            "store": self.lake.store(),
            "ledger": self.lake.ledger(),
            "catalog": self.catalog,
            "run": self.run,
        }
        return publish_batch(
            self.lake.contract,
            partition=self.lake.today(),
            batch_id=batch_id,
            **fields | instead,
        )

    def entries(self) -> dict[str, Entry]:
        return self.replays.entries()

    def amounts(self) -> dict[str, str]:
        return {row["order_id"]: str(row["amount"]) for row in self.lake.published()}

    def force(self, replay_id: str, *keys: str) -> None:
        """Replay files though they are published."""
        self.replays.replay(
            replay_id, files=[self.replays.file(k) for k in keys], options={"force": True}
        )

    def wear(self, contract: Contract, make_lake: Callable[..., Lake]) -> None:
        """Go on under another contract."""
        self.replays.lake = make_lake(contract)
