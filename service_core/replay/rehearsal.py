"""Rehearsal: batches taken as far as their verdicts, and what publishing them would change.

The functions that validate and judge are the very same as in a real run; what they write goes to
scratch and to memory (`service_core.replay.overlay`), so a rehearsal leaves no trace in any zone,
table or ledger, and tells nobody but who asked. Only its report is kept, with the replay.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from service_core.contract.model import Contract, Processing, PublicationMode
from service_core.curation.batch import curate_batch
from service_core.elt import elt_verdict
from service_core.giving_back import stored_verdict
from service_core.layout import Zone, replay_prefix
from service_core.ledger import Entry
from service_core.manifest import Manifest
from service_core.ports import Catalog, Ledger, ObjectMissingError, ObjectStore
from service_core.publication import decide_withheld, key_heads, replaced_by
from service_core.reasons import Scope
from service_core.replay.anew import as_anew, overtaken
from service_core.replay.comparison import Said, difference, total
from service_core.replay.difference import Difference, Report, Rows, RowSample
from service_core.replay.folder import DIFFERENCE
from service_core.replay.overlay import OverlayCatalog, OverlayStore
from service_core.replay.row_difference import RowDifference, compare_rows
from service_core.replay.sampling import SAMPLES, Sampling
from service_core.run import Run
from service_core.validation.batch import validate_batch
from service_core.verdict import CheckOutcome, FileOutcome, Verdict

#: Samples in one report; later partitions are counted only.
_SAMPLES_IN_ALL = 600
#: Named as the batch that is judged anew where no replay has a name.
_ANEW = "rehearsal"


def rehearse(
    contract: Contract,
    manifests: Iterable[Manifest],
    *,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
    in_force: Contract | None = None,
    replay_id: str | None = None,
    progress: Callable[[Manifest, Verdict], None] = lambda manifest, verdict: None,
) -> Report:
    """Rehearse batches, and compare what they would publish with what is published.

    Batches of one partition are rehearsed in the order given, each as if those before it had been
    published.

    Args:
        contract: By which to judge.
        manifests: Of that data set, those of one partition together. They are made out for that
            contract if they are not.
        store, ledger, catalog: The real ones; only read.
        run: On whose behalf; its scratch has to hold a partition's rows twice.
        in_force: The contract in force, if it may be another: what it calls personal is masked too.
        replay_id: Of the replay whose dry run it is.
        progress: Told of each batch that has been judged.
    """
    run = replace(run, replay_id=replay_id)
    contracts = [contract] + ([] if in_force is None else [in_force])
    refusal = catalog.refusal(contract)
    house = _House(contract, contracts, store, ledger, catalog, run, refusal is not None, progress)
    memory = ledger.rehearsal()
    found: list[Difference] = []
    samples = _SAMPLES_IN_ALL
    for partition, its in groupby(manifests, key=lambda manifest: manifest.partition):
        with TemporaryDirectory(prefix="rehearsal-", dir=run.scratch) as name:
            stage = _Stage(house, partition, memory, Path(name))
            for manifest in its:
                if manifest.objects:
                    stage.judge(manifest)
            if stage.verdicts:
                found.append(stage.difference(min(SAMPLES, samples)))
                samples = max(samples - len(found[-1].samples), 0)
    return Report(
        dataset=contract.dataset,
        replay_id=replay_id,
        contract_version=contract.version,
        contract_hash=contract.hash,
        made_at=run.clock(),
        refusal=refusal,
        total=total(found),
        partitions=tuple(found),
    )


def write_report(store: ObjectStore, report: Report) -> str:
    """Keep the report of a replay's dry run beside the replay; returns its URI.

    Raises:
        ValueError: it is no replay's.
    """
    if report.replay_id is None:
        raise ValueError("A report is kept with its replay, and this one is no replay's.")
    return store.write(
        Zone.MANIFESTS,
        replay_prefix(report.replay_id) + DIFFERENCE,
        report.model_dump_json(indent=1).encode(),
        content_type="application/json",
    )


def read_report(store: ObjectStore, replay_id: str) -> Report | None:
    """The report of a replay's dry run; None where there is none yet."""
    try:
        body = store.read(Zone.MANIFESTS, replay_prefix(replay_id) + DIFFERENCE)
    except ObjectMissingError:
        return None
    return Report.model_validate_json(body)


