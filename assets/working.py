"""One step's run, as the shared library knows it, from Dagster's context."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dagster import AssetExecutionContext

from service_core.naming import REPLAY_TAG
from service_core.run import Run


@contextmanager
def working(context: AssetExecutionContext, scratch: Path | None) -> Iterator[Run]:
    """A run with a scratch folder of its own, which is gone when the step ends.

    The id is the root run's: a re-execution works on the manifest that the first run resolved.
    """
    run = context.run
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lakegate-", dir=scratch) as folder:
        yield Run(
            id=run.root_run_id or run.run_id,
            attempt=f"{run.run_id}-{context.retry_number}",
            clock=lambda: datetime.now(UTC),
            scratch=Path(folder),
            replay_id=run.tags.get(REPLAY_TAG),
        )
