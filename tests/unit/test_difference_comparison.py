"""What is said before against what is said now: the pure part of a difference."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service_core.drift import DriftKind
from service_core.reasons import ReasonCode, Scope, Severity
from service_core.replay.comparison import (
    Said,
    check_changes,
    code_changes,
    difference,
    drift_changes,
    reason_changes,
    total,
)
from service_core.replay.difference import CheckState, Rows
from service_core.verdict import CheckOutcome

NOTHING = Said(Counter(), Counter(), ())
TYPE, RANGE = (ReasonCode.TYPE, Scope.ROW), (ReasonCode.RANGE, Scope.ROW)


def said(
    reasons: dict[tuple[str, ReasonCode, Scope], int] | None = None,
    drift: dict[tuple[DriftKind, str | None], int] | None = None,
    *checks: tuple[CheckOutcome, ...],
) -> Said:
    return Said(Counter(reasons or {}), Counter(drift or {}), checks)


def check(name: str, state: CheckState, rows: int = 0) -> CheckOutcome:
    return CheckOutcome(
        name=name,
        severity=Severity.ERROR,
        passed=state is CheckState.PASSED,
        blocking=state is CheckState.BLOCKS,
        rows_failed=rows,
        detail=f"{name} {state}",
    )


def test_reasons_are_told_file_by_file_the_largest_change_first() -> None:
    before = said({("a", *TYPE): 5, ("b", *TYPE): 1, ("c", *RANGE): 2})
    after = said({("a", *TYPE): 4, ("b", *RANGE): 7, ("c", *RANGE): 2})
    changes = [(c.file, c.code, c.before, c.after) for c in reason_changes(before, after)]
    assert changes == [
        ("b", ReasonCode.RANGE, 0, 7),
        ("a", ReasonCode.TYPE, 5, 4),
        ("b", ReasonCode.TYPE, 1, 0),
    ]


counts = st.dictionaries(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from([ReasonCode.TYPE, ReasonCode.RANGE]),
        st.sampled_from(Scope),
    ),
    st.integers(1, 5),
)  # fmt: skip


@given(before=counts, after=counts)
def test_codes_sum_up_what_is_told_file_by_file(
    before: dict[tuple[str, ReasonCode, Scope], int],
    after: dict[tuple[str, ReasonCode, Scope], int],
) -> None:
    files = reason_changes(said(before), said(after))
    for code in code_changes(said(before), said(after)):
        mine = [c for c in files if (c.code, c.scope) == (code.code, code.scope)]
        assert mine, "a code that no file changes"
        assert code.gained == sum(max(c.after - c.before, 0) for c in mine)
        assert code.lost == sum(max(c.before - c.after, 0) for c in mine)
        assert code.after - code.before == code.gained - code.lost
    told = {(c.code, c.scope) for c in code_changes(said(before), said(after))}
    assert told == {(c.code, c.scope) for c in files}


def test_of_several_verdicts_about_one_check_the_worst_counts() -> None:
    before = said(None, None, (check("x", CheckState.PASSED),), (check("x", CheckState.FAILED, 3),))
    assert check_changes(before, said(None, None, (check("x", CheckState.FAILED, 9),))) == ()
    (change,) = check_changes(before, said(None, None, (check("x", CheckState.BLOCKS, 1),)))
    assert (change.before, change.after) == (CheckState.FAILED, CheckState.BLOCKS)
    assert (change.rows_failed_before, change.rows_failed) == (3, 1)
    assert change.detail == "x blocks"


def test_a_check_that_is_new_or_gone_is_told() -> None:
    before = said(None, None, (check("old", CheckState.PASSED),))
    after = said(None, None, (check("new", CheckState.PASSED),))
    changes = {c.name: (c.before, c.after) for c in check_changes(before, after)}
    assert changes == {"new": (None, CheckState.PASSED), "old": (CheckState.PASSED, None)}


def test_where_nothing_was_judged_only_what_does_not_pass_is_told() -> None:
    after = said(None, None, (check("good", CheckState.PASSED), check("bad", CheckState.FAILED)))
    assert [c.name for c in check_changes(NOTHING, after)] == ["bad"]


def test_drift_is_told_by_kind_and_column() -> None:
    before = said(None, {(DriftKind.ADDITIVE, "x"): 2, (DriftKind.ORDER, None): 1})
    after = said(None, {(DriftKind.ADDITIVE, "x"): 3, (DriftKind.ORDER, None): 1})
    (change,) = drift_changes(before, after)
    assert (change.kind, change.column, change.files_before, change.files_after) == (
        DriftKind.ADDITIVE, "x", 2, 3,
    )  # fmt: skip


def test_a_total_sums_up_its_partitions() -> None:
    parts = [
        difference(
            partition,
            verdicts=[],
            withheld={},
            before=said(None, None, (check("x", CheckState.PASSED, 1),)),
            rows=Rows(published=3, would_be=2, unchanged=1, changed=1, removed=1),
            changed_columns={"a": 1, "b": 2},
            samples=[],
        )
        for partition in ("2026-11-20", "2026-11-21")
    ]
    summed = total(parts)
    assert summed.rows == Rows(published=6, would_be=4, unchanged=2, changed=2, removed=2)
    assert summed.changed_columns == {"b": 4, "a": 2}
    (check_change,) = summed.checks
    assert (check_change.partitions, check_change.rows_failed_before) == (2, 2)
    assert total([]).rows == Rows()


def test_more_reasons_than_anybody_reads_are_counted_and_not_shown() -> None:
    before = said({(f"file {n}", *TYPE): n + 1 for n in range(150)})
    part = difference(
        "2026-11-21",
        verdicts=[],
        withheld={},
        before=before,
        rows=Rows(),
        changed_columns={},
        samples=[],
    )
    assert (len(part.reasons), part.reasons_left_out) == (100, 50)
    assert part.reasons[0].file == "file 149"
    (code,) = part.codes
    assert code.lost == sum(range(1, 151))
