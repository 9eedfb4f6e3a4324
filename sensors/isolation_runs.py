"""Runs as isolation sees them: those that died, those of the parts that their batches were split
into, and whether a batch's isolation has come to its end. All of it is read of a Dagster instance;
the runs' tags are the sensor's only memory beside the papers in the manifests bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG

from sensors.run_deaths import death_of, is_tried_again, last_death
from service_core.isolation.decision import Health
from service_core.naming import (
    BATCH_TAG,
    DATASET_TAG,
    DEAD_RUN_TAG,
    ISOLATION_TAG,
    SPLIT_ROOT_TAG,
)

#: What is made of a run's death that isolation can do nothing about.
LEFT = "left"

#: For so long after a death others may count on its being answered; the sensor may be off.
_PATIENCE = timedelta(hours=1)
#: Runs that succeeded, of which one tells enough.
_WELL = 50


def failed_runs(
    instance: DagsterInstance,
    datasets: Sequence[str],
    *,
    limit: int,
    run_ids: Sequence[str] | None = None,
    since: datetime | None = None,
) -> list[RunRecord]:
    """Failed runs of data sets, in the order in which they changed last.

    Args:
        run_ids: Only these.
        since: Only those that have changed since.
    """
    if not datasets:
        return []
    filters = RunsFilter(
        run_ids=run_ids,
        updated_after=since,
        statuses=[DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED],
        tags={DATASET_TAG: list(datasets)},
    )
    return list(
        instance.get_run_records(filters, limit=limit, order_by="update_timestamp", ascending=True)
    )


def part_runs(instance: DagsterInstance, run: DagsterRun) -> Sequence[DagsterRun]:
    """The runs that were asked for because of a run's death."""
    return instance.get_runs(RunsFilter(tags={DEAD_RUN_TAG: run.run_id}))


def first_asked(instance: DagsterInstance, run: DagsterRun, now: datetime) -> datetime:
    """When a batch was first asked for: with the end of the run that it is an answer to, or with
    its own first try."""
    before = run.tags.get(DEAD_RUN_TAG)
    dead = instance.get_run_record_by_id(before) if before else None
    if dead is not None and dead.end_time is not None:
        return datetime.fromtimestamp(dead.end_time, UTC)
    first = instance.get_run_record_by_id(run.root_run_id or run.run_id)
    return utc(first.create_timestamp) if first else now


def health(
    instance: DagsterInstance, datasets: Sequence[str], since: datetime, run: DagsterRun
) -> Health:
    """Whether batches have been processed to their end since, and before a run had died."""
    records = instance.get_run_records(
        RunsFilter(
            statuses=[DagsterRunStatus.SUCCESS],
            updated_after=since,
            tags={DATASET_TAG: list(datasets)},
        ),
        limit=_WELL,
    )
    ended = [r.end_time for r in records if r.end_time and r.end_time > since.timestamp()]
    if not ended:
        return Health.UNKNOWN
    dead = instance.get_run_record_by_id(run.run_id)
    died = dead.end_time if dead and dead.end_time else since.timestamp()
    return Health.WELL if min(ended) < died else Health.MENDED


def is_being_isolated(
    instance: DagsterInstance, record: RunRecord, tags: Mapping[str, str]
) -> bool:
    """Whether a failed run has died, and its batch, or a part of that, has yet to come to an end.

    Args:
        tags: Those that all runs of its parts have, beside the sensor's own.
    """
    run = record.dagster_run
    parts = part_runs(instance, run)
    if not parts:
        return _is_to_be_answered(instance, record)
    of_all = {**tags, SPLIT_ROOT_TAG: parts[0].tags[SPLIT_ROOT_TAG]}
    of_all.pop(BATCH_TAG, None)
    return any(
        not part.dagster_run.is_finished or _is_to_be_answered(instance, part)
        for part in instance.get_run_records(RunsFilter(tags=of_all))
    )


def _is_to_be_answered(instance: DagsterInstance, record: RunRecord) -> bool:
    """Whether a run has died, and the sensor has not got to it yet or waits."""
    run, ended = record.dagster_run, utc(record.update_timestamp)
    return (
        not run.is_success
        and not is_marked(run, LEFT)
        and datetime.now(UTC) < ended + _PATIENCE
        and not part_runs(instance, run)
        and (death := death_of(instance, run)) is not None
        and (is_tried_again(instance, run) or last_death(instance, run, death) is not None)
        and AUTO_RETRY_RUN_ID_TAG not in run.tags
    )


def mark(instance: DagsterInstance, run: DagsterRun, made: str) -> None:
    """Leave at a run what has been made of its death."""
    instance.add_run_tags(run.run_id, {ISOLATION_TAG: _mark(run, made)})


def is_marked(run: DagsterRun, made: str) -> bool:
    """Whether that has been made of a run's death."""
    return run.tags.get(ISOLATION_TAG) == _mark(run, made)


def _mark(run: DagsterRun, made: str) -> str:
    """A re-execution has its parent's tags, so the mark names the run."""
    return f"{made}: run {run.run_id}"


def utc(stored: datetime) -> datetime:
    """A run storage's time, which has no time zone."""
    return stored.replace(tzinfo=UTC)
