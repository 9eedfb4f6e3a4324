"""Intake: every request that lies in the bucket is answered beside it, accepted or rejected.

An answer is newer than the request that it answers, so a request that is mended in its place is
read again. Nothing that anybody can drop there stops the others from being read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from service_core.contract.kept import ContractNotKeptError, named_contract
from service_core.contract.model import Contract
from service_core.events import Event, EventName
from service_core.layout import REPLAY_REQUESTS, Zone, replay_answer_key
from service_core.naming import REPLAYS_SENSOR
from service_core.partition import partition_start, partitions_between
from service_core.ports import Events, ObjectMissingError, ObjectStore, Stored
from service_core.replay import audit
from service_core.replay.folder import COMPLETED, REQUEST, ReplayFolder
from service_core.replay.request import (
    MAX_BYTES,
    PartitionRange,
    ReplayRequest,
    RequestRejected,
    Selector,
    parse_request,
    too_large,
)
from service_core.replay.walk import batch_objects

ACCEPTED = "accepted"
REJECTED = "rejected"

#: A listing request for each: more than a tick's worth is a mistake in a date.
MAX_PARTITIONS = 10_000
_NAMED = 3
_BATCH_ID = re.compile(r"[0-9a-f]{32}\Z")


class TakenRequest(BaseModel):
    """A request as the replay's folder keeps it, with where it lay and since when it counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: ReplayRequest
    source: str
    accepted_at: AwareDatetime


class Answer(BaseModel):
    """What lies beside a request.

    Attributes:
        etag: Of the request that is answered.
        problems: Why it is rejected, as sentences.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True,
        serialize_by_alias=True,
    )  # fmt: skip

    answer: str
    request: str
    etag: str
    at: AwareDatetime
    replay_id: str | None = None
    problems: tuple[str, ...] = ()
    what_to_do: str = ""


@dataclass(slots=True)
class Intake:
    """What one look at the requests came to: replay ids, and keys of requests."""

    accepted: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class House:
    """What a request is held against.

    Attributes:
        contracts: Those that are loaded, by data set.
        rehearsals: Whether dry runs can be made.
    """

    contracts: Mapping[str, Contract]
    rehearsals: bool


def take_in(
    house: House, store: ObjectStore, events: Events, *, at: datetime, most: int = 50
) -> Intake:
    """Answer the requests that have no answer yet, at most so many."""
    intake = Intake()
    for stored in _unanswered(store):
        if len(intake.accepted) + len(intake.rejected) >= most:
            break
        request = None
        try:
            request = _read(store, stored)
            _accept(house, store, request, stored, at)
        except ObjectMissingError:
            continue
        except RequestRejected as rejected:
            _reject(store, events, stored, request, rejected, at)
            intake.rejected.append(stored.key)
        else:
            intake.accepted.append(request.replay_id)
    return intake


def problems_of(request: ReplayRequest, house: House, store: ObjectStore) -> list[str]:
    """Why a request that is well written cannot be carried out, as sentences."""
    contract = house.contracts.get(request.dataset)
    if contract is None:
        known = ", ".join(sorted(house.contracts)) or "none"
        return [f"No contract describes a data set {request.dataset!r}. Known: {known}."]
    problems: list[str] = []
    if request.options.dry_run and not house.rehearsals:
        problems.append("This release cannot make dry runs: options.dryRun must be false.")
    if request.files is not None:
        problems += _problems_of_files(request, contract, store.bucket(Zone.RAW))
    if request.selector is not None:
        problems += _problems_of_selector(request.selector, contract, store)
    if (name := request.options.contract_version) is not None:
        with TemporaryDirectory(prefix="lakegate-") as folder:
            try:
                named = named_contract(store, request.dataset, name, Path(folder))
            except ContractNotKeptError as not_kept:
                problems.append(f"options.contractVersion: {not_kept}")
            else:
                problems += _problems_of_named(named, contract)
    return problems


def _problems_of_named(named: Contract, contract: Contract) -> Iterator[str]:
    """Why a data set's assets of now cannot work by an older contract."""
    if named.processing is not contract.processing:
        yield (
            f"options.contractVersion: version {named.version} is {named.processing.upper()} and "
            f"the contract in force {contract.processing.upper()}; their assets differ."
        )
    elif named.landing.grain is not contract.landing.grain:
        yield (
            f"options.contractVersion: version {named.version} has partitions of a "
            f"{named.landing.grain}, and the contract in force of a {contract.landing.grain}."
        )


