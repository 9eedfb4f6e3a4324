"""A folder belongs to one at a time, until the last process that works in it is gone."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

LOCK = "lock"
_POLL_SECONDS = 0.1


class FolderTakenError(Exception):
    """Somebody else works in the folder."""


def take(folder: Path, *, within: float = 5.0) -> int:
    """Take a folder, waiting for those before to be gone; returns the descriptor that holds it.

    It is held until every copy of the descriptor is closed, those of child processes too.

    Args:
        folder: It has to exist.
        within: Seconds to wait: what was killed takes a moment to end what it had started.

    Raises:
        FolderTakenError: it is not to be had.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise FolderTakenError(
                f"{folder} is in use by process {holder or '(unknown)'}. Stop it, or name another "
                "folder."
            ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
