"""A replay's start and its end: recorded, and told to the bus. May be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service_core.events import Event, EventName
from service_core.naming import REPLAYS_SENSOR
from service_core.ports import Events
from service_core.replay import audit
from service_core.replay.folder import COMPLETED, RESOLVED, ReplayFolder
from service_core.replay.request import ReplayRequest
from service_core.replay.resolution import Resolution


def start(
    folder: ReplayFolder,
    request: ReplayRequest,
    resolution: Resolution,
    events: Events,
    *,
    at: datetime,
) -> None:
    """A replay is resolved and begins."""
    detail = {
        **_selected(resolution),
        "bytes": resolution.bytes,
        "contract_version": resolution.terms.contract_version,
        "resolution": folder.uri(RESOLVED),
    }
    events.send([_event(EventName.REPLAY_STARTED, request, detail, at)])
    audit.append(
        folder,
        audit.AuditRecord(
            replay_id=folder.replay_id,
            fact=audit.RESOLVED,
            at=at,
            said=f"{resolution.objects} source objects of {resolution.listed} versions are "
            f"replayed in {resolution.batches} batches; "
            f"{sum(resolution.passed_over.values())} are passed over.",
            detail=detail,
        ),
    )


def complete(
    folder: ReplayFolder,
    request: ReplayRequest,
    resolution: Resolution,
    events: Events,
    *,
    at: datetime,
) -> str:
    """Every batch of a replay has come to its end; returns what became of them, as a sentence."""
    outcomes: Counter[audit.Outcome] = Counter()
    before = after = 0
    failed: list[str] = []
    for record in audit.records(folder):
        if record.fact.startswith(audit.BATCH):
            outcomes.update(record.outcomes)
            before += record.rows_before
            after += record.rows_after
            if record.detail.get("failed"):
                failed.append(str(record.detail["batch_id"]))
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return end(
        folder,
        request,
        resolution,
        events,
        f"The replay is complete: {counted or 'nothing was to be done'}; {before:,} rows of its "
        f"objects were published before, {after:,} are now.",
        {
            "failed_batches": failed,
            "outcomes": {outcome.value: n for outcome, n in sorted(outcomes.items())},
            "rows_before": before,
            "rows_after": after,
        },
        at=at,
        outcomes=dict(sorted(outcomes.items())),
        before=before,
        after=after,
    )


def end(
    folder: ReplayFolder,
    request: ReplayRequest,
    resolution: Resolution,
    events: Events,
    said: str,
    particular: Mapping[str, Any],
    *,
    at: datetime,
    outcomes: Mapping[audit.Outcome, int] | None = None,
    before: int = 0,
    after: int = 0,
) -> str:
    """Record a replay's end; the event goes out before the mark that it is open goes away."""
    detail = {**_selected(resolution), **particular}
    record = audit.AuditRecord(
        replay_id=folder.replay_id,
        fact=audit.COMPLETED,
        at=at,
        said=said,
        detail=detail,
        outcomes=dict(outcomes or {}),
        rows_before=before,
        rows_after=after,
    )
    if audit.COMPLETED not in audit.facts(folder):
        audit.append(folder, record)
    events.send([_event(EventName.REPLAY_COMPLETED, request, detail, at)])
    folder.write_once(COMPLETED, record)
    folder.close()
    return said


def _selected(resolution: Resolution) -> dict[str, Any]:
    return {
        "objects": resolution.objects,
        "batches": resolution.batches,
        "passed_over": {why.value: count for why, count in resolution.passed_over.items()},
    }


def _event(
    name: EventName, request: ReplayRequest, detail: Mapping[str, Any], at: datetime
) -> Event:
    return Event(
        name=name,
        dataset=request.dataset,
        partition="",
        batch_id="",
        run_id=REPLAYS_SENSOR,
        replay_id=request.replay_id,
        at=at,
        detail={**detail, "reason": request.reason},
    )
