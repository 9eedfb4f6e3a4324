"""The walk: what has landed, stretch by stretch, and what of it a request means.

A stretch is a page of a partition's listing, or some of the files that a request names; each says
where the next begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from service_core.arrival import source_object_of
from service_core.contract.model import Contract
from service_core.layout import Zone, manifest_key
from service_core.ledger import Entry, KeyHead, State
from service_core.manifest import Manifest
from service_core.partition import partition_path, partitions_between
from service_core.ports import Ledger, Listed, ObjectMissingError, ObjectStore
from service_core.replay.diverted import DivertedReasons
from service_core.replay.request import ReplayFile, ReplayRequest
from service_core.replay.selection import Criteria, PassedOver, Why, why_passed_over
from service_core.source_object import SourceObject

#: Files that are looked up one by one go together in so many, some at a time.
_FILES = 100
_LOOKERS = 8
#: States in which an object can be whose key does not lie under its partition's path.
_MISPLACED = (State.QUARANTINED, State.RECEIVED)


class Place(BaseModel):
    """Where resolution goes on: in which stretch, and where in its listing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stretch: int = 0
    resume: tuple[str, str] | None = None


class SelectionPart(BaseModel):
    """What a part of the listing came to; `following` is None where it was the last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    selected: tuple[SourceObject, ...]
    passed_over: tuple[PassedOver, ...]
    listed: int
    following: Place | None


def batch_objects(store: ObjectStore, dataset: str, batch_id: str) -> Manifest | None:
    """The manifest of a batch whose partition is not known; None where there is none."""
    suffix = f"/{batch_id}.json"
    for key in store.keys(Zone.MANIFESTS, f"{dataset}/"):
        if key.endswith(suffix):
            manifest = Manifest.model_validate_json(store.read(Zone.MANIFESTS, key))
            if key == manifest_key(dataset, manifest.partition, batch_id):
                return manifest
    return None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A listed version that may be meant; `named`, where the request names this very version."""

    source_object: SourceObject
    latest: bool
    named: bool = False


@dataclass(frozen=True, slots=True)
class _Desk:
    """Decides about candidates, with the ledger at hand."""

    request: ReplayRequest
    contract: Contract
    criteria: Criteria
    ledger: Ledger
    diverted: DivertedReasons

    def decide(
        self,
        candidates: Sequence[_Candidate],
        *,
        listed: int,
        following: Place | None,
        missing: Sequence[PassedOver] = (),
    ) -> SelectionPart:
        """What is selected of the candidates, and what passed over."""
        objects = [c.source_object for c in candidates]
        entries = self.ledger.entries([o.id for o in objects])
        reasons = self.diverted.of(entries.values()) if self.criteria.reason_codes else {}
        named = [c.source_object.key for c in candidates if c.named]
        heads = self.ledger.key_heads(self.contract.dataset, named) if named else {}
        selected: list[SourceObject] = []
        passed_over = list(missing)
        for candidate in candidates:
            one = candidate.source_object
            entry = entries.get(one.id)
            if not self.criteria.mean(entry, reasons.get(one.id, ())):
                continue
            why = self._why(candidate, entry, heads)
            if why is None:
                # Where the ledger has filed it is where its rows and its quarantine are.
                selected.append(
                    one if entry is None else one.model_copy(update={"partition": entry.partition})
                )
            else:
                passed_over.append(_passed_over(one, why))
        return SelectionPart(
            selected=tuple(selected),
            passed_over=tuple(passed_over),
            listed=listed,
            following=following,
        )

    def _why(
        self, candidate: _Candidate, entry: Entry | None, heads: dict[str, KeyHead]
    ) -> Why | None:
        return why_passed_over(
            self.request.options,
            self.contract,
            candidate.source_object,
            entry,
            heads.get(candidate.source_object.key) if candidate.named else None,
            latest=candidate.latest,
            named=candidate.named,
        )


@dataclass(frozen=True, slots=True)
class FileWalk:
    """Goes through the files that a request names."""

    desk: _Desk
    store: ObjectStore
    files: Sequence[ReplayFile]

    def step(self, place: Place) -> SelectionPart:
        """Look up the next of them; `place.stretch` counts hundreds."""
        first = place.stretch * _FILES
        chunk = self.files[first : first + _FILES]
        with ThreadPoolExecutor(_LOOKERS) as pool:
            found = list(pool.map(self._look_up, chunk))
        more = first + _FILES < len(self.files)
        return self.desk.decide(
            [candidate for candidate in found if isinstance(candidate, _Candidate)],
            listed=len(chunk),
            following=Place(stretch=place.stretch + 1) if more else None,
            missing=[one for one in found if isinstance(one, PassedOver)],
        )

    def _look_up(self, file: ReplayFile) -> _Candidate | PassedOver:
        listed = version_of(self.store, file.key, file.version_id)
        if listed is None:
            return PassedOver(key=file.key, version_id=file.version_id, why=Why.NOT_THERE)
        source_object = source_object_of(self.desk.contract, self.store.bucket(Zone.RAW), listed)
        return _Candidate(source_object, listed.is_latest, named=file.version_id is not None)


