"""What a replay passes over, and what has to be judged anew: pure decisions, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service_core.contract import load_contract
from service_core.contract.model import PublicationMode
from service_core.ledger import Entry, KeyHead, State
from service_core.manifest import Manifest, Origin
from service_core.replay.anew import as_anew, stands
from service_core.replay.audit import Outcome, batch_record
from service_core.replay.request import Options
from service_core.replay.selection import Criteria, Why, why_passed_over
from service_core.source_object import SourceObject
from service_core.verdict import FileOutcome, FileStatus, Verdict

CONTRACT = load_contract(Path(__file__).parents[2] / "contracts" / "orders.yaml")
AT = datetime(2026, 11, 21, tzinfo=UTC)
OBJECT = SourceObject(
    bucket="raw", key="orders/dt=2026-11-21/orders_1.csv", version_id="v1", etag="e", size=1,
    last_modified=AT, partition="2026-11-21",
)  # fmt: skip


def entry(**changes: Any) -> Entry:
    """Published wholly under the contract in force, unless changed."""
    given = {
        "object_id": OBJECT.id,
        "dataset": "orders",
        "partition": "2026-11-21",
        "bucket": "raw",
        "key": OBJECT.key,
        "state": State.PUBLISHED,
        "batch_id": "mine",
        "published_batch_id": "mine",
        "contract_version": CONTRACT.version,
        "contract_hash": CONTRACT.hash,
        "rows_quarantined": 0,
        "received_at": AT,
        "updated_at": AT,
    }
    return Entry.model_validate({**given, **changes})


NEWER = KeyHead(key=OBJECT.key, object_id="x", last_modified=AT, sequence=1, batch_id="other")
ITSELF = KeyHead(key=OBJECT.key, object_id=OBJECT.id, last_modified=AT, sequence=0, batch_id="m")


@pytest.mark.parametrize(
    ("options", "known", "given", "why"),
    [
        ({}, None, {}, None),
        ({}, {}, {}, Why.PUBLISHED),
        ({"force": True}, {}, {}, None),
        ({}, {"rows_quarantined": 2}, {}, None),
        ({}, {"contract_version": "0.9.0"}, {}, None),
        ({}, {"contract_hash": "f" * 16}, {}, None),
        ({}, {"contract_hash": None}, {}, Why.PUBLISHED),
        ({}, {"state": State.QUARANTINED, "published_batch_id": None}, {}, None),
        ({"skip_if_published": True}, {"rows_quarantined": 2}, {}, Why.PUBLISHED),
        ({"skip_if_published": True}, {"contract_version": "0.9.0"}, {}, Why.PUBLISHED),
        ({"skip_if_published": True}, {"state": State.RECEIVED}, {}, Why.PUBLISHED),
        ({"skip_if_published": True}, {"state": State.RECEIVED, "published_batch_id": None}, {},
         None),
        ({"force": True}, {"state": State.SUPERSEDED}, {"named": True}, Why.SUPERSEDED),
        ({"force": True}, {}, {"latest": False}, Why.NOT_LATEST),
        ({"force": True}, {}, {"latest": False, "named": True}, None),
        ({"force": True}, {}, {"latest": False, "named": True, "head": NEWER}, Why.SUPERSEDED),
        ({"force": True}, {}, {"latest": False, "named": True, "head": ITSELF}, None),
        ({"force": True}, {}, {"latest": False, "named": True, "head": NEWER, "append": True},
         None),
    ],
)  # fmt: skip
def test_what_is_meant_is_passed_over_for_a_reason(
    options: dict[str, Any], known: dict[str, Any] | None, given: dict[str, Any], why: Why | None
) -> None:
    contract = CONTRACT
    if given.get("append"):
        contract = replace(CONTRACT, publication=PublicationMode.APPEND)
    assert why is why_passed_over(
        Options(**options),
        contract,
        OBJECT,
        None if known is None else entry(**known),
        given.get("head"),
        latest=given.get("latest", True),
        named=given.get("named", False),
    )


def test_what_the_ledger_does_not_know_answers_to_no_question_about_it() -> None:
    assert Criteria().mean(None, ())
    assert not Criteria(state=State.PUBLISHED).mean(None, ())
    assert not Criteria(contract_version="1.0.0").mean(None, ())
    assert not Criteria(reason_codes=frozenset({"TYPE"})).mean(None, ())
    assert Criteria(reason_codes=frozenset({"TYPE", "RULE"})).mean(entry(), {"RULE"})


def verdict(*, passed: bool, **changes: Any) -> Verdict:
    file = FileOutcome(
        source_object=OBJECT,
        status=FileStatus.PUBLISHED if passed else FileStatus.QUARANTINED,
        rows_read=1,
        rows_accepted=int(passed),
        rows_quarantined=int(not passed),
        **changes,
    )
    return Verdict(
        batch_id="mine", dataset="orders", partition="2026-11-21", contract_version="1",
        contract_hash="h", run_id="r", engine="e", passed=passed, rows_read=1,
        rows_accepted=int(passed), rows_quarantined=int(not passed), files=(file,), checks=(),
        judged_at=AT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("judged", "known", "holds"),
    [
        (verdict(passed=True), {}, True),
        (verdict(passed=True), {"state": State.CURATED, "published_batch_id": None}, True),
        (verdict(passed=True), {"state": State.SUPERSEDED, "published_batch_id": None}, True),
        (verdict(passed=True), {"batch_id": "other", "published_batch_id": "other"}, False),
        (verdict(passed=True), {"batch_id": "other", "published_batch_id": "mine"}, False),
        # Taken out of the table again by somebody.
        (verdict(passed=True), {"state": State.QUARANTINED, "published_batch_id": None}, False),
        (verdict(passed=False), {"state": State.QUARANTINED, "published_batch_id": None}, True),
        # Another batch that has not published either.
        (verdict(passed=False),
         {"state": State.QUARANTINED, "batch_id": "other", "published_batch_id": None}, True),
        # It knew of the rows in the table, and gave the object back.
        (verdict(passed=False, published_by="other"),
         {"batch_id": "other", "published_batch_id": "other"}, True),
        # It knew of rows that are out again.
        (verdict(passed=False, published_by="other"),
         {"state": State.QUARANTINED, "batch_id": "other", "published_batch_id": None}, False),
        # It did not know.
        (verdict(passed=False), {"batch_id": "other", "published_batch_id": "other"}, False),
        (verdict(passed=False, published_by="first"),
         {"batch_id": "other", "published_batch_id": "other"}, False),
    ],
)  # fmt: skip
def test_a_verdict_stands_while_what_it_took_for_granted_holds(
    judged: Verdict, known: dict[str, Any], holds: bool
) -> None:
    assert stands(judged, {OBJECT.id: entry(**known)}) is holds


def test_work_that_is_done_anew_is_another_batch_of_the_same_objects() -> None:
    manifest = Manifest(
        dataset="orders", partition="2026-11-21", contract_version="1", contract_hash="h",
        origin=Origin.REPLAY, objects=(OBJECT,), created_at=AT, replay_id="r",
    )  # fmt: skip
    first, second = as_anew(manifest, "r-1"), as_anew(manifest, "r-2")
    assert len({manifest.batch_id, first.batch_id, second.batch_id}) == 3
    assert as_anew(manifest, "r-1").batch_id == first.batch_id
    assert first.objects == manifest.objects


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (None, {}, Outcome.PUBLISHED),
        ({}, {"rows_quarantined": 1}, Outcome.PARTIAL),
        ({"published_batch_id": "other"}, {"published_batch_id": "other"}, Outcome.KEPT),
        ({"published_batch_id": "other"}, {}, Outcome.PUBLISHED),
        ({}, {"state": State.QUARANTINED}, Outcome.QUARANTINED),
        ({}, {"state": State.SUPERSEDED}, Outcome.SUPERSEDED),
        ({}, {"state": State.VALIDATED}, Outcome.UNFINISHED),
        ({}, None, Outcome.UNFINISHED),
    ],
)
def test_what_became_of_an_object_is_told_by_the_ledger_before_and_after(
    before: dict[str, Any] | None, after: dict[str, Any] | None, outcome: Outcome
) -> None:
    record = batch_record(
        "r", 0, "mine", "2026-11-21", [OBJECT],
        {} if before is None else {OBJECT.id: entry(**before)},
        {} if after is None else {OBJECT.id: entry(**after)},
        at=AT, run_id=None, failed=None,
    )  # fmt: skip
    assert record.fates[0].outcome is outcome
    assert record.outcomes == {outcome: 1}
