"""Rows held back until their file is accepted: a file refused at its end leaves nothing behind."""

from __future__ import annotations

import threading
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

    @property
    def bytes_in_memory(self) -> int:
        """What of both kinds is not in scratch."""
        return self.rows.bytes_in_memory + self.malformed.bytes_in_memory

    def close(self) -> None:
        """Nothing is added from now on."""
        self.rows.close()
        self.malformed.close()

    def leave_memory(self) -> None:
        """Close, and move everything to scratch."""
        self.rows.leave_memory()
        self.malformed.leave_memory()

    def discard(self) -> None:
        """Free memory and scratch."""
        self.rows.discard()
        self.malformed.discard()


@contextmanager
def holding(scratch: Path, object_id: str) -> Iterator[HeldRows]:
    """Rows to be held while a file is read; closed at its end, discarded where reading fails."""
    held = HeldRows(scratch, object_id)
    try:
        yield held
        held.close()
    except BaseException:
        held.discard()
        raise


class Room:
    """The memory that the rows held of all files of a window may take, however well compressed they
    have landed. Once it is full, files wait in scratch.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    def seat(self, held: HeldRows) -> None:
        """Find a place for a file that has been read."""
        wanted = held.bytes_in_memory
        with self._lock:
            fits = wanted <= self._free
            if fits:
                self._free -= wanted
        if not fits:
            held.leave_memory()
