"""Landed objects that no contract claims: reported once each, never silently skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from service_core.events import Event, EventName
from service_core.layout import Zone
from service_core.ledger import Move, State
from service_core.manifest import Manifest, Origin
from service_core.naming import UNCLAIMED
from service_core.ports import Events, Ledger, Listed, ObjectStore
from service_core.quarantine import quarantine_file
from service_core.reasons import REASONS, ReasonCode, Scope
from service_core.run import Run
from service_core.source_object import SourceObject
from service_core.validation.record import FileValidation, Finding

#: Sorts after every character that a key can hold, so that a listing resumed after it has left
#: the prefix behind.
_LAST_CHARACTER = "\U0010ffff"

#: A contract's version and hash, for manifests that stand under none.
_NO_CONTRACT = "none"


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """What one look found.

    Attributes:
        objects: Newly reported source objects, now in quarantine.
        resume: Where the next look goes on; None at the listing's end.
    """

    objects: tuple[SourceObject, ...]
    resume: tuple[str, str] | None


def look_for_unclaimed(
    prefixes: Sequence[str],
    store: ObjectStore,
    ledger: Ledger,
    events: Events,
    run: Run,
    *,
    resume: tuple[str, str] | None = None,
    seconds: float = 20.0,
) -> Unclaimed:
    """List the raw bucket outside of the contracts' landing prefixes and quarantine what is new.

    Whole prefixes are stepped over, so the cost does not grow with what contracts claim.
    """
    deadline = run.clock() + timedelta(seconds=seconds)
    found: list[SourceObject] = []
    while run.clock() < deadline:
        page = store.list_versions("", resume=resume)
        strangers = [o for o in page.objects if not o.key.startswith(tuple(prefixes))]
        found += _report(strangers, store, ledger, events, run)
        resume = page.resume
        if resume is None:
            break
        inside = next((p for p in prefixes if resume[0].startswith(p)), None)
        if inside is not None:
            resume = (inside + _LAST_CHARACTER, "")
    return Unclaimed(tuple(found), resume)


def _report(
    strangers: Sequence[Listed], store: ObjectStore, ledger: Ledger, events: Events, run: Run
) -> list[SourceObject]:
    bucket = store.bucket(Zone.RAW)
    objects = [o.filed_under(bucket, f"{o.last_modified:%Y-%m-%d}", valid=False) for o in strangers]
    known = ledger.entries([o.id for o in objects])
    new = [o for o in objects if o.id not in known or known[o.id].state is State.RECEIVED]
    for source_object in new:
        manifest = Manifest(
            dataset=UNCLAIMED,
            partition=source_object.partition,
            contract_version=_NO_CONTRACT,
            contract_hash=_NO_CONTRACT,
            origin=Origin.SENSOR,
            objects=(source_object,),
            created_at=run.clock(),
        )
        finding = Finding(
            code=ReasonCode.UNKNOWN_PREFIX,
            scope=Scope.FILE,
            message=f"{source_object.key!r} lies under no contract's landing prefix.",
        )
        ledger.receive(manifest, run_id=run.id, at=run.clock())
        refused = FileValidation(source_object=source_object, accepted=False, findings=(finding,))
        quarantine_file(store, refused, manifest, run)
        ledger.move(
            manifest.batch_id,
            [Move(object_id=source_object.id, to=State.QUARANTINED, reason=finding.code)],
            run_id=run.id,
            at=run.clock(),
        )
        events.send(
            [
                Event(
                    name=EventName.QUARANTINED,
                    dataset=UNCLAIMED,
                    partition=source_object.partition,
                    batch_id=manifest.batch_id,
                    run_id=run.id,
                    source=source_object.key,
                    at=run.clock(),
                    detail={
                        "scope": "file",
                        "reasons": [finding.code.value],
                        "what_to_do": REASONS[finding.code].remedy,
                    },
                )
            ]
        )
    return new
