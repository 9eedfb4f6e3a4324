"""An ELT batch: validation alone judges it, and its text is staged as it arrived."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from resources.ledger import DynamoLedger
from service_core.canonical import text_schema
from service_core.contract.model import Processing
from service_core.elt import elt_verdict
from service_core.gate import open_gate
from service_core.ledger import State
from service_core.s3_store import S3ObjectStore
from service_core.verdict import FileStatus
from tests.canonical_batches import deliver, landed, orders, read_rows, row, run_of, shape

A, B = landed("a.csv"), landed("b.csv")


def test_text_is_staged_untouched_with_its_origin(
    object_store: S3ObjectStore, ledger: DynamoLedger, tmp_path: Path
) -> None:
    contract = orders(processing=Processing.ELT, tolerated_share=0.5)
    batch = deliver(
        contract,
        {A: [row(1, quantity="many"), row(2)], B: [row(3)]},
        object_store,
        ledger,
        tmp_path,
        malformed={A: ["short"], B: ["short", "shorter"]},
    )
    place = (contract, batch.manifest, batch.record, object_store, ledger)
    verdict = elt_verdict(*place, run_of(tmp_path))
    open_gate(verdict, batch_id=verdict.batch_id, contract=contract)

    assert [f.status for f in verdict.files] == [FileStatus.PARTIAL, FileStatus.QUARANTINED]
    assert [c.name for c in verdict.checks] == ["rows_conserved", "source_objects_accepted"]
    staged = read_rows(object_store, verdict.staged, tmp_path)
    assert [r["quantity"] for r in staged] == ["many", "3"]
    assert list(staged[0]) == text_schema(contract).names
    assert {r["_source_key"] for r in staged} == {A.key}
    quarantined = read_rows(object_store, verdict.quarantined_rows, tmp_path)
    assert [r["_raw"] for r in quarantined] == ["short"]
    states = ledger.entries(f.source_object.id for f in verdict.files)
    assert [states[f.source_object.id].state for f in verdict.files] == [
        State.CURATED,
        State.QUARANTINED,
    ]
    path = tmp_path / "schema.parquet"
    object_store.download(verdict.staged[0].uri, path)
    assert shape(pq.read_schema(path)) == shape(text_schema(contract))
    assert elt_verdict(*place, run_of(tmp_path, "attempt-2")) == verdict


def test_a_batch_of_refused_files_alone_is_not_published(
    object_store: S3ObjectStore, ledger: DynamoLedger, tmp_path: Path
) -> None:
    contract = orders(processing=Processing.ELT)
    batch = deliver(contract, {}, object_store, ledger, tmp_path, refused=[A])
    verdict = elt_verdict(
        contract, batch.manifest, batch.record, object_store, ledger, run_of(tmp_path)
    )
    assert verdict.blocked_by == ("source_objects_accepted",)
