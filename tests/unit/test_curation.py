"""A batch judged from canonical text to verdict, on a real object store and ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from resources.ledger import DynamoLedger
from service_core.canonical import accepted_schema, quarantined_schema
from service_core.contract.checks import check_names
from service_core.contract.model import (
    Contract,
    DriftPolicies,
    DriftPolicy,
    Expectation,
    Metric,
    PublicationMode,
    SetRule,
    SetScope,
    Unit,
)
from service_core.curation.batch import curate_batch
from service_core.gate import open_gate, read_verdict
from service_core.layout import Zone, quarantined_file_prefix
from service_core.ledger import State
from service_core.reasons import ReasonCode, Severity
from service_core.s3_store import S3ObjectStore
from service_core.verdict import CheckOutcome, FileOutcome, FileStatus, Verdict
from tests.canonical_batches import (
    NOON,
    PARTITION,
    Delivery,
    PublishedTable,
    deliver,
    landed,
    orders,
    read_rows,
    row,
    run_of,
)

A, B, C = landed("a.csv"), landed("b.csv"), landed("c.csv")


class Desk:
    """Where a test delivers a batch and has it judged."""

    def __init__(self, store: S3ObjectStore, ledger: DynamoLedger, scratch: Path) -> None:
        self.store, self.ledger, self.scratch = store, ledger, scratch

    def deliver(self, contract: Contract, delivered: Any, **more: Any) -> Delivery:
        return deliver(contract, delivered, self.store, self.ledger, self.scratch, **more)

    def curate(
        self,
        batch: Delivery,
        catalog: PublishedTable | None = None,
        *,
        attempt: str = "attempt-1",
        now: Any = NOON,
        force: bool = False,
    ) -> Verdict:
        return curate_batch(
            batch.contract,
            batch.manifest,
            batch.record,
            self.store,
            self.ledger,
            catalog or PublishedTable(),
            run_of(self.scratch, attempt, now=now),
            force=force,
        )

    def judge(self, contract: Contract, delivered: Any, **more: Any) -> Verdict:
        catalog = more.pop("catalog", None)
        verdict = self.curate(self.deliver(contract, delivered, **more), catalog)
        self.assert_consistent(contract, verdict)
        return verdict

    def assert_consistent(self, contract: Contract, verdict: Verdict) -> None:
        """What holds of every verdict."""
        assert [c.name for c in verdict.checks] == [c.name for c in check_names(contract)]
        for file in verdict.files:
            assert file.rows_read == file.rows_accepted + file.rows_quarantined
        staged, diverted = self.accepted(verdict), self.diverted(verdict)
        assert len(staged) == verdict.rows_accepted
        whole = {
            f.source_object.id
            for f in verdict.files
            if any(finding.scope == "file" for finding in f.findings)
        }
        assert not whole & {r["_source_object_id"] for r in [*staged, *diverted]}
        rows_whole = sum(f.rows_read for f in verdict.files if f.source_object.id in whole)
        assert len(diverted) + rows_whole == verdict.rows_quarantined
        if verdict.passed:
            open_gate(verdict, batch_id=verdict.batch_id, contract=contract)

    def accepted(self, verdict: Verdict) -> list[dict[str, Any]]:
        return read_rows(self.store, verdict.staged, self.scratch)

    def diverted(self, verdict: Verdict) -> list[dict[str, Any]]:
        return read_rows(self.store, verdict.quarantined_rows, self.scratch)

    def states(self, verdict: Verdict) -> dict[str, tuple[State, ReasonCode | None]]:
        entries = self.ledger.entries([f.source_object.id for f in verdict.files])
        return {e.key.rsplit("/", 1)[1]: (e.state, e.reason) for e in entries.values()}


@pytest.fixture
def desk(object_store: S3ObjectStore, ledger: DynamoLedger, tmp_path: Path) -> Desk:
    return Desk(object_store, ledger, tmp_path)


def check(verdict: Verdict, name: str) -> CheckOutcome:
    return next(c for c in verdict.checks if c.name == name)


def file(verdict: Verdict, name: str) -> FileOutcome:
    return next(f for f in verdict.files if f.source_object.key.endswith(name))


def codes(outcome: FileOutcome) -> list[tuple[str, str, int]]:
    return [(f.code.value, f.scope.value, f.count) for f in outcome.findings]


def test_good_rows_are_staged_with_types_and_origin(desk: Desk) -> None:
    verdict = desk.judge(orders(), {A: [row(1), row(2)], B: [row(3)]})

    assert verdict.passed
    assert [f.status for f in verdict.files] == [FileStatus.PUBLISHED] * 2
    assert all(c.passed for c in verdict.checks)
    rows = desk.accepted(verdict)
    assert [r["order_id"] for r in rows] == ["O1", "O2", "O3"]
    first = rows[0]
    assert str(first["amount"]) == "12.50"
    assert first["quantity"] == 3
    assert first["_source_key"] == A.key
    assert first["_source_row"] == 1
    assert first["_batch_id"] == verdict.batch_id
    assert first["_contract_version"] == "1.0.0"
    assert first["_ingested_at"] == NOON
    assert first["_partition"] == PARTITION
    assert desk.states(verdict) == {
        "a.csv": (State.CURATED, None),
        "b.csv": (State.CURATED, None),
    }


def test_staged_files_have_the_plain_schema_that_a_table_takes(desk: Desk) -> None:
    contract = orders()
    verdict = desk.judge(contract, {A: [row(1), row(2, currency="XXX")]})
    for files, schema in (
        (verdict.staged, accepted_schema(contract)),
        (verdict.quarantined_rows, quarantined_schema(contract)),
    ):
        path = desk.scratch / "schema.parquet"
        desk.store.download(files[0].uri, path)
        found = pq.read_schema(path)
        assert found.names == schema.names
        for name in schema.names:
            wanted = schema.field(name).type
            if str(wanted).startswith("list"):
                continue
            assert found.field(name).type == wanted, name


def test_a_row_at_fault_is_diverted_with_all_its_text_and_every_reason(desk: Desk) -> None:
    bad = row(2, amount="1e3", currency="XXX", quantity="0")
    verdict = desk.judge(orders(), {A: [row(1), bad, row(3)]})

    assert verdict.passed
    assert (verdict.rows_accepted, verdict.rows_quarantined) == (2, 1)
    assert file(verdict, "a.csv").status is FileStatus.PARTIAL
    (diverted,) = desk.diverted(verdict)
    assert {name: diverted[name] for name in bad} == bad
    assert (diverted["_source_row"], diverted["_source_line"]) == (2, 3)
    assert diverted["_source_key"] == A.key
    assert [(r["code"], r["column"]) for r in diverted["_reasons"]] == [
        ("TYPE", "amount"),
        ("NOT_ALLOWED", "currency"),
        ("RANGE", "quantity"),
    ]
    outcome = check(verdict, "currency_known")
    assert (outcome.passed, outcome.blocking, outcome.rows_failed) == (False, False, 1)
    finding = next(f for f in file(verdict, "a.csv").findings if f.code is ReasonCode.TYPE)
    assert (finding.line, finding.column, finding.sample, finding.count) == (3, "amount", "1e3", 1)


def test_personal_values_are_masked_in_samples_and_findings(desk: Desk) -> None:
    verdict = desk.judge(orders(), {A: [row(1), row(2, email="not-an-address")]})
    outcome = check(verdict, "email_shape")
    assert outcome.samples[0]["email"] == "***"
    assert outcome.samples[0]["order_id"] == "O2"
    assert "not-an-address" not in verdict.model_dump_json()
    assert desk.diverted(verdict)[0]["email"] == "not-an-address"


def test_the_verdict_is_read_back_as_it_was_returned(desk: Desk) -> None:
    verdict = desk.judge(orders(), {A: [row(1), row(2, quantity="x")]})
    assert read_verdict(desk.store, "orders", PARTITION, verdict.batch_id) == verdict


def test_malformed_rows_join_row_quarantine_with_their_raw_text(desk: Desk) -> None:
    verdict = desk.judge(orders(), {A: [row(1)]}, malformed={A: ["O2,12"]})
    (diverted,) = desk.diverted(verdict)
    assert diverted["_raw"] == "O2,12"
    assert diverted["_source_line"] == 100
    assert diverted["_reasons"][0]["code"] == "ROW_TOO_SHORT"
    assert (verdict.rows_read, verdict.rows_accepted, verdict.rows_quarantined) == (2, 1, 1)


def test_a_file_over_the_tolerated_share_goes_whole(desk: Desk) -> None:
    contract = orders(tolerated_share=0.5)
    verdict = desk.judge(
        contract,
        {A: [row(1), row(2, quantity="x")], B: [row(3), row(4, quantity="x")]},
        malformed={B: ["short"]},
    )
    assert verdict.passed
    assert file(verdict, "a.csv").status is FileStatus.PARTIAL
    outcome = file(verdict, "b.csv")
    assert outcome.status is FileStatus.QUARANTINED
    assert codes(outcome)[0] == ("TOO_MANY_DIVERTED", "file", 1)
    assert desk.states(verdict)["b.csv"] == (State.QUARANTINED, ReasonCode.TOO_MANY_DIVERTED)
    prefix = quarantined_file_prefix("orders", PARTITION, outcome.source_object.id)
    assert sorted(desk.store.keys(Zone.QUARANTINE, prefix)) == [
        f"{prefix}content",
        f"{prefix}record.json",
    ]
    accepted = check(verdict, "source_objects_accepted")
    assert (accepted.passed, accepted.blocking) == (False, False)


def test_where_type_drift_takes_the_file_one_value_is_enough(desk: Desk) -> None:
    contract = orders(drift=DriftPolicies(type=DriftPolicy.QUARANTINE_FILE))
    verdict = desk.judge(contract, {A: [row(1), row(2, quantity="many")], B: [row(3)]})
    outcome = file(verdict, "a.csv")
    assert codes(outcome)[0] == ("TYPE", "file", 1)
    assert (outcome.findings[0].line, outcome.findings[0].sample) == (3, "many")
    assert [r["order_id"] for r in desk.accepted(verdict)] == ["O3"]
    assert outcome.drift[0].kind == "type"
    assert verdict.drift[0].rows == 1


def test_a_batch_without_an_accepted_file_fails_and_keeps_its_rows_in_quarantine(
    desk: Desk,
) -> None:
    verdict = desk.judge(orders(), {A: [row(1, quantity="x"), row(2, quantity="y")]})
    assert not verdict.passed
    assert verdict.blocked_by == ("source_objects_accepted",)
    assert file(verdict, "a.csv").status is FileStatus.QUARANTINED
    assert len(desk.diverted(verdict)) == 2
    assert verdict.staged == ()
    assert desk.states(verdict) == {"a.csv": (State.QUARANTINED, ReasonCode.TYPE)}


def test_every_check_reports_even_where_validation_accepted_no_file(desk: Desk) -> None:
    rule = SetRule("rows", Metric.ROW_COUNT, (), Expectation(minimum=1))
    verdict = desk.judge(orders(set_rules=(rule,)), {}, refused=[A])
    assert not verdict.passed
    assert set(verdict.blocked_by) == {"source_objects_accepted", "rows"}
    assert codes(file(verdict, "a.csv")) == [("ENCODING", "file", 1)]
    assert desk.states(verdict) == {"a.csv": (State.QUARANTINED, ReasonCode.ENCODING)}


def test_a_file_of_nulls_alone_is_judged_like_any_other(desk: Desk) -> None:
    nothing = dict.fromkeys(row(1))
    verdict = desk.judge(orders(), {A: [nothing, nothing], B: [row(1)]})
    assert [r["_reasons"][0]["code"] for r in desk.diverted(verdict)] == ["REQUIRED"] * 2
    assert verdict.rows_accepted == 1


# --- Set rules -----------------------------------------------------------------------------------


def test_a_file_that_fails_a_set_rule_alone_goes_and_the_rest_is_judged_again(desk: Desk) -> None:
    rule = SetRule("enough_rows", Metric.ROW_COUNT, (), Expectation(minimum=2))
    verdict = desk.judge(orders(set_rules=(rule,)), {A: [row(1)], B: [row(2), row(3)]})
    assert verdict.passed
    outcome = file(verdict, "a.csv")
    assert codes(outcome)[0] == ("SET_RULE", "file", 1)
    assert outcome.rows_quarantined == 1
    rows = check(verdict, "enough_rows")
    assert (rows.passed, rows.blocking, rows.figure) == (False, False, 2.0)
    assert rows.detail.endswith("failed by themselves. A figure must be at least 2.")
    assert rows.samples == ({"_source_key": A.key, "figure": 1.0},)
    assert desk.states(verdict)["a.csv"] == (State.QUARANTINED, ReasonCode.SET_RULE)


def test_an_error_on_the_batch_blocks_it_and_nothing_is_left_staged(desk: Desk) -> None:
    rule = SetRule(
        "day_complete",
        Metric.ROW_COUNT,
        (),
        Expectation(minimum=5),
        scopes=frozenset({SetScope.BATCH}),
    )
    verdict = desk.judge(
        orders(set_rules=(rule,)), {A: [row(1), row(2, quantity="x")], B: [row(3)]}
    )
    assert not verdict.passed
    assert verdict.blocked_by == ("day_complete",)
    assert verdict.staged == () and verdict.quarantined_rows == ()
    assert {codes(f)[0] for f in verdict.files} == {("BATCH_BLOCKED", "file", 1)}
    assert verdict.rows_quarantined == 3
    assert set(desk.states(verdict).values()) == {(State.QUARANTINED, ReasonCode.BATCH_BLOCKED)}
    assert check(verdict, "rows_conserved").passed


def test_a_set_rule_of_severity_warning_is_recorded_and_takes_nothing(desk: Desk) -> None:
    rule = SetRule(
        "enough_rows", Metric.ROW_COUNT, (), Expectation(minimum=5), severity=Severity.WARNING
    )
    verdict = desk.judge(orders(set_rules=(rule,)), {A: [row(1)]})
    assert verdict.passed
    assert not check(verdict, "enough_rows").passed
    assert not check(verdict, "enough_rows").blocking
    assert verdict.rows_accepted == 1


@pytest.mark.parametrize(
    ("rule", "held"),
    [
        (SetRule("r", Metric.NULL_VALUES, ("currency",), Expectation(equal=1)), True),
        (SetRule("r", Metric.NULL_VALUES, ("currency",), Expectation(maximum=0)), False),
        (
            SetRule(
                "r", Metric.NULL_VALUES, ("currency",), Expectation(maximum=30), unit=Unit.PERCENT
            ),
            True,
        ),
        (SetRule("r", Metric.SUM, ("amount",), Expectation(equal=50.0)), True),
        (SetRule("r", Metric.SUM, ("quantity",), Expectation(equal=12)), True),
        (SetRule("r", Metric.DISTINCT_COUNT, ("currency",), Expectation(equal=2)), True),
        (SetRule("r", Metric.DISTINCT_COUNT, ("currency",), Expectation(minimum=3)), False),
        (SetRule("r", Metric.DUPLICATE_VALUES, ("currency",), Expectation(equal=1)), True),
        (
            SetRule("r", Metric.DUPLICATE_VALUES, ("currency", "quantity"), Expectation(equal=1)),
            True,
        ),
        (
            SetRule(
                "r",
                Metric.FRESHNESS,
                ("at",),
                Expectation(maximum=7200),
                unit=Unit.SECONDS,
            ),
            True,
        ),
        (
            SetRule("r", Metric.FRESHNESS, ("at",), Expectation(maximum=7199), unit=Unit.SECONDS),
            False,
        ),
    ],
)
def test_a_set_rule_is_judged_on_its_figure(desk: Desk, rule: SetRule, held: bool) -> None:
    rule = replace(rule, scopes=frozenset({SetScope.BATCH}))
    rows = [row(1), row(2), row(3, currency="USD"), row(4, currency="")]
    verdict = desk.judge(orders(set_rules=(rule,)), {A: rows[:3], B: rows[3:]})
    assert check(verdict, "r").passed is held
    assert verdict.passed is held


def test_a_batch_with_no_value_to_be_fresh_is_not_fresh(desk: Desk) -> None:
    rule = SetRule(
        "fresh",
        Metric.FRESHNESS,
        ("at",),
        Expectation(maximum=7200),
        unit=Unit.SECONDS,
        scopes=frozenset({SetScope.BATCH}),
    )
    verdict = desk.judge(orders(set_rules=(rule,)), {A: [row(1, at=None)]})
    assert check(verdict, "fresh").figure is None
    assert verdict.blocked_by == ("fresh",)


# --- Uniqueness ----------------------------------------------------------------------------------


def test_the_first_row_keeps_its_key_and_later_ones_are_diverted(desk: Desk) -> None:
    verdict = desk.judge(
        orders(), {A: [row(1), row(1, amount="1.00")], B: [row(2), row(1, amount="2.00")]}
    )
    assert [(r["order_id"], str(r["amount"])) for r in desk.accepted(verdict)] == [
        ("O1", "12.50"),
        ("O2", "12.50"),
    ]
    diverted = desk.diverted(verdict)
    assert [r["amount"] for r in diverted] == ["1.00", "2.00"]
    assert {r["_reasons"][0]["message"] for r in diverted} == {f"same order_id as row 1 of {A.key}"}
    outcome = check(verdict, "order_id_unique")
    assert (outcome.passed, outcome.blocking, outcome.rows_failed) == (False, False, 2)
    assert [s["amount"] for s in outcome.samples] == ["1.00", "2.00"]
    finding = file(verdict, "b.csv").findings[0]
    assert (finding.code, finding.line, finding.sample) == (ReasonCode.DUPLICATE_KEY, 3, "O1")


def test_null_keys_never_count_as_duplicates(desk: Desk) -> None:
    contract = orders(row_rules=())
    verdict = desk.judge(contract, {A: [row(1, order_id=None), row(2, order_id="")]})
    assert verdict.rows_accepted == 2
    assert check(verdict, "order_id_unique").passed


def test_a_key_that_is_published_already_is_diverted(desk: Desk) -> None:
    table = PublishedTable([{"order_id": "O1", "_source_key": "orders/old.csv", "_source_row": 7}])
    verdict = desk.judge(orders(), {A: [row(1), row(2)]}, catalog=table)
    assert [r["order_id"] for r in desk.accepted(verdict)] == ["O2"]
    (diverted,) = desk.diverted(verdict)
    message = "same order_id as row 7 of orders/old.csv, which is already published"
    assert diverted["_reasons"][0]["message"] == message
    assert verdict.judged_against == 1


def test_rows_that_the_batch_replaces_are_no_duplicates_of_it(desk: Desk) -> None:
    table = PublishedTable([{"order_id": "O1", "_source_key": A.key, "_source_row": 1}])
    verdict = desk.judge(orders(), {A: [row(1)]}, catalog=table)
    assert verdict.rows_accepted == 1


def test_in_append_mode_an_older_version_keeps_its_keys(desk: Desk) -> None:
    table = PublishedTable([{"order_id": "O1", "_source_key": A.key, "_source_row": 1}])
    contract = orders(publication=PublicationMode.APPEND)
    verdict = desk.judge(contract, {A: [row(1), row(2)]}, catalog=table)
    assert [r["order_id"] for r in desk.accepted(verdict)] == ["O2"]


def test_a_file_that_goes_does_not_replace_its_older_version(desk: Desk) -> None:
    """Its older rows stay published, so their keys stay taken."""
    table = PublishedTable([{"order_id": "O9", "_source_key": A.key, "_source_row": 1}])
    contract = orders(tolerated_share=0.4)
    verdict = desk.judge(
        contract, {A: [row(9), row(8, quantity="x")], B: [row(9), row(1), row(2)]}, catalog=table
    )
    assert codes(file(verdict, "a.csv"))[0][0] == "TOO_MANY_DIVERTED"
    assert [r["order_id"] for r in desk.accepted(verdict)] == ["O1", "O2"]


def test_rows_of_a_file_that_goes_win_no_key(desk: Desk) -> None:
    rule = SetRule("enough_rows", Metric.ROW_COUNT, (), Expectation(minimum=2))
    verdict = desk.judge(
        orders(set_rules=(rule,)), {A: [row(1)], B: [row(1), row(2)], C: [row(2), row(3), row(4)]}
    )
    assert [f.status for f in verdict.files] == [
        FileStatus.QUARANTINED,
        FileStatus.PUBLISHED,
        FileStatus.PARTIAL,
    ]
    assert [r["order_id"] for r in desk.accepted(verdict)] == ["O1", "O2", "O3", "O4"]


def test_figures_are_of_the_rows_that_are_left_after_uniqueness(desk: Desk) -> None:
    rule = SetRule(
        "total",
        Metric.SUM,
        ("amount",),
        Expectation(equal=37.5),
        scopes=frozenset({SetScope.BATCH}),
    )
    verdict = desk.judge(
        orders(set_rules=(rule,)), {A: [row(1), row(2)], B: [row(2), row(3), row(1)]}
    )
    assert check(verdict, "total").figure == 37.5
    assert verdict.passed


def test_too_many_duplicates_take_the_file(desk: Desk) -> None:
    contract = orders(tolerated_share=0.5)
    verdict = desk.judge(contract, {A: [row(1), row(2)], B: [row(1), row(2)]})
    assert file(verdict, "a.csv").status is FileStatus.PUBLISHED
    assert codes(file(verdict, "b.csv"))[0][0] == "TOO_MANY_DIVERTED"
    assert desk.diverted(verdict) == []


# --- Again ---------------------------------------------------------------------------------------


def test_a_batch_that_was_judged_keeps_its_verdict_and_its_files(desk: Desk) -> None:
    batch = desk.deliver(orders(), {A: [row(1), row(2, quantity="x")]})
    first = desk.curate(batch)
    again = desk.curate(batch, attempt="attempt-2", now=NOON + timedelta(hours=1))
    assert again == first
    keys = list(desk.store.keys(Zone.CURATED, "orders/"))
    assert len(keys) == 1


def test_a_failed_verdict_stands_too(desk: Desk) -> None:
    rule = SetRule("many", Metric.ROW_COUNT, (), Expectation(minimum=5))
    batch = desk.deliver(orders(set_rules=(rule,)), {A: [row(1)]})
    first = desk.curate(batch)
    assert not first.passed
    assert desk.curate(batch, attempt="attempt-2") == first


def test_whoever_dies_between_verdict_and_ledger_is_made_up_for(desk: Desk, aws: Any) -> None:
    batch = desk.deliver(orders(), {A: [row(1)]})
    whole, desk.ledger = desk.ledger, DynamoLedger(aws("dynamodb"), "no-such-table")
    with pytest.raises(aws("dynamodb").exceptions.ResourceNotFoundException):
        desk.curate(batch)
    desk.ledger = whole
    left = read_verdict(desk.store, "orders", PARTITION, batch.manifest.batch_id)
    assert desk.states(left) == {"a.csv": (State.VALIDATED, None)}
    assert desk.curate(batch, attempt="attempt-2") == left
    assert desk.states(left) == {"a.csv": (State.CURATED, None)}


def test_a_second_judgement_stages_under_names_of_its_own(desk: Desk) -> None:
    batch = desk.deliver(orders(), {A: [row(1), row(2)]})
    first = desk.curate(batch)
    table = PublishedTable([{"order_id": "O2", "_source_key": "orders/b.csv", "_source_row": 1}])
    second = desk.curate(batch, table, force=True)
    assert {f.uri for f in first.staged}.isdisjoint(f.uri for f in second.staged)
    assert [r["order_id"] for r in desk.accepted(second)] == ["O1"]
    assert [r["order_id"] for r in desk.accepted(first)] == ["O1", "O2"]


def test_judging_again_writes_the_same_rows(desk: Desk) -> None:
    batch = desk.deliver(orders(), {A: [row(1), row(2, quantity="x")], B: [row(1)]})
    first = desk.curate(batch)
    second = desk.curate(batch, attempt="attempt-2", now=NOON + timedelta(hours=1), force=True)
    assert desk.accepted(second) == desk.accepted(first)
    assert desk.diverted(second) == desk.diverted(first)


def test_what_a_batch_quarantined_stays_so_when_it_is_judged_again(desk: Desk) -> None:
    table = PublishedTable([{"order_id": "O1", "_source_key": "orders/b.csv", "_source_row": 1}])
    contract = orders(tolerated_share=0.1)
    batch = desk.deliver(contract, {A: [row(1)], B: [row(2)]})
    first = desk.curate(batch, table)
    assert file(first, "a.csv").status is FileStatus.QUARANTINED
    second = desk.curate(batch, force=True)
    assert file(second, "a.csv").status is FileStatus.QUARANTINED
    assert codes(file(second, "a.csv"))[0][0] == "TOO_MANY_DIVERTED"
    assert second.passed


def test_a_verdict_whose_staged_files_are_gone_is_not_relied_on(
    desk: Desk, aws: Any, settings: Any
) -> None:
    batch = desk.deliver(orders(), {A: [row(1)]})
    first = desk.curate(batch)
    bucket, key = first.staged[0].uri.removeprefix("s3://").split("/", 1)
    aws("s3").delete_object(Bucket=bucket, Key=key)
    second = desk.curate(batch, attempt="attempt-2")
    assert len(desk.accepted(second)) == 1
