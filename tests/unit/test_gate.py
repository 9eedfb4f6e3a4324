"""The gate opens for a verdict that passed, for exactly this batch and contract, and for nothing
else: each test is one way of trying."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_core.gate import GateClosedError, open_gate
from service_core.layout import batch_prefix
from service_core.reasons import Severity
from service_core.validation.record import StagedFile
from service_core.verdict import CheckOutcome, FileOutcome, FileStatus, Verdict
from tests.judged_batches import NOON, PARTITION, contract, landed

BATCH = "b" * 32
CONTRACT = contract()


def staged(rows: int, part: int = 0, batch_id: str = BATCH) -> StagedFile:
    prefix = batch_prefix("orders", PARTITION, batch_id)
    return StagedFile(uri=f"s3://curated/{prefix}a1/part-{part:05d}.parquet", rows=rows, bytes=9)


def verdict(**changes: Any) -> Verdict:
    """A verdict that passed: 3 rows of one file, one of them diverted."""
    fields: dict[str, Any] = {
        "batch_id": BATCH,
        "dataset": "orders",
        "partition": PARTITION,
        "contract_version": CONTRACT.version,
        "contract_hash": CONTRACT.hash,
        "run_id": "run-1",
        "engine": "in_process",
        "passed": True,
        "rows_read": 3,
        "rows_accepted": 2,
        "rows_quarantined": 1,
        "files": (outcome(),),
        "checks": (),
        "staged": (staged(2),),
        "judged_at": NOON,
    }
    return Verdict(**fields | changes)


def outcome(**changes: Any) -> FileOutcome:
    fields: dict[str, Any] = {
        "source_object": landed("a.csv"),
        "status": FileStatus.PARTIAL,
        "rows_read": 3,
        "rows_accepted": 2,
        "rows_quarantined": 1,
    }
    return FileOutcome(**fields | changes)


def check(name: str, **changes: Any) -> CheckOutcome:
    fields = {"name": name, "severity": Severity.ERROR, "passed": False, "blocking": True}
    return CheckOutcome(**fields | changes)


def test_a_verdict_that_passed_opens_the_gate() -> None:
    given_back = open_gate(verdict(), batch_id=BATCH, contract=CONTRACT, partition=PARTITION)
    assert given_back == verdict()


def test_the_document_itself_opens_the_gate() -> None:
    document = verdict().model_dump_json().encode()
    assert open_gate(document, batch_id=BATCH, contract=CONTRACT) == verdict()


def test_a_failed_rule_that_only_diverted_rows_does_not_close_the_gate() -> None:
    diverting = verdict(checks=(check("amount_within", blocking=False),))
    assert open_gate(diverting, batch_id=BATCH, contract=CONTRACT).passed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_id": "c" * 32}, "the verdict is batch c{32}'s"),
        ({"dataset": "customers"}, "the verdict is of data set customers"),
        ({"partition": "2026-11-20"}, "of partition 2026-11-20, not 2026-11-21"),
        ({"contract_version": "0.9.0"}, r"contract version 0\.9\.0 .*version 1\.0\.0"),
        ({"contract_hash": "f" * 16}, "f{16}.* is in force.*Replay its files"),
        (
            {"passed": False, "checks": (check("row_count"), check("freshness"))},
            "its verdict failed: blocked by row_count, freshness",
        ),
        # A document that contradicts itself is believed in its worse half.
        ({"checks": (check("row_count"),)}, "blocked by row_count"),
        ({"passed": False}, "its verdict failed"),
        (
            {
                "passed": False,
                "rows_accepted": 0,
                "rows_quarantined": 3,
                "staged": (),
                "files": (
                    outcome(status=FileStatus.QUARANTINED, rows_accepted=0, rows_quarantined=3),
                ),
            },
            "none of its files was accepted",
        ),
        ({"files": (outcome(rows_read=4),)}, r"does not conserve the rows of 1 file.*a\.csv"),
        (
            {"files": (outcome(status=FileStatus.QUARANTINED),)},
            "does not conserve the rows of 1 file",
        ),
        (
            {"files": (outcome(rows_read=-3, rows_accepted=-2, rows_quarantined=-1),)},
            "does not conserve the rows of 1 file",
        ),
        ({"rows_read": 4}, "rows_read is 4, and its files make 3"),
        ({"rows_accepted": 3}, "rows_accepted is 3, and its files make 2"),
        ({"rows_quarantined": 0}, "rows_quarantined is 0, and its files make 1"),
        ({"staged": (staged(1),)}, "accepted 2 rows, and 1 are staged"),
        ({"staged": ()}, "accepted 2 rows, and 0 are staged"),
        ({"staged": (staged(1), staged(1))}, "names one staged file twice"),
        ({"staged": (staged(2, batch_id="c" * 32),)}, "not lie under the batch's own prefix"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(GateClosedError, match=said) as closed:
        open_gate(verdict(**changes), batch_id=BATCH, contract=CONTRACT, partition=PARTITION)
    assert str(closed.value).startswith(f"Batch {BATCH} of orders is not published: ")
    assert str(closed.value).endswith(".")


def test_a_contract_that_changed_after_judging_closes_the_gate() -> None:
    changed = replace(CONTRACT, hash="0" * 16)
    with pytest.raises(GateClosedError, match="Replay its files under the contract in force"):
        open_gate(verdict(), batch_id=BATCH, contract=changed)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"\xff\xfe",
        verdict().model_dump_json().encode()[:-1],
        json.dumps(verdict().model_dump(mode="json") | {"surprise": 1}).encode(),
        json.dumps(verdict().model_dump(mode="json") | {"schema_version": 2}).encode(),
    ],
)
def test_a_document_that_is_no_verdict_of_this_schema_is_refused(document: bytes) -> None:
    with pytest.raises(GateClosedError, match="Curate the batch again"):
        open_gate(document, batch_id=BATCH, contract=CONTRACT)


@given(st.binary(max_size=200))
def test_no_bytes_open_the_gate_or_break_it(document: bytes) -> None:
    with pytest.raises(GateClosedError):
        open_gate(document, batch_id=BATCH, contract=CONTRACT)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_the_gate_opens_only_where_every_row_is_accounted_for(
    read: int, accepted: int, quarantined: int, in_files: int
) -> None:
    one = outcome(rows_read=read, rows_accepted=accepted, rows_quarantined=quarantined)
    counted = verdict(
        files=(one,),
        rows_read=read,
        rows_accepted=accepted,
        rows_quarantined=quarantined,
        staged=(staged(in_files),),
    )
    if read == accepted + quarantined and in_files == accepted:
        assert open_gate(counted, batch_id=BATCH, contract=CONTRACT) == counted
    else:
        with pytest.raises(GateClosedError):
            open_gate(counted, batch_id=BATCH, contract=CONTRACT)
