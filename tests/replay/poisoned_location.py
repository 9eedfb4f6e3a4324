"""The code location, in which some files kill or hang whoever reads them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from dagster_project.definitions import defs
from service_core.s3_store import S3ObjectStore
from service_core.source_object import SourceObject

__all__ = ["defs"]

KILLS = b"O999000001"
HANGS = b"O999000002"

_open = S3ObjectStore.open_source


def _open_poisoned(store: S3ObjectStore, source_object: SourceObject) -> Iterator[bytes]:
    content = b"".join(_open(store, source_object))
    if KILLS in content:
        os.kill(os.getpid(), signal.SIGKILL)
    if HANGS in content:
        pids = Path(os.environ["LAKEGATE_SCRATCH"]) / "hung.pid"
        pids.write_text(str(os.getpid()))
        while True:
            time.sleep(1)
    return iter([content])


S3ObjectStore.open_source = _open_poisoned  # type: ignore[method-assign]
