"""Isolating: what follows from the death of a batch's last run, durable before it is asked for.

The parts' manifests are written first, then the paper that names them, then the ledger; so a tick
that dies anywhere is made up for by the next one, which finds the paper or decides alike. A paper
belongs to one death: whoever runs a dead batch again, and sees it die again, gets its parts again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service_core.arrival import read_manifest, write_manifest
from service_core.contract.model import Contract, Engine
from service_core.curation.request import RequestError, parse_request
from service_core.giving_back import stored_verdict
from service_core.isolation.decision import Case, Death, GiveUp, Health, Leave, Split, Wait, decide
from service_core.layout import Zone, batch_prefix, isolation_key, isolation_prefix, run_key
from service_core.ledger import UNDECIDED
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectMissingError, ObjectStore, Upkeep
from service_core.source_object import SourceObject

SPLIT = "split"
GIVEN_UP = "given_up"
_REMOTE = (Engine.GLUE, Engine.STEP_FUNCTIONS)


class Part(BaseModel):
    """A batch to be processed in the place of one whose run died; `objects` is their number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_id: str
    manifest_uri: str
    partition: str
    objects: int
    replay_id: str | None = None


class Answer(BaseModel):
    """What was asked for when a run of a batch had died.

    Attributes:
        kind: `split` or `given_up`.
        batch_id, run_id: The batch, and its run.
        root: The batch that was split first.
        known: What is known of the death.
        parts: What is to be processed instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    dataset: str
    batch_id: str
    run_id: str
    root: str
    known: str
    parts: tuple[Part, ...]
    at: AwareDatetime


@dataclass(frozen=True, slots=True)
class DeadRun:
    """A run that died, and will not be tried again.

    Attributes:
        root_run_id: The first of its tries, under which its manifest is remembered.
        manifest_uri: The manifest that it was asked to process, if it was.
    """

    death: Death
    dataset: str
    partition: str
    root_run_id: str
    manifest_uri: str | None


def manifest_of_run(store: ObjectStore, dead: DeadRun) -> Manifest | None:
    """The manifest that a run works on; None where it died before it had one that can be read."""
    remembered = run_key(dead.root_run_id, dead.dataset, dead.partition)
    try:
        return Manifest.model_validate_json(store.read(Zone.MANIFESTS, remembered))
    except ObjectMissingError:
        if dead.manifest_uri is None:
            return None
    except ValueError:
        return None
    try:
        return read_manifest(store, dead.manifest_uri)
    except (ObjectMissingError, ValueError):
        return None


def isolate(
    dead: DeadRun,
    contract: Contract,
    store: ObjectStore,
    ledger: Ledger,
    tables: Upkeep,
    *,
    launched: Collection[str],
    health: Callable[[], Health],
    at: datetime,
) -> Answer | Wait | Leave:
    """Answer a death: with the parts to process instead, later, or not at all. May be repeated.

    Args:
        launched: Ids of the parts that have their runs already, and are not in the answer.
        health: The worker's, as other batches show it.
    """
    manifest = manifest_of_run(store, dead)
    if manifest is None:
        return Leave("it died before it knew what it works on")
    root = manifest.part_of.root if manifest.part_of else manifest.batch_id
    answer = _answered(store, dead, manifest, root)
    if answer is None:
        decision = decide(
            manifest,
            _undecided(manifest, ledger),
            dead.death,
            _case(store, dead.dataset, root),
            health=health(),
            elsewhere=_elsewhere(contract, manifest, store, tables),
        )
        if isinstance(decision, Wait | Leave):
            return decision
        answer = _write(dead, manifest, root, decision, store, at)
    wanted = tuple(part for part in answer.parts if part.batch_id not in launched)
    for part in wanted:
        ledger.receive(read_manifest(store, part.manifest_uri), run_id=None, at=at)
    return answer.model_copy(update={"parts": wanted})


def _undecided(manifest: Manifest, ledger: Ledger) -> list[SourceObject]:
    """The objects that are the batch's own, and wait for it to decide. One that no step has
    received yet is the batch's to receive."""
    entries = ledger.entries(o.id for o in manifest.objects)
    return [
        one
        for one in manifest.objects
        if (entry := entries.get(one.id)) is None
        or (entry.batch_id == manifest.batch_id and entry.state in UNDECIDED)
    ]


