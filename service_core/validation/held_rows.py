"""Rows held back until their file is accepted: a file refused at its end leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_core.drift import Drift
from service_core.validation.parts import TableSpool


class HeldRows:
    """What one file gave.

    Attributes:
        rows: Canonical text, the source object's id as a dictionary.
        malformed: Rows without shape.
        rows_read: Records found, of both kinds.
        drift: What was found on the way.
    """

    def __init__(self, scratch: Path, object_id: str) -> None:
        self.rows = TableSpool(scratch / f"{object_id}.rows")
        self.malformed = TableSpool(scratch / f"{object_id}.malformed")
        self.rows_read = 0
        self.drift: tuple[Drift, ...] = ()

    def discard(self) -> None:
        """Free memory and scratch."""
        self.rows.discard()
        self.malformed.discard()


@contextmanager
def holding(scratch: Path, object_id: str) -> Iterator[HeldRows]:
    """Rows to be held while a file is read; discarded where reading fails."""
    held = HeldRows(scratch, object_id)
    try:
        yield held
    except BaseException:
        held.discard()
        raise
