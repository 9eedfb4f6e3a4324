"""Curation of a batch: canonical text in; staged rows, quarantine and a verdict out.

A batch that has a verdict is not judged again: what it published must not lose its verdict, and
what it quarantined stays quarantined in that batch, because ledger and quarantine say so already.
The way back is a mended file or contract, which make another batch. Only publication asks for a
second judgement, where the table has changed in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from service_core.contract.model import Contract
from service_core.curation.conclusion import (
    Judged,
    conclude,
    record_in_ledger,
    standing_verdict,
    still_holds,
)
from service_core.curation.local_bench import LocalBench
from service_core.curation.settlement import Settlement, Settling
from service_core.curation.tally import merge_samples
from service_core.curation.uniqueness import Duplicates
from service_core.curation.workbench import Batch, Workbench
from service_core.manifest import Manifest
from service_core.ports import Catalog, Ledger, ObjectStore
from service_core.reasons import ReasonCode, Scope
from service_core.run import Run
from service_core.validation.record import Finding, ValidationRecord
from service_core.verdict import FileStatus, Verdict

_NO_WAY_BACK = Finding(
    code=ReasonCode.TOO_MANY_DIVERTED,
    scope=Scope.FILE,
    message="no row of it was accepted when the batch was first judged",
)


def curate_batch(
    contract: Contract,
    manifest: Manifest,
    record: ValidationRecord,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
    *,
    engine: str = "in_process",
    force: bool = False,
) -> Verdict:
    """Judge a batch in this process, stage what is accepted, quarantine the rest, and write the
    verdict.

    May be called as often as wanted; a batch that has been judged gets the verdict it has.

    Args:
        record: What validation found.
        engine: Named in the verdict.
        force: Judge again even so, against what is published now. Files that the verdict
            quarantined stay so.
    """
    earlier = standing_verdict(contract, manifest, store)
    if earlier is not None and not force and still_holds(earlier, record, store):
        record_in_ledger(earlier, record, store, ledger, run)
        return earlier
    batch = Batch(contract, manifest, record)
    with TemporaryDirectory(prefix="curated-", dir=run.scratch) as name:
        folder = Path(name)
        snapshot = catalog.current_snapshot(contract) if contract.unique_keys else None
        bench = LocalBench(batch, store, None if snapshot is None else catalog, run, folder)
        judged = judge_batch(
            batch, bench, run, folder, snapshot=snapshot, taken=taken_before(earlier, record)
        )
        verdict = conclude(contract, manifest, record, judged, store, run, engine=engine)
    record_in_ledger(verdict, record, store, ledger, run)
    return verdict


def judge_batch(
    batch: Batch,
    bench: Workbench,
    run: Run,
    folder: Path,
    *,
    snapshot: int | None,
    taken: Mapping[str, Finding | None],
) -> Judged:
    """Judge a batch's rows, decide about its files and keys, and bring the rows to what was
    decided. The same wherever the rows are.

    Args:
        folder: Scratch.
        snapshot: The table's, against which uniqueness is judged; None where nothing is published
            or the contract has no unique key.
        taken: Files that an earlier verdict took, which do not come back in this batch; see
            `taken_before`.
    """
    rows = bench.judge()
    duplicates = Duplicates(batch.contract, batch.objects, folder)

    def settled(gone: Mapping[str, Finding]) -> Settlement:
        return Settling(
            batch.contract,
            [f for f in batch.record.files if f.accepted],
            rows.tallies,
            bench,
            duplicates,
            snapshot is not None,
            run.clock(),
            dict(gone),
        ).settle()

    try:
        gone = {owner: finding for owner, finding in taken.items() if finding is not None}
        settlement = settled(gone)
        back = {owner for owner in taken if settlement.rows.get(owner)}
        if back:
            settlement = settled(gone | dict.fromkeys(back, _NO_WAY_BACK))
        divided = bench.divide(settlement, duplicates)
    finally:
        duplicates.close()
    return Judged(
        tallies=rows.tallies,
        settlement=settlement,
        samples=merge_samples(rows.samples, divided.samples),
        duplicates=divided.duplicates,
        files=divided.files,
        snapshot=snapshot,
    )


def taken_before(earlier: Verdict | None, record: ValidationRecord) -> dict[str, Finding | None]:
    """Files that an earlier verdict quarantined though validation accepts them, with the finding
    that took them whole; None where all their rows were diverted one by one."""
    accepted = {f.source_object.id for f in record.files if f.accepted}
    return {
        file.source_object.id: next((f for f in file.findings if f.scope is Scope.FILE), None)
        for file in (earlier.files if earlier is not None else ())
        if file.status is FileStatus.QUARANTINED and file.source_object.id in accepted
    }
