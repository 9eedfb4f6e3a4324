"""The kernel alone: blocks of canonical text in, typed and diverted rows out."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.canonical import canonical_schema
from service_core.contract.model import (
    Case,
    Column,
    ColumnType,
    Contract,
    Dialect,
    DriftPolicies,
    DriftPolicy,
    Expectation,
    FileFormat,
    Format,
    Holds,
    LengthWithin,
    LogicalType,
    Matches,
    Metric,
    Normalisation,
    OneOf,
    Required,
    RowRule,
    RowTest,
    SetRule,
    Typed,
    Within,
)
from service_core.curation.judgement import UnjudgeableRuleError
from service_core.curation.kernel import CuratedBlock, compile_kernel, curate_block
from service_core.curation.tally import merge_samples, merge_tallies
from service_core.reasons import ReasonCode, Severity
from tests.canonical_batches import canonical, column, landed, orders, row

A, B = landed("a.csv"), landed("b.csv")
L = LogicalType


def curate(contract: Contract, *rows: Any) -> CuratedBlock:
    return curate_block(compile_kernel(contract), canonical(contract, {A: rows}))


def one_column(kind: ColumnType, *rules: RowRule, **changes: Any) -> Contract:
    value = Column(name="value", type=kind, source="value", **changes)
    return orders(columns=(value,), row_rules=rules)


def rule(test: RowTest, code: ReasonCode = ReasonCode.RULE, **changes: Any) -> RowRule:
    return replace(RowRule("the_rule", ("value",), test, code), **changes)


def values(block: CuratedBlock, name: str = "value") -> list[Any]:
    return block.accepted.column(name).to_pylist()


def reasons(block: CuratedBlock) -> list[list[tuple[str, str | None]]]:
    return [
        [(reason["code"], reason["column"]) for reason in reasons]
        for reasons in block.diverted.column("_reasons").to_pylist()
    ]


def judged(kind: ColumnType, test: RowTest, text: str | None) -> bool:
    """Whether a text passes a test of a column of a type."""
    block = curate(one_column(kind, rule(test)), {"value": text})
    return block.accepted.num_rows == 1


INT, DOUBLE, DAY = ColumnType(L.INTEGER), ColumnType(L.DOUBLE), ColumnType(L.DATE)
DEC, TEXT, BOOL = ColumnType(L.DECIMAL, 12, 2), ColumnType(L.STRING), ColumnType(L.BOOLEAN)
STAMP, INSTANT, CLOCK = ColumnType(L.TIMESTAMP), ColumnType(L.TIMESTAMP_TZ), ColumnType(L.TIME)
ANY_DOUBLE = ColumnType(L.DOUBLE, allow_special=True)


@pytest.mark.parametrize(
    ("kind", "test", "text", "passes"),
    [
        (TEXT, Required(), "a", True),
        (TEXT, Required(), None, False),
        (TEXT, Required(), "", False),
        (INT, Within(1, 10), "1", True),
        (INT, Within(1, 10), "11", False),
        (INT, Within(1, 10), None, True),
        (INT, Within(1, exclusive_minimum=True), "1", False),
        (INT, Within(maximum=10, exclusive_maximum=True), "10", False),
        (INT, Within(0.5, 1.5), "1", True),
        (INT, Within(0.5, 1.5), "2", False),
        (INT, Within(maximum=9223372036854775806), "9223372036854775807", False),
        (INT, Within(minimum=10**30), "5", False),
        (INT, Within(maximum=10**30), "5", True),
        (DEC, Within(Decimal("0.10")), "0.10", True),
        (DEC, Within(Decimal("0.10")), "0.09", False),
        (DEC, Within(0.1), "0.10", True),
        (DEC, Within(Decimal("0.105")), "0.10", False),
        (DEC, Within(Decimal("0.105")), "0.11", True),
        (DEC, Within(maximum=Decimal("9.999")), "9.99", True),
        (DEC, Within(maximum=Decimal(1), exclusive_maximum=True), "1.00", False),
        (DEC, Within(maximum=Decimal(1), exclusive_maximum=True), "0.99", True),
        (DOUBLE, Within(0.1), "0.1", True),
        (DOUBLE, Within(Decimal("0.1"), Decimal("0.2")), "0.3", False),
        (ANY_DOUBLE, Within(0.0), "NaN", False),
        (ANY_DOUBLE, Within(0.0), "inf", True),
        (DAY, Within(date(2026, 1, 1)), "2026-01-01", True),
        (DAY, Within(date(2026, 1, 1)), "2025-12-31", False),
        (STAMP, Within(maximum=datetime(2026, 1, 1, 12)), "2026-01-01 12:00:01", False),
        (INSTANT, Within(datetime(2026, 1, 1, tzinfo=UTC)), "2026-01-01T01:00:00+02:00", False),
        (INSTANT, Within(datetime(2026, 1, 1, tzinfo=UTC)), "2026-01-01T02:00:00+02:00", True),
        (CLOCK, Within(time(8), time(18)), "18:00:00", True),
        (CLOCK, Within(time(8), time(18)), "18:00:01", False),
        (TEXT, OneOf(("a", "b")), "a", True),
        (TEXT, OneOf(("a", "b")), "A", False),
        (INT, OneOf(("1", "2")), "+1", True),
        (INT, OneOf(("1", "2")), "3", False),
        (DEC, OneOf(("1.5",)), "1.50", True),
        (DEC, OneOf(("1.5",)), "1.51", False),
        (DAY, OneOf(("2026-01-01",)), "2026-01-01", True),
        (DAY, OneOf(("2026-01-01",)), "2026-01-02", False),
        (INSTANT, OneOf(("2026-01-01T00:00:00Z",)), "2026-01-01T01:00:00+01:00", True),
        (BOOL, OneOf(("true",)), "TRUE", True),
        (BOOL, OneOf(("true",)), "false", False),
        (TEXT, Matches("[A-Z]{2}"), "DE", True),
        (TEXT, Matches("[A-Z]{2}"), "DEU", False),
        (TEXT, Matches("[A-Z]{2}"), "DE\n", False),
        (TEXT, Matches("a|b"), "b", True),
        (TEXT, Matches("a|b"), "ab", False),
        (TEXT, Matches("a|b"), None, True),
        (INT, Matches("0[0-9]+"), "007", True),
        (INT, Matches("0[0-9]+"), "7", False),
        (TEXT, LengthWithin(2, 3), "äöü", True),
        (TEXT, LengthWithin(2, 3), "a", False),
        (TEXT, LengthWithin(maximum=3), "abcd", False),
        (INT, LengthWithin(minimum=3), "007", True),
        (INT, Holds("value > 3"), "4", True),
        (INT, Holds("value > 3"), "3", False),
        (INT, Holds("value > 3"), None, True),
        (DEC, Holds("value / value = 1"), "0", False),
    ],
)
def test_a_row_rule_means_what_it_says(
    kind: ColumnType, test: RowTest, text: str | None, passes: bool
) -> None:
    assert judged(kind, test, text) is passes


def test_a_block_in_which_nothing_fails_comes_out_whole() -> None:
    block = curate(orders(), row(1), row(2))
    assert block.accepted.num_rows == 2
    assert block.diverted.num_rows == 0
    assert block.samples == {}
    (tally,) = block.tallies.values()
    assert (tally.rows, tally.accepted, tally.reasons, tally.broken) == (2, 2, {}, {})


def test_a_value_that_is_no_spelling_of_its_type_is_told_once() -> None:
    contract = orders(
        columns=(column("value", L.INTEGER, required=True),),
        row_rules=(
            rule(Required(), ReasonCode.REQUIRED, name="a"),
            rule(Within(1), ReasonCode.RANGE, name="b"),
            rule(Typed(), ReasonCode.TYPE, name="c"),
            rule(Holds("value IS NOT NULL"), name="d"),
        ),
    )
    block = curate(contract, {"value": "x"}, {"value": None})
    assert reasons(block) == [
        [("TYPE", "value")],
        [("REQUIRED", "value"), ("RULE", "value")],
    ]
    (tally,) = block.tallies.values()
    assert tally.broken == {"a": 1, "c": 1, "d": 1}


def test_a_warning_is_recorded_and_diverts_nothing() -> None:
    block = curate(
        one_column(INT, rule(Within(1), ReasonCode.RANGE, severity=Severity.WARNING)),
        {"value": "0"},
    )
    assert values(block) == [0]
    (tally,) = block.tallies.values()
    assert tally.broken == {"the_rule": 1}
    assert tally.reasons == {}
    assert [s["value"] for s in block.samples["the_rule"]] == ["0"]


@pytest.mark.parametrize(
    ("policy", "expected", "extra"),
    [
        (DriftPolicy.ALLOW, [None, 2], None),
        (DriftPolicy.KEEP_ASIDE, [None, 2], {"value": "x", "more": 1}),
        (DriftPolicy.QUARANTINE_ROWS, [2], None),
        (DriftPolicy.QUARANTINE_FILE, [2], None),
    ],
)
def test_type_drift_goes_by_its_policy(
    policy: DriftPolicy, expected: list[int | None], extra: dict[str, Any] | None
) -> None:
    contract = replace(one_column(INT), drift=DriftPolicies(type=policy))
    block = curate(contract, {"value": "x", "_extra": '{"more": 1}'}, {"value": "2"})
    assert values(block) == expected
    (tally,) = block.tallies.values()
    assert tally.drifted["value"].count == 1
    assert tally.drifted["value"].sample == "x"
    if policy is DriftPolicy.KEEP_ASIDE:
        assert json.loads(values(block, "_extra")[0]) == extra


def test_text_kept_aside_never_takes_the_place_of_what_is_there() -> None:
    contract = replace(one_column(INT), drift=DriftPolicies(type=DriftPolicy.KEEP_ASIDE))
    block = curate(contract, {"value": "x", "_extra": '{"value": "kept"}'})
    assert json.loads(values(block, "_extra")[0]) == {"value": "kept", "_value": "x"}


def test_null_in_a_required_column_is_refused_even_where_type_drift_is_allowed() -> None:
    contract = replace(
        one_column(INT, rule(Required(), ReasonCode.REQUIRED)),
        drift=DriftPolicies(type=DriftPolicy.ALLOW),
    )
    assert reasons(curate(contract, {"value": "x"})) == [[("REQUIRED", "value")]]


@pytest.mark.parametrize(
    ("normalisation", "text", "value"),
    [
        (Normalisation(), " a ", " a "),
        (Normalisation(trim=True), " \t\r\n\x0b\x0ca b ", "a b"),
        (Normalisation(trim=True), "\u00a0a", "\u00a0a"),
        (Normalisation(case=Case.UPPER), "eur", "EUR"),
        (Normalisation(case=Case.LOWER), "EUR", "eur"),
        (Normalisation(null_if=("N/A",)), "N/A", None),
        (Normalisation(null_if=("N/A",)), "n/a", "n/a"),
        (Normalisation(trim=True, null_if=("N/A",)), " N/A ", None),
        (Normalisation(case=Case.LOWER, null_if=("N/A",)), "n/A", None),
        (Normalisation(trim=True), "   ", None),
        (Normalisation(), "", None),
        (Normalisation(), "-", None),
    ],
)
def test_text_is_normalised_in_the_order_trim_case_null(
    normalisation: Normalisation, text: str, value: str | None
) -> None:
    contract = replace(
        one_column(TEXT, normalisation=normalisation),
        format=Format(FileFormat.CSV, dialect=Dialect(null_values=("", "-"))),
    )
    assert values(curate(contract, {"value": text}, {"value": "z"}))[0] == value


def test_the_empty_text_is_a_value_where_the_contract_does_not_call_it_null() -> None:
    contract = replace(
        one_column(TEXT), format=Format(FileFormat.CSV, dialect=Dialect(null_values=()))
    )
    assert values(curate(contract, {"value": ""}, {"value": None})) == ["", None]


def test_a_null_spelling_is_compared_before_the_type() -> None:
    contract = one_column(INT, normalisation=Normalisation(null_if=("-999",)))
    assert values(curate(contract, {"value": "-999"}, {"value": "5"})) == [None, 5]


def derived(expression: str, kind: ColumnType, *rules: RowRule) -> Contract:
    return orders(
        columns=(
            column("a", L.INTEGER),
            column("b", L.DECIMAL, type=DEC),
            Column(name="value", type=kind, derived=expression),
        ),
        row_rules=rules,
    )


def test_columns_are_derived_from_typed_ones_in_order() -> None:
    contract = derived("a * b", ColumnType(L.DECIMAL, 18, 2))
    again = Column(name="twice", type=ColumnType(L.DECIMAL, 18, 2), derived="value * 2")
    contract = replace(contract, columns=(*contract.columns, again))
    block = curate(contract, {"a": "2", "b": "1.25"}, {"a": None, "b": "1"})
    assert values(block) == [Decimal("2.50"), None]
    assert values(block, "twice") == [Decimal("5.00"), None]


def test_a_row_whose_derivation_has_no_outcome_is_diverted_alone() -> None:
    """Polars refuses the whole frame for one division by zero."""
    rows = [{"a": "1", "b": str(number % 7)} for number in range(50)]
    block = curate(derived("a / b", ColumnType(L.DECIMAL, 38, 10)), *rows)
    assert block.diverted.num_rows == 8
    assert set(map(tuple, reasons(block))) == {(("DERIVATION", "value"),)}
    assert block.accepted.num_rows == 42


def test_an_outcome_that_its_type_cannot_hold_is_no_outcome() -> None:
    block = curate(derived("b * 1000", ColumnType(L.DECIMAL, 4, 2)), {"a": "1", "b": "5.00"})
    assert reasons(block) == [[("DERIVATION", "value")]]
    block = curate(derived("CAST(a AS DOUBLE) / 0", DOUBLE), {"a": "1", "b": "1"})
    assert reasons(block) == [[("DERIVATION", "value")]]


def test_what_is_derived_from_a_value_at_fault_is_not_told_as_well() -> None:
    contract = derived(
        "a + 1",
        INT,
        rule(Required(), ReasonCode.REQUIRED),
        rule(Holds("value > 0"), name="positive"),
    )
    block = curate(contract, {"a": "x", "b": "1"})
    assert reasons(block) == [[("TYPE", "a")]]


def test_accepted_rows_have_the_published_types() -> None:
    every = [
        (INT, "1", 1),
        (DEC, "1.5", Decimal("1.50")),
        (DOUBLE, "1.5", 1.5),
        (BOOL, "true", True),
        (DAY, "2026-11-21", date(2026, 11, 21)),
        (CLOCK, "10:00:00.5", time(10, 0, 0, 500000)),
        (STAMP, "2026-11-21T10:00:00", datetime(2026, 11, 21, 10)),
        (INSTANT, "2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        (ColumnType(L.JSON), '{"a": 1}', '{"a": 1}'),
    ]
    for kind, text, value in every:
        contract = one_column(kind)
        block = curate(contract, {"value": text})
        assert values(block) == [value], kind
        assert block.accepted.schema == compile_kernel(contract).accepted_schema


def test_a_kernel_can_be_sent_to_a_worker() -> None:
    kernel = compile_kernel(orders())
    block = canonical(orders(), {A: [row(1), row(2, quantity="x")]})
    there = pickle.loads(pickle.dumps(kernel))
    assert curate_block(there, block) == curate_block(kernel, block)


def test_a_record_batch_is_a_block_too() -> None:
    table = canonical(orders(), {A: [row(1)]})
    block = curate_block(compile_kernel(orders()), table.to_batches()[0])
    assert block.accepted.num_rows == 1


def test_what_is_not_canonical_text_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="lacks \\['_extra'"):
        curate_block(compile_kernel(orders()), pa.table({"order_id": ["a"]}))


@pytest.mark.parametrize(
    "bad",
    [
        rule(Matches("(")),
        rule(OneOf(("x",))),
        rule(Within(date(2026, 1, 1))),
        rule(Holds("nothing > 1")),
        rule(Holds("value + 1")),
        rule(Required(), columns=("absent",)),
    ],
)
def test_a_rule_that_cannot_be_executed_is_refused_before_any_row(bad: RowRule) -> None:
    with pytest.raises(UnjudgeableRuleError):
        compile_kernel(one_column(INT, bad))


@pytest.mark.parametrize("name", ["check_output", "failure_case", "index", "self", "text"])
def test_a_column_may_be_called_as_something_of_a_librarys_own(name: str) -> None:
    contract = orders(
        columns=(column(name, L.INTEGER),),
        row_rules=(
            RowRule("low", (name,), Within(1), ReasonCode.RANGE),
            RowRule("high", (name,), Holds(f'"{name}" < 9'), ReasonCode.RULE),
        ),
    )
    block = curate(contract, {name: "0"}, {name: "5"}, {name: "10"})
    assert values(block, name) == [5]
    assert reasons(block) == [[("RANGE", name)], [("RULE", name)]]


def test_pandera_cannot_be_switched_off_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    from pandera.config import ValidationDepth, config_context

    with config_context(validation_enabled=False, validation_depth=ValidationDepth.SCHEMA_ONLY):
        assert not judged(INT, Within(1), "0")


def test_many_source_objects_of_one_block_are_counted_apart() -> None:
    contract = orders()
    block = curate_block(
        compile_kernel(contract),
        canonical(contract, {A: [row(1), row(2, quantity="x")], B: [row(3, currency="X")]}),
    )
    tallies = block.tallies
    assert (tallies[A.id].rows, tallies[A.id].accepted) == (2, 1)
    assert (tallies[B.id].rows, tallies[B.id].accepted) == (1, 0)
    assert set(tallies[B.id].reasons) == {(ReasonCode.NOT_ALLOWED, "currency")}


def test_at_most_twenty_samples_are_kept() -> None:
    block = curate(orders(), *[row(number, currency="X") for number in range(30)])
    assert [s["_source_row"] for s in block.samples["currency_known"]] == list(range(1, 21))


# --- Whatever arrives ----------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.none(),
    st.sampled_from(
        ["", " ", "1", "12.50", "-0", "1e400", "NaN", "EUR", "2026-02-30", "9" * 40, "x@y", "\x00"]
    ),
    st.text(max_size=12),
)
ROWS = st.lists(st.fixed_dictionaries({c.name: HOSTILE for c in orders().columns}), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=ROWS, second=ROWS, policy=st.sampled_from(list(DriftPolicy)))
def test_rows_are_conserved_and_blocks_change_nothing(
    first: list[dict[str, str | None]], second: list[dict[str, str | None]], policy: DriftPolicy
) -> None:
    contract = orders(
        drift=DriftPolicies(type=policy),
        set_rules=(
            SetRule("nulls", Metric.NULL_VALUES, ("amount",), Expectation(maximum=1)),
            SetRule("total", Metric.SUM, ("amount",), Expectation(maximum=1)),
            SetRule("latest", Metric.FRESHNESS, ("at",), Expectation(maximum=1)),
        ),
    )
    kernel = compile_kernel(contract)
    table = canonical(contract, {A: first, B: second})
    whole = curate_block(kernel, table)
    assert whole.accepted.num_rows + whole.diverted.num_rows == table.num_rows
    again = compile_kernel(contract)
    for size in (1, 7):
        parts = [curate_block(again, table.slice(i, size)) for i in range(0, table.num_rows, size)]
        if not parts:
            continue
        accepted = pa.concat_tables(p.accepted for p in parts)
        diverted = pa.concat_tables(p.diverted for p in parts)
        assert accepted.to_pylist() == whole.accepted.to_pylist()
        assert diverted.to_pylist() == whole.diverted.to_pylist()
        tallies: Any = {}
        samples: Any = {}
        for part in parts:
            tallies = merge_tallies(tallies, part.tallies)
            samples = merge_samples(samples, part.samples)
        assert tallies == whole.tallies
        assert samples == whole.samples


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_accepted_rows_keep_every_rule(rows: list[dict[str, str | None]]) -> None:
    accepted = curate(orders(), *rows).accepted.to_pylist()
    for found in accepted:
        assert found["order_id"] is not None
        assert found["currency"] in (None, "USD", "EUR")
        assert found["quantity"] is None or found["quantity"] >= 1
        assert found["amount"] is None or 0 <= found["amount"] <= 1000


def test_an_empty_block_is_no_special_case() -> None:
    block = curate_block(compile_kernel(orders()), canonical_schema(orders()).empty_table())
    assert (block.accepted.num_rows, block.diverted.num_rows, block.tallies) == (0, 0, {})
