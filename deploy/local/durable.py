"""The embedded AWS on disk: what of it is kept in a folder, and whose the folder is.

S3 is SeaweedFS there, the ledger and the catalog are moto's with every change written down
(`deploy.local.kept_state`). Whatever else AWS has is in memory, and made anew at each start.
"""

from __future__ import annotations

from pathlib import Path

from deploy.local.durable_folder import STATE, DurableFolderError, check_folder, take
from deploy.local.kept_state import KeptState
from deploy.local.seaweed import SeaweedS3

#: Of S3's own server.
_OBJECTS, _LOG = "objects", "s3.log"


class Durable:
    """What an embedded AWS works with that keeps its state.

    Args:
        folder: Made where it is not there.

    Raises:
        DurableFolderError: it holds something else, or another embedded AWS works in it.
        SeaweedError: S3's server does not start.
        KeptStateError: what is in it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DurableFolderError(f"{folder} cannot be made: {error.strerror}.") from error
        lock = take(folder)
        self.state = KeptState(folder / STATE)
        self.s3 = SeaweedS3(folder / _OBJECTS, log=folder / _LOG, kept_open=[lock]).start()
