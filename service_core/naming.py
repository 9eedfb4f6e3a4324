"""Names that runs, jobs and assets go by: one scheme, known to factories, sensors and tools."""

from __future__ import annotations

from service_core.ports import PendingBatch

#: Run tags. `PARTITION_TAG` holds `<data set>/<partition>`, on which the run queue is limited, so
#: that two runs of one partition take turns.
DATASET_TAG = "lakegate/dataset"
BATCH_TAG = "lakegate/batch_id"
MANIFEST_TAG = "lakegate/manifest"
PARTITION_TAG = "lakegate/partition"
REPLAY_TAG = "lakegate/replay_id"

#: A job's tags. Data errors are no reason to run again: Dagster's run retries go by this tag, and
#: not by `Failure(allow_retries=False)`, which stops op retries alone.
NO_RETRY_ON_DATA_ERRORS = {"dagster/retry_on_asset_or_op_failure": "false"}

#: Landed objects that no contract claims are filed under this name.
UNCLAIMED = "_unclaimed"


def ingest_job(dataset: str) -> str:
    """The job that takes a batch of a data set all the way."""
    return f"{dataset}_ingest"


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
    }