def version_of(store: ObjectStore, key: str, version_id: str | None) -> Listed | None:
    """A version of a landed object, its latest where none is named; None where there is none."""
    resume: tuple[str, str] | None = None
    while True:
        page = store.list_versions(key, resume=resume)
        for listed in page.objects:
            if listed.key != key:
                return None
            if listed.version_id == version_id if version_id is not None else listed.is_latest:
                return listed
        resume = page.resume
        if resume is None or resume[0] != key:
            return None


@dataclass(frozen=True, slots=True)
class ListingWalk:
    """Goes through the raw listing, partition by partition where a selector names some."""

    desk: _Desk
    store: ObjectStore
    partitions: Sequence[str] | None

    def step(self, place: Place) -> SelectionPart:
        """Read a page, and where it is a partition's last, what is filed there from elsewhere."""
        partition = self.partitions[place.stretch] if self.partitions else None
        prefix = self._prefix(partition)
        if self.partitions is not None and partition is None:
            return self.desk.decide([], listed=0, following=None)
        objects: tuple[Listed, ...] = ()
        resume = None
        if prefix is not None:
            page = self.store.list_versions(prefix, resume=place.resume)
            objects, resume = page.objects, page.resume
        candidates = [self._candidate(listed) for listed in objects]
        if resume is not None:
            following: Place | None = Place(stretch=place.stretch, resume=resume)
        else:
            if partition is not None:
                candidates += self._misplaced(partition)
            last = self.partitions is None or place.stretch + 1 == len(self.partitions)
            following = None if last else Place(stretch=place.stretch + 1)
        meant = [c for c in candidates if self.desk.criteria.may_mean(c.source_object)]
        return self.desk.decide(meant, listed=len(objects), following=following)

    def _candidate(self, listed: Listed) -> _Candidate:
        bucket = self.store.bucket(Zone.RAW)
        return _Candidate(source_object_of(self.desk.contract, bucket, listed), listed.is_latest)

    def _prefix(self, partition: str | None) -> str | None:
        """What to list; None where nothing there can be meant."""
        landing = self.desk.contract.landing
        within = landing.prefix
        if partition is not None:
            within += partition_path(landing, partition) + "/"
        wanted = self.desk.criteria.key_prefix or ""
        if within.startswith(wanted):
            return within
        return wanted if wanted.startswith(within) else None

    def _misplaced(self, partition: str) -> list[_Candidate]:
        """Objects that are filed under a partition which their keys do not name."""
        landing = self.desk.contract.landing
        path = landing.prefix + partition_path(landing, partition) + "/"
        entries = [
            entry
            for state in _MISPLACED
            for entry in self.desk.ledger.in_partition(self.desk.contract.dataset, partition, state)
            if not entry.key.startswith(path)
        ]
        found = []
        for entry in entries:
            listed = version_of(self.store, entry.key, entry.version_id)
            if listed is not None:
                found.append(self._candidate(listed))
        return found


def walk_of(
    store: ObjectStore, request: ReplayRequest, contract: Contract, ledger: Ledger
) -> FileWalk | ListingWalk:
    diverted = DivertedReasons(store, contract.dataset)
    if request.files is not None:
        return FileWalk(
            _Desk(request, contract, Criteria(), ledger, diverted), store, request.files
        )
    selector = request.selector
    assert selector is not None
    partitions: Sequence[str] | None = None
    objects: frozenset[str] | None = None
    if selector.partitions is not None:
        span = selector.partitions
        partitions = tuple(partitions_between(contract.landing, span.from_, span.to))
    if selector.batch_id is not None:
        manifest = batch_objects(store, contract.dataset, selector.batch_id)
        if manifest is None:
            raise ObjectMissingError(
                f"No manifest of batch {selector.batch_id} of {contract.dataset} is there."
            )
        objects = frozenset(o.id for o in manifest.objects)
        inside = partitions is None or manifest.partition in partitions
        partitions = (manifest.partition,) if inside else ()
    criteria = Criteria.of(
        selector,
        partitions=None if partitions is None else frozenset(partitions),
        objects=objects,
    )
    return ListingWalk(_Desk(request, contract, criteria, ledger, diverted), store, partitions)


def _passed_over(source_object: SourceObject, why: Why) -> PassedOver:
    return PassedOver(
        key=source_object.key,
        version_id=source_object.version_id,
        object_id=source_object.id,
        partition=source_object.partition,
        why=why,
    )
