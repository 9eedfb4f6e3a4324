"""Log lines as JSON, each with run id, batch id, data set and source.

A line that cannot be told whose it is helps nobody, so `stage` binds those keys once and everything
logged inside of it, by any function, carries them. Lines go to standard error, where Dagster and
every AWS service collect them; Dagster's own logging is not touched.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from service_core.manifest import Manifest
    from service_core.run import Run

#: What every line has; empty where a line belongs to none.
CONTEXT_KEYS = ("run_id", "batch_id", "dataset", "source")


def configure_logging(stream: TextIO | None = None) -> None:
    """Have every line from `logger` written as one JSON object.

    Harmless to repeat. Python's own logging, which Dagster captures, is left as it is.

    Args:
        stream: Where to; None for whatever standard error is when a line is written.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _with_every_key,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *args: structlog.PrintLogger(stream or sys.stderr),
        # A logger kept by a module would go on writing to a stream that has been replaced.
        cache_logger_on_first_use=False,
    )


def logger() -> Any:
    """A structlog logger: `logger().info("what happened", rows=3)`."""
    return structlog.get_logger()


@contextmanager
def stage(name: str, *, run: Run, manifest: Manifest, source: str | None = None) -> Iterator[Any]:
    """Log a stage's start and its end or failure, with its duration.

    Every line logged until the block ends carries the run, the batch, the data set, the partition,
    the source, the stage and the replay id, if there is one.

    Args:
        name: The stage, such as `validated`.
        run: On whose behalf.
        manifest: Of which batch.
        source: What it works on; None for the manifest's object, or its number of objects.

    Yields:
        A logger for further lines.
    """
    context = {
        "run_id": run.id,
        "batch_id": manifest.batch_id,
        "dataset": manifest.dataset,
        "partition": manifest.partition,
        "source": _source(manifest) if source is None else source,
        "stage": name,
    }
    replay_id = run.replay_id or manifest.replay_id
    if replay_id is not None:
        context["replay_id"] = replay_id
    began = time.perf_counter()
    with structlog.contextvars.bound_contextvars(**context):
        log = logger()
        log.info("stage started", files=len(manifest.objects), bytes=manifest.size)
        try:
            yield log
        except BaseException as error:
            log.error(
                "stage failed",
                duration_s=_since(began),
                error=type(error).__name__,
                message=str(error),
            )
            raise
        log.info("stage ended", duration_s=_since(began))


def _source(manifest: Manifest) -> str:
    if len(manifest.objects) == 1:
        return manifest.objects[0].uri
    return f"{len(manifest.objects)} source objects"


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _with_every_key(log: Any, method: str, line: Any) -> Any:
    for key in CONTEXT_KEYS:
        line.setdefault(key, "")
    return line
