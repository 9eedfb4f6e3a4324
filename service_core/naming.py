"""Names that runs, jobs and assets go by: one scheme, known to factories, sensors and tools."""

from __future__ import annotations

from typing import Any

from service_core.ports import PendingBatch

#: Run tags. `PARTITION_TAG` holds `<data set>/<partition>`, on which the run queue is limited, so
#: that two runs of one partition take turns.
DATASET_TAG = "lakegate/dataset"
BATCH_TAG = "lakegate/batch_id"
MANIFEST_TAG = "lakegate/manifest"
PARTITION_TAG = "lakegate/partition"
REPLAY_TAG = "lakegate/replay_id"

#: Tags of the runs that isolation asks for: the run whose death they answer, the batch that was
#: split first, and the batch that they are a part of.
DEAD_RUN_TAG = "lakegate/dead_run"
SPLIT_ROOT_TAG = "lakegate/split_root"
SPLIT_OF_TAG = "lakegate/split_of"
#: The tag of a dead run, for whoever looks at it: what isolation made of it.
ISOLATION_TAG = "lakegate/isolation"

#: Dagster's own tags: after how many seconds a run is ended, and how often it is tried again when
#: its worker dies.
MAX_RUNTIME_TAG = "dagster/max_runtime"
MAX_RETRIES_TAG = "dagster/max_retries"

#: Dagster's own tag of a run that is part of a backfill.
BACKFILL_TAG = "dagster/backfill"

#: The sensor that carries out replays, and in whose name it acts where no run does.
REPLAYS_SENSOR = "replays"

#: The sensor that reads the queue of notifications.
NOTIFICATIONS_SENSOR = "arrival_notifications"

#: The sensor that splits batches which kill or hang their workers.
ISOLATION_SENSOR = "isolation"

#: The job, and the asset under `maintenance`, that clears what dead attempts left.
LEFTOVERS = "leftovers"

#: The asset under `maintenance` that keeps published tables quick to publish to and to read, and
#: its job.
TABLES = "tables"
TABLE_UPKEEP = "table_upkeep"

#: A job's tags. Data errors are no reason to run again: Dagster's run retries go by this tag, and
#: not by `Failure(allow_retries=False)`, which stops op retries alone.
NO_RETRY_ON_DATA_ERRORS = {"dagster/retry_on_asset_or_op_failure": "false"}
RETRY_IN_AN_OUTAGE = {"dagster/retry_on_asset_or_op_failure": "true"}

#: The Dagster pool that bounds how many steps wait for a Glue job run at a time.
GLUE_POOL = "glue"

#: Landed objects that no contract claims are filed under this name.
UNCLAIMED = "_unclaimed"


def ingest_job(dataset: str) -> str:
    """The job that takes a batch of a data set all the way."""
    return f"{dataset}_ingest"


def rehearsal_job(dataset: str) -> str:
    """The job that takes a replay's dry run as far as its report."""
    return f"{dataset}_rehearsal"


def rehearsal_step(dataset: str) -> str:
    """The step of that job: where a run's configuration may name partitions instead of a replay."""
    return f"rehearse_{dataset}"


def curation_step(dataset: str) -> str:
    """The step that curates a data set: where a run's configuration may name an engine."""
    return f"{dataset}_curated"


def curation_config(dataset: str, engine: str) -> dict[str, Any]:
    """The run configuration that has a batch curated by an engine, whatever its contract says."""
    return {"ops": {curation_step(dataset): {"config": {"engine": str(engine)}}}}


def arrivals_sensor(dataset: str) -> str:
    """The sensor that notices a data set's arrivals."""
    return f"{dataset}_arrivals"


def run_tags(batch: PendingBatch) -> dict[str, str]:
    """The tags of the run that processes a batch."""
    return {
        DATASET_TAG: batch.dataset,
        BATCH_TAG: batch.batch_id,
        MANIFEST_TAG: batch.manifest_uri,
        PARTITION_TAG: f"{batch.dataset}/{batch.partition}",
        **({REPLAY_TAG: batch.replay_id} if batch.replay_id else {}),
    }


def run_key(batch: PendingBatch) -> str:
    """What Dagster knows a request for a batch's run by, for ever: a batch that a replay asks for
    again is another request."""
    return f"{batch.replay_id}/{batch.batch_id}" if batch.replay_id else batch.batch_id
