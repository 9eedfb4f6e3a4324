"""Runs of batches, as a Dagster instance has them: which are under way, which there ever were."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import DagsterInstance, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from service_core.naming import BATCH_TAG, DATASET_TAG, REPLAY_TAG

#: More than any data set has in flight; it only keeps a query from reading a whole history.
_MOST = 2_000


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
