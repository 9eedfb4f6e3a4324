"""The embedded AWS on disk: what of it is kept in a folder, and whose the folder is.

S3 is SeaweedFS there, the ledger and the catalog are moto's with every change written down
(`deploy.local.kept_state`). Whatever else AWS has is in memory, and made anew at each start.
"""

from __future__ import annotations

import os
from pathlib import Path

from deploy.local.folder_lock import LOCK, take
from deploy.local.kept_state import KeptState
from deploy.local.seaweed import SeaweedS3

_STATE = "state.sqlite"
#: Of S3's own server.
_OBJECTS, _LOG = "objects", "s3.log"


class DurableFolderError(Exception):
    """The folder cannot be used; why, in a sentence."""


class Durable:
    """What an embedded AWS works with that keeps its state.

    Args:
        folder: Made where it is not there.

    Raises:
        DurableFolderError: it holds something else.
        FolderTakenError: another embedded AWS works in it.
        SeaweedError: S3's server does not start.
        KeptStateError: what is in it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = take(folder)
        self.state = KeptState(folder / _STATE)
        self.s3 = SeaweedS3(folder / _OBJECTS, log=folder / _LOG, kept_open=[lock]).start()


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
    if not (folder / _STATE).exists() and any(p.name != LOCK for p in folder.iterdir()):
        raise DurableFolderError(
            f"{folder} holds something else already, and no state of lakegate. Name an empty "
            "folder, or one that is not there yet."
        )
