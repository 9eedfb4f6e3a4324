"""What the event bus is told of a batch. Events are at least once: a step that runs again tells
again, with the same batch id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service_core.events import Event, EventName
from service_core.ports import Events
from service_core.run import Run
from service_core.validation.record import FileValidation, ValidationRecord
from service_core.verdict import FileOutcome, FileStatus, Verdict


def announce_validation(record: ValidationRecord, events: Events, run: Run) -> None:
    """ValidationPassed with what was accepted, ValidationFailed with what was not, and one
    Quarantined for each refused file."""
    accepted = [f for f in record.files if f.accepted]
    refused = [f for f in record.files if not f.accepted]
    news: list[Event] = []
    if accepted:
        counts = {"files": len(accepted), "rows_read": sum(f.rows_read for f in accepted)}
        news.append(_event(EventName.VALIDATION_PASSED, record, run, counts))
    if refused:
        news.append(_event(EventName.VALIDATION_FAILED, record, run, {"files": len(refused)}))
    news += [_quarantined(f, record, run) for f in refused if f.published_by is None]
    events.send(news)


def announce_verdict(verdict: Verdict, record: ValidationRecord, events: Events, run: Run) -> None:
    """DQPassed or DQFailed; one Quarantined for each file that curation took whole, and one for
    the batch's diverted rows."""
    news = [
        _event(
            EventName.DQ_PASSED if verdict.passed else EventName.DQ_FAILED,
            verdict,
            run,
            {
                "rows_accepted": verdict.rows_accepted,
                "rows_quarantined": verdict.rows_quarantined,
                "blocked_by": list(verdict.blocked_by),
            },
        )
    ]
    news += [_quarantined(f, verdict, run) for f in taken_whole(verdict, record)]
    if verdict.quarantined_rows:
        rows = sum(staged.rows for staged in verdict.quarantined_rows)
        news.append(_event(EventName.QUARANTINED, verdict, run, {"scope": "row", "rows": rows}))
    events.send(news)


def taken_whole(verdict: Verdict, record: ValidationRecord) -> tuple[FileOutcome, ...]:
    """The files that passed validation and went to quarantine whole in curation."""
    accepted = {f.source_object.id for f in record.files if f.accepted}
    return tuple(
        f
        for f in verdict.files
        if f.status is FileStatus.QUARANTINED
        and f.published_by is None
        and f.source_object.id in accepted
        and any(finding.scope == "file" for finding in f.findings)
    )


def _event(
    name: EventName,
    batch: ValidationRecord | Verdict,
    run: Run,
    detail: dict[str, Any],
    source: str = "",
) -> Event:
    return Event(
        name=name,
        dataset=batch.dataset,
        partition=batch.partition,
        batch_id=batch.batch_id,
        run_id=run.id,
        replay_id=run.replay_id,
        source=source,
        at=run.clock(),
        detail=detail,
    )


def _quarantined(
    file: FileValidation | FileOutcome, batch: ValidationRecord | Verdict, run: Run
) -> Event:
    detail = {
        "scope": "file",
        "source_object": file.source_object.id,
        "reasons": sorted({finding.code.value for finding in file.findings}),
    }
    return _event(EventName.QUARANTINED, batch, run, detail, source=file.source_object.key)


def announce_withdrawn(
    verdict: Verdict, files: Iterable[FileOutcome], events: Events, run: Run
) -> None:
    """One Quarantined for each file that went there because publication took its rows out."""
    events.send([_quarantined(file, verdict, run) for file in files])
