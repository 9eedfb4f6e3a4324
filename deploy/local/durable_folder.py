"""A kept folder belongs to one at a time, until the last process that works in it is gone."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

#: Ledger and catalog; what makes a folder one of ours.
STATE = "state.sqlite"
_LOCK = "lock"
_POLL_SECONDS = 0.1


class DurableFolderError(Exception):
    """The folder cannot be used; why, in a sentence."""


class FolderTakenError(DurableFolderError):
    """Somebody else works in the folder."""


def check_folder(folder: Path) -> None:
    """Look whether a folder is one to keep state in.

    Raises:
        DurableFolderError: it is a file, it may not be written, or it holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DurableFolderError(f"{folder} is a file; name a folder to keep the state in.")
    if not os.access(folder, os.W_OK):
        raise DurableFolderError(f"{folder} may not be written. Name another folder.")
    if not (folder / STATE).exists() and any(p.name != _LOCK for p in folder.iterdir()):
        raise DurableFolderError(
            f"{folder} holds something else already, and no state of lakegate. Name an empty "
            "folder, or one that is not there yet."
        )


def take(folder: Path, *, within: float = 5.0) -> int:
    """Take a folder, waiting for those before to be gone; returns the descriptor that holds it.

    It is held until every copy of the descriptor is closed, those of child processes too.

    Args:
        folder: It has to exist.
        within: Seconds to wait: what was killed takes a moment to end what it had started.

    Raises:
        FolderTakenError: it is not to be had.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
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
