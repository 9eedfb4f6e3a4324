"""What is known from one process to the next: a daemon's cursors, run keys and queue, and how far
the person is who plays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.replay.kill.forking import Json


class Memory:
    """What is known from one process to the next; every change is on disk when it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.facts: Json = {"cursors": {}, "keys": [], "queue": [], "done": 0, "known": {}}
        if path.exists():
            self.facts = json.loads(path.read_text())

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]

    def learn(self, **facts: Any) -> None:
        self.facts |= facts
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self.facts))
        fresh.replace(self._path)

    @classmethod
    def of(cls, home: Path) -> Memory:
        """A Dagster home's."""
        return cls(home / "memory.json")
