"""Names are matched the same way whatever the policy, and each difference has one name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_core.contract.model import DriftPolicies, DriftPolicy
from service_core.drift import REASON_OF, DriftKind, classify_names, match_names

CONTRACT = ("order_id", "amount", "note")


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        (CONTRACT, []),
        (("order_id", "amount", "note", "channel"), [("additive", "channel")]),
        (("order_id", "note"), [("missing", "amount")]),
        (("order_id", "total_amount", "note"), [("renamed", "amount")]),
        (("Order_Id", "amount", "note"), [("renamed", "order_id")]),
        (("order id", "amount", "note"), [("renamed", "order_id")]),
        (("orderId", "amount", "note"), [("renamed", "order_id")]),
        (("note", "amount", "order_id"), [("order", None)]),
        (("order_id", "note", "zzz"), [("missing", "amount"), ("additive", "zzz")]),
        (
            ("amount", "order_id", "zzz"),
            [("missing", "note"), ("additive", "zzz"), ("order", None)],
        ),
    ],
)
def test_each_difference_of_names_is_classified(
    found: tuple[str, ...], kinds: list[tuple[str, str | None]]
) -> None:
    drift = classify_names(match_names(CONTRACT, found), DriftPolicies())
    assert [(d.kind.value, d.column) for d in drift] == kinds


def test_the_policy_is_the_contracts_and_changes_no_classification() -> None:
    found = ("total_amount", "order_id", "channel")
    match = match_names(CONTRACT, found)
    strict = DriftPolicies(additive=DriftPolicy.QUARANTINE_FILE, order=DriftPolicy.QUARANTINE_FILE)
    lenient = DriftPolicies(missing=DriftPolicy.ALLOW, renamed=DriftPolicy.ALLOW)
    first, second = classify_names(match, strict), classify_names(match, lenient)
    assert [(d.kind, d.column) for d in first] == [(d.kind, d.column) for d in second]
    assert {d.policy for d in first if d.kind is DriftKind.ADDITIVE} == {
        DriftPolicy.QUARANTINE_FILE
    }
    assert {d.policy for d in second if d.kind is DriftKind.RENAMED} == {DriftPolicy.ALLOW}


def test_the_closest_names_are_paired_whatever_their_order() -> None:
    expected = ("start_date", "end_date")
    for found in (("end_dates", "start_dates"), ("start_dates", "end_dates")):
        assert match_names(expected, found).renamed == (
            ("start_date", "start_dates"),
            ("end_date", "end_dates"),
        )


def test_a_new_name_stands_for_one_missing_name_only() -> None:
    match = match_names(("amount", "amounts"), ("amountx",))
    assert len(match.renamed) == 1
    assert len(match.missing) == 1


def test_every_kind_of_drift_has_a_reason_to_be_refused_with() -> None:
    assert set(REASON_OF) == set(DriftKind)


@given(st.lists(st.text(max_size=8), unique=True, max_size=6),
       st.lists(st.text(max_size=8), unique=True, max_size=6))  # fmt: skip
def test_every_name_is_accounted_for_once(expected: list[str], found: list[str]) -> None:
    match = match_names(expected, found)
    assert sorted([*match.matched, *match.missing, *(a for a, _ in match.renamed)]) == sorted(
        expected
    )
    assert sorted([*match.matched, *match.unexpected, *(b for _, b in match.renamed)]) == sorted(
        found
    )
