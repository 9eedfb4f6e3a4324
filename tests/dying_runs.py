"""Runs whose process is gone, as a code server writes them down."""

from __future__ import annotations

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._utils import get_run_crash_explanation

from dagster_project.session import Session
from service_core.naming import DATASET_TAG, ingest_job


def die(session: Session, request: dg.RunRequest) -> dg.DagsterRun:
    """A run whose process is gone in the middle of validation."""
    instance = session.instance
    job = ingest_job(request.tags[DATASET_TAG])
    run = instance.create_run_for_job(
        session.definitions.resolve_job_def(job),
        tags={
            **session.definitions.resolve_job_def(job).tags,
            **request.tags,
            PARTITION_NAME_TAG: str(request.partition_key),
        },
    )
    for kind, step in (("PIPELINE_START", None), ("STEP_START", "orders_validated")):
        instance.report_dagster_event(
            DagsterEvent(event_type_value=kind, job_name=job, step_key=step), run.run_id
        )
    message = get_run_crash_explanation(f"Run execution process for {run.run_id}", -9)
    instance.report_engine_event(message, run, EngineEventData())
    instance.report_run_failed(run)
    return run
