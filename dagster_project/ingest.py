"""Ingest: local files all the way through the real sensor, job and assets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from dagster_project.landing import land_files, landing_keys, running_partition
from dagster_project.report import IngestReport
from dagster_project.session import Session
from resources.aws import client
from resources.object_store import ObjectStoreResource
from service_core.contract.model import Contract
from service_core.gate import GateClosedError, read_verdict
from service_core.naming import BATCH_TAG
from service_core.verdict import Verdict


class IngestError(Exception):
    """The platform failed, not the data."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Whom to tell how far an ingest is; files for landing, files for being judged."""

    landed: Callable[[int], None] = lambda _: None
    judged: Callable[[int], None] = lambda _: None


def ingest_files(
    session: Session,
    contract: Contract,
    paths: Sequence[Path],
    *,
    partition: str | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Land files, tick the sensor until it finds no more, and execute what it requests.

    Args:
        session: Where to do it.
        contract: One of the session's contracts.
        paths: Existing local files; the same name twice is two files.
        partition: The landing partition; the running one where None.

    Raises:
        IngestError: a run failed for a reason that is not the data's.
    """
    progress = progress or Progress()
    partition = partition or running_partition(contract, datetime.now(UTC))
    landed = landing_keys(contract, paths, partition)
    land_files(
        landed,
        session.settings,
        client(session.settings, "s3"),
        on_landed=lambda _: progress.landed(1),
    )
    verdicts = list(_run_all(session, contract, progress))
    seen = {f.source_object.key for verdict in verdicts for f in verdict.files}
    missing = [str(one.path) for one in landed if one.key not in seen]
    if missing:
        raise IngestError(
            f"{len(missing)} landed files were in no batch, {missing[0]} first. "
            "This is a defect in lakegate; please report it with the files' names."
        )
    return IngestReport.of(verdicts, {one.key: str(one.path) for one in landed})


def _run_all(session: Session, contract: Contract, progress: Progress) -> Iterable[Verdict]:
    """Every batch's verdict, batch by batch."""
    store = ObjectStoreResource.of(session.settings).store()
    while True:
        tick = session.tick(contract.dataset)
        if not tick.requests:
            return
        for request in tick.requests:
            result = session.execute(contract.dataset, request)
            batch_id = request.tags[BATCH_TAG]
            try:
                verdict = read_verdict(
                    store, contract.dataset, str(request.partition_key), batch_id
                )
            except GateClosedError as none:
                raise IngestError(_why(result)) from none
            if verdict.passed and not result.success:
                raise IngestError(_why(result))
            progress.judged(len(verdict.files))
            yield verdict


def _why(result: dg.ExecuteInProcessResult) -> str:
    """A failed run's cause in a sentence."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            if (said := event.step_failure_data.user_failure_data) and said.description:
                return f"{event.step_key} failed: {said.description}"
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            return f"{event.step_key} failed: {error.message.strip()}"
    return "The run failed before any of its steps."
