"""Left-overs of dead attempts: found by two looks, and removed only if both found them.

Nothing is removed that anybody may still refer to. A file stays if it is younger than the safety
age; if any table, or any snapshot that a table keeps, refers to it; if a run on its partition is
queued or started, or its batch is asked for; if a verdict names it, for as long as that may still
be published or shown; or if it cannot be told. A look lists first and asks for references
afterwards, and what is removed has been listed twice, unchanged, and asked about twice: so a file
that is committed while the clean-up runs is seen to be. A batch can only be committed by a verdict
that names its files, and those of a verdict stay for the retention.

Raw, manifests, verdicts, records of quarantine and rows that a verdict has in quarantine are never
looked at.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from service_core.gate import GateClosedError, parse_verdict
from service_core.layout import Zone, verdict_key
from service_core.ledger import UNDECIDED
from service_core.ports import Ledger, ObjectMissingError, ObjectStore, Stored, Upkeep
from service_core.verdict import Verdict

#: A batch stays publishable, and its snapshot findable, for as long as snapshots are meant to be
#: kept.
RETENTION = timedelta(days=30)
#: What steps call their folders of scratch.
_SCRATCH = "lakegate-*"
#: Beside the attempts of a batch's diverted rows: notes on which of them were released.
_RELEASED = "released"


class Kept(StrEnum):
    """Why a file stays."""

    YOUNG = "young"
    REFERENCED = "referenced"
    IN_FLIGHT = "in_flight"
    PENDING = "pending"
    VERDICT = "verdict"
    UNREADABLE = "unreadable_verdict"
    NO_TABLE = "table_not_in_catalog"
    SEEN_ONCE = "seen_once"

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Kept.YOUNG: "younger than the safety age",
    Kept.REFERENCED: "a table, or a snapshot that it keeps, refers to it",
    Kept.IN_FLIGHT: "a run on its partition is queued or started",
    Kept.PENDING: "its batch is asked for and has not begun",
    Kept.VERDICT: "its batch's verdict names it, and may still be published or shown",
    Kept.UNREADABLE: "its batch's verdict cannot be read",
    Kept.NO_TABLE: "its table is not in the catalog, so that nobody can say what refers to it",
    Kept.SEEN_ONCE: "the second look did not find it a left-over any more",
}


@dataclass(frozen=True, slots=True)
class AtWork:
    """A run that is queued or started.

    Attributes:
        dataset, partition: Where it is at work; None where that cannot be told.
        since: When it was asked for.
    """

    dataset: str | None
    partition: str | None
    since: datetime

    def holds(self, file: _File) -> bool:
        """Whether a file may be the run's.

        What lies in a table's own folder is found by no later attempt, so a run can only hold on
        to what it has written itself.
        """
        if self.dataset not in (None, file.dataset.dataset):
            return False
        if file.partition is None:
            return self.since <= file.stored.last_modified
        return self.partition in (None, file.partition)


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """A data set, and the name of its table."""

    dataset: str
    table: str


@dataclass(slots=True)
class ZoneTally:
    """What was found in a zone.

    Attributes:
        looked_at: Files.
        found, found_bytes: Left-overs.
        removed, removed_bytes: Those that were removed; none in a dry run.
        kept: The others, by why.
        samples: Some left-overs' keys.
    """

    looked_at: int = 0
    found: int = 0
    found_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    kept: Counter[Kept] = field(default_factory=Counter)
    samples: list[str] = field(default_factory=list)


_SAMPLES = 20


@dataclass(frozen=True, slots=True)
class _File:
    """A file in a place where left-overs can lie.

    Attributes:
        partition, batch_id: None for what lies in a table's own folder.
    """

    zone: Zone
    stored: Stored
    dataset: DatasetFiles
    partition: str | None = None
    batch_id: str | None = None

    @property
    def identity(self) -> tuple[Zone, str, str, datetime]:
        """Another one where the same key has been written again."""
        return (self.zone, self.stored.key, self.stored.etag, self.stored.last_modified)


def clear_leftovers(
    datasets: Sequence[DatasetFiles],
    store: ObjectStore,
    ledger: Ledger,
    catalog: Upkeep,
    in_flight: Callable[[], Sequence[AtWork]],
    *,
    clock: Callable[[], datetime],
    safety_age: timedelta,
    retention: timedelta = RETENTION,
    dry_run: bool = False,
) -> dict[Zone, ZoneTally]:
    """Find the left-overs of these data sets, and remove them unless it is a dry run.

    Args:
        in_flight: Asked anew by each look.
        safety_age: Younger files stay, whatever is known of them: an attempt may be at work that
            nobody has told of.
        retention: For how long what a verdict names stays after its batch was judged; longer
            where the batch has not come to its end.

    Returns:
        What was found and done, for each zone that was looked at.
    """

    def look() -> tuple[dict[Zone, ZoneTally], list[_File]]:
        return _Look(
            datasets, store, ledger, catalog, in_flight, clock(), safety_age, retention
        ).look()

    tallies, found = look()
    if dry_run or not found:
        return tallies
    again = {file.identity for file in look()[1]}
    for zone, tally in tallies.items():
        mine = [file for file in found if file.zone is zone]
        removed = [file for file in mine if file.identity in again]
        if len(removed) < len(mine):
            tally.kept[Kept.SEEN_ONCE] += len(mine) - len(removed)
        store.remove(zone, [file.stored.key for file in removed])
        tally.removed = len(removed)
        tally.removed_bytes = sum(file.stored.size for file in removed)
    return tallies


@dataclass(slots=True)
class _Look:
    """One look; everything is listed before anything is asked about it."""

    datasets: Sequence[DatasetFiles]
    store: ObjectStore
    ledger: Ledger
    catalog: Upkeep
    in_flight: Callable[[], Sequence[AtWork]]
    now: datetime
    safety_age: timedelta
    retention: timedelta
    _referenced: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _busy: Sequence[AtWork] = ()
    _pending: dict[str, frozenset[str]] = field(default_factory=dict)
    _named: dict[tuple[str, str, str], frozenset[str] | None] = field(default_factory=dict)
    _lost: frozenset[str] = frozenset()

    def look(self) -> tuple[dict[Zone, ZoneTally], list[_File]]:
        """What there is, and the left-overs among it."""
        tallies = {z: ZoneTally() for z in (Zone.CURATED, Zone.QUARANTINE, Zone.DQ_RESULTS)}
        old: list[_File] = []
        with_table: set[str] = set()
        for file in self._files():
            tally = tallies[file.zone]
            tally.looked_at += 1
            if file.batch_id is None:
                with_table.add(file.dataset.table)
            if self.now - file.stored.last_modified < self.safety_age:
                tally.kept[Kept.YOUNG] += 1
            else:
                old.append(file)
        self._referenced = self.catalog.referenced()
        self._lost = frozenset(with_table - self._referenced.keys())
        everywhere = frozenset[str]().union(*self._referenced.values())
        self._busy = self.in_flight()
        self._pending = {
            one.dataset: frozenset(b.batch_id for b in self.ledger.pending_batches(one.dataset))
            for one in self.datasets
        }
        found = []
        for file in old:
            tally = tallies[file.zone]
            if (why := self._kept(file, everywhere)) is not None:
                tally.kept[why] += 1
                continue
            found.append(file)
            tally.found += 1
            tally.found_bytes += file.stored.size
            if len(tally.samples) < _SAMPLES:
                tally.samples.append(file.stored.key)
        return tallies, found

    def _files(self) -> Iterator[_File]:
        for one in self.datasets:
            for stored in self.store.stored(Zone.CURATED, f"_tables/{one.table}/"):
                yield _File(Zone.CURATED, stored, one)
            for zone, prefix, depth in (
                (Zone.CURATED, f"{one.dataset}/", 4),
                (Zone.QUARANTINE, f"{one.dataset}/rows/", 4),
                (Zone.DQ_RESULTS, f"_pipes/{one.dataset}/", 4),
            ):
                for stored in self.store.stored(zone, prefix):
                    # <partition>/<batch id>/<attempt>/<file>; what lies otherwise is not ours.
                    place = stored.key[len(prefix) :].split("/")
                    if len(place) == depth and place[2] != _RELEASED:
                        yield _File(zone, stored, one, place[0], place[1])

    def _kept(self, file: _File, referenced: frozenset[str]) -> Kept | None:
        dataset, uri = file.dataset.dataset, self.store.uri(file.zone, file.stored.key)
        if uri in referenced:
            return Kept.REFERENCED
        if file.zone is Zone.CURATED and file.dataset.table in self._lost:
            return Kept.NO_TABLE
        if any(run.holds(file) for run in self._busy):
            return Kept.IN_FLIGHT
        if file.partition is None or file.batch_id is None:
            return None
        if file.batch_id in self._pending[dataset]:
            return Kept.PENDING
        named = self._named_of(dataset, file.partition, file.batch_id)
        if named is None:
            return Kept.UNREADABLE
        return Kept.VERDICT if uri in named else None

    def _named_of(self, dataset: str, partition: str, batch_id: str) -> frozenset[str] | None:
        """The URIs that a batch's verdict holds on to; None where it cannot be read."""
        place = (dataset, partition, batch_id)
        if place not in self._named:
            try:
                body = self.store.read(Zone.DQ_RESULTS, verdict_key(*place))
                verdict = parse_verdict(body, batch_id=batch_id)
            except ObjectMissingError:
                # Rows and files of an attempt that left no verdict are nobody's.
                self._named[place] = frozenset()
            except GateClosedError:
                self._named[place] = None
            else:
                self._named[place] = self._held(verdict)
        return self._named[place]

    def _held(self, verdict: Verdict) -> frozenset[str]:
        held = {one.uri for one in verdict.quarantined_rows}
        if self.now - verdict.judged_at < self.retention or self._undecided(verdict):
            held |= {one.uri for one in verdict.staged}
        return frozenset(held)

    def _undecided(self, verdict: Verdict) -> bool:
        """Whether the batch has not come to its end with an object of its own."""
        entries = self.ledger.entries(file.source_object.id for file in verdict.files)
        return any(
            entry.batch_id == verdict.batch_id and entry.state in UNDECIDED
            for entry in entries.values()
        )


@dataclass(frozen=True, slots=True)
class ScratchTally:
    """Folders of scratch that dead steps left: how many were found, and how many removed."""

    found: int = 0
    removed: int = 0


def clear_scratch(
    folder: Path, *, before: datetime, mine: Path | None = None, dry_run: bool = False
) -> ScratchTally:
    """Remove the folders that steps made in a folder of scratch, where nothing in them has been
    touched since a time; not `mine`."""
    if not folder.is_dir():
        return ScratchTally()
    made = [one for one in folder.glob(_SCRATCH) if one.is_dir() and one != mine]
    old = [one for one in made if _touched(one) < before]
    if dry_run:
        return ScratchTally(len(old))
    for one in old:
        # Somebody else may be clearing the same folder.
        shutil.rmtree(one, ignore_errors=True)
    return ScratchTally(len(old), sum(not one.exists() for one in old))


def _touched(folder: Path) -> datetime:
    last = 0.0
    for path in (folder, *folder.rglob("*")):
        try:
            last = max(last, path.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return datetime.fromtimestamp(last, UTC)
