"""The watchdog: a run that has to end, and does not, is ended from inside of its process.

Dagster's launcher of local processes only asks a run that took too long to stop. A thread that
hangs, or a call into a library that never comes back, does not hear that, and would keep its
process, and all of its memory, for ever (seen with Dagster 1.13.27).
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterRun
from dagster._core.storage.tags import GRPC_INFO_TAG

from service_core.naming import MAX_RUNTIME_TAG

#: How long after its limit a run may take to end by itself.
GRACE_SECONDS = 60.0


@contextmanager
def watched(run: DagsterRun) -> Iterator[None]:
    """A step of a run; when the run's limit and the grace have passed, the process writes where
    each of its threads is to its standard error, and is gone.

    Only for a process that a code server started for this run. Others end their own workers.
    """
    limit = run.tags.get(MAX_RUNTIME_TAG)
    if limit is None or GRPC_INFO_TAG not in run.tags:
        yield
        return
    # By a thread that needs no interpreter: what hangs may hold its lock.
    faulthandler.dump_traceback_later(float(limit) + GRACE_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
