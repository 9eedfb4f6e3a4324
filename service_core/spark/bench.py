"""The workbench of a Spark: each pass over the rows is a set of tasks, one to a span or a file.

Rows stay on the workers and in the object store. The driver is told what was counted, and is given
the rows whose keys may stand twice, as files, which DuckDB settles as it does in process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_core.curation.key_watch import Key, KeyWatch, Suspects, key_hashes
from service_core.curation.local_bench import add_malformed
from service_core.curation.passes import GaveWay
from service_core.curation.set_rules import Figure, merge_figures
from service_core.curation.settlement import Settlement
from service_core.curation.staging import Origins
from service_core.curation.tally import Samples, Tally, merge_samples, merge_tallies
from service_core.curation.uniqueness import Duplicates
from service_core.curation.workbench import Divided, RowsJudged
from service_core.layout import Zone
from service_core.ports import ObjectStore, PublishedFiles
from service_core.spark.crew import Crew
from service_core.spark.errand import Errand
from service_core.spark.key_shuffle import counted_values, repeated_hashes
from service_core.spark.key_tasks import Held, Values, suspect_rows
from service_core.spark.spans import Piece, Sizes, Span, bundles, spans
from service_core.spark.tasks import (
    divert_span,
    judge_span,
    measure_pieces,
    requarantine,
    restage,
)
from service_core.validation.record import StagedFile

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa

    from service_core.curation.workbench import Batch


#: Tasks of files for each core, so that none waits long for another's large ones.
_SHARES = 4


@dataclass(frozen=True, slots=True)
class ShippedFiles:
    """Files that lie in their zones already: `workbench.Files`."""

    staged: tuple[StagedFile, ...]
    diverted: tuple[StagedFile, ...]

    @property
    def accepted(self) -> int:
        return sum(file.rows for file in self.staged)

    @property
    def quarantined(self) -> int:
        return sum(file.rows for file in self.diverted)

    def ship(self) -> tuple[tuple[StagedFile, ...], tuple[StagedFile, ...]]:
        """There is nothing to bring."""
        return self.staged, self.diverted


@dataclass(slots=True)
class SparkBench:
    """Implements `workbench.Workbench`.

    Attributes:
        errand: What every task is told.
        crew: Who does them.
        store: The zones' buckets, as the driver reaches them.
        published: What the table's partition holds; None where nothing is published.
        folder: The driver's scratch.
        sizes: How tasks and files are cut.
    """

    errand: Errand
    crew: Crew
    store: ObjectStore
    published: PublishedFiles | None
    folder: Path
    sizes: Sizes
    _spans: list[Span] = field(default_factory=list)
    _owners: list[frozenset[str]] = field(default_factory=list)
    _staged: list[Piece] = field(default_factory=list)
    _diverted: list[Piece] = field(default_factory=list)
    _watch: KeyWatch = field(init=False)
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._watch = KeyWatch(self._batch.contract, hashed_rows=self._hashed_rows)

    @property
    def _batch(self) -> Batch:
        return self.errand.batch

    @property
    def _hashed_rows(self) -> int:
        return self.sizes.hashed_keys // max(1, len(self._batch.contract.unique_keys))

    # --- Judging ---------------------------------------------------------------------------------

    def judge(self) -> RowsJudged:
        """See `Workbench`."""
        parts = self._batch.record.parts
        self._spans = spans(parts, self.crew.cores, self.sizes)
        hashed = sum(part.rows for part in parts) <= self._hashed_rows
        work = partial(judge_span, self.errand, hashed=hashed)
        tallies: Mapping[str, Tally] = {}
        samples: Samples = {}
        for judged in self.crew.reports("judge rows", work, self._spans):
            tallies = merge_tallies(tallies, judged.rows.tallies)
            samples = merge_samples(samples, judged.rows.samples)
            self._owners.append(frozenset(judged.rows.tallies))
            self._staged += judged.accepted
            self._diverted += judged.diverted
            if hashed:
                self._watch.add_hashes(judged.hashed, judged.hashes)
        if not hashed:
            self._watch.give_up()
        return RowsJudged(tallies, samples)

    # --- Keys ------------------------------------------------------------------------------------

    def suspects(self, key: Key, replaced: Sequence[str]) -> Suspects:
        """See `Workbench`.

        The hashes of keys show nearly always that there are none. Where they do not, only rows
        under suspicion come to the driver, as files; all rows do if nearly all are suspected.
        """
        if not self._staged:
            return Suspects((), repeats=False)
        published = Held(
            self.published.uris if self.published else (),
            published=True,
            without_keys=frozenset(replaced),
            without_objects=frozenset(self._batch.owners),
        )
        ours = Held(tuple(piece.file.uri for piece in self._staged), published=False)
        suspected, held = (
            self._by_hashes(key, published)
            if self._watch.sure
            else self._by_shuffle(key, ours, published)
        )
        if suspected is not None and not len(suspected):
            return Suspects((), repeats=False)
        hashes = None if suspected is None else self._kept(suspected)
        staged = self._suspected(key, ours, hashes)
        return Suspects(staged, repeats=True, published=_tables(held))

    def _by_hashes(self, key: Key, published: Held) -> tuple[numpy.ndarray[Any, Any], list[Path]]:
        """The hashes under suspicion, by those of the batch that the driver has; and the published
        rows that have one of them."""
        import numpy

        mine = self._watch.hashes(key)
        repeated = numpy.unique(mine[1:][mine[1:] == mine[:-1]])
        if not published.uris or not len(mine):
            return repeated, []
        held = self._suspected(key, published, self._kept(mine))
        theirs = [numpy.unique(key_hashes(rows, key)) for rows in _tables(held)]
        return numpy.unique(numpy.concatenate([repeated, *theirs])), held

    def _by_shuffle(
        self, key: Key, ours: Held, published: Held
    ) -> tuple[numpy.ndarray[Any, Any] | None, list[Path]]:
        """The same where the driver has not the hashes; None for the hashes of nearly all rows."""
        shares = [*self._shares(ours), *self._shares(published)]
        limit = self._hashed_rows
        suspected = repeated_hashes(self.crew, self.errand, key, shares, limit)
        if suspected is None:
            return None, self._suspected(key, published, None)
        if not len(suspected) or not published.uris:
            return suspected, []
        return suspected, self._suspected(key, published, self._kept(suspected))

    def _suspected(self, key: Key, held: Held, hashes: str | None) -> list[Path]:
        work = partial(suspect_rows, self.errand, key=key, hashes=hashes)
        found = self.crew.reports("find rows with the same key", work, self._shares(held))
        paths = []
        for uri in found:
            if uri is not None:
                paths.append(self.folder / f"suspects-{next(self._numbers)}.parquet")
                self.store.download(uri, paths[-1])
        return paths

    def _shares(self, held: Held) -> list[Held]:
        """The same files, dealt out: a partition may hold thousands of small ones."""
        count = min(len(held.uris), _SHARES * self.crew.cores)
        return [replace(held, uris=held.uris[share::count]) for share in range(count)]

    def _kept(self, hashes: numpy.ndarray[Any, Any]) -> str:
        """Hashes as a file that workers reach."""
        import numpy

        path = self.folder / f"hashes-{next(self._numbers)}.npy"
        numpy.save(path, hashes)
        uri = self.store.upload(path, Zone.CURATED, self.errand.work + path.name)
        path.unlink()
        return uri

    def distinct(
        self, columns: Key, duplicates: Duplicates, *, by_object: bool
    ) -> Mapping[str | None, tuple[int, int]]:
        """See `Workbench`."""
        if not self._staged:
            return {}
        alive = frozenset(duplicates.alive)
        values = Values(columns, alive, self._losers(duplicates), by_object)
        return counted_values(self.crew, self.errand, self._staged, values)

    def _losers(self, duplicates: Duplicates) -> str | None:
        """The rows that gave way, as a file that workers reach."""
        if not duplicates.any:
            return None
        path = self.folder / f"losers-{next(self._numbers)}.parquet"
        duplicates.losers.keep(path)
        uri = self.store.upload(path, Zone.CURATED, self.errand.work + path.name)
        path.unlink()
        return uri

    # --- After the decision ----------------------------------------------------------------------

    def measure(
        self, owners: Collection[str], duplicates: Duplicates
    ) -> Mapping[str, Mapping[str, Figure]]:
        """See `Workbench`."""
        wanted = frozenset(owners)
        work = partial(measure_pieces, self.errand, owners=wanted, losers=self._losers(duplicates))
        touched = [(piece,) for piece in self._staged if not piece.owners.isdisjoint(wanted)]
        figures: dict[str, Mapping[str, Figure]] = {}
        for measured in self._pass("measure files anew", work, touched, _bytes(touched)):
            for owner, again in measured.items():
                figures[owner] = merge_figures(figures.get(owner, {}), again)
        return figures

    def divide(self, settlement: Settlement, duplicates: Duplicates) -> Divided:
        """See `Workbench`."""
        gone = frozenset(settlement.gone)
        repeating = frozenset(one.owner for one in settlement.repeated)
        losers = self._losers(duplicates)
        gave_way = GaveWay(self._batch.contract)
        if losers is not None:
            spans_touched = [
                span
                for span, owners in zip(self._spans, self._owners, strict=True)
                if not owners.isdisjoint(repeating)
            ]
            size = sum(s.last - s.first for span in spans_touched for s in span.stretches)
            work = partial(divert_span, self.errand, losers=losers)
            for found in self._pass("divert repeated keys", work, spans_touched, size):
                self._diverted += found.diverted
                gave_way.add(found.samples, found.firsts)
        self._diverted += self._malformed(gone)
        staged = self._anew(
            "take rows out", partial(restage, self.errand, gone=gone, losers=losers),
            self._staged, gone, gone | repeating,
        )  # fmt: skip
        diverted = self._anew(
            "put quarantine together", partial(requarantine, self.errand, gone=gone),
            self._diverted, gone, gone,
        )  # fmt: skip
        files = ShippedFiles(
            tuple(piece.file for piece in staged), tuple(piece.file for piece in diverted)
        )
        return Divided(files, gave_way.samples, gave_way.findings(settlement.repeated))

    def _anew(
        self,
        what: str,
        work: Any,
        pieces: Sequence[Piece],
        gone: frozenset[str],
        touched: frozenset[str],
    ) -> list[Piece]:
        """Files brought to what was decided, in order."""
        planned = bundles(pieces, gone, touched, self.sizes)
        tasks = [(number, bundle) for number, bundle in enumerate(planned) if bundle.anew]
        size = sum(bundle.size for _, bundle in tasks)
        written = iter(self._pass(what, work, tasks, size))
        done: list[Piece] = []
        for bundle in planned:
            done += next(written) if bundle.anew else bundle.pieces
        return done

    def _malformed(self, gone: frozenset[str]) -> tuple[Piece, ...]:
        """Rows without shape, which are few and have no keys."""
        origins = Origins.of(self._batch.contract, self._batch.manifest)
        writer = origins.quarantine_writer(
            lambda number: self.folder / f"shapeless-{number:05d}.parquet"
        )
        add_malformed(self._batch.record, self.store, self.folder, origins, writer, gone)
        return self.errand.ship(writer, Zone.QUARANTINE, "malformed")

    def _pass(self, what: str, work: Any, tasks: Sequence[Any], size: int) -> Iterable[Any]:
        """Have tasks done; here, one after the other, where that is the quicker way."""
        if size <= self.sizes.here:
            return [work(task) for task in tasks]
        return self.crew.reports(what, work, tasks)


def _tables(paths: Iterable[Path]) -> Iterator[pa.Table]:
    """The rows of files in scratch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield pa.Table.from_batches([batch])


def _bytes(pieces: Iterable[tuple[Piece, ...]]) -> int:
    return sum(piece.file.bytes for group in pieces for piece in group)