def _problems_of_files(request: ReplayRequest, contract: Contract, raw: str) -> Iterator[str]:
    files = request.files or ()
    prefix = contract.landing.prefix
    elsewhere = sorted({file.bucket for file in files if file.bucket != raw})
    if elsewhere:
        yield (
            f"Files of the bucket {', '.join(map(repr, elsewhere[:_NAMED]))} cannot be replayed: "
            f"source objects lie in {raw!r}."
        )
    strangers = [file.key for file in files if not file.key.startswith(prefix)]
    if strangers:
        yield (
            f"{len(strangers)} file(s), such as {strangers[0]!r}, do not lie under {prefix!r}, "
            f"where files of {contract.dataset} land."
        )


def _problems_of_selector(
    selector: Selector, contract: Contract, store: ObjectStore
) -> Iterator[str]:
    if selector.partitions is not None:
        yield from _problems_of_partitions(selector.partitions, contract)
    prefix, within = contract.landing.prefix, selector.key_prefix
    if within is not None and not (within.startswith(prefix) or prefix.startswith(within)):
        yield (
            f"selector.keyPrefix {within!r} is not under {prefix!r}, where files of "
            f"{contract.dataset} land; write the whole key's beginning."
        )
    if (batch_id := selector.batch_id) is not None and (
        not _BATCH_ID.match(batch_id) or batch_objects(store, contract.dataset, batch_id) is None
    ):
        yield (
            f"selector.batchId {batch_id!r} is no batch of {contract.dataset}: the manifests "
            "bucket holds no manifest of it."
        )


def _problems_of_partitions(span: PartitionRange, contract: Contract) -> Iterator[str]:
    landing = contract.landing
    wrong = False
    for name, partition in (("from", span.from_), ("to", span.to)):
        try:
            partition_start(landing, partition)
        except ValueError as problem:
            wrong = True
            yield f"selector.partitions.{name}: {problem}"
    if wrong:
        return
    if partition_start(landing, span.from_) > partition_start(landing, span.to):
        yield f"selector.partitions goes from {span.from_} back to {span.to}; exchange the two."
        return
    for count, _ in enumerate(partitions_between(landing, span.from_, span.to), start=1):
        if count > MAX_PARTITIONS:
            yield (
                f"selector.partitions spans more than {MAX_PARTITIONS:,} partitions; ask for "
                "several replays."
            )
            return


def _unanswered(store: ObjectStore) -> list[Stored]:
    """Requests without an answer, oldest first."""
    there = {one.key: one for one in store.stored(Zone.MANIFESTS, REPLAY_REQUESTS)}
    answers = {key for key in there if key.endswith((f".{ACCEPTED}.json", f".{REJECTED}.json"))}
    waiting = []
    for key, stored in there.items():
        if key in answers or key.endswith("/"):
            continue
        given = [
            there[answer]
            for answer in (replay_answer_key(key, ACCEPTED), replay_answer_key(key, REJECTED))
            if answer in answers
        ]
        if not _answered(store, stored, given):
            waiting.append(stored)
    return sorted(waiting, key=lambda stored: (stored.last_modified, stored.key))


def _answered(store: ObjectStore, request: Stored, answers: Sequence[Stored]) -> bool:
    if any(answer.last_modified > request.last_modified for answer in answers):
        return True
    # S3 tells whole seconds: within one, only the answer itself says what it answers.
    for answer in answers:
        if answer.last_modified == request.last_modified:
            try:
                said = Answer.model_validate_json(store.read(Zone.MANIFESTS, answer.key))
            except (ObjectMissingError, ValueError):
                continue
            if said.etag == request.etag:
                return True
    return False