def _case(store: ObjectStore, dataset: str, root: str) -> Case:
    prefix = isolation_prefix(dataset, root)
    asked = {
        (kind, batch_id)
        for key in store.keys(Zone.MANIFESTS, prefix)
        for kind, batch_id in [key.removeprefix(prefix).split("/")[:2]]
    }
    kinds = [kind for kind, _ in asked]
    return Case(splits=kinds.count(SPLIT), given_up=kinds.count(GIVEN_UP))


def _answered(store: ObjectStore, dead: DeadRun, manifest: Manifest, root: str) -> Answer | None:
    for kind in (SPLIT, GIVEN_UP):
        key = isolation_key(dead.dataset, root, kind, manifest.batch_id, dead.death.run_id)
        try:
            return Answer.model_validate_json(store.read(Zone.MANIFESTS, key))
        except ObjectMissingError:
            continue
    return None


def _write(
    dead: DeadRun,
    manifest: Manifest,
    root: str,
    decision: Split | GiveUp,
    store: ObjectStore,
    at: datetime,
) -> Answer:
    split = isinstance(decision, Split)
    kind = SPLIT if split else GIVEN_UP
    parts = decision.parts if isinstance(decision, Split) else (decision.manifest,)
    answer = Answer(
        kind=kind,
        dataset=dead.dataset,
        batch_id=manifest.batch_id,
        run_id=dead.death.run_id,
        root=root,
        known=dead.death.sentence,
        parts=tuple(
            Part(
                batch_id=part.batch_id,
                manifest_uri=write_manifest(store, part),
                partition=part.partition,
                objects=len(part.objects),
                replay_id=part.replay_id,
            )
            for part in parts
        ),
        at=at,
    )
    key = isolation_key(dead.dataset, root, kind, manifest.batch_id, dead.death.run_id)
    body = answer.model_dump_json(indent=1).encode()
    if store.write_once(Zone.MANIFESTS, key, body, content_type="application/json"):
        return answer
    return Answer.model_validate_json(store.read(Zone.MANIFESTS, key))


def _elsewhere(
    contract: Contract, manifest: Manifest, store: ObjectStore, tables: Upkeep
) -> str | None:
    """Why a death says nothing about the batch's files, or another run has to come first."""
    verdict = stored_verdict(store, manifest.dataset, manifest.partition, manifest.batch_id)
    if verdict is None:
        if (engine := _asked_engine(manifest, store)) is not None:
            return f"it is curated on {engine}, and what died only waited for that; run it again"
        return None
    if not verdict.passed:
        return "it has been judged already, and may not be published; run it again"
    # Judged, and perhaps committed by a run that died before the ledger knew: an object whose
    # rows are in the table must not go to quarantine.
    shares = tables.holders(
        contract,
        manifest.partition,
        source_keys=(),
        source_objects=[o.id for o in manifest.objects],
    )
    if any(share.batch_id == manifest.batch_id for share in shares):
        return "its rows are in the table already; run it again, so that the ledger knows"
    return None


def _asked_engine(manifest: Manifest, store: ObjectStore) -> str | None:
    """The engine outside of Dagster's workers that was asked to curate the batch, if one was."""
    prefix = batch_prefix(manifest.dataset, manifest.partition, manifest.batch_id)
    for key in store.keys(Zone.CURATED, prefix):
        if not key.endswith("/request.json"):
            continue
        try:
            request = parse_request(store.read(Zone.CURATED, key))
        except (ObjectMissingError, RequestError):
            continue
        if request.engine in _REMOTE:
            return request.engine
    return None
