"""The verdict of an ELT batch: validation alone judges it, and its text is what is published.

Rows are conserved and files that are mostly malformed go whole, as everywhere; typing and rules are
left to SQL downstream.
"""

from __future__ import annotations

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
from service_core.curation.local_bench import add_malformed, download_parts
from service_core.curation.passes import without
from service_core.curation.settlement import Settlement, intolerable
from service_core.curation.shipment import LocalFiles
from service_core.curation.staging import Origins, blocks
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectStore
from service_core.run import Run
from service_core.validation.record import ValidationRecord
from service_core.verdict import Verdict

ENGINE = "none"


def elt_verdict(
    contract: Contract,
    manifest: Manifest,
    record: ValidationRecord,
    store: ObjectStore,
    ledger: Ledger,
    run: Run,
) -> Verdict:
    """Stage a batch's canonical text for publication, and write its verdict.

    May be called as often as wanted; a batch that has been judged gets the verdict it has.
    """
    earlier = standing_verdict(contract, manifest, store)
    if earlier is not None and still_holds(earlier, record, store):
        record_in_ledger(earlier, record, store, ledger, run)
        return earlier
    accepted = [f for f in record.files if f.accepted]
    gone = {
        file.source_object.id: finding
        for file in accepted
        if (finding := intolerable(contract, file, file.rows_malformed)) is not None
    }
    with TemporaryDirectory(prefix="text-", dir=run.scratch) as name:
        folder = Path(name)
        origins = Origins.of(contract, manifest)
        writer = origins.accepted_writer(
            lambda number: folder / f"text-{number:05d}.parquet", text=True
        )
        for block in blocks(download_parts(record, store, folder)):
            writer.add(origins.text(without(block, set(gone))))
        quarantine = origins.quarantine_writer(
            lambda number: folder / f"malformed-{number:05d}.parquet"
        )
        add_malformed(record, store, folder, origins, quarantine, gone)
        judged = Judged(
            tallies={},
            settlement=Settlement(
                gone=gone,
                repeated=(),
                rows={
                    f.source_object.id: f.rows_read - f.rows_malformed
                    for f in accepted
                    if f.source_object.id not in gone
                },
                of_objects={},
                of_batch={},
            ),
            samples={},
            duplicates={},
            files=LocalFiles(manifest, store, run, writer.finish(), quarantine.finish()),
            snapshot=None,
        )
        verdict = conclude(contract, manifest, record, judged, store, run, engine=ENGINE)
    record_in_ledger(verdict, record, store, ledger, run)
    return verdict