def _read(store: ObjectStore, stored: Stored) -> ReplayRequest:
    if not stored.key.endswith(".json"):
        raise RequestRejected(["A request's name must end in `.json`; drop it under another."])
    if stored.size > MAX_BYTES:
        raise RequestRejected([too_large(stored.size)])
    return parse_request(store.read(Zone.MANIFESTS, stored.key))


def _accept(
    house: House, store: ObjectStore, request: ReplayRequest, stored: Stored, at: datetime
) -> None:
    """Take a request in: its folder, the mark that it is open, the audit record, the answer.

    Raises:
        RequestRejected: it cannot be carried out, or its id is another replay's.
    """
    folder = ReplayFolder(store, request.replay_id)
    taken = folder.read(REQUEST, TakenRequest)
    if taken is None:
        if problems := problems_of(request, house, store):
            raise RequestRejected(problems)
        uri = store.uri(Zone.MANIFESTS, stored.key)
        folder.write_once(REQUEST, TakenRequest(request=request, source=uri, accepted_at=at))
        taken = folder.read(REQUEST, TakenRequest)
        assert taken is not None
    if taken.request != request:
        raise RequestRejected(
            [
                f"The replayId {request.replay_id!r} belongs to a replay with other content, asked "
                f"for by {taken.source} at {taken.accepted_at:%Y-%m-%d %H:%M} UTC. Choose another."
            ]
        )
    if folder.read(COMPLETED, audit.AuditRecord) is None:
        folder.open()
        if audit.REQUESTED not in audit.facts(folder):
            audit.append(folder, _requested(taken, at))
    _answer(store, stored, Answer(
        answer=ACCEPTED,
        request=store.uri(Zone.MANIFESTS, stored.key),
        etag=stored.etag,
        at=at,
        replay_id=request.replay_id,
        what_to_do=f"See {folder.uri('')} for what becomes of it.",
    ))  # fmt: skip


def _requested(taken: TakenRequest, at: datetime) -> audit.AuditRecord:
    request = taken.request
    by = request.requested_by or f"whoever put {taken.source}"
    return audit.AuditRecord(
        replay_id=request.replay_id,
        fact=audit.REQUESTED,
        at=at,
        said=f"A replay of {request.dataset} was asked for by {by}: {request.reason}",
        detail={
            "requested_by": by,
            "source": taken.source,
            "request": request.model_dump(mode="json", by_alias=True, exclude_none=True),
        },
    )


def _reject(
    store: ObjectStore,
    events: Events,
    stored: Stored,
    request: ReplayRequest | None,
    rejected: RequestRejected,
    at: datetime,
) -> None:
    """Answer a request that cannot be carried out; `request` is None where it cannot be read."""
    uri = store.uri(Zone.MANIFESTS, stored.key)
    replay_id = None if request is None else request.replay_id
    _answer(store, stored, Answer(
        answer=REJECTED,
        request=uri,
        etag=stored.etag,
        at=at,
        replay_id=replay_id,
        problems=rejected.problems,
        what_to_do="Mend the request and put it there again; nothing was replayed. "
        "docs/replay-manifest.md describes every key.",
    ))  # fmt: skip
    events.send(
        [
            Event(
                name=EventName.REPLAY_REJECTED,
                dataset="" if request is None else request.dataset,
                partition="",
                batch_id="",
                run_id=REPLAYS_SENSOR,
                replay_id=replay_id,
                source=stored.key,
                at=at,
                detail={"request": uri, "problems": list(rejected.problems)},
            )
        ]
    )


def _answer(store: ObjectStore, stored: Stored, answer: Answer) -> None:
    store.write(
        Zone.MANIFESTS,
        replay_answer_key(stored.key, answer.answer),
        answer.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode(),
        content_type="application/json",
    )