@dataclass(frozen=True, slots=True)
class _House:
    """What all partitions of one rehearsal share; the real store, ledger and catalog."""

    contract: Contract
    contracts: Sequence[Contract]
    store: ObjectStore
    ledger: Ledger
    catalog: Catalog
    run: Run
    refused: bool
    progress: Callable[[Manifest, Verdict], None]


class _Stage:
    """One partition's rehearsal."""

    def __init__(self, house: _House, partition: str, ledger: Ledger, folder: Path) -> None:
        written, given = folder / "written", folder / "given"
        written.mkdir()
        given.mkdir()
        self.verdicts: list[Verdict] = []
        self._house = house
        self._partition = partition
        self._folder = folder
        self._ledger = ledger
        self._store = OverlayStore(house.store, written)
        self._catalog = OverlayCatalog(house.catalog, self._store, given, closed=house.refused)
        self._before: dict[str, Entry] = {}

    def judge(self, manifest: Manifest) -> None:
        """Take a batch as far as its verdict, and have it seem published where that passes."""
        house, contract = self._house, self._house.contract
        manifest = self._made_out(manifest)
        self._before |= house.ledger.entries(o.id for o in manifest.objects)
        scratch = self._folder / "batch"
        scratch.mkdir()
        run = replace(house.run, scratch=scratch)
        record = validate_batch(contract, manifest, self._store, self._ledger, run)
        if contract.processing is Processing.ELT:
            verdict = elt_verdict(contract, manifest, record, self._store, self._ledger, run)
        else:
            verdict = curate_batch(
                contract, manifest, record, self._store, self._ledger, self._catalog, run
            )
        shutil.rmtree(scratch)
        self.verdicts.append(verdict)
        if verdict.passed:
            if contract.publication is PublicationMode.REPLACE:
                self._ledger.raise_key_heads(contract.dataset, key_heads(verdict))
            self._catalog.give(contract, verdict, self._withheld(verdict))
        house.progress(manifest, verdict)

    def difference(self, samples: int) -> Difference:
        """What publishing all of them would change."""
        # Now that the newest version of every key is known.
        withheld = {v.batch_id: self._withheld(v) for v in self.verdicts if v.passed}
        rows, sampled = self._rows(withheld, samples)
        published = Rows(
            published=rows.before,
            would_be=rows.after,
            unchanged=rows.unchanged,
            changed=rows.changed,
            added=rows.added,
            removed=rows.removed,
        )
        return difference(
            self._partition,
            verdicts=self.verdicts,
            withheld=withheld,
            before=self._said_before(),
            rows=published,
            changed_columns=rows.changed_columns or {},
            samples=sampled,
        )

    def _made_out(self, manifest: Manifest) -> Manifest:
        """The manifest for the contract that is tried, judged anew where a verdict does not stand
        any more, or was undone."""
        contract, store, ledger = self._house.contract, self._house.store, self._house.ledger
        if (manifest.dataset, manifest.contract_hash) != (contract.dataset, contract.hash):
            manifest = Manifest.model_validate(
                {
                    **manifest.model_dump(),
                    "dataset": contract.dataset,
                    "contract_version": contract.version,
                    "contract_hash": contract.hash,
                }
            )
        batch_id = manifest.batch_id
        if manifest.anew is None and (
            overtaken(manifest, store, ledger) or ledger.rolled_back([batch_id])
        ):
            return as_anew(manifest, self._house.run.replay_id or _ANEW)
        return manifest

    def _withheld(self, verdict: Verdict) -> frozenset[str]:
        contract = self._house.contract
        keys = [f.source_object.key for f in verdict.files]
        heads = self._ledger.key_heads(contract.dataset, keys)
        return decide_withheld(contract, verdict, heads, {}).ids

    def _rows(
        self, withheld: Mapping[str, frozenset[str]], samples: int
    ) -> tuple[RowDifference, tuple[RowSample, ...]]:
        """The rows that would go against those that would come."""
        contract, folder = self._house.contract, self._folder / "rows"
        folder.mkdir()
        passed = [v for v in self.verdicts if v.passed and not self._house.refused]
        stay = [v for v in self.verdicts if v not in passed]
        keys: set[str] = set()
        objects: set[str] = set()
        for verdict in passed:
            of_keys, of_objects = replaced_by(contract, verdict, withheld[verdict.batch_id])
            keys |= of_keys
            objects |= of_objects
        out = frozenset().union(*(withheld[v.batch_id] for v in passed))
        found = compare_rows(
            self._published(folder / "before.parquet", keys, objects),
            list(self._staged(folder, passed, out)),
            key=contract.unique_keys[0] if contract.unique_keys else (),
            scratch=folder,
            samples=samples,
        )
        staying = self._count({f.source_object.id for v in stay for f in v.files} - objects)
        found = replace(
            found,
            before=found.before + staying,
            after=found.after + staying,
            unchanged=found.unchanged + staying,
        )
        names = {f.source_object.id: f.source_object.key for v in passed for f in v.files}
        key = contract.unique_keys[0] if contract.unique_keys else ()
        sampling = Sampling(self._house.contracts, key, names)
        return found, tuple(sampling.of(pair) for pair in found.samples)

    def _published(self, path: Path, keys: set[str], objects: set[str]) -> list[Path]:
        """The published rows of those keys and objects, in scratch."""
        import pyarrow.parquet as pq

        rows = self._house.catalog.published_rows(
            self._house.contract, self._partition, source_keys=keys, source_objects=objects
        )
        first = next(rows, None)
        if first is None:
            return []
        with pq.ParquetWriter(path, first.schema) as writer:
            writer.write_batch(first)
            for batch in rows:
                writer.write_batch(batch)
        return [path]

    def _count(self, objects: set[str]) -> int:
        """How many published rows come from those objects."""
        if not objects:
            return 0
        return sum(
            batch.num_rows
            for batch in self._house.catalog.published_rows(
                self._house.contract, self._partition, source_keys=(), source_objects=objects
            )
        )

    def _staged(
        self, folder: Path, verdicts: Sequence[Verdict], withheld: frozenset[str]
    ) -> Iterator[Path]:
        """The staged rows, without those of objects that would be kept out."""
        number = 0
        for verdict in verdicts:
            for staged in verdict.staged:
                path = folder / f"after-{number:05d}.parquet"
                self._store.download(staged.uri, path)
                if withheld & {f.source_object.id for f in verdict.files}:
                    path = _without(path, withheld)
                number += 1
                yield path

    def _said_before(self) -> Said:
        """What is said now of the objects: the verdicts of the batches that have them, or else of
        those whose rows are in the table, or else the ledger."""
        known: dict[tuple[str, str], Mapping[str, FileOutcome]] = {}
        checks: dict[tuple[str, str], tuple[CheckOutcome, ...]] = {}
        files: list[FileOutcome] = []
        silent: list[Entry] = []
        for entry in self._before.values():
            for batch_id in dict.fromkeys((entry.batch_id, entry.published_batch_id)):
                if batch_id is None:
                    continue
                place = (entry.partition, batch_id)
                if place not in known:
                    verdict = stored_verdict(self._house.store, entry.dataset, *place)
                    its = () if verdict is None else verdict.files
                    known[place] = {file.source_object.id: file for file in its}
                    checks[place] = () if verdict is None else verdict.checks
                if (outcome := known[place].get(entry.object_id)) is not None:
                    files.append(outcome)
                    break
            else:
                silent.append(entry)
        said = Said.of(files, checks.values())
        for entry in silent:
            if entry.reason is not None:
                said.reasons[entry.key, entry.reason, Scope.FILE] += 1
        return said


def _without(path: Path, withheld: frozenset[str]) -> Path:
    """A file of rows without those of some source objects."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from service_core.canonical import SOURCE_OBJECT_ID

    out = path.with_name(f"left-{path.name}")
    ids = pa.array(sorted(withheld), pa.string())
    with pq.ParquetFile(path) as file, pq.ParquetWriter(out, file.schema_arrow) as writer:
        for batch in file.iter_batches():
            mine = batch.column(SOURCE_OBJECT_ID).cast(pa.string())
            writer.write_batch(batch.filter(pc.invert(pc.is_in(mine, value_set=ids))))
    path.unlink()
    return out
