"""Runs of batches: how one is asked for, and which a Dagster instance has: those that are under
way, and those that there ever were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import DagsterInstance, RunRequest, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from service_core.naming import (
    BATCH_TAG,
    DATASET_TAG,
    REPLAY_TAG,
    ingest_job,
    run_key,
    run_tags,
)
from service_core.ports import PendingBatch

#: More than any data set has in flight; it only keeps a query from reading a whole history.
_MOST = 2_000


def batch_request(
    batch: PendingBatch, *, key: str = "", tags: Mapping[str, str] | None = None, **more: Any
) -> RunRequest:
    """The request for a batch's run, by its data set's ingest job.

    Args:
        key: What Dagster knows the request by, for ever; by default, what it is the first one by.
        tags: More tags of the run.
        more: What else `RunRequest` takes.
    """
    return RunRequest(
        run_key=key or run_key(batch),
        job_name=ingest_job(batch.dataset),
        partition_key=batch.partition,
        tags={**run_tags(batch), **(tags or {})},
        **more,
    )


class BatchRuns:
    """Implements `service_core.arrival.Runs`."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance

    def active(self, dataset: str) -> frozenset[str]:
        """Ids of the batches that have a run which has not ended; those of replays apart."""
        under_way = self._instance.get_runs(
            RunsFilter(tags={DATASET_TAG: dataset}, statuses=NOT_FINISHED_STATUSES), limit=_MOST
        )
        return frozenset(
            run.tags[BATCH_TAG]
            for run in under_way
            if BATCH_TAG in run.tags and REPLAY_TAG not in run.tags
        )

    def ever(self, batch_ids: Sequence[str]) -> frozenset[str]:
        """Those of the batches that have, or had, a run."""
        return frozenset(
            batch_id
            for batch_id in batch_ids
            if self._instance.get_run_ids(RunsFilter(tags={BATCH_TAG: batch_id}), limit=1)
        )
