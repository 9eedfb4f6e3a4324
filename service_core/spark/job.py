"""Curation of a batch on Spark: what in-process curation leaves, but for the ledger.

Whoever asked reads the verdict, which is written last, and brings the ledger to it. A job that dies
anywhere leaves nothing that a verdict names, and may be run again, twice at once too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import uuid4

from service_core.arrival import read_manifest
from service_core.curation.batch import judge_batch, taken_before
from service_core.curation.conclusion import conclude, standing_verdict, still_holds
from service_core.curation.request import CurationRequest, RequestError
from service_core.curation.workbench import Batch
from service_core.layout import Zone
from service_core.ports import ObjectMissingError, ObjectStore, PublishedFiles
from service_core.run import Run
from service_core.s3_store import split_uri
from service_core.spark.bench import SparkBench
from service_core.spark.crew import Crew
from service_core.spark.errand import Errand
from service_core.spark.reach import Reach
from service_core.spark.spans import SIZES, Sizes
from service_core.validation.stored import read_record
from service_core.verdict import Verdict

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def curate_on_spark(
    spark: SparkSession,
    request: CurationRequest,
    store: ObjectStore,
    run: Run,
    *,
    sizes: Sizes = SIZES,
    environ: Mapping[str, str] = os.environ,
) -> Verdict:
    """Judge a batch on Spark, stage what is accepted, quarantine the rest, and write the verdict.

    May be called as often as wanted; a batch that has been judged gets the verdict it has, unless
    the request forces another. The ledger is left to whoever asked.

    Args:
        spark: Any session; its time zone and other settings change nothing.
        sizes: How tasks and files are cut.
        environ: Where the workers' way to the object store is read from.

    Raises:
        RequestError: the request cannot be carried out.
        TaskFailedError: Spark gave up.
    """
    with TemporaryDirectory(prefix="request-", dir=run.scratch) as name:
        batch = requested_batch(request, store, Path(name))
    return judge_on_spark(
        spark,
        batch,
        store,
        run,
        published=request.published,
        engine=request.engine,
        force=request.force,
        sizes=sizes,
        reach=Reach.of(request, environ),
    )


def judge_on_spark(
    spark: SparkSession,
    batch: Batch,
    store: ObjectStore,
    run: Run,
    *,
    published: PublishedFiles | None,
    engine: str,
    reach: Reach,
    force: bool = False,
    sizes: Sizes = SIZES,
) -> Verdict:
    """The same for a batch in hand.

    Args:
        published: What the table's partition holds; None where nothing is published or the
            contract has no unique key.
        reach: The workers' way to the object store.
    """
    earlier = standing_verdict(batch.contract, batch.manifest, store)
    if earlier is not None and not force and still_holds(earlier, batch.record, store):
        return earlier
    # A judgement's own: two jobs may be at the same attempt, where a start seemed to fail.
    errand = Errand(batch, reach, f"{run.attempt}-{uuid4().hex[:8]}")
    with TemporaryDirectory(prefix="curated-", dir=run.scratch) as name:
        folder = Path(name)
        judged = judge_batch(
            batch,
            SparkBench(errand, Crew(spark), store, published, folder, sizes),
            run,
            folder,
            snapshot=published.snapshot_id if published else None,
            taken=taken_before(earlier, batch.record),
        )
        verdict = conclude(
            batch.contract, batch.manifest, batch.record, judged, store, run, engine=engine
        )
    _sweep(errand, verdict, store)
    return verdict


def requested_batch(request: CurationRequest, store: ObjectStore, folder: Path) -> Batch:
    """What a request is about; to be asked for before a Spark is started in vain.

    Args:
        folder: Scratch.

    Raises:
        RequestError: it is not there.
    """
    contract = request.load_contract(folder)
    try:
        manifest = read_manifest(store, request.manifest_uri)
    except ObjectMissingError as missing:
        raise RequestError(f"The batch's manifest is not there: {missing}") from missing
    except ValueError as wrong:
        raise RequestError(f"The batch's manifest cannot be read: {wrong}") from wrong
    if manifest.batch_id != request.batch_id:
        raise RequestError(
            f"{request.manifest_uri} is the manifest of batch {manifest.batch_id}, and the request "
            f"is for batch {request.batch_id}."
        )
    try:
        record = read_record(store, manifest)
    except ObjectMissingError as missing:
        raise RequestError(
            f"Batch {request.batch_id} of {request.dataset} {request.partition} has not been "
            f"validated: materialise validated/{request.dataset} first."
        ) from missing
    return Batch(contract, manifest, record)


def _sweep(errand: Errand, verdict: Verdict, store: ObjectStore) -> None:
    """Remove what this judgement wrote and its verdict does not name: files that were written
    anew, those of tasks that were tried twice, and what passes handed to each other."""
    named = {split_uri(file.uri)[1] for file in (*verdict.staged, *verdict.quarantined_rows)}
    for zone, prefix in (
        (Zone.CURATED, errand.staged),
        (Zone.QUARANTINE, errand.quarantined),
    ):
        store.remove(zone, [key for key in store.keys(zone, prefix) if key not in named])
